package server_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// knock calls a door and returns all that a stranger could tell two answers apart by.
func knock(t *testing.T, c *program.Client, name, body string) (status int, answer string, retryAfter int, took time.Duration) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+"/auth/"+name, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := c.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	took = time.Since(began)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	if s := resp.Header.Get("Retry-After"); s != "" {
		if retryAfter, err = strconv.Atoi(s); err != nil {
			t.Errorf("Retry-After: %q", s)
		}
	}
	return resp.StatusCode, string(b), retryAfter, took
}

// codeOf is the code of an answer at the door.
func codeOf(t *testing.T, answer string) string {
	t.Helper()
	var e struct{ Code string }
	if err := json.Unmarshal([]byte(answer), &e); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	return e.Code
}

// from is the same client behind the proxy that the hub trusts, seen from an address.
func from(c *program.Client, address string) *program.Client {
	h := *c.HTTP
	h.Transport = forwarded(address)
	return &program.Client{URL: c.URL, Key: c.Key, HTTP: &h}
}

type forwarded string

// RoundTrip implements http.RoundTripper.
func (f forwarded) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", string(f))
	return http.DefaultTransport.RoundTrip(r)
}

func credentials(email, password string) string {
	return `{"email": "` + email + `", "password": "` + password + `", "body": true}`
}

// TestDoorsAreThrottled: attempts at one account, at any of them from one place, and at a
// second factor, run into their limits, which say when to come again; and an account that
// is being tried is not shut for its owner elsewhere.
func TestDoorsAreThrottled(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newAcmeWith(t, url, "--stranger-rate", "0", "--trusted-proxies", "127.0.0.0/8")
		w.signedUp("ann", program.Input{"role": "TESTER"})
		_, bob := w.signedUp("bob", program.Input{"role": "TESTER"})
		enrol(t, w.holder(bob.Token))
		// limited makes attempts until they are refused: after most, or a few more when the
		// limit is one that fills again in seconds.
		limited := func(t *testing.T, most, more int, name, body, before string) {
			t.Helper()
			for n := 1; ; n++ {
				status, answer, after, _ := knock(t, w.Client, name, body)
				if status == http.StatusTooManyRequests {
					if n <= most {
						t.Errorf("the attempt %d is limited, want %d", n, most+1)
					}
					if codeOf(t, answer) != "LIMITED" || after < 1 {
						t.Errorf("%s, Retry-After %d", answer, after)
					}
					return
				}
				if codeOf(t, answer) != before || n > most+more {
					t.Fatalf("attempt %d: %d %s", n, status, answer)
				}
			}
		}
		limited(t, 5, 0, "login", `{"email": "bob@example.com", "password": "`+passphrase+`", "code": "12345", "body": true}`, "UNAUTHENTICATED")
		limited(t, 10, 0, "login", credentials("ann@example.com", "wrong"), "UNAUTHENTICATED")
		if status, _, _, _ := knock(t, w.Client, "login", credentials("ann@example.com", passphrase)); status != http.StatusTooManyRequests {
			t.Errorf("the right password from the same place: %d", status)
		}
		// Someone who is no user runs into the same limit, after as many attempts.
		limited(t, 10, 0, "login", credentials("nobody@example.com", "wrong"), "UNAUTHENTICATED")
		// From another place the owner comes in; a success is not counted.
		for range 12 {
			var out program.Tokens
			if _, err := from(w.Client, "192.0.2.7").Door(t.Context(), "login", program.Input{"email": "ann@example.com", "password": passphrase, "body": true}, &out); err != nil {
				t.Fatalf("from elsewhere: %v", err)
			}
		}
		// All that came from here counts together, whichever account it is about: links, too.
		limited(t, 50-10-10, 20, "link", `{"link": "hkl_none", "password": "`+passphrase+`"}`, "UNAUTHENTICATED")
		refused := 0
		for range 3 { // one may have become free meanwhile
			if status, _, _, _ := knock(t, w.Client, "login", credentials("carl@example.com", "x")); status == http.StatusTooManyRequests {
				refused++
			}
		}
		if refused < 2 {
			t.Errorf("of three attempts at another account from the same place %d were refused", refused)
		}
		if n := metric(t, w.Hub, `hookyard_sign_ins_total{method="password",outcome="throttled"}`); n < 3 {
			t.Errorf("%v throttled attempts are counted", n)
		}
	})
}

// TestNobodyLearnsWhoIsAUser compares the answers for a user with a wrong password to those for
// nobody, for a user who is disabled, for one who never chose a password, and for one who
// is in another organization than is said: words, status, headers and time are the same.
func TestNobodyLearnsWhoIsAUser(t *testing.T) {
	w := newAcmeWith(t, "", "--stranger-rate", "0", "--trusted-proxies", "127.0.0.0/8")
	w.signedUp("ann", program.Input{"role": "TESTER"})
	off, _ := w.signedUp("off", program.Input{"role": "TESTER"})
	if err := w.Do(t.Context(), `mutation ($id: ID!) { disableUser(input: {id: $id}) { user { id } } }`, program.Input{"id": off}, nil); err != nil {
		t.Fatal(err)
	}
	w.user("never", program.Input{"role": "TESTER"})
	cases := []struct{ name, body string }{
		{"a wrong password", credentials("ann@example.com", "wrong")},
		{"nobody", credentials("nobody@example.com", passphrase)},
		{"a disabled user, the right password", credentials("off@example.com", passphrase)},
		{"a disabled user, a wrong one", credentials("off@example.com", "wrong")},
		{"no password yet", credentials("never@example.com", "")},
		{"another organization", `{"email": "ann@example.com", "password": "` + passphrase + `", "organization": "Bolt", "body": true}`},
	}
	const rounds = 7
	took := make([][]time.Duration, len(cases))
	want := ""
	for round := range rounds {
		for i, c := range cases { // in turn, so that what else the machine does hits all of them alike
			status, answer, _, d := knock(t, from(w.Client, "192.0.2."+strconv.Itoa(10+round)), "login", c.body)
			if want == "" {
				want = answer
			}
			if status != http.StatusUnauthorized || answer != want {
				t.Errorf("%s: %d %s, want %s", c.name, status, answer, want)
			}
			took[i] = append(took[i], d)
		}
	}
	// An answer without the work of a password would take a tenth of the time.
	usual := slices.Min(took[0])
	for i, c := range cases {
		if least := slices.Min(took[i]); least < usual/2 || least > 2*usual {
			t.Errorf("%s takes %v at least, a wrong password %v", c.name, least, usual)
		}
	}
}
