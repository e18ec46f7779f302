package auth

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/viewer"
)

// How long things last.
const (
	AccessLife  = 15 * time.Minute    // of an access token
	IdleLife    = 7 * 24 * time.Hour  // of a session that is not renewed
	SessionLife = 30 * 24 * time.Hour // of any session
	InviteLife  = 7 * 24 * time.Hour  // of a link for a user who has no password yet
	ResetLife   = 24 * time.Hour      // of any other link
	// Grace is how long the refresh token before the one in force may be used again:
	// the answer may have been lost, or two windows of a browser may have asked at once.
	// It gets the same answer as the first time.
	Grace = 30 * time.Second
)

// What signing in may come to, beside a *LimitedError and a *WeakError.
var (
	// ErrRefused says no more than that: whatever is wrong, the answer is the same.
	ErrRefused = errors.New("auth: address, password or code are not right")
	// ErrSecondFactor says that the password is right and a code is missing or wrong.
	ErrSecondFactor = errors.New("auth: a code of the second factor is needed")
	// ErrWrongPassword says that the password that a signed-in user gave once more is not right.
	ErrWrongPassword = errors.New("auth: the password is not right")
	// ErrWrongCode says that a code is not the one that the new second factor shows now.
	ErrWrongCode = errors.New("auth: the code is not right")
)

// Account is a user as signing in sees it.
type Account struct {
	ID       string // "usr_…"
	Email    string
	Issuer   string // the organization's name
	Password string // hash; "" is none
	Factor   Factor
}

// Factor is a user's second factor. The zero value is none.
type Factor struct {
	Secret   []byte
	Enabled  bool // else it is only proposed
	Step     int64
	Recovery []string // hashes of the recovery codes that are left
}

// Accounts keeps users. A user who is disabled, or whose organization is suspended, is
// none: nil without an error.
type Accounts interface {
	// Find finds the one user with an address in the organization with a name or ID; with
	// "" in whichever organization has the only one.
	Find(ctx context.Context, email, organization string) (*Account, error)
	Account(ctx context.Context, id string) (*Account, error)
	// SetPassword sets a password, ends the user's sessions but the one to keep and
	// withdraws the user's links.
	SetPassword(ctx context.Context, id, phc, keep string) error
	// Rehash replaces a hash by another of the same password, if it is still the old one.
	Rehash(ctx context.Context, id, old, phc string) error
}

// Factors keeps second factors.
type Factors interface {
	SetFactor(ctx context.Context, id string, f Factor) error
	// TakeStep notes that the code of a step was used; false if it, or a later one, was before.
	TakeStep(ctx context.Context, id string, step int64) (bool, error)
	// SpendRecovery takes a recovery code off the list; false if it is not on it.
	SpendRecovery(ctx context.Context, id, hash string) (bool, error)
}

// Links keeps one-time links.
type Links interface {
	// LinkAccount is whose password a link sets, nil when it does not work (any more).
	LinkAccount(ctx context.Context, hash string) (*Account, error)
	// UseLink uses a link up and does what SetPassword does; false when it does not work.
	UseLink(ctx context.Context, hash, phc string) (bool, error)
}

// Session is one sign-in.
type Session struct {
	ID       string
	User     string
	Method   string // how the user signed in
	Origin   string
	Agent    string // what the user's program calls itself
	Used     time.Time
	Expires  time.Time // unless it is renewed
	Ends     time.Time // in any case
	Family   string    // hashes of what its refresh tokens have in common, of the one in
	Current  string    // force and of the one before, which was replaced at Used
	Previous string
	Chain    []byte // key by which a refresh token leads to the next
}

// Sessions keeps sessions until they expire or end.
type Sessions interface {
	// CreateSession keeps a new session and notes the user's sign-in. It returns the
	// session's ID, "" for a user who may not sign in.
	CreateSession(ctx context.Context, s Session) (id string, err error)
	// FindSession finds a session by the hash of its family; nil for none.
	FindSession(ctx context.Context, family string) (*Session, error)
	// Renew replaces the refresh token in force; false if it is not that any more.
	Renew(ctx context.Context, id, current, next string, used, expires time.Time) (bool, error)
	EndSession(ctx context.Context, id string) error
}

// Event is something that happened at the door, for metrics, the log and the audit log.
type Event struct {
	Outcome Outcome
	Method  string // ByPassword, … or who vouched
	User    string // "" when it is not known who it was
	Session string
}

// Outcome is what became of an attempt to sign in.
type Outcome string

// The outcomes.
const (
	OK        Outcome = "ok"
	Failed    Outcome = "failed"
	Throttled Outcome = "throttled"
	Reused    Outcome = "reused" // an old refresh token came back: its session was ended
)

// SignInConfig is what a SignIn is made of.
type SignInConfig struct {
	Accounts  Accounts
	Factors   Factors
	Links     Links
	Sessions  Sessions
	Tokens    *Authenticator
	Passwords *Passwords
	Clock     clockwork.Clock
	Log       *slog.Logger
	Observe   func(context.Context, Event)
}

// SignIn is the door for people. It is safe for concurrent use.
type SignIn struct {
	c        SignInConfig
	attempts *attempts
}

// NewSignIn returns the door.
func NewSignIn(c SignInConfig) *SignIn { return &SignIn{c: c, attempts: newAttempts(c.Clock)} }

// Tokens are what a session lives on.
type Tokens struct {
	Session        string
	Access         string
	AccessExpires  time.Time
	Refresh        string
	RefreshExpires time.Time
	Enrolling      bool // the session can set a second factor up, and nothing else until then
}

// Credentials are what a person types.
type Credentials struct {
	Email, Password string
	Code            string // of the second factor, or a recovery code
	Organization    string // name or ID; "" when the address is in one only
}

// How something at the door was tried, beside who vouched.
const (
	ByPassword = "password"
	ByLink     = "link"
	ByRefresh  = "refresh"
)

// Login checks credentials and starts a session. The error is ErrRefused,
// ErrSecondFactor, a *LimitedError or the storage's.
func (s *SignIn) Login(ctx context.Context, c Credentials, agent string) (*Tokens, error) {
	email := strings.ToLower(strings.TrimSpace(c.Email))
	from := place(viewer.Origin(ctx))
	refund, err := s.attempts.count(
		counted{"from " + from + " to " + secret.Hash(email), fromPlaceToAccount()},
		counted{"to " + secret.Hash(email), toAccount()}, counted{"from " + from, fromPlace()})
	if err != nil {
		return nil, s.observe(ctx, Event{Method: ByPassword}, err)
	}
	a, err := s.c.Accounts.Find(ctx, email, c.Organization)
	if err != nil {
		return nil, err
	}
	hash, who := "", Event{Method: ByPassword}
	if a != nil {
		hash, who.User = a.Password, a.ID
	}
	ok, again, err := s.c.Passwords.Verify(ctx, c.Password, hash)
	if err != nil {
		return nil, s.observe(ctx, who, err)
	}
	if !ok {
		return nil, s.observe(ctx, who, ErrRefused)
	}
	refund()
	if a.Factor.Enabled {
		if c.Code == "" {
			return nil, ErrSecondFactor // half-way, neither in nor refused
		}
		if err := s.second(ctx, a, c.Code); err != nil {
			return nil, s.observe(ctx, who, err)
		}
	}
	if again {
		s.rehash(ctx, a, c.Password)
	}
	return s.StartSession(ctx, a.ID, ByPassword, agent)
}

// second checks the second factor of whoever knows the password.
func (s *SignIn) second(ctx context.Context, a *Account, code string) error {
	refund, err := s.attempts.count(counted{"code " + a.ID, secondFactor()})
	if err != nil {
		return err
	}
	var ok bool
	if step := stepOf(a.Factor.Secret, code, s.c.Clock.Now(), a.Factor.Step); step > 0 {
		ok, err = s.c.Factors.TakeStep(ctx, a.ID, step)
	} else if hash := recoveryHash(code); hash != "" {
		ok, err = s.c.Factors.SpendRecovery(ctx, a.ID, hash)
	}
	if err != nil {
		return err
	}
	if !ok {
		return ErrSecondFactor
	}
	refund()
	return nil
}

// rehash makes a hash with today's effort. Failing to is no reason to turn the user away.
func (s *SignIn) rehash(ctx context.Context, a *Account, password string) {
	phc, err := s.c.Passwords.Hash(ctx, password)
	if err == nil {
		err = s.c.Accounts.Rehash(ctx, a.ID, a.Password, phc)
	}
	if err != nil {
		s.c.Log.WarnContext(ctx, "hash a password anew", "user", a.ID, "err", err)
	}
}

// StartSession starts a session for a user whom method ("password", or who vouched) has
// made sure of; agent is what the user's program calls itself. It is the only way into
// one. The error is ErrRefused for a user who may not sign in, or the storage's.
func (s *SignIn) StartSession(ctx context.Context, user, method, agent string) (*Tokens, error) {
	now := s.c.Clock.Now().UTC()
	refresh, chain := newRefresh()
	f, _ := family(refresh)
	n := Session{User: user, Method: method, Origin: viewer.Origin(ctx), Agent: cut(agent, 256), Used: now, Expires: now.Add(IdleLife), Ends: now.Add(SessionLife),
		Family: secret.Hash(f), Current: secret.Hash(refresh), Chain: chain}
	id, err := s.c.Sessions.CreateSession(ctx, n)
	if err != nil {
		return nil, err
	}
	who := Event{Method: method, User: user, Session: id}
	if id == "" {
		return nil, s.observe(ctx, who, ErrRefused)
	}
	n.ID = id
	t, err := s.tokens(ctx, &n, refresh)
	return t, s.observe(ctx, who, err)
}

// cut shortens what a stranger sent to n bytes of valid UTF-8.
func cut(s string, n int) string {
	return strings.ToValidUTF8(strings.ReplaceAll(s[:min(n, len(s))], "\x00", ""), "")
}

// tokens makes an access token to go with a refresh token.
func (s *SignIn) tokens(ctx context.Context, n *Session, refresh string) (*Tokens, error) {
	v, err := s.c.Tokens.c.Directory.Viewer(ctx, n.User, n.ID)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, ErrRefused
	}
	raw, expires, err := s.c.Tokens.Token(v, AccessLife)
	if err != nil {
		return nil, err
	}
	return &Tokens{Session: n.ID, Access: raw, AccessExpires: expires, Refresh: refresh, RefreshExpires: n.Expires, Enrolling: v.Enrolling}, nil
}

// Refresh exchanges the refresh token in force for the next one and a new access token.
// An older one ends the session: somebody has a copy. The error is ErrRefused or the
// storage's.
func (s *SignIn) Refresh(ctx context.Context, token string) (*Tokens, error) {
	n, err := s.session(ctx, token)
	if err != nil {
		return nil, s.observe(ctx, Event{Method: ByRefresh}, err)
	}
	who := Event{Method: ByRefresh, User: n.User, Session: n.ID}
	now := s.c.Clock.Now().UTC()
	next := nextRefresh(token, n.Chain)
	if n.Current == secret.Hash(token) {
		expires := earlier(now.Add(IdleLife), n.Ends)
		ok, err := s.c.Sessions.Renew(ctx, n.ID, n.Current, secret.Hash(next), now, expires)
		if err != nil {
			return nil, err
		}
		if ok {
			n.Expires = expires
			t, err := s.tokens(ctx, n, next)
			return t, s.observe(ctx, who, err)
		}
		// Another call with the same token was faster.
		if n, err = s.session(ctx, token); err != nil {
			return nil, s.observe(ctx, who, err)
		}
	}
	if n.Previous == secret.Hash(token) && now.Sub(n.Used) < Grace {
		t, err := s.tokens(ctx, n, next)
		return t, s.observe(ctx, who, err)
	}
	if err := s.c.Sessions.EndSession(ctx, n.ID); err != nil {
		return nil, err
	}
	who.Outcome = Reused
	s.c.Observe(ctx, who)
	return nil, ErrRefused
}

// Logout ends the session that a refresh token, in force or not, belongs to.
func (s *SignIn) Logout(ctx context.Context, token string) error {
	n, err := s.session(ctx, token)
	if errors.Is(err, ErrRefused) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.c.Sessions.EndSession(ctx, n.ID)
}

// session finds the session of a refresh token, or ErrRefused.
func (s *SignIn) session(ctx context.Context, token string) (*Session, error) {
	f, ok := family(token)
	if !ok {
		return nil, ErrRefused
	}
	n, err := s.c.Sessions.FindSession(ctx, secret.Hash(f))
	if err != nil {
		return nil, err
	}
	if now := s.c.Clock.Now(); n == nil || !now.Before(n.Expires) || !now.Before(n.Ends) {
		return nil, ErrRefused
	}
	return n, nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// UseLink sets the password of the user whom a one-time link was made for and ends his
// sessions. A password that is not taken does not use the link up. The error is
// ErrRefused, a *WeakError, a *LimitedError or the storage's.
func (s *SignIn) UseLink(ctx context.Context, link, password string) error {
	who := Event{Method: ByLink}
	refund, err := s.attempts.count(counted{"from " + place(viewer.Origin(ctx)), fromPlace()})
	if err != nil {
		return s.observe(ctx, who, err)
	}
	if !strings.HasPrefix(link, LinkPrefix) {
		return s.observe(ctx, who, ErrRefused)
	}
	a, err := s.c.Links.LinkAccount(ctx, secret.Hash(link))
	if err != nil {
		return err
	}
	if a == nil {
		return s.observe(ctx, who, ErrRefused)
	}
	refund()
	who.User = a.ID
	if err := CheckPassword(password, a.Email); err != nil {
		return err
	}
	phc, err := s.c.Passwords.Hash(ctx, password)
	if err != nil {
		return s.observe(ctx, who, err)
	}
	ok, err := s.c.Links.UseLink(ctx, secret.Hash(link), phc)
	if err == nil && !ok {
		err = ErrRefused
	}
	return s.observe(ctx, who, err)
}

// ChangePassword replaces a user's password by another and ends his sessions but the one
// to keep. The error is ErrWrongPassword, a *WeakError, a *LimitedError or the storage's.
func (s *SignIn) ChangePassword(ctx context.Context, user, current, next, keep string) error {
	a, err := s.confirmed(ctx, user, current)
	if err != nil {
		return err
	}
	if err := CheckPassword(next, a.Email); err != nil {
		return err
	}
	phc, err := s.c.Passwords.Hash(ctx, next)
	if err != nil {
		return err
	}
	return s.c.Accounts.SetPassword(ctx, user, phc, keep)
}

// confirmed is the account of a signed-in user who gives the password once more. A user
// without one, whom somebody else vouches for, cannot.
func (s *SignIn) confirmed(ctx context.Context, user, password string) (*Account, error) {
	refund, err := s.attempts.count(counted{"confirm " + user, fromPlaceToAccount()})
	if err != nil {
		return nil, err
	}
	a, err := s.c.Accounts.Account(ctx, user)
	if err != nil {
		return nil, err
	}
	if a == nil {
		return nil, ErrWrongPassword
	}
	ok, _, err := s.c.Passwords.Verify(ctx, password, a.Password)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrWrongPassword
	}
	refund()
	return a, nil
}

// ProposeFactor makes a second factor, which counts once a code of it was confirmed, and
// returns its secret as text and as an otpauth URI. The errors are ErrWrongPassword, a
// *LimitedError and the storage's.
func (s *SignIn) ProposeFactor(ctx context.Context, user, password string) (secret, uri string, err error) {
	a, err := s.confirmed(ctx, user, password)
	if err != nil {
		return "", "", err
	}
	if a.Factor.Enabled {
		return "", "", ErrFactorEnabled
	}
	f := Factor{Secret: newFactorSecret()}
	if err := s.c.Factors.SetFactor(ctx, user, f); err != nil {
		return "", "", err
	}
	return factorText(f.Secret), factorURI(f.Secret, "Hookyard "+a.Issuer, a.Email), nil
}

// ErrFactorEnabled says that there is a second factor already, which has to be removed first.
var ErrFactorEnabled = errors.New("auth: there is a second factor already")

// EnableFactor makes the proposed second factor count and returns the recovery codes. The
// errors are ErrWrongCode, a *LimitedError and the storage's.
func (s *SignIn) EnableFactor(ctx context.Context, user, code string) (recovery []string, err error) {
	refund, err := s.attempts.count(counted{"code " + user, secondFactor()})
	if err != nil {
		return nil, err
	}
	a, err := s.c.Accounts.Account(ctx, user)
	if err != nil {
		return nil, err
	}
	if a == nil || a.Factor.Enabled || len(a.Factor.Secret) == 0 {
		return nil, ErrWrongCode
	}
	f := a.Factor
	if f.Step = stepOf(f.Secret, code, s.c.Clock.Now(), 0); f.Step == 0 {
		return nil, ErrWrongCode
	}
	refund()
	f.Enabled = true
	recovery, f.Recovery = newRecoveryCodes()
	return recovery, s.c.Factors.SetFactor(ctx, user, f)
}

// RemoveFactor takes a user's second factor away. The errors are those of ProposeFactor.
func (s *SignIn) RemoveFactor(ctx context.Context, user, password string) error {
	if _, err := s.confirmed(ctx, user, password); err != nil {
		return err
	}
	return s.c.Factors.SetFactor(ctx, user, Factor{})
}

// observe tells of an attempt and returns its error.
func (s *SignIn) observe(ctx context.Context, e Event, err error) error {
	var limited *LimitedError
	switch {
	case err == nil:
		e.Outcome = OK
	case errors.As(err, &limited):
		e.Outcome = Throttled
	case errors.Is(err, ErrRefused), errors.Is(err, ErrSecondFactor):
		e.Outcome = Failed
	default:
		return err
	}
	s.c.Observe(ctx, e)
	return err
}
