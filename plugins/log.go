package plugins

import (
	"context"
	"log/slog"

	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// logHandler sends a connector's log lines to the hub, bounded in number of
// attributes and in length. Groups become prefixes of keys.
type logHandler struct {
	send   func(*wirev1.SessionResponse)
	prefix string
	attrs  []*wirev1.Attribute
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	m := &wirev1.Log{Level: int32(r.Level), Message: clip(r.Message)}
	m.Attributes = append(m.Attributes, h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		m.Attributes = appendAttr(m.Attributes, h.prefix, a)
		return len(m.Attributes) < maxAttrs
	})
	h.send(&wirev1.SessionResponse{Message: &wirev1.SessionResponse_Log{Log: m}})
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	c.attrs = c.attrs[:len(c.attrs):len(c.attrs)]
	for _, a := range attrs {
		c.attrs = appendAttr(c.attrs, h.prefix, a)
	}
	return &c
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	c := *h
	if name != "" {
		c.prefix += name + "."
	}
	return &c
}

func appendAttr(to []*wirev1.Attribute, prefix string, a slog.Attr) []*wirev1.Attribute {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, g := range v.Group() {
			to = appendAttr(to, prefix, g)
		}
		return to
	}
	if len(to) >= maxAttrs {
		return to
	}
	return append(to, &wirev1.Attribute{Key: clip(prefix + a.Key), Value: clip(v.String())})
}

// logFromWire writes a plugin's line into the hub's log.
func logFromWire(log *slog.Logger, m *wirev1.Log) {
	attrs := make([]slog.Attr, 0, min(len(m.GetAttributes()), maxAttrs))
	for _, a := range m.GetAttributes()[:min(len(m.GetAttributes()), maxAttrs)] {
		attrs = append(attrs, slog.String(clip(a.GetKey()), clip(a.GetValue())))
	}
	level := min(max(slog.Level(m.GetLevel()), slog.LevelDebug), slog.LevelError)
	log.LogAttrs(context.Background(), level, clip(m.GetMessage()), attrs...)
}
