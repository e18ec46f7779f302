package auth

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Doors are the calls that people make before there is a viewer. They take and give JSON.
//
// A browser is given its refresh token as a cookie that only these calls get and no
// script can read. Calls that use or set the cookie must come from a page of the hub's own
// origin and carry the header GuardHeader, which no foreign page can send without asking
// first. A program asks for the token in the body instead.
type Doors struct {
	signIn *SignIn
	log    *slog.Logger
	origin string // "https://hub.example.com"
	path   string // "/auth/"
	secure bool
	limit  int64
}

// GuardHeader must be on calls that use the cookie; any value but an empty one will do.
const GuardHeader = "X-Hookyard-Request"

// NewDoors returns the calls of a hub that people reach at publicURL.
func NewDoors(s *SignIn, publicURL string, log *slog.Logger) (*Doors, error) {
	u, err := url.Parse(publicURL)
	if err != nil {
		return nil, err
	}
	return &Doors{signIn: s, log: log, origin: strings.ToLower(u.Scheme + "://" + u.Host), path: strings.TrimRight(u.Path, "/") + "/auth/", secure: u.Scheme == "https", limit: 16 << 10}, nil
}

// cookie is the cookie's name. Browsers take one with the prefix from secure pages only.
func (d *Doors) cookie() string {
	if d.secure {
		return "__Secure-hookyard-refresh"
	}
	return "hookyard-refresh"
}

// Login answers POST /auth/login: {"email", "password", "code", "organization", "body"}.
func (d *Doors) Login(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Email        string `json:"email"`
		Password     string `json:"password"`
		Code         string `json:"code"`
		Organization string `json:"organization"`
		Body         bool   `json:"body"` // the refresh token in the answer's body, not as a cookie
	}
	if !d.read(w, r, &in) || !in.Body && !d.guarded(w, r) {
		return
	}
	t, err := d.signIn.Login(r.Context(), Credentials{Email: in.Email, Password: in.Password, Code: in.Code, Organization: in.Organization}, r.UserAgent())
	d.answer(w, r, t, in.Body, err)
}

// Refresh answers POST /auth/refresh: {"refreshToken"}, or {} with the cookie.
func (d *Doors) Refresh(w http.ResponseWriter, r *http.Request) {
	token, inBody, ok := d.token(w, r)
	if !ok {
		return
	}
	t, err := d.signIn.Refresh(r.Context(), token)
	if errors.Is(err, ErrRefused) && !inBody {
		d.forget(w)
	}
	d.answer(w, r, t, inBody, err)
}

// Logout answers POST /auth/logout, which takes the same as Refresh. It succeeds also when
// there is no such session any more.
func (d *Doors) Logout(w http.ResponseWriter, r *http.Request) {
	token, inBody, ok := d.token(w, r)
	if !ok {
		return
	}
	if err := d.signIn.Logout(r.Context(), token); err != nil {
		d.refuse(w, r, err)
		return
	}
	if !inBody {
		d.forget(w)
	}
	w.WriteHeader(http.StatusNoContent)
}

// Link answers POST /auth/link: {"link", "password"}. The link may be whole or only the
// part behind its #.
func (d *Doors) Link(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Link     string `json:"link"`
		Password string `json:"password"`
	}
	if !d.read(w, r, &in) {
		return
	}
	if _, secret, whole := strings.Cut(in.Link, "#"); whole {
		in.Link = secret
	}
	if err := d.signIn.UseLink(r.Context(), in.Link, in.Password); err != nil {
		if errors.Is(err, ErrRefused) {
			d.say(w, http.StatusUnauthorized, refusal{Code: "UNAUTHENTICATED", Error: "This link does not work: it was used, withdrawn, or is too old. Ask for a new one."})
			return
		}
		d.refuse(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// token reads the refresh token of a call from its body or, guarded, from the cookie.
func (d *Doors) token(w http.ResponseWriter, r *http.Request) (token string, inBody, ok bool) {
	var in struct {
		RefreshToken string `json:"refreshToken"`
	}
	if !d.read(w, r, &in) {
		return "", false, false
	}
	if in.RefreshToken != "" {
		return in.RefreshToken, true, true
	}
	if !d.guarded(w, r) {
		return "", false, false
	}
	c, err := r.Cookie(d.cookie())
	if err != nil {
		d.refuse(w, r, ErrRefused)
		return "", false, false
	}
	return c.Value, false, true
}

// read reads a JSON body. The kind of content that it must have is one that a foreign page
// cannot send without asking first.
func (d *Doors) read(w http.ResponseWriter, r *http.Request, into any) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		d.say(w, http.StatusUnsupportedMediaType, refusal{Code: "BAD_USER_INPUT", Error: "The Content-Type must be application/json."})
		return false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, d.limit))
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		d.say(w, http.StatusBadRequest, refusal{Code: "BAD_USER_INPUT", Error: "The body is not a JSON object of the expected shape, or too large."})
		return false
	}
	return true
}

// guarded refuses calls that a foreign page may have made a browser send.
func (d *Doors) guarded(w http.ResponseWriter, r *http.Request) bool {
	if strings.ToLower(r.Header.Get("Origin")) == d.origin && r.Header.Get(GuardHeader) != "" {
		return true
	}
	d.say(w, http.StatusForbidden, refusal{Code: "FORBIDDEN", Error: "Calls with the cookie come from pages of " + d.origin + " (the hub's public URL) and carry the header " + GuardHeader +
		". Programs ask for the refresh token in the body: \"body\": true at the sign-in, \"refreshToken\" after it."})
	return false
}

// accepted is what a sign-in or its renewal is answered with.
type accepted struct {
	Token            string     `json:"token"`
	ExpiresAt        time.Time  `json:"expiresAt"`
	SessionID        string     `json:"sessionId"`
	RefreshToken     string     `json:"refreshToken,omitempty"`
	RefreshExpiresAt *time.Time `json:"refreshExpiresAt,omitempty"`
	Enrolling        bool       `json:"secondFactorRequired,omitempty"` // it has to be set up before anything else
}

func (d *Doors) answer(w http.ResponseWriter, r *http.Request, t *Tokens, inBody bool, err error) {
	if err != nil {
		d.refuse(w, r, err)
		return
	}
	out := accepted{Token: t.Access, ExpiresAt: t.AccessExpires.UTC(), SessionID: t.Session, Enrolling: t.Enrolling}
	if inBody {
		out.RefreshToken, out.RefreshExpiresAt = t.Refresh, &t.RefreshExpires
	} else {
		d.SetCookie(w, t)
	}
	d.say(w, http.StatusOK, out)
}

// SetCookie gives a browser the refresh token of a session.
func (d *Doors) SetCookie(w http.ResponseWriter, t *Tokens) {
	http.SetCookie(w, &http.Cookie{Name: d.cookie(), Value: t.Refresh, Path: d.path, Expires: t.RefreshExpires, HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteStrictMode})
}

func (d *Doors) forget(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: d.cookie(), Path: d.path, MaxAge: -1, HttpOnly: true, Secure: d.secure, SameSite: http.SameSiteStrictMode})
}

// refusal is what anything else is answered with.
type refusal struct {
	Code         string `json:"code"`
	Error        string `json:"error"`
	SecondFactor bool   `json:"secondFactor,omitempty"` // the password is right, "code" is missing or wrong
}

func (d *Doors) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var limited *LimitedError
	var weak *WeakError
	switch {
	case errors.As(err, &limited):
		w.Header().Set("Retry-After", strconv.Itoa(int(limited.After/time.Second)+1))
		d.say(w, http.StatusTooManyRequests, refusal{Code: "LIMITED", Error: "There were too many attempts. Wait as long as Retry-After says."})
	case errors.As(err, &weak):
		d.say(w, http.StatusBadRequest, refusal{Code: "BAD_USER_INPUT", Error: weak.Reason})
	case errors.Is(err, ErrSecondFactor):
		d.say(w, http.StatusUnauthorized, refusal{Code: "UNAUTHENTICATED", Error: "Send the code that your second factor shows, or a recovery code, as \"code\"; each works once.", SecondFactor: true})
	case errors.Is(err, ErrRefused):
		d.say(w, http.StatusUnauthorized, refusal{Code: "UNAUTHENTICATED", Error: "This is not right, or not valid any more. Whoever has the same address in several organizations names one."})
	default:
		d.log.WarnContext(r.Context(), "a sign-in could not be looked at", "err", err)
		d.say(w, http.StatusServiceUnavailable, refusal{Code: "UNAVAILABLE", Error: "The hub cannot look at this now; try again."})
	}
}

func (d *Doors) say(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
