package plugins

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// PaceHeap lets this process' heap grow by percent of what lives in it before it is
// collected, but by room bytes at most: collecting at each doubling of a few MiB costs
// more than it keeps, and a multiple of much is more than a small machine has. It looks
// each second, for as long as the process lives, and does nothing where GOGC is set.
func PaceHeap(percent int, room uint64) {
	if os.Getenv("GOGC") != "" {
		return
	}
	debug.SetGCPercent(percent)
	go func() {
		// What the collector's goal is a percentage of.
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
		now := percent
		for range time.Tick(time.Second) {
			metrics.Read(live)
			var sum uint64
			for _, s := range live {
				sum += s.Value.Uint64()
			}
			if want := pace(percent, room, sum); want < now*9/10 || want > now {
				debug.SetGCPercent(want)
				now = want
			}
		}
	}()
}

// pace is how many percent of live fit into room: not more than wished, and not less
// than a third, because collecting all the time would be no better.
func pace(percent int, room, live uint64) int {
	return int(max(33, min(uint64(percent), 100*room/max(live, 1))))
}
