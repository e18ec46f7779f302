package program

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/coder/websocket"
)

// Subscription is one GraphQL subscription on a socket of its own.
type Subscription struct{ conn *websocket.Conn }

type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// ErrComplete says that the hub has ended the subscription.
var ErrComplete = errors.New("the hub completed the subscription")

// Subscribe opens a subscription over graphql-transport-ws. The hub may not have looked
// at it yet when it returns: a refusal comes from Next.
func (c *Client) Subscribe(ctx context.Context, query string, variables Input) (*Subscription, error) {
	//nolint:bodyclose // there is none after an upgrade
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(c.URL, "http")+"/graphql",
		&websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		return nil, fmt.Errorf("opening the websocket: %w", err)
	}
	conn.SetReadLimit(32 << 20)
	s := &Subscription{conn: conn}
	init, err := json.Marshal(map[string]string{"Authorization": "Bearer " + c.Key})
	if err != nil {
		return nil, err
	}
	payload, err := json.Marshal(request{query, variables})
	if err != nil {
		return nil, err
	}
	if err := s.send(ctx, message{Type: "connection_init", Payload: init}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for {
		m, err := s.receive(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("waiting for connection_ack: %w", err), s.Close())
		}
		if m.Type == "connection_ack" {
			break
		}
	}
	if err := s.send(ctx, message{ID: "1", Type: "subscribe", Payload: payload}); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Next waits for the next answer and decodes its data into into. It returns *Error for
// what the hub refuses and ErrComplete at the end.
func (s *Subscription) Next(ctx context.Context, into any) error {
	payload, err := s.NextRaw(ctx)
	if err != nil {
		return err
	}
	var r response
	if err := json.Unmarshal(payload, &r); err != nil {
		return err
	}
	return r.decode(into)
}

// NextRaw is Next without decoding: the payload as it came.
func (s *Subscription) NextRaw(ctx context.Context) (json.RawMessage, error) {
	for {
		m, err := s.receive(ctx)
		if err != nil {
			return nil, err
		}
		switch m.Type {
		case "next":
			return m.Payload, nil
		case "complete":
			return nil, ErrComplete
		case "error":
			var list []*Error
			if err := json.Unmarshal(m.Payload, &list); err != nil || len(list) == 0 {
				return nil, fmt.Errorf("the hub refused the subscription: %s", m.Payload)
			}
			return nil, list[0]
		}
	}
}

// receive reads one message and answers pings.
func (s *Subscription) receive(ctx context.Context) (message, error) {
	for {
		_, b, err := s.conn.Read(ctx)
		if err != nil {
			return message{}, err
		}
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			return message{}, err
		}
		if m.Type != "ping" {
			return m, nil
		}
		if err := s.send(ctx, message{Type: "pong"}); err != nil {
			return message{}, err
		}
	}
}

func (s *Subscription) send(ctx context.Context, m message) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return s.conn.Write(ctx, websocket.MessageText, b)
}

// Close ends the subscription without waiting for the hub.
func (s *Subscription) Close() error { return s.conn.CloseNow() }
