package dispatch

import (
	"fmt"
	"testing"
	"time"
)

// Both secrets sign for the chosen time; where there is room for one signature, the old
// one does; afterwards the new one, whatever the row still holds.
func TestSigningKeysOverlap(t *testing.T) {
	now := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	one, two := [][]byte{[]byte("new")}, [][]byte{[]byte("new"), []byte("old")}
	for _, c := range []struct {
		plan plan
		want string
	}{
		{plan{}, "[]"},
		{plan{keys: one}, "[new]"},
		{plan{keys: one, once: true}, "[new]"},
		{plan{keys: two}, "[new old]"},
		{plan{keys: two, once: true}, "[new]"},
		{plan{keys: two, old: now.Add(time.Second)}, "[new old]"},
		{plan{keys: two, old: now.Add(time.Second), once: true}, "[old]"},
		{plan{keys: two, old: now}, "[new]"},
		{plan{keys: two, old: now, once: true}, "[new]"},
	} {
		if got := fmt.Sprintf("%s", c.plan.signing(now)); got != c.want {
			t.Errorf("%s until %v, once %v: %s, want %s", c.plan.keys, c.plan.old, c.plan.once, got, c.want)
		}
	}
}
