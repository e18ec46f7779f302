package host

import (
	"context"
	"io"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"github.com/hookyard/hookyard/plugins/sandbox"
)

// A process's standard error is read at this many bytes a second, and this many at once:
// who writes more waits.
const (
	stderrRate  = 1 << 20
	stderrBurst = 4 << 20
)

// throttled is a process's standard error. It keeps what the launcher complained of.
type throttled struct {
	io.ReadCloser
	limit *rate.Limiter
	ctx   context.Context
	stop  context.CancelFunc

	mu   sync.Mutex
	head []byte
}

func throttle(r io.ReadCloser) *throttled {
	t := &throttled{ReadCloser: r, limit: rate.NewLimiter(stderrRate, stderrBurst)}
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t
}

// Read implements io.Reader.
func (t *throttled) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p[:min(len(p), stderrBurst)])
	t.mu.Lock()
	if room := 2048 - len(t.head); room > 0 {
		t.head = append(t.head, p[:min(n, room)]...)
	}
	t.mu.Unlock()
	_ = t.limit.WaitN(t.ctx, n) // not after release
	return n, err
}

// release ends the waiting: what is left is read as fast as it comes.
func (t *throttled) release() { t.stop() }

// complaint is why the launcher did not become the program; "" if it did.
func (t *throttled) complaint() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	line, _, _ := strings.Cut(string(t.head), "\n")
	why, is := strings.CutPrefix(line, sandbox.Says)
	if !is {
		return ""
	}
	return why
}
