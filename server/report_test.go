package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/plugins/host"
)

// However much a connector writes, a report is small, and ends with its last line.
func TestToldLinesAreBounded(t *testing.T) {
	for what, c := range map[string]struct{ lines, size, least, most int }{
		"few": {10, 20, 10, 10}, "many short ones": {200, 20, keptLines, keptLines}, "long ones": {200, 1 << 10, 25, 32}, "one that is too long": {1, keptBytes, 0, 0},
	} {
		var list []host.Line
		for i := range c.lines {
			list = append(list, host.Line{Text: fmt.Sprint(strings.Repeat("x", c.size), i)})
		}
		told, size := lastLines(list), 0
		for _, l := range told {
			size += len(l.Text)
		}
		if len(told) < c.least || len(told) > c.most || size > keptBytes {
			t.Errorf("%s: %d lines of %d bytes", what, len(told), size)
		}
		if len(told) > 0 && told[len(told)-1].Text != list[len(list)-1].Text {
			t.Errorf("%s: the last line is missing", what)
		}
	}
}

// Lines wait for their turn; how a process is does not.
func TestHealthIsToldAtOnce(t *testing.T) {
	now := time.Now()
	well := healthOf(&host.Stats{State: host.Running})
	known := told{health: well, at: now}
	for what, c := range map[string]struct {
		stats host.Stats
		after time.Duration
		due   bool
	}{
		"it delivers":        {host.Stats{State: host.Running, InFlight: 7, Expired: 3}, logsEvery - 1, false},
		"after a while":      {host.Stats{State: host.Running}, logsEvery, true},
		"it is in trouble":   {host.Stats{State: host.Quarantined}, 0, true},
		"it was replaced":    {host.Stats{State: host.Running, Restarts: 1}, 0, true},
		"it has complained":  {host.Stats{State: host.Running, LastError: "x"}, 0, true},
		"it is started soon": {host.Stats{State: host.Running, NextStart: now}, 0, true},
	} {
		if due := known.due(healthOf(&c.stats), now.Add(c.after)); due != c.due {
			t.Errorf("%s: told %t", what, due)
		}
	}
	if !new(told).due(well, now) {
		t.Error("what nobody knows is not told")
	}
}
