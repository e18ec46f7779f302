package host

import (
	"log/slog"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func TestANoisyConnectorIsCutShort(t *testing.T) {
	j, clock := newJournal(), clockwork.NewFakeClock()
	log := bridge(limited(slog.New(j), clock).With("connector", "noisy")).Named("stderr")
	for range logBurst + 50 {
		log.Error("panic: again")
	}
	if n := len(j.lines); n != logBurst {
		t.Fatalf("%d lines came through, not %d", n, logBurst)
	}
	for range logBurst {
		if r := <-j.lines; r.Level != slog.LevelError || r.Message != "panic: again" {
			t.Fatalf("got %+v", r)
		}
	}
	clock.Advance(time.Second)
	log.Warn("calm", "key", "value")
	r := <-j.lines
	got := map[string]any{}
	r.Attrs(func(a slog.Attr) bool { got[a.Key] = a.Value.Any(); return true })
	if r.Level != slog.LevelWarn || got["key"] != "value" || got["dropped_lines_before"] != int64(50) {
		t.Errorf("got %s %v", r.Level, got)
	}
}
