package server_test

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/servertest/program"
)

const passphrase = "a horse and a battery"

// refusedAs is the code that an error has, "" for none.
func refusedAs(t *testing.T, err error) string {
	t.Helper()
	var refusal *program.Error
	if err != nil && !errors.As(err, &refusal) {
		t.Fatal(err)
	}
	if refusal == nil {
		return ""
	}
	return refusal.Extensions.Code
}

func asks(t *testing.T, c *program.Client) string {
	t.Helper()
	return refusedAs(t, c.Do(t.Context(), `{ viewer { id } }`, nil, nil))
}

func door(t *testing.T, c *program.Client, name string, in program.Input) (out program.Tokens, code string) {
	t.Helper()
	_, err := c.Door(t.Context(), name, in, &out)
	return out, refusedAs(t, err)
}

// TestSignIn goes the whole way of a user, from the invitation to the reset.
func TestSignIn(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		h := start(t, url)
		ctx := t.Context()
		var invited struct {
			InviteUser struct {
				User struct{ ID string }
				Link struct{ URL string }
			}
		}
		if err := h.Do(ctx, `mutation { inviteUser(input: {user: {email: "Ann@Example.com", role: TESTER}}) { user { id } link { url } } }`, nil, &invited); err != nil {
			t.Fatal(err)
		}
		link := program.Input{"link": invited.InviteUser.Link.URL, "password": passphrase}
		if _, code := door(t, h.Client, "link", program.Input{"link": invited.InviteUser.Link.URL, "password": "ann"}); code != "BAD_USER_INPUT" {
			t.Fatalf("a weak password: %q", code)
		}
		if _, code := door(t, h.Client, "link", link); code != "" {
			t.Fatalf("the link: %s", code)
		}
		if _, code := door(t, h.Client, "link", link); code != "UNAUTHENTICATED" {
			t.Errorf("the link once more: %q", code)
		}
		login := program.Input{"email": "ann@example.com", "password": passphrase, "body": true}
		first, code := door(t, h.Client, "login", login)
		if code != "" {
			t.Fatal(code)
		}
		for what, in := range map[string]program.Input{
			"a wrong password":                       {"email": "ann@example.com", "password": "x", "body": true},
			"an unknown person":                      {"email": "bob@example.com", "password": passphrase, "body": true},
			"the Administrator, who has no password": {"email": "admin@localhost", "password": "", "body": true},
		} {
			if _, code := door(t, h.Client, "login", in); code != "UNAUTHENTICATED" {
				t.Errorf("%s: %q", what, code)
			}
		}
		if _, code := door(t, h.Client, "login", program.Input{"email": "ann@example.com", "password": passphrase}); code != "FORBIDDEN" {
			t.Errorf("a cookie for a foreign page: %q", code)
		}
		if c := asks(t, h.As(first.Token)); c != "" {
			t.Fatalf("the token: %s", c)
		}
		second, code := door(t, h.Client, "refresh", program.Input{"refreshToken": first.RefreshToken})
		if code != "" || second.RefreshToken == first.RefreshToken {
			t.Fatalf("refresh: %q, %v", code, second)
		}
		again, code := door(t, h.Client, "refresh", program.Input{"refreshToken": first.RefreshToken})
		if code != "" || again.RefreshToken != second.RefreshToken {
			t.Fatalf("the lost answer: %q", code)
		}
		third, code := door(t, h.Client, "refresh", program.Input{"refreshToken": second.RefreshToken})
		if code != "" {
			t.Fatal(code)
		}
		if _, code := door(t, h.Client, "refresh", program.Input{"refreshToken": first.RefreshToken}); code != "UNAUTHENTICATED" {
			t.Errorf("an old refresh token: %q", code)
		}
		if c := asks(t, h.As(third.Token)); c != "UNAUTHENTICATED" {
			t.Errorf("the session after an old refresh token came back: %q", c)
		}
		if _, code := door(t, h.Client, "refresh", program.Input{"refreshToken": third.RefreshToken}); code != "UNAUTHENTICATED" {
			t.Errorf("its refresh token: %q", code)
		}

		one, _ := door(t, h.Client, "login", login)
		two, _ := door(t, h.Client, "login", login)
		change := `mutation ($now: String!, $new: String!) { changePassword(input: {currentPassword: $now, newPassword: $new}) { user { id } } }`
		if c := refusedAs(t, h.As(one.Token).Do(ctx, change, program.Input{"now": "x", "new": "another long word"}, nil)); c != "BAD_USER_INPUT" {
			t.Errorf("a change with a wrong password: %q", c)
		}
		if err := h.As(one.Token).Do(ctx, change, program.Input{"now": passphrase, "new": "another long word"}, nil); err != nil {
			t.Fatal(err)
		}
		if a, b := asks(t, h.As(one.Token)), asks(t, h.As(two.Token)); a != "" || b != "UNAUTHENTICATED" {
			t.Errorf("after the change, the session that made it %q, the other %q", a, b)
		}
		if _, err := h.SignIn(ctx, invited.InviteUser.User.ID, "ann@example.com", passphrase); err != nil {
			t.Fatal(err)
		}
		if c := asks(t, h.As(one.Token)); c != "UNAUTHENTICATED" {
			t.Errorf("a session after the reset: %q", c)
		}
		three, _ := door(t, h.Client, "login", login)
		if _, code := door(t, h.Client, "logout", program.Input{"refreshToken": three.RefreshToken}); code != "" {
			t.Error(code)
		}
		if c := asks(t, h.As(three.Token)); c != "UNAUTHENTICATED" {
			t.Errorf("a token after the sign-out: %q", c)
		}
		four, _ := door(t, h.Client, "login", login)
		if err := h.Do(ctx, `mutation ($id: ID!) { endSession(input: {id: $id}) { deletedId } }`, program.Input{"id": four.SessionID}, nil); err != nil {
			t.Error(err)
		}
		if c := asks(t, h.As(four.Token)); c != "UNAUTHENTICATED" {
			t.Errorf("a token of a session that was ended: %q", c)
		}
	})
}

// totp is what an authenticator program shows.
func totp(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, key)
	step := uint64(at.Unix() / 30)
	for shift := 56; shift >= 0; shift -= 8 {
		mac.Write([]byte{byte(step >> shift)})
	}
	sum := mac.Sum(nil)
	cut := sum[sum[19]&15:]
	n := (uint32(cut[0])<<24 | uint32(cut[1])<<16 | uint32(cut[2])<<8 | uint32(cut[3])) & 0x7fffffff
	return fmt.Sprintf("%06d", n%1_000_000)
}

// TestSecondFactor enrols one, signs in with it and without, and loses it.
func TestSecondFactor(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		h := start(t, url)
		ctx := t.Context()
		var made struct {
			CreateUser struct{ User struct{ ID string } }
		}
		if err := h.Do(ctx, `mutation { createUser(input: {email: "ann@example.com", role: TESTER}) { user { id } } }`, nil, &made); err != nil {
			t.Fatal(err)
		}
		user := made.CreateUser.User.ID
		in, err := h.SignIn(ctx, user, "ann@example.com", passphrase)
		if err != nil {
			t.Fatal(err)
		}
		ann := h.As(in.Token)
		var begun struct{ BeginSecondFactor struct{ Secret, URI string } }
		if err := ann.Do(ctx, `mutation ($p: String!) { beginSecondFactor(input: {password: $p}) { secret uri } }`, program.Input{"p": passphrase}, &begun); err != nil {
			t.Fatal(err)
		}
		confirm := `mutation ($c: String!) { confirmSecondFactor(input: {code: $c}) { recoveryCodes } }`
		if c := refusedAs(t, ann.Do(ctx, confirm, program.Input{"c": "12345"}, nil)); c != "BAD_USER_INPUT" {
			t.Errorf("a wrong code: %q", c)
		}
		var got struct {
			ConfirmSecondFactor struct{ RecoveryCodes []string }
		}
		used := totp(t, begun.BeginSecondFactor.Secret, time.Now())
		if err := ann.Do(ctx, confirm, program.Input{"c": used}, &got); err != nil {
			t.Fatal(err)
		}
		login := func(code string) string {
			_, refused := door(t, h.Client, "login", program.Input{"email": "ann@example.com", "password": passphrase, "code": code, "body": true})
			return refused
		}
		if c := login(""); c != "UNAUTHENTICATED" {
			t.Errorf("without a code: %q", c)
		}
		if c := login(used); c != "UNAUTHENTICATED" {
			t.Errorf("a code once more: %q", c)
		}
		if c := login(totp(t, begun.BeginSecondFactor.Secret, time.Now().Add(30*time.Second))); c != "" {
			t.Errorf("the next code: %q", c)
		}
		recovery := got.ConfirmSecondFactor.RecoveryCodes[3]
		if c := login(recovery); c != "" {
			t.Errorf("a recovery code: %q", c)
		}
		if c := login(recovery); c != "UNAUTHENTICATED" {
			t.Errorf("a recovery code once more: %q", c)
		}
		if err := h.Do(ctx, `mutation ($id: ID!) { removeUserSecondFactor(input: {id: $id}) { user { secondFactorAt } } }`, program.Input{"id": user}, nil); err != nil {
			t.Fatal(err)
		}
		if c := asks(t, ann); c != "UNAUTHENTICATED" {
			t.Errorf("a session after the factor was taken away: %q", c)
		}
		if c := login(""); c != "" {
			t.Errorf("without the factor: %q", c)
		}
	})
}

// exchange gets a token for an API key, as soon as the hub lets it.
func exchange(t *testing.T, h *program.Hub) (token string) {
	t.Helper()
	until(t, 10*time.Second, "a token", func() bool { token = tryExchange(t, h); return token != "" })
	return token
}

func tryExchange(t *testing.T, h *program.Hub) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, h.URL+"/auth/token", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.Key)
	resp, err := h.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct{ Token string }
	if resp.StatusCode == http.StatusTooManyRequests {
		return ""
	}
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("no token: %s, %v", resp.Status, err)
	}
	return got.Token
}

// TestKeysRotate rotates the signing keys under two nodes: nobody is signed out, and both
// sign with the new key within seconds, without a restart.
func TestKeysRotate(t *testing.T) {
	url := storetest.Postgres(t)
	dir := t.TempDir()
	one := startIn(t, dir, url, "--node-name", "one")
	two := second(t, one, dir, url)
	head := func(token string) string { h, _, _ := strings.Cut(token, "."); return h } // names the key
	old := map[*program.Hub]string{one: exchange(t, one), two: exchange(t, two)}
	if head(old[one]) != head(old[two]) {
		t.Fatal("the nodes sign with different keys")
	}
	if _, err := tool(t, at(dir, url, "keys", "rotate")...); err != nil {
		t.Fatal(err)
	}
	for h, token := range old {
		until(t, 30*time.Second, "the node signs with the new key", func() bool { return head(exchange(t, h)) != head(token) })
		if a, b := asks(t, h.As(token)), asks(t, h.As(exchange(t, h))); a != "" || b != "" {
			t.Errorf("the old token %q, the new one %q", a, b)
		}
	}
	if head(exchange(t, one)) != head(exchange(t, two)) {
		t.Error("the nodes sign with different keys")
	}
	if _, err := tool(t, at(dir, url, "keys", "rotate", "--now")...); err != nil {
		t.Fatal(err)
	}
	until(t, 30*time.Second, "tokens of the old keys are not believed", func() bool { return asks(t, one.As(old[one])) == "UNAUTHENTICATED" })
}
