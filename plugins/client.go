package plugins

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"

	"github.com/hookyard/hookyard/connectors"
	wirev1 "github.com/hookyard/hookyard/plugins/wire/v1"
)

// DialOptions are those of the host's connection to a plugin.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithStaticStreamWindowSize(windowSize), grpc.WithStaticConnWindowSize(windowSize),
		grpc.WithStreamInterceptor(boundOthers),
	}
}

// SessionConfig is what a Session needs.
type SessionConfig struct {
	HostVersion string
	Log         *slog.Logger
	Clock       clockwork.Clock
	// DefaultTimeout is that of items without one; Grace is how much longer than its
	// timeout an item may take before the Session answers in the connector's place.
	DefaultTimeout, Grace time.Duration
	// Memory is where what the connector keeps is kept; nil: it can keep nothing.
	Memory connectors.Memory
	// Spec holds the defaults of settings, which are filled in before endpoints are handed over.
	Spec connectors.Spec
	// Lost is told, if it is set, which deliveries were in flight when the session ended, before
	// they are answered, and how many had been answered. It may name the one that is to blame for
	// the end, which is answered with FaultDelivery.
	Lost func(deliveries []string, answered int) (culprit string)
}

// Session is the host's end of one process's stream. All methods may be called from
// many goroutines; those that take a context wait for the plugin, and no others.
type Session struct {
	cfg    SessionConfig
	stream wirev1.Plugin_SessionClient
	cancel context.CancelFunc
	out    *outbox[message]
	ended  chan struct{} // closed when reader and writer have returned
	stop   chan struct{} // closed when either returns

	working sync.WaitGroup // answers to the process being found

	mu      sync.Mutex
	err     error // why it ended; nil while it lives
	token   uint64
	pending map[uint64]waiting
	calls   map[uint64]*asked // checks and all other calls
	results int               // that came, of items
	refs    map[string]string // endpoint ID -> Ref that the process knows
	given   map[string]*given // by Ref: endpoints that the process may ask about
	asks    int               // of the process, whose answers are not yet sent
	// askLimit is how fast they are answered.
	askLimit *rate.Limiter
	idle     chan struct{} // closed when nothing is pending; nil when nobody waits for that
	ponged   uint64
	noise    noise
}

// given is an endpoint that the process has, or had so lately that a call may need it.
type given struct {
	connectors.Endpoint
	users int
	until time.Time // it was taken back then, and is forgotten a while later; zero: it has it
}

// asked is one call in flight.
type asked struct {
	answer chan *wirev1.Answer // holds one
	news   chan *wirev1.News   // of a scan, holds one; nil: of other calls
}

// waiting is one item in flight.
type waiting struct {
	id       string
	started  time.Time
	deadline time.Time
	done     func(connectors.Result)
}

// message is either an item or anything else; runs of items become one message.
type message struct {
	item  *wirev1.Item
	size  int
	other *wirev1.SessionRequest
	sent  func() // called when other has been sent; may be nil
}

// ErrEnded is what became of items and checks of a Session that has ended.
var ErrEnded = errors.New("the connector's process ended")

// lostError is a call that the process had in hand when it ended: perhaps because of it.
type lostError struct{ error }

func (e lostError) Unwrap() error { return e.error }

// Ended tells it from calls of processes that were not there.
func (lostError) Ended() {}

// NewSession opens the stream.
func NewSession(c wirev1.PluginClient, cfg SessionConfig) (*Session, error) {
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := c.Session(ctx)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open the connector's session: %w", err)
	}
	s := &Session{cfg: cfg, stream: stream, cancel: cancel, out: newOutbox[message](), ended: make(chan struct{}), stop: make(chan struct{}),
		pending: map[uint64]waiting{}, calls: map[uint64]*asked{}, refs: map[string]string{}, given: map[string]*given{},
		askLimit: rate.NewLimiter(askRate, askBurst)}
	if s.cfg.Memory == nil {
		s.cfg.Memory = noMemory{}
	}
	s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Hello{Hello: &wirev1.Hello{HostVersion: cfg.HostVersion}}}})
	go s.run()
	return s, nil
}

func (s *Session) run() {
	failed := make(chan error, 2)
	var both sync.WaitGroup
	both.Go(func() { failed <- s.write() })
	both.Go(func() { failed <- s.read() })
	err := <-failed
	close(s.stop)
	s.cancel()
	both.Wait()
	s.working.Wait()
	s.end(err)
	close(s.ended)
}

// Ended is closed when the session has ended and all its items are answered.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Err is why the session ended, nil while it lives.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session and waits for that; what is unanswered is answered with
// Retry and FaultConnector.
func (s *Session) Close() {
	s.cancel()
	<-s.ended
}

// InFlight is how many items are handed over and not yet answered.
func (s *Session) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// Idle returns a channel that is closed when nothing is in flight any more, neither items nor
// calls, of which a scan may take long. Nothing must be handed over after the call.
func (s *Session) Idle() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = make(chan struct{})
		s.idleLocked()
	}
	return s.idle
}

func (s *Session) idleLocked() {
	if s.idle == nil || len(s.pending)+len(s.calls) > 0 {
		return
	}
	select {
	case <-s.idle:
	default:
		close(s.idle)
	}
}

// Deliver hands one item over; e is what d.Endpoint names. done is called exactly
// once, from another goroutine; it must not block, or all answers wait. When the
// session has ended Deliver takes nothing and returns false.
func (s *Session) Deliver(e connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) bool {
	size := itemSize(&d)
	if size > MaxItem {
		go done(connectors.Result{DeliveryID: d.ID, Outcome: connectors.Permanent, Fault: connectors.FaultSettings, Started: s.cfg.Clock.Now(),
			Error: fmt.Sprintf("the request is larger than %d bytes, which is more than a connector is handed", MaxItem)})
		return true
	}
	timeout := d.Timeout
	if timeout <= 0 {
		timeout = s.cfg.DefaultTimeout
	}
	now := s.cfg.Clock.Now()
	item := itemToWire(0, &d)
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return false
	}
	s.knowLocked(e)
	s.token++
	item.Token = s.token
	s.pending[s.token] = waiting{id: d.ID, started: now, deadline: now.Add(timeout + s.cfg.Grace), done: done}
	s.out.put(message{item: item, size: size})
	s.mu.Unlock()
	return true
}

// knowLocked sends the endpoint unless the process has it, and takes back the
// revision of it that it had.
func (s *Session) knowLocked(e connectors.Endpoint) {
	old, known := s.refs[e.ID]
	if known && old == e.Ref {
		return
	}
	s.refs[e.ID] = e.Ref
	if g := s.given[e.Ref]; g != nil {
		g.until = time.Time{}
	} else {
		s.given[e.Ref] = &given{Endpoint: e}
	}
	s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Endpoint{Endpoint: endpointToWire(withDefaults(e, s.cfg.Spec))}}})
	if known {
		s.forgetLocked(old)
	}
}

func (s *Session) forgetLocked(ref string) {
	if g := s.given[ref]; g != nil {
		g.until = s.cfg.Clock.Now()
	}
	s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Forget{Forget: &wirev1.Forget{Ref: ref}}}})
}

// Given is an endpoint that the process has, or had until a moment ago, by its Ref.
func (s *Session) Given(ref string) (connectors.Endpoint, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.given[ref]; g != nil {
		return g.Endpoint, true
	}
	return connectors.Endpoint{}, false
}

// Forget takes an endpoint back, by its ID.
func (s *Session) Forget(endpointID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ref, ok := s.refs[endpointID]; ok && s.err == nil {
		delete(s.refs, endpointID)
		s.forgetLocked(ref)
	}
}

// Ping asks for a sign of life; Ponged is the highest number that came back.
func (s *Session) Ping(number uint64) {
	s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Ping{Ping: &wirev1.Ping{Number: number}}}})
}

// Ponged is the number of the latest ping that was answered.
func (s *Session) Ponged() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ponged
}

// Expire answers what is past its deadline, and cancels it in the plugin. It returns
// how many there were.
func (s *Session) Expire() int {
	now := s.cfg.Clock.Now()
	var late []waiting
	var tokens []uint64
	s.mu.Lock()
	for token, w := range s.pending {
		if now.After(w.deadline) {
			late = append(late, w)
			tokens = append(tokens, token)
			delete(s.pending, token)
		}
	}
	for ref, g := range s.given {
		if !g.until.IsZero() && g.users == 0 && now.Sub(g.until) > keepGiven {
			delete(s.given, ref)
		}
	}
	s.idleLocked()
	s.mu.Unlock()
	if len(late) == 0 {
		return 0
	}
	s.sendCancel(tokens)
	for _, w := range late {
		w.done(Broken(w.id, w.started, 0, "the connector did not answer within the time limit"))
	}
	return len(late)
}

func (s *Session) sendCancel(tokens []uint64) {
	s.out.put(message{other: &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Cancel{Cancel: &wirev1.Cancel{Tokens: tokens}}}})
}

// write is the one writer.
func (s *Session) write() error {
	for {
		runtime.Gosched() // let those who are about to hand over do so: longer lists cost less
		queue := s.out.taken()
		if len(queue) == 0 {
			select {
			case <-s.out.wake:
				continue
			case <-s.stop:
				return nil
			}
		}
		for len(queue) > 0 {
			m, sent := queue[0].other, queue[0].sent
			if m == nil {
				list := make([]*wirev1.Item, 0, min(len(queue), maxBatch))
				for size := 0; len(queue) > 0 && queue[0].item != nil && len(list) < maxBatch && size < batchBytes; queue = queue[1:] {
					list = append(list, queue[0].item)
					size += queue[0].size
				}
				m = &wirev1.SessionRequest{Message: &wirev1.SessionRequest_Deliver{Deliver: &wirev1.Deliver{Items: list}}}
			} else {
				queue = queue[1:]
			}
			if err := s.stream.Send(m); err != nil {
				if errors.Is(err, io.EOF) { // the reader knows why
					<-s.stop
					return nil
				}
				return fmt.Errorf("write to the connector: %w", err)
			}
			if sent != nil {
				sent()
			}
		}
	}
}

// read is the one reader. It calls done.
func (s *Session) read() error {
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return fmt.Errorf("read from the connector: %w", err)
		}
		if err := s.heard(m); err != nil {
			return err
		}
	}
}

func (s *Session) heard(m *wirev1.SessionResponse) error {
	var waited bool
	unasked := 0
	switch of := m.GetMessage().(type) {
	case *wirev1.SessionResponse_Results:
		for _, w := range of.Results.GetResults() {
			if !s.result(w) {
				unasked++
			}
		}
		waited = len(of.Results.GetResults()) > 0
	case *wirev1.SessionResponse_CheckDone:
		waited = s.answered(&wirev1.Answer{Token: of.CheckDone.GetToken(), Of: &wirev1.Answer_Broken{Broken: of.CheckDone.GetError()}})
	case *wirev1.SessionResponse_Answer:
		waited = s.answered(of.Answer)
	case *wirev1.SessionResponse_News:
		var err error
		if waited, err = s.news(of.News); err != nil {
			return err
		}
	case *wirev1.SessionResponse_Ask:
		return s.asked(of.Ask)
	case *wirev1.SessionResponse_Log:
		logFromWire(s.cfg.Log, of.Log)
		waited = false
	case *wirev1.SessionResponse_Pong:
		s.mu.Lock()
		s.ponged = max(s.ponged, of.Pong.GetNumber())
		s.mu.Unlock()
		waited = false
	default:
		waited = false
	}
	if !waited {
		unasked++
	}
	if unasked > 0 {
		return s.unasked(m, unasked)
	}
	return nil
}

// result says whether somebody waited for it.
func (s *Session) result(w *wirev1.Result) bool {
	s.mu.Lock()
	p, ok := s.pending[w.GetToken()]
	if ok {
		delete(s.pending, w.GetToken())
		s.results++
	}
	s.idleLocked()
	s.mu.Unlock()
	if !ok {
		s.cfg.Log.Warn("a result that nobody waits for was dropped", "token", w.GetToken())
		return false
	}
	p.done(resultFromWire(p.id, w))
	return true
}

// end answers everything that is still open.
func (s *Session) end(cause error) {
	s.out.close()
	s.mu.Lock()
	s.err = ErrEnded
	if cause != nil {
		s.err = fmt.Errorf("%w: %w", ErrEnded, cause)
	}
	pending, calls, results := s.pending, s.calls, s.results
	s.pending, s.calls = map[uint64]waiting{}, map[uint64]*asked{}
	s.idleLocked()
	s.mu.Unlock()
	culprit := ""
	if s.cfg.Lost != nil && len(pending) > 0 {
		lost := make([]string, 0, len(pending))
		for _, p := range pending {
			lost = append(lost, p.id)
		}
		culprit = s.cfg.Lost(lost, results)
	}
	for _, p := range pending {
		r := Broken(p.id, p.started, 0, ErrEnded.Error())
		if p.id == culprit {
			r.Fault, r.Error = connectors.FaultDelivery, "the connector's process ends whenever it is handed this delivery"
		}
		p.done(r)
	}
	for _, c := range calls {
		close(c.answer)
	}
}

// Broken is the answer in a connector's place for an item that was handed over at
// started: hand over again, not before after has passed; the endpoint is not to
// blame, and the attempt need not count.
func Broken(id string, started time.Time, after time.Duration, why string) connectors.Result {
	return connectors.Result{DeliveryID: id, Outcome: connectors.Retry, Fault: connectors.FaultConnector, Started: started, RetryAfter: after, Error: why}
}
