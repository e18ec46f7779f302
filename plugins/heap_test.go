package plugins

import "testing"

func TestPace(t *testing.T) {
	for live, want := range map[uint64]int{0: 300, 1 << 20: 300, 16 << 20: 300, 24 << 20: 200, 48 << 20: 100, 1 << 40: 33} {
		if got := pace(300, 48<<20, live); got != want {
			t.Errorf("%d MiB live: %d %%, want %d", live>>20, got, want)
		}
	}
}
