package host

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A connector's last lines are kept for people to read, so many and so long.
const (
	keptLines = 200
	lineMost  = 1 << 10
)

// Line is one line that a connector, or the host about it, has logged.
type Line struct {
	At    time.Time  `json:"at"`
	Level slog.Level `json:"level"`
	Text  string     `json:"text"`
}

// diary keeps the last lines of one connector.
type diary struct {
	mu    sync.Mutex
	lines []Line // a ring once it is full
	next  int
}

func (d *diary) add(l Line) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lines) < keptLines {
		d.lines = append(d.lines, l)
		return
	}
	d.lines[d.next] = l
	d.next = (d.next + 1) % keptLines
}

// last returns the lines, the oldest first.
func (d *diary) last() []Line {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append(append([]Line(nil), d.lines[d.next:]...), d.lines[:d.next]...)
}

// redacting takes secrets out of what is logged and keeps a copy of it.
type redacting struct {
	slog.Handler
	diary   *diary
	secrets *atomic.Pointer[strings.Replacer]
	attrs   string // of With, written down
}

func (h *redacting) redact(s string) string {
	if r := h.secrets.Load(); r != nil {
		return r.Replace(s)
	}
	return s
}

// Handle implements slog.Handler.
func (h *redacting) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, h.redact(r.Message), r.PC)
	var text strings.Builder
	text.WriteString(clean.Message + h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		value := h.redact(a.Value.String())
		clean.AddAttrs(slog.String(a.Key, value))
		if text.Len() < lineMost {
			text.WriteString(" " + a.Key + "=" + value)
		}
		return true
	})
	line := text.String()
	if len(line) > lineMost {
		line = strings.ToValidUTF8(line[:lineMost], "") + "…"
	}
	h.diary.add(Line{At: r.Time.UTC(), Level: r.Level, Text: line})
	if !h.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, clean)
}

// Enabled implements slog.Handler: people see what the hub's own log may leave out.
func (h *redacting) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

// WithAttrs implements slog.Handler.
func (h *redacting) WithAttrs(list []slog.Attr) slog.Handler {
	text := h.attrs
	for _, a := range list {
		text += " " + a.Key + "=" + h.redact(a.Value.String())
	}
	return &redacting{h.Handler.WithAttrs(list), h.diary, h.secrets, text}
}

// WithGroup implements slog.Handler.
func (h *redacting) WithGroup(name string) slog.Handler {
	return &redacting{h.Handler.WithGroup(name), h.diary, h.secrets, h.attrs}
}
