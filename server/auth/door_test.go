package auth

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestPasswords(t *testing.T) {
	old := NewPasswords(Effort{Memory: 64, Passes: 1, Lanes: 1})
	now := NewPasswords(Effort{Memory: 128, Passes: 1, Lanes: 1})
	phc, err := old.Hash(t.Context(), "a horse and a battery")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Fatal(phc, err)
	}
	for _, c := range []struct {
		password, phc string
		ok, again     bool
	}{{"a horse and a battery", phc, true, true}, {"a horse", phc, false, true}, {"", "", false, false}} {
		ok, again, err := now.Verify(t.Context(), c.password, c.phc)
		if ok != c.ok || again != c.again || err != nil {
			t.Errorf("%q: %v, again %v, %v", c.password, ok, again, err)
		}
	}
	for _, bad := range []string{"x", "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA", strings.Replace(phc, "m=64", "m=9999999", 1)} {
		if ok, _, err := now.Verify(t.Context(), "x", bad); ok || err == nil {
			t.Errorf("%s was read", bad)
		}
	}
	for range atOnce + inQueue {
		now.queue <- struct{}{}
	}
	var limited *LimitedError
	if _, _, err := now.Verify(t.Context(), "x", phc); !errors.As(err, &limited) {
		t.Errorf("with a full queue: %v", err)
	}
}

func TestCheckPassword(t *testing.T) {
	for password, ok := range map[string]bool{
		"a horse and a battery": true, "Tr0ub4dor&3xyz": true, "short": false, "aaaaaaaaaaaaaa": false, "P@ssw0rd12345": false,
		"ann.smith2026": false, "hookyardadmin1": false, strings.Repeat("abcdefgh", 40): false, "wjd93kfLq0+2z": true, "\xff\xff345678901234": false,
	} {
		var weak *WeakError
		if err := CheckPassword(password, "ann.smith@example.com"); (err == nil) != ok || err != nil && !errors.As(err, &weak) {
			t.Errorf("%q: %v", password, err)
		}
	}
}

// RFC 6238, appendix B, cut to six figures.
func TestCodes(t *testing.T) {
	secret := []byte("12345678901234567890")
	for at, code := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		now := time.Unix(at, 0)
		if step := stepOf(secret, code, now, 0); step != at/30 {
			t.Errorf("at %d: step %d", at, step)
		}
		if stepOf(secret, code, now, at/30) != 0 || stepOf(secret, code, now.Add(90*time.Second), 0) != 0 {
			t.Errorf("at %d: the code is taken again, or too late", at)
		}
	}
	codes, hashes := newRecoveryCodes()
	if recoveryHash(strings.ToUpper(codes[0])) != hashes[0] || recoveryHash("x") != "" {
		t.Error("a recovery code is not known again")
	}
}

func TestRefreshTokens(t *testing.T) {
	first, chain := newRefresh()
	next := nextRefresh(first, chain)
	a, ok := family(first)
	b, again := family(next)
	if !ok || !again || a != b || next == first || next != nextRefresh(first, chain) || next == nextRefresh(first, []byte("other")) {
		t.Errorf("%s, then %s", first, next)
	}
}

func FuzzRefreshTokens(f *testing.F) {
	token, chain := newRefresh()
	f.Add(token)
	f.Add("hkr_")
	f.Fuzz(func(t *testing.T, s string) {
		part, ok := family(s)
		if !ok {
			return
		}
		if len(part) != half || !strings.HasPrefix(s, RefreshPrefix+part) {
			t.Fatalf("%q has the family %q", s, part)
		}
		if n, ok := family(nextRefresh(s, chain)); !ok || n != part {
			t.Fatalf("%q leads to another family", s)
		}
	})
}
