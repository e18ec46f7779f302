package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

const (
	protocol   = "graphql-transport-ws"
	openWithin = 15 * time.Second
	pingEvery  = 3 * time.Second
	deadAfter  = 3 * pingEvery // without a word from the hub, which pings as often as we do
	readLimit  = 64 << 20
)

// refusal is the hub's answer to a key that is not, or no longer, good.
type refusal struct{ why string }

func (e *refusal) Error() string { return "the hub refuses the key: " + e.why }

// socket is one websocket to the hub, on which several operations run at a time.
type socket struct {
	conn  *websocket.Conn
	heard atomic.Int64 // when the hub last said something, in nanoseconds

	mu      sync.Mutex
	last    int
	waiting map[string]func(message)
}

type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// dial opens a socket and says who is there.
func dial(ctx context.Context, client *http.Client, hub, key, version string) (*socket, error) {
	ctx, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, strings.TrimRight(hub, "/")+"/graphql", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{protocol}, //nolint:bodyclose // Dial has read and closed it
		HTTPHeader: http.Header{"User-Agent": {"Hookyard-Presence/" + version}}})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, fmt.Errorf("open a websocket to %s: it answered %s", hub, resp.Status)
		}
		return nil, fmt.Errorf("open a websocket to %s: %w", hub, err)
	}
	conn.SetReadLimit(readLimit)
	s := &socket{conn: conn, waiting: map[string]func(message){}}
	init, err := json.Marshal(map[string]string{"Authorization": "Bearer " + key})
	if err == nil {
		err = s.write(ctx, message{Type: "connection_init", Payload: init})
	}
	for err == nil {
		var m message
		if m, err = s.read(ctx); err == nil && m.Type == "connection_ack" {
			return s, nil
		}
	}
	_ = conn.CloseNow()
	return nil, explain(err)
}

// explain tells a key that is refused from a link that is cut.
func explain(err error) error {
	var closed websocket.CloseError
	if errors.As(err, &closed) {
		switch closed.Code {
		case 4401, 4403:
			return &refusal{closed.Reason}
		}
		return fmt.Errorf("the hub closed the link: %d %s", closed.Code, closed.Reason)
	}
	return err
}

func (s *socket) read(ctx context.Context) (m message, err error) {
	_, b, err := s.conn.Read(ctx)
	if err != nil {
		return m, err
	}
	s.heard.Store(time.Now().UnixNano())
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("read a message of the hub: %w", err)
	}
	return m, nil
}

func (s *socket) write(ctx context.Context, m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write a message: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, deadAfter)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, b)
}

// run hands messages to the operations that they are for until the socket ends, and says why.
func (s *socket) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.keepAlive(ctx, cancel)
	for {
		m, err := s.read(ctx)
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			s.end()
			_ = s.conn.CloseNow()
			return explain(err)
		}
		switch m.Type {
		case "ping":
			if err := s.write(ctx, message{Type: "pong"}); err != nil {
				cancel(err)
			}
		case "next", "error", "complete":
			s.mu.Lock()
			take := s.waiting[m.ID]
			if m.Type != "next" {
				delete(s.waiting, m.ID)
			}
			s.mu.Unlock()
			if take != nil {
				take(m)
			}
		}
	}
}

var errSilent = fmt.Errorf("the hub gave no sign of life for %v", deadAfter)

// keepAlive pings, and ends the socket when nothing is heard.
func (s *socket) keepAlive(ctx context.Context, cancel context.CancelCauseFunc) {
	every := time.NewTicker(pingEvery)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			if now.Sub(time.Unix(0, s.heard.Load())) > deadAfter {
				cancel(errSilent)
				return
			}
			if err := s.write(ctx, message{Type: "ping"}); err != nil {
				cancel(err)
				return
			}
		}
	}
}

// end tells all operations that nothing more comes.
func (s *socket) end() {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	for _, take := range waiting {
		take(message{Type: "error"})
	}
}

// start runs an operation; take is called by the reader, and must not block for long. Its
// last message is "complete" or "error".
func (s *socket) start(ctx context.Context, query string, variables any, take func(message)) (id string, err error) {
	payload, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return "", fmt.Errorf("write an operation: %w", err)
	}
	s.mu.Lock()
	if s.waiting == nil {
		s.mu.Unlock()
		return "", errors.New("the link has ended")
	}
	s.last++
	id = strconv.Itoa(s.last)
	s.waiting[id] = take
	s.mu.Unlock()
	return id, s.write(ctx, message{ID: id, Type: "subscribe", Payload: payload})
}

// stop asks for the end of an operation; its last message still comes.
func (s *socket) stop(ctx context.Context, id string) error {
	return s.write(ctx, message{ID: id, Type: "complete"})
}

// ask runs an operation with one answer and reads its data.
func (s *socket) ask(ctx context.Context, query string, variables, data any) error {
	answers := make(chan message, 1)
	if _, err := s.start(ctx, query, variables, func(m message) {
		select {
		case answers <- m:
		default: // the first is the answer; another one, or the end, holds up nobody
		}
	}); err != nil {
		return err
	}
	select {
	case m := <-answers:
		if m.Type != "next" {
			return fmt.Errorf("the hub did not answer: %s", m.Payload)
		}
		return readAnswer(m.Payload, data)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// readAnswer reads the data of an answer, or what is wrong.
func readAnswer(payload json.RawMessage, data any) error {
	var a struct {
		Data   json.RawMessage
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(payload, &a); err != nil {
		return fmt.Errorf("read an answer of the hub: %w", err)
	}
	if len(a.Errors) > 0 {
		return fmt.Errorf("the hub says: %s", a.Errors[0].Message)
	}
	if err := json.Unmarshal(a.Data, data); err != nil {
		return fmt.Errorf("read an answer of the hub: %w", err)
	}
	return nil
}
