package auth

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// Effort is how hard a password is to try: the parameters of argon2id.
type Effort struct {
	Memory uint32 // KiB
	Passes uint32
	Lanes  uint8
}

// DefaultEffort takes about 50 ms of one core and 19 MiB.
func DefaultEffort() Effort { return Effort{Memory: 19 * 1024, Passes: 3, Lanes: 1} }

// Waiting for a turn is bounded, so that a flood of sign-ins costs neither memory nor
// the cores that deliveries need.
const (
	atOnce  = 1  // passwords that are looked at
	inQueue = 32 // that wait for it
)

// Passwords hashes passwords and checks them against hashes. Hashes are PHC strings:
// "$argon2id$v=19$m=19456,t=3,p=1$salt$hash". It is safe for concurrent use.
type Passwords struct {
	effort Effort
	turn   chan struct{}
	queue  chan struct{}
	decoy  string // the hash of nobody's password
}

// NewPasswords returns a hasher.
func NewPasswords(e Effort) *Passwords {
	p := &Passwords{effort: e, turn: make(chan struct{}, atOnce), queue: make(chan struct{}, atOnce+inQueue)}
	p.decoy = p.hash(random())
	return p
}

// Hash hashes a password. The error is a *LimitedError or the context's.
func (p *Passwords) Hash(ctx context.Context, password string) (phc string, err error) {
	err = p.inTurn(ctx, func() { phc = p.hash(password) })
	return phc, err
}

// Verify says whether the password belongs to the hash. An empty hash belongs to none,
// and to find that out takes as long. again says that the hash was made with another
// effort than today's. The error is a *LimitedError or the context's.
func (p *Passwords) Verify(ctx context.Context, password, phc string) (ok, again bool, err error) {
	known := phc != ""
	if !known {
		phc = p.decoy
	}
	e, salt, want, err := parsePHC(phc)
	if err != nil {
		return false, false, err
	}
	err = p.inTurn(ctx, func() {
		got := argon2.IDKey([]byte(password), salt, e.Passes, e.Memory, e.Lanes, uint32(len(want))) //nolint:gosec // at most 64
		ok = subtle.ConstantTimeCompare(got, want) == 1 && known
	})
	return ok, e != p.effort, err
}

func (p *Passwords) inTurn(ctx context.Context, do func()) error {
	select {
	case p.queue <- struct{}{}:
		defer func() { <-p.queue }()
	default:
		return &LimitedError{After: 2 * time.Second}
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	do()
	return nil
}

func (p *Passwords) hash(password string) string {
	var salt [16]byte
	_, _ = rand.Read(salt[:]) // never fails
	e := p.effort
	sum := argon2.IDKey([]byte(password), salt[:], e.Passes, e.Memory, e.Lanes, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, e.Memory, e.Passes, e.Lanes, b64.EncodeToString(salt[:]), b64.EncodeToString(sum))
}

// parsePHC reads a hash. What would cost more than any hash that a hub has ever made is
// refused.
func parsePHC(s string) (e Effort, salt, sum []byte, err error) {
	bad := errors.New("auth: a stored password hash cannot be read")
	part := strings.Split(s, "$")
	if len(part) != 6 || part[0] != "" || part[1] != "argon2id" || part[2] != "v="+strconv.Itoa(argon2.Version) {
		return e, nil, nil, bad
	}
	n := [3]uint64{}
	list := strings.Split(part[3], ",")
	if len(list) != len(n) {
		return e, nil, nil, bad
	}
	for i, name := range []string{"m=", "t=", "p="} {
		value, ok := strings.CutPrefix(list[i], name)
		if n[i], err = strconv.ParseUint(value, 10, 32); err != nil || !ok {
			return e, nil, nil, bad
		}
	}
	if n[0] < 8 || n[0] > 256*1024 || n[1] < 1 || n[1] > 16 || n[2] < 1 || n[2] > 16 || n[0] < 8*n[2] {
		return e, nil, nil, bad
	}
	salt, err = base64.RawStdEncoding.Strict().DecodeString(part[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return e, nil, nil, bad
	}
	sum, err = base64.RawStdEncoding.Strict().DecodeString(part[5])
	if err != nil || len(sum) < 16 || len(sum) > 64 {
		return e, nil, nil, bad
	}
	return Effort{Memory: uint32(n[0]), Passes: uint32(n[1]), Lanes: uint8(n[2])}, salt, sum, nil //nolint:gosec // bounded above
}

// The bounds of a password.
const (
	minPassword = 12  // characters
	maxPassword = 256 // bytes
)

// WeakError says, for people, why a password is not taken.
type WeakError struct{ Reason string }

func (e *WeakError) Error() string { return "auth: the password is not taken: " + e.Reason }

// CheckPassword refuses, with a *WeakError, a password that is too short or among the
// first that anybody would try for the user with the address.
func CheckPassword(password, email string) error {
	switch {
	case !utf8.ValidString(password):
		return &WeakError{"It is not valid UTF-8."}
	case utf8.RuneCountInString(password) < minPassword:
		return &WeakError{fmt.Sprintf("It needs at least %d characters; several words are easier to remember than signs.", minPassword)}
	case len(password) > maxPassword:
		return &WeakError{fmt.Sprintf("It may have at most %d bytes.", maxPassword)}
	}
	seen := map[rune]bool{}
	for _, r := range password {
		seen[r] = true
	}
	if len(seen) < 5 {
		return &WeakError{"It repeats too few characters."}
	}
	local, _, _ := strings.Cut(strings.ToLower(email), "@")
	rest := plainLetters(password)
	for _, w := range append(commonWords(), plainLetters(local)) {
		if len(w) >= 3 {
			rest = strings.ReplaceAll(rest, w, "")
		}
	}
	if len(rest) < 4 && utf8.RuneCountInString(password) < 24 {
		return &WeakError{"It is made of words that are tried first: common ones, the hub's name or yours."}
	}
	return nil
}

// plainLetters is a password as a list of common ones has it: small letters only, with the
// signs that usually stand for one put back, other signs and figures left out.
func plainLetters(s string) string {
	s = strings.TrimRight(s, "0123456789!?.,*#$@+-_ ") // what is put behind a word to please a rule
	s = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t", "@", "a", "$", "s", "!", "i").Replace(strings.ToLower(s))
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= utf8.RuneSelf {
			return r
		}
		return -1
	}, s)
}

// commonWords are what the most used passwords of twelve characters and more are made of.
// Longer ones stand before those that they contain.
func commonWords() []string {
	return []string{"hookyard", "administrator", "password", "passwort", "passphrase", "changeme", "letmein", "trustno", "iloveyou", "qwertyuiop",
		"qwertzuiop", "qwerty", "qwertz", "azerty", "asdfghjkl", "asdfgh", "zxcvbnm", "abcdefghijklmnop", "abcdefgh", "abcdef", "abc", "qazwsxedc", "qazwsx", "welcome",
		"football", "baseball", "superman", "batman", "princess", "sunshine", "monkey", "dragon", "master", "shadow", "secret", "default", "system",
		"manager", "security", "webhook", "company", "computer", "internet", "summer", "winter", "spring", "autumn", "admin", "login", "user", "test", "root", "pass", "hello", "world", "love"}
}
