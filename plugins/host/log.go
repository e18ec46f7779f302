package host

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"
)

// A connector may write this many lines a second, and this many at once.
const (
	logRate  = 20
	logBurst = 100
)

// limitedHandler drops what exceeds the rate and says how much it was.
type limitedHandler struct {
	slog.Handler
	clock clockwork.Clock
	*logBudget
}

type logBudget struct {
	limit   *rate.Limiter
	dropped atomic.Int64
}

func limited(log *slog.Logger, clock clockwork.Clock) *slog.Logger {
	return slog.New(&limitedHandler{log.Handler(), clock, &logBudget{limit: rate.NewLimiter(logRate, logBurst)}})
}

func (h *limitedHandler) Handle(ctx context.Context, r slog.Record) error {
	if !h.limit.AllowN(h.clock.Now(), 1) {
		h.dropped.Add(1)
		return nil
	}
	if n := h.dropped.Swap(0); n > 0 {
		r.AddAttrs(slog.Int64("dropped_lines_before", n))
	}
	return h.Handler.Handle(ctx, r)
}

func (h *limitedHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &limitedHandler{h.Handler.WithAttrs(a), h.clock, h.logBudget}
}

func (h *limitedHandler) WithGroup(name string) slog.Handler {
	return &limitedHandler{h.Handler.WithGroup(name), h.clock, h.logBudget}
}

// bridge gives go-plugin a logger that writes to log: its own lines and those of the
// plugin's standard error.
func bridge(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Level: hclog.Debug, Output: io.Discard})
	l.RegisterSink(sink{log})
	return l
}

type sink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	l := slog.LevelDebug
	switch level {
	case hclog.Info:
		l = slog.LevelInfo
	case hclog.Warn:
		l = slog.LevelWarn
	case hclog.Error:
		l = slog.LevelError
	}
	const most = 4 << 10
	if len(msg) > most {
		msg = msg[:most] + "…"
	}
	s.log.Log(context.Background(), l, msg, args...)
}
