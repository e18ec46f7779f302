package ingest

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/server/flow"
)

// Prefix is the path below which every source has its address: Prefix + token.
const Prefix = "/in/"

// ServeHTTP takes one request to a source's address.
func (in *Ingest) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, outcome, events := "unknown", "unknown", 0
	defer func() { in.c.Count(kind, outcome, events) }()

	token, path := strings.TrimPrefix(r.URL.Path, Prefix), ""
	if i := strings.IndexByte(token, '/'); i >= 0 {
		token, path = token[:i], token[i:]
	}
	place, src := in.c.Atlas.Source(secret.Hash(token))
	if src == nil && in.c.Atlas.Unread() {
		outcome = "unavailable"
		refuse(w, &connectors.RefuseError{Status: http.StatusServiceUnavailable, Message: "this hub cannot read all of its configuration at the moment; send again later"})
		return
	}
	if src == nil {
		refuse(w, &connectors.RefuseError{Status: http.StatusNotFound, Message: "no source has this address; ask the hub's administrator for the current one"})
		return
	}
	kind, outcome = src.Kind, "refused"
	if err := in.admit(place, src, r); err != nil {
		refuse(w, err)
		return
	}
	body, err := in.read(w, r)
	if err != nil {
		refuse(w, err)
		return
	}
	inbound := connectors.Inbound{
		Method: r.Method, Path: path, Header: r.Header, Query: r.URL.Query(), Body: body, ReceivedAt: in.at(),
		Location: src.Location, SourceID: src.ID, ContentType: r.Header.Get("Content-Type"),
	}
	receiver, _, installed, ok := in.reader(place, src.Kind)
	if !ok {
		refuse(w, &connectors.RefuseError{Status: http.StatusServiceUnavailable, Message: "this hub cannot read sources of kind " + src.Kind + " at the moment; send again later"})
		return
	}
	if v := connectors.VerifierOf(receiver); v != nil {
		if err := v.Verify(inbound, valid(src, inbound.ReceivedAt)); err != nil {
			refuse(w, err)
			return
		}
	}
	if installed { // sees what it will see when it reads the receipt again
		inbound.Header = flow.Shown(r.Header)
	}
	if h, ok := receiver.(connectors.Handshaker); ok {
		if reply := h.Handshake(inbound); reply != nil {
			outcome = "handshake"
			answer(w, reply, installed)
			return
		}
	}
	if m := methods(receiver); !slices.Contains(m, r.Method) || r.Method == flow.MethodPoll {
		allow := strings.Join(m, ", ")
		w.Header().Set("Allow", allow)
		refuse(w, &connectors.RefuseError{Status: http.StatusMethodNotAllowed, Message: "this source takes " + allow})
		return
	}

	s := &sending{Ingest: in, place: place, src: src, store: true, receipt: in.receipt(place, src, r, &inbound)}
	received, err := receive(receiver, inbound)
	waits := unread(installed, err)
	if err != nil && !waits {
		outcome = "rejected"
		s.reject(r.Context(), w, err)
		return
	}
	switch {
	case waits:
		outcome = "waiting"
		s.receipt.State, s.receipt.Note = flow.ReceiptWaiting, notRead(err) // Run looks soon enough
	case received.Enrich:
		outcome = "waiting"
		s.receipt.State = flow.ReceiptWaiting
		defer in.wake()
	case len(received.Items) == 0:
		outcome = "ignored"
		s.receipt.State, s.receipt.Note = flow.ReceiptIgnored, received.Note
	}
	accepted, err := s.accept(r.Context(), received.Items)
	if err != nil {
		outcome = "unavailable"
		in.unavailable(w, err)
		return
	}
	if outcome == "refused" {
		outcome = "accepted"
	}
	events = fresh(accepted)
	if received.Reply != nil {
		answer(w, received.Reply, installed)
		return
	}
	acknowledge(w, s.receipt, accepted)
}

// methods are those by which a receiver takes events.
func methods(r connectors.Receiver) []string {
	if m, ok := r.(connectors.MethodReceiver); ok {
		return m.Methods()
	}
	return []string{http.MethodPost}
}

// admit checks what does not need the body: that the source may send at all and that
// it shows the credentials that were agreed with it.
func (in *Ingest) admit(place *Place, src *flow.Source, r *http.Request) error {
	switch {
	case place.World.Organization.Suspended:
		return connectors.Refuse(http.StatusForbidden, "", "the organization is suspended; nothing was stored")
	case !src.Enabled:
		return connectors.Refuse(http.StatusForbidden, "", "this source is disabled; nothing was stored")
	case !src.Authorization.IsZero() &&
		subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), src.Authorization.Reveal()) != 1:
		return connectors.Refuse(http.StatusUnauthorized, "Authorization", "the header is missing or is not the one agreed for this source")
	}
	return nil
}

// read returns the body, or a refusal with 413 when it is over the limit.
func (in *Ingest) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength > in.c.MaxBody {
		return nil, in.tooLarge()
	}
	// An honest length saves the growing of the buffer.
	buf := make([]byte, 0, max(r.ContentLength, 0)+1)
	limited := http.MaxBytesReader(w, r.Body, in.c.MaxBody)
	for {
		n, err := limited.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		var over *http.MaxBytesError
		switch {
		case err == io.EOF:
			return buf, nil
		case errors.As(err, &over):
			return nil, in.tooLarge()
		case err != nil:
			return nil, connectors.Refuse(http.StatusBadRequest, "", "the body did not arrive whole; send again")
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

func (in *Ingest) tooLarge() error {
	return connectors.Refuse(http.StatusRequestEntityTooLarge, "", "the body is larger than %d bytes, the limit of this hub", in.c.MaxBody)
}

func (in *Ingest) receipt(place *Place, src *flow.Source, r *http.Request, i *connectors.Inbound) *flow.Receipt {
	return &flow.Receipt{
		ID: in.c.IDs.New(ids.Receipt), Org: place.World.Organization.ID, Source: src.ID, At: i.ReceivedAt,
		Method: r.Method, Path: i.Path, Header: headerJSON(r.Header), Query: r.URL.RawQuery, ContentType: i.ContentType,
		Body: i.Body, Remote: r.RemoteAddr, State: flow.ReceiptAccepted,
	}
}

// reject keeps a malformed request for people to look at and tells the sender why. What
// could not prove who it is is not kept.
func (s *sending) reject(ctx context.Context, w http.ResponseWriter, cause error) {
	var bad *connectors.RefuseError
	if !errors.As(cause, &bad) {
		s.c.Log.Error("receiver failed", "source", s.src.ID, "kind", s.src.Kind, "err", cause)
		bad = &connectors.RefuseError{Status: http.StatusUnprocessableEntity, Message: "the request could not be read; it is kept as receipt " + s.receipt.ID}
	}
	if bad.Status != http.StatusUnauthorized {
		s.receipt.State, s.receipt.Note = flow.ReceiptRejected, bad.Error()
		if _, err := s.c.Ledger.Accept(ctx, s.receipt, nil); err != nil {
			s.unavailable(w, err)
			return
		}
	}
	refuse(w, bad)
}

// unavailable tells the sender to send again. The cause is the hub's own business.
func (in *Ingest) unavailable(w http.ResponseWriter, err error) {
	status, message := http.StatusServiceUnavailable, "the hub cannot store this now; nothing was accepted, send again"
	if errors.Is(err, flow.ErrBusy) {
		status, message = http.StatusTooManyRequests, "the hub has more to write than it can take; nothing was accepted, send again"
	} else if !errors.Is(err, context.Canceled) {
		in.c.Log.Error("cannot accept", "err", err)
	}
	w.Header().Set("Retry-After", "1")
	refuse(w, &connectors.RefuseError{Status: status, Message: message})
}

// acknowledge answers a sender whose events are durable.
func acknowledge(w http.ResponseWriter, r *flow.Receipt, accepted []flow.Accepted) {
	b := make([]byte, 0, 80+len(accepted)*34)
	b = append(b, `{"receipt":"`...)
	b = append(b, r.ID...)
	b = append(b, `","events":[`...)
	duplicates := 0
	for i := range accepted {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, accepted[i].ID...)
		b = append(b, '"')
		if accepted[i].Duplicate {
			duplicates++
		}
	}
	b = append(b, `],"duplicates":`...)
	b = strconv.AppendInt(b, int64(duplicates), 10)
	b = append(b, '}', '\n')
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(b))}
	_, _ = w.Write(b)
}

func fresh(accepted []flow.Accepted) (n int) {
	for i := range accepted {
		if !accepted[i].Duplicate {
			n++
		}
	}
	return n
}

// answer is a receiver's.
func answer(w http.ResponseWriter, of *connectors.Reply, installed bool) {
	reply := *of
	if installed {
		reply = flow.Guest(reply)
	}
	for k, v := range reply.Header {
		w.Header()[k] = v
	}
	w.WriteHeader(reply.Status)
	_, _ = w.Write(reply.Body)
}

// refuse writes a refusal as JSON: {"error":{"message":…,"field":…}}.
func refuse(w http.ResponseWriter, err error) {
	var bad *connectors.RefuseError
	if !errors.As(err, &bad) {
		bad = &connectors.RefuseError{Status: http.StatusBadRequest, Message: "the request could not be read"}
	}
	type body struct {
		Message string `json:"message"`
		Field   string `json:"field,omitempty"`
	}
	b, _ := json.Marshal(map[string]body{"error": {bad.Message, bad.Field}})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(bad.Status)
	_, _ = w.Write(append(b, '\n'))
}

// valid are the secrets that a source may sign with at a time.
func valid(src *flow.Source, at time.Time) (keys [][]byte) {
	for i, s := range src.Secrets {
		if i == 0 || src.OldSecrets.IsZero() || at.Before(src.OldSecrets) {
			keys = append(keys, s.Reveal())
		}
	}
	return keys
}

// headerJSON writes request headers down as [[name, value], …] without credentials.
func headerJSON(h http.Header) []byte {
	list := make([][2]string, 0, len(h))
	for name, values := range flow.Shown(h) {
		for _, v := range values {
			list = append(list, [2]string{name, v})
		}
	}
	slices.SortFunc(list, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
	b, _ := json.Marshal(list)
	return b
}
