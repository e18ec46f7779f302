package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func TestAttempts(t *testing.T) {
	clock := clockwork.NewFakeClock()
	a := newAttempts(clock)
	key := counted{"k", allowance{3, time.Minute}}
	wide := counted{"w", allowance{100, time.Second}}
	var refund func()
	for i := range 3 {
		var err error
		if refund, err = a.count(key, wide); err != nil {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	var limited *LimitedError
	if _, err := a.count(key, wide); !errors.As(err, &limited) || limited.After != time.Minute {
		t.Fatalf("the fourth: %v", err)
	}
	if _, err := a.count(wide); err != nil {
		t.Errorf("a refused attempt was counted: %v", err)
	}
	refund()
	if _, err := a.count(key); err != nil {
		t.Errorf("after a success: %v", err)
	}
	clock.Advance(time.Minute)
	if _, err := a.count(key); err != nil {
		t.Errorf("a minute later: %v", err)
	}
	if _, err := a.count(key); err == nil {
		t.Error("two in the minute that gave one back")
	}
	clock.Advance(time.Hour)
	for i := range 3 {
		if _, err := a.count(key); err != nil {
			t.Errorf("an hour later, attempt %d: %v", i, err)
		}
	}
}

func TestAttemptsAreForgotten(t *testing.T) {
	a := newAttempts(clockwork.NewFakeClock())
	for i := range most + most/2 {
		if _, err := a.count(counted{fmt.Sprint(i), secondFactor()}); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.full) > most {
		t.Errorf("%d keys are remembered", len(a.full))
	}
}

func TestPlace(t *testing.T) {
	for origin, want := range map[string]string{"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "::ffff:192.0.2.7", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "command line": "command line", "": ""} {
		if got := place(origin); got != want {
			t.Errorf("%q counts as %q, want %q", origin, got, want)
		}
	}
}
