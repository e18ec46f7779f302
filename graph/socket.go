package graph

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	coderws "github.com/coder/websocket"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/hookyard/hookyard/ent/viewer"
)

// Close codes of graphql-transport-ws.
const (
	closeBadMessage = 4400
	closeNoInit     = 4401 // subscribe before connection_init
	closeInitLate   = 4408
	closeSameID     = 4409
	closeInitTwice  = 4429
)

// initTimeout is how long a new socket may take to say who it is.
const initTimeout = 10 * time.Second

// sockets speak graphql-transport-ws. The library has a transport for it, too, but that
// writes each answer three times over and keeps two more goroutines for each socket: with
// a thousand watchers of the delivery log that is most of the hub's memory and CPU.
type sockets struct{ h *Handler }

// Supports implements graphql.Transport.
func (t sockets) Supports(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// Do implements graphql.Transport. It returns once the socket is open: the server's
// buffers and the depth of its stack would otherwise be kept for as long as somebody watches.
func (t sockets) Do(w http.ResponseWriter, r *http.Request, exec graphql.GraphExecutor) {
	conn, err := coderws.Accept(w, r, &coderws.AcceptOptions{
		Subprotocols: []string{Protocol}, OriginPatterns: t.h.opt.Origins, CompressionMode: coderws.CompressionDisabled,
	})
	if err != nil {
		return // it has answered
	}
	conn.SetReadLimit(t.h.opt.Limits.Body)
	s := &socket{sockets: t, conn: conn, exec: exec,
		session: r.Context().Value(sessionKey{}).(*session), active: map[string]context.CancelFunc{}}
	go s.run(context.WithoutCancel(r.Context()))
}

// socket is one websocket.
type socket struct {
	sockets
	conn    *coderws.Conn
	exec    graphql.GraphExecutor
	session *session
	heard   atomic.Bool // since the last ping
	outlive func() bool // keeps the end of what it is tied to from ending it; of the goroutine that reads

	mu         sync.Mutex
	ping       *time.Timer
	active     map[string]context.CancelFunc // by operation ID
	operations sync.WaitGroup
}

// message is what goes over the socket, but for answers.
type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// run serves the socket until it ends, or the hub does.
func (s *socket) run(ctx context.Context) {
	defer s.session.end()
	ctx, cancel := context.WithCancelCause(ctx)
	s.outlive = context.AfterFunc(s.h.opt.Live, func() { cancel(nil) })
	defer func() { s.outlive() }()
	ended := context.AfterFunc(ctx, s.close)
	s.read(ctx, cancel)
	if ended() { // nobody is closing it
		_ = s.conn.CloseNow()
	}
	cancel(nil)
	s.mu.Lock()
	if s.ping != nil {
		s.ping.Stop()
	}
	s.mu.Unlock()
	s.operations.Wait()
}

// close ends the socket with the reason that its session has.
func (s *socket) close() {
	code, text := s.session.reason()
	if code == 0 {
		code, text = int(coderws.StatusNormalClosure), "terminated"
	}
	_ = s.conn.Close(coderws.StatusCode(code), text)
}

// read takes messages until the socket ends.
func (s *socket) read(ctx context.Context, cancel context.CancelCauseFunc) {
	end := func(code int, text string) {
		s.session.close(code, text)
		cancel(nil)
	}
	late := time.AfterFunc(initTimeout, func() { end(closeInitLate, "Connection initialisation timeout") })
	defer late.Stop()
	ready := false
	for {
		// The context would end the connection without a word.
		_, b, err := s.conn.Read(context.Background())
		if err != nil {
			return
		}
		s.heard.Store(true)
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			end(closeBadMessage, "A message is not JSON of the protocol")
			return
		}
		switch m.Type {
		case "connection_init":
			if ready {
				end(closeInitTwice, "Too many initialisation requests")
				return
			}
			var refused *Error
			if ctx, refused = s.init(ctx, cancel, m.Payload); refused != nil {
				cancel(nil)
				return
			}
			ready = late.Stop() // otherwise the socket is being closed
			s.write(message{Type: "connection_ack"})
			s.later(ctx)
		case "subscribe":
			switch {
			case !ready:
				end(closeNoInit, "Unauthorized")
				return
			case m.ID == "":
				end(closeBadMessage, "An operation needs an ID")
				return
			case !s.start(ctx, m):
				end(closeSameID, "Subscriber for "+strconv.Quote(m.ID[:min(len(m.ID), 20)])+" already exists")
				return
			}
		case "complete":
			s.stop(m.ID)
		case "ping":
			s.write(message{Type: "pong", Payload: m.Payload})
		case "pong":
		default:
			end(closeBadMessage, "A message is of no type of the protocol")
			return
		}
	}
}

// init finds out who is there.
func (s *socket) init(ctx context.Context, cancel context.CancelCauseFunc, payload json.RawMessage) (context.Context, *Error) {
	var given map[string]any
	if len(payload) > 0 {
		if err := json.Unmarshal(payload, &given); err != nil {
			s.session.close(closeBadMessage, "The payload of connection_init is not a JSON object")
			return ctx, errUnauthenticated
		}
	}
	for _, name := range []string{"Authorization", "authorization"} {
		if a, ok := given[name].(string); ok && a != "" {
			s.session.header = a
			break
		}
	}
	looks := s.h.looked()
	v, expires, err := s.h.apart(ctx, s.session.header)
	if err == nil {
		err = s.session.begin(ctx, v, cancel, looks)
	}
	if err != nil {
		s.session.close(closeRefused, err.Message)
		return ctx, err
	}
	if v.Agent() && s.outlive() { // it has yet to tell what came of its work
		s.outlive = context.AfterFunc(s.h.opt.AgentLive, func() { cancel(nil) })
	}
	ctx = viewer.NewContext(ctx, v)
	s.session.watch(ctx, expires)
	return ctx, nil
}

// keepAlive pings, and gives up a peer that has said nothing since the last time.
func (s *socket) keepAlive(ctx context.Context) {
	if !s.heard.Swap(false) {
		_ = s.conn.CloseNow()
		return
	}
	s.write(message{Type: "ping"})
	s.later(ctx)
}

// later arranges for the next ping. Its timer is the only one: it ends with the socket.
func (s *socket) later(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	every := s.h.opt.Ping
	if s.session.viewer.Agent() {
		every = s.h.opt.AgentPing
	}
	if ctx.Err() == nil {
		s.ping = time.AfterFunc(every, func() { s.keepAlive(ctx) })
	}
}

// start runs an operation; false: there is one of that ID.
func (s *socket) start(ctx context.Context, m message) bool {
	ctx, cancel := context.WithCancel(graphql.StartOperationTrace(ctx))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[m.ID] != nil {
		cancel()
		return false
	}
	refused := s.session.more()
	s.active[m.ID] = cancel
	s.operations.Go(func() {
		var last message
		if refused == nil {
			last = s.operate(ctx, m)
		} else {
			last = failure(gqlerror.List{{Message: refused.Message, Extensions: refused.extensions()}})
		}
		cancel()
		if refused == nil {
			s.session.less()
		}
		s.mu.Lock()
		delete(s.active, m.ID) // the client may use it again once it hears the last message
		s.mu.Unlock()
		last.ID = m.ID
		s.write(last)
	})
	return true
}

// stop ends an operation, if it still runs.
func (s *socket) stop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.active[id]; cancel != nil {
		cancel()
	}
}

// operate runs an operation to its end and returns the last message about it.
func (s *socket) operate(ctx context.Context, m message) (last message) {
	params := &graphql.RawParams{}
	d := json.NewDecoder(bytes.NewReader(m.Payload))
	d.UseNumber()
	if err := d.Decode(params); err != nil {
		return failure(gqlerror.List{{Message: "The payload is not JSON of the form {\"query\": ..., \"variables\": ...}.", Extensions: map[string]any{"code": string(BadUserInput)}}})
	}
	params.ReadTime = graphql.TraceTiming{Start: graphql.GetStartTime(ctx), End: graphql.Now()}
	op, wrong := s.exec.CreateOperationContext(ctx, params)
	ctx = graphql.WithOperationContext(ctx, op)
	defer func() {
		if p := recover(); p != nil {
			last = failure(gqlerror.List{s.h.present.present(ctx, op.Recover(ctx, p))})
		}
	}()
	if wrong != nil {
		answer := s.exec.DispatchError(ctx, wrong)
		if errcode.GetErrorKind(wrong) == errcode.KindProtocol {
			return failure(answer.Errors)
		}
		s.answer(m.ID, &graphql.Response{Errors: answer.Errors})
	} else {
		answers, ctx := s.exec.DispatchOperation(ctx, op)
		for a := answers(ctx); a != nil; a = answers(ctx) {
			s.answer(m.ID, a)
		}
	}
	return message{Type: "complete"}
}

// failure ends an operation that has no answer.
func failure(errs gqlerror.List) message {
	b, err := json.Marshal(errs)
	if err != nil {
		b = []byte("[]")
	}
	return message{Type: "error", Payload: b}
}

// answer writes what an operation has answered, as it is.
func (s *socket) answer(id string, a *graphql.Response) {
	frame := s.h.buffers.Get().(*bytes.Buffer)
	defer s.h.buffers.Put(frame)
	frame.Reset()
	frame.WriteString(`{"type":"next","id":`)
	quoted, _ := json.Marshal(id) // a string always can be
	frame.Write(quoted)
	frame.WriteString(`,"payload":`)
	if a.Errors == nil && a.Extensions == nil && a.HasNext == nil && a.Data != nil {
		frame.WriteString(`{"data":`)
		frame.Write(a.Data)
		frame.WriteByte('}')
	} else {
		b, err := json.Marshal(a)
		if err != nil {
			s.h.opt.Log.Error("cannot write an answer", "error", err)
			return
		}
		frame.Write(b)
	}
	frame.WriteByte('}')
	s.send(frame.Bytes())
}

func (s *socket) write(m message) {
	b, err := json.Marshal(m)
	if err != nil {
		s.h.opt.Log.Error("cannot write a message", "error", err)
		return
	}
	s.send(b)
}

// send writes a message. The connection has its own limit for that, see conn; a peer that
// does not take it is let go, which ends read, too.
func (s *socket) send(b []byte) {
	if err := s.conn.Write(context.Background(), coderws.MessageText, b); err != nil {
		_ = s.conn.CloseNow()
	}
}
