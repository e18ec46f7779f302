package host

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// BenchmarkStream is the price of the process boundary: 1.3 KiB requests to a
// connector that answers at once, in CPU time of both processes.
func BenchmarkStream(b *testing.B) {
	for _, outstanding := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("outstanding=%d", outstanding), func(b *testing.B) {
			s := start(b, nil)
			e := endpoint(1)
			d := delivery("dlv_01jd8x2m3n4p5q6r7s8t9v0w1x", "OK", e)
			d.Request.Body = make([]byte, 1024)
			for i := range 6 {
				d.Request.Header = append(d.Request.Header, connectors.Header{Name: fmt.Sprintf("Webhook-Header-%d", i), Value: strings.Repeat("v", 28)})
			}
			credit := make(chan struct{}, outstanding)
			var wg sync.WaitGroup
			pid := s.Stats()[0].PID
			mine, theirs := cpu(b, os.Getpid()), cpu(b, pid)
			b.ResetTimer()
			for range b.N {
				credit <- struct{}{}
				wg.Add(1)
				s.Deliver("obedient", e, d, func(r connectors.Result) {
					if r.Outcome != connectors.Done {
						b.Error(r.Error)
					}
					<-credit
					wg.Done()
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64((cpu(b, os.Getpid())-mine).Nanoseconds())/float64(b.N), "host-ns/op")
			b.ReportMetric(float64((cpu(b, pid)-theirs).Nanoseconds())/float64(b.N), "plugin-ns/op")
		})
	}
}

// cpu is what a process has used so far, to the 10 ms for others.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	if pid == os.Getpid() {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
