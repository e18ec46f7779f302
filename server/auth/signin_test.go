package auth

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/ent/viewer"
)

// memory keeps one account and its session.
type memory struct {
	account *Account
	session *Session
}

func (m *memory) Find(_ context.Context, email, _ string) (*Account, error) {
	if m.account.Email != email {
		return nil, nil
	}
	return m.account, nil
}
func (m *memory) Account(context.Context, string) (*Account, error)         { return m.account, nil }
func (m *memory) SetPassword(context.Context, string, string, string) error { return nil }
func (m *memory) Rehash(_ context.Context, _, _, phc string) error {
	m.account.Password = phc
	return nil
}
func (m *memory) EndSession(context.Context, string) error { m.session = nil; return nil }
func (m *memory) FindSession(_ context.Context, f string) (*Session, error) {
	if m.session == nil || m.session.Family != f {
		return nil, nil
	}
	found := *m.session
	return &found, nil
}

func (m *memory) CreateSession(_ context.Context, s Session) (string, error) {
	s.ID = "ses_1"
	m.session = &s
	return s.ID, nil
}

func (m *memory) Renew(_ context.Context, _, current, next string, used, expires time.Time) (bool, error) {
	if m.session.Current != current {
		return false, nil
	}
	m.session.Current, m.session.Previous, m.session.Used, m.session.Expires = next, current, used, expires
	return true, nil
}

func (m *memory) KeyViewer(context.Context, string) (*viewer.Viewer, time.Time, error) {
	return nil, time.Time{}, nil
}

func (m *memory) PresenceViewer(context.Context, string) (*viewer.Viewer, time.Time, error) {
	return nil, time.Time{}, nil
}

func (m *memory) Viewer(_ context.Context, id, session string) (*viewer.Viewer, error) {
	return &viewer.Viewer{ID: id, Organization: "org_1", Session: session}, nil
}

func newMemoryDoor(t *testing.T, clock clockwork.Clock) (*SignIn, *memory, *[]Event) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	old := NewPasswords(Effort{Memory: 64, Passes: 1, Lanes: 1})
	phc, err := old.Hash(t.Context(), "a horse and a battery")
	if err != nil {
		t.Fatal(err)
	}
	m := &memory{account: &Account{ID: "usr_1", Email: "ann@example.com", Password: phc}}
	events := &[]Event{}
	return NewSignIn(SignInConfig{Accounts: m, Sessions: m, Tokens: New(Config{Directory: m, Keys: NewKeyring(SigningKey{ID: "k", Private: private}), Issuer: "i", Clock: clock}),
		Passwords: NewPasswords(Effort{Memory: 128, Passes: 1, Lanes: 1}), Clock: clock, Log: slog.New(slog.DiscardHandler),
		Observe: func(_ context.Context, e Event) { *events = append(*events, e) }}), m, events
}

// TestLoginIsThrottled also for an account that does not exist, and not for success.
func TestLoginIsThrottled(t *testing.T) {
	clock := clockwork.NewFakeClock()
	s, m, events := newMemoryDoor(t, clock)
	here, there := viewer.WithOrigin(t.Context(), "192.0.2.1"), viewer.WithOrigin(t.Context(), "192.0.2.2")
	before := m.account.Password
	for range 20 {
		if _, err := s.Login(here, Credentials{Email: " Ann@example.com", Password: "a horse and a battery"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	if m.account.Password == before {
		t.Error("the password was not hashed anew with today's effort")
	}
	for _, email := range []string{"ann@example.com", "nobody@example.com"} {
		wrong := Credentials{Email: email, Password: "x"}
		for i := range 10 {
			if _, err := s.Login(here, wrong, ""); !errors.Is(err, ErrRefused) {
				t.Fatalf("%s, attempt %d: %v", email, i, err)
			}
		}
		var limited *LimitedError
		if _, err := s.Login(here, wrong, ""); !errors.As(err, &limited) || limited.After > time.Minute {
			t.Errorf("%s, the eleventh: %v", email, err)
		}
		if _, err := s.Login(there, wrong, ""); !errors.Is(err, ErrRefused) {
			t.Errorf("%s from elsewhere: %v", email, err)
		}
	}
	if last := (*events)[len(*events)-2]; last.Outcome != Throttled {
		t.Errorf("told of %v", last)
	}
	clock.Advance(time.Minute)
	if _, err := s.Login(here, Credentials{Email: "ann@example.com", Password: "a horse and a battery"}, ""); err != nil {
		t.Errorf("a minute later: %v", err)
	}
}

func TestRefreshAndItsGrace(t *testing.T) {
	clock := clockwork.NewFakeClock()
	s, m, events := newMemoryDoor(t, clock)
	start := func() *Tokens {
		got, err := s.StartSession(t.Context(), "usr_1", ByPassword, "test")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	refresh := func(token string) *Tokens {
		t.Helper()
		got, err := s.Refresh(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := start()
	second := refresh(first.Refresh)
	clock.Advance(Grace - time.Second)
	if again := refresh(first.Refresh); again.Refresh != second.Refresh {
		t.Error("the lost answer is another one")
	}
	clock.Advance(time.Second)
	if _, err := s.Refresh(t.Context(), first.Refresh); !errors.Is(err, ErrRefused) || m.session != nil {
		t.Errorf("after the grace: %v", err)
	}
	if last := (*events)[len(*events)-1]; last.Outcome != Reused || last.User != "usr_1" {
		t.Errorf("told of %v", last)
	}

	third := start()
	f, _ := family(third.Refresh)
	if _, err := s.Refresh(t.Context(), RefreshPrefix+f+f); !errors.Is(err, ErrRefused) || m.session != nil {
		t.Errorf("a token that never was: %v", err)
	}

	token := start().Refresh
	for range 5 { // renewed every six days, it ends after thirty all the same
		clock.Advance(6 * 24 * time.Hour)
		next, err := s.Refresh(t.Context(), token)
		if err != nil {
			if clock.Now().Before(m.session.Ends) {
				t.Errorf("it ended early: %v", err)
			}
			return
		}
		token = next.Refresh
	}
	t.Error("a session goes on for ever")
}
