package plugins

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// ErrFlood is why a session ended whose process said far more than it was asked.
var ErrFlood = errors.New("it floods the stream")

// What a process may say unasked: lines for the log, answers that nobody waits for, words
// that the host does not know. Each counts as one, and once more for each noiseBytes of it.
const (
	noiseMost  = 20_000 // at once, …
	noiseRate  = 1000   // and so many more a second, …
	noiseEach  = 20     // and for each item and call that it is handed
	noiseBytes = 4 << 10
)

// noise is how much of that a process has used up. Sessions count what is unasked only, so
// that deliveries cost nothing here.
type noise struct {
	level int64
	at    time.Time
	ended uint64 // items and calls until then
}

// unasked counts m, as n words of which nobody needed any, and says when it is too much.
func (s *Session) unasked(m *wirev1.SessionResponse, n int) error {
	now := s.cfg.Clock.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &s.noise
	open := len(s.pending) + len(s.calls)
	ended := s.token - uint64(open)
	if earned := int64(now.Sub(q.at).Seconds()*noiseRate) + int64(ended-q.ended)*noiseEach; earned > 0 {
		q.level, q.at, q.ended = max(q.level-earned, 0), now, ended
	}
	q.level += int64(n + proto.Size(m)/noiseBytes)
	if q.level > noiseMost+int64(open)*noiseEach {
		return fmt.Errorf("the connector breaks the protocol: %w", ErrFlood)
	}
	return nil
}

// What a process may say on the other streams of its connection, which are go-plugin's: bytes
// of standard output a second, and at once. Whoever says more waits.
const (
	otherRate  = 4 << 20
	otherBurst = 8 << 20
)

// boundOthers bounds what the streams cost that are not the session.
func boundOthers(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, conn, method, opts...)
	switch {
	case err != nil || method == wirev1.Plugin_Session_FullMethodName:
		return s, err
	case method == "/plugin.GRPCStdio/StreamStdio":
		return throttledStream{s, rate.NewLimiter(otherRate, otherBurst)}, nil
	}
	return unheard{s}, nil
}

// throttledStream is read no faster than its limit.
type throttledStream struct {
	grpc.ClientStream
	limit *rate.Limiter
}

// RecvMsg implements grpc.ClientStream.
func (s throttledStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if text, ok := m.(proto.Message); ok && err == nil {
		const each = 256 // what a message costs beside its bytes
		_ = s.limit.WaitN(s.Context(), min(each+proto.Size(text), otherBurst))
	}
	return err
}

// unheard is a stream of which nothing is needed: go-plugin's broker would remember whatever a
// process tells it. What is not read waits in the stream's window, and then in the process.
type unheard struct{ grpc.ClientStream }

// RecvMsg implements grpc.ClientStream.
func (s unheard) RecvMsg(any) error {
	<-s.Context().Done()
	return status.FromContextError(s.Context().Err()).Err()
}
