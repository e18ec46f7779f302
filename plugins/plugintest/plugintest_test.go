package plugintest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/plugins"
)

func TestMain(m *testing.M) {
	if IsPlugin() {
		plugins.Serve(able{})
		return
	}
	goleak.VerifyTestMain(m)
}

// A connector with every ability that there is, in its own process and in this one.
func TestEveryAbility(t *testing.T) {
	t.Run("here", func(t *testing.T) { connectortest.Run(t, able{}) })
	t.Run("in a process", func(t *testing.T) { Run(t, Self("able")) })
}

// What is answered through the process is what the connector says.
func TestTheProcessSaysTheSame(t *testing.T) {
	c := Start(t, Self("able"))
	if got, want := fmt.Sprint(plugins.DescriptionOf(able{}).Spec), fmt.Sprint(c.Spec()); got != want {
		t.Errorf("the description came as %s, not %s", got, want)
	}
	for _, typ := range connectors.EventTypes() {
		for _, e := range []*connectors.Event{connectortest.Event(typ), connectortest.Sparse(typ)} {
			o := connectors.RenderOptions{Numbers: map[connectors.NumberKey]int32{{Kind: "event", ID: e.ID}: 7}}
			want, wantErr := able{}.Render(e, o)
			got, err := c.Formats()[0].Render(e, o)
			if !bytes.Equal(got.Body, want.Body) || fmt.Sprint(got, err) != fmt.Sprint(want, wantErr) {
				t.Errorf("%s: %s %v, want %s %v", typ, got.Body, err, want.Body, wantErr)
			}
		}
	}
	if n := c.Formats()[0].(connectors.Numberer).Numbers(connectortest.Event(connectors.ScanStarted)); len(n) != 1 || n[0].Kind != "event" {
		t.Errorf("numbers: %v", n)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	in := connectors.Inbound{Method: "POST", Path: "/a b", Header: http.Header{"X-A": {"1", "2"}}, Query: map[string][]string{"q": {"ä", "&"}},
		Body: []byte(`{"id":"7"}`), ReceivedAt: connectortest.Moment(), Location: berlin, SourceID: "src_1", ContentType: "application/json"}
	for _, in.Via = range []connectors.Via{connectors.ViaRequest, connectors.ViaPoll} {
		want, wantErr := able{}.Receive(in)
		got, err := c.Receivers()[0].Receive(in)
		if a, b := asJSON(got), asJSON(want); a != b || fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Errorf("received %s %v, want %s %v", a, err, b, wantErr)
		}
	}
	in.Body = []byte(`[`)
	if _, err := c.Receivers()[0].Receive(in); fmt.Sprint(err) != "refused (400): body: not JSON" {
		t.Errorf("got %v", err)
	}
	if err := connectors.VerifierOf(c.Receivers()[0]).Verify(in, [][]byte{[]byte("k")}); err == nil {
		t.Error("an unsigned request is genuine")
	}
	if _, once := connectors.SignerOf(c.Formats()[0]).(connectors.SingleSigner); !once {
		t.Error("the rule has room for one signature, and its signer does not say so")
	}
}

// Settings have their defaults, links last, and failures are decisions, through a process.
func TestPollsAndEnrichmentsThroughAProcess(t *testing.T) {
	c := Start(t, Self("able"))
	src := connectors.Endpoint{Ref: "src_1@1", ID: "src_1", Organization: "org_1", Role: connectors.RoleSource, URL: "http://127.0.0.1:1", Settings: json.RawMessage(`{}`)}
	p, err := c.Poll(t.Context(), nil, connectors.Poll{Source: src, Kind: "able", Since: connectortest.Moment(), Limit: 2})
	if err != nil || len(p.Documents) != 2 || string(p.Documents[0].Body) != `{"id":"0","page":"25"}` || string(p.Cursor) != "2" || !p.More {
		t.Errorf("polled %+v, %v", p, err)
	}
	if p, err = c.Poll(t.Context(), nil, connectors.Poll{Source: src, Kind: "able", Cursor: p.Cursor, Limit: 2}); err != nil || p.Documents[0].Key != "2" {
		t.Errorf("polled %+v, %v", p, err)
	}
	var f *connectors.Failure
	if _, err := c.Poll(t.Context(), nil, connectors.Poll{Source: src, Kind: "able", Cursor: []byte("bad"), Limit: 2}); !errors.As(err, &f) || f.Outcome != connectors.Permanent || f.RetryAfter != time.Minute {
		t.Errorf("got %v", err)
	}
	for want := range 3 { // it counts in its memory
		d, err := c.Enrich(t.Context(), nil, connectors.Enrichment{Source: src, Kind: "able", Receipt: "rcp_1", Attempt: 1, Request: connectors.Inbound{Body: []byte("x")}})
		if err != nil || string(d.Body) != fmt.Sprintf(`{"id":"x","seen":%d}`, want) {
			t.Errorf("enriched %s, %v", d.Body, err)
		}
	}
	if s, err := c.Memory.State(t.Context(), src, "seen"); err != nil || s.Version != 3 {
		t.Errorf("its memory is %+v, %v", s, err)
	}
}

func TestScansThroughAProcess(t *testing.T) {
	c := Start(t, Self("able"))
	job := func(url string) connectors.ScanJob {
		return connectors.ScanJob{Scanner: connectors.Endpoint{Ref: "scr_1@1", ID: "scr_1", Role: connectors.RoleScanner, URL: url}, ID: "scn_1", Timeout: time.Minute}
	}
	var told []string
	keep := func(n connectors.ScanNews) error {
		told = append(told, string(n.Kind)+string(n.End))
		return nil
	}
	if err := c.Scan(t.Context(), nil, job("quick"), keep); err != nil || strings.Join(told, " ") != "BEGAN PROGRESSED FOUND DONEFINISHED" {
		t.Errorf("%v told %v", err, told)
	}
	// Cancelled, it tells that it was stopped.
	told = nil
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Scan(ctx, nil, job("endless"), func(n connectors.ScanNews) error { cancel(); return keep(n) }); !errors.Is(err, context.Canceled) ||
		strings.Join(told, " ") != "BEGAN DONESTOPPED" {
		t.Errorf("%v told %v", err, told)
	}
	// Refused news end it, too.
	told = nil
	full := errors.New("the disk is full")
	if err := c.Scan(t.Context(), nil, job("endless"), func(n connectors.ScanNews) error {
		told = append(told, string(n.Kind))
		if n.Kind == connectors.ScanBegan {
			return full
		}
		return nil
	}); !errors.Is(err, full) {
		t.Errorf("%v told %v", err, told)
	}
	// A panic is an error, and a crash ends it.
	if err := c.Scan(t.Context(), nil, job("panic"), keep); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("got %v", err)
	}
	if err := c.Scan(t.Context(), nil, job("exit"), keep); !errors.Is(err, plugins.ErrEnded) {
		t.Errorf("got %v", err)
	}
}

// Its memory through the process keeps the promises of all memories.
func TestMemoryThroughAProcess(t *testing.T) {
	c := Start(t, Self("able"))
	e := connectors.Endpoint{Ref: "end_1@1", ID: "end_1", URL: "memory"}
	if err := c.Check(t.Context(), nil, e); err != nil {
		t.Error(err)
	}
	if err := c.Check(t.Context(), nil, connectors.Endpoint{Ref: "end_2@1", ID: "end_2", URL: "memory of others"}); err == nil || !strings.Contains(err.Error(), "was not given") {
		t.Errorf("an endpoint that it was not given: %v", err)
	}
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// able has every ability.
type able struct{}

func (able) Spec() connectors.Spec {
	return connectors.Spec{Name: "able", Title: "Able", Description: "Has every ability.", Version: "1.0.0", Abilities: connectors.Abilities(able{}),
		Settings:       json.RawMessage(`{"type":"object","properties":{"key":{"type":"string","title":"Key","description":"A key.","format":"password"}}}`),
		SourceSettings: json.RawMessage(`{"type":"object","properties":{"page":{"type":"string","title":"Page","description":"Its size.","default":"25"}}}`),
		ScanSettings:   json.RawMessage(`{"type":"object"}`), TakesRequest: true}
}

func (able) Formats() []connectors.Format     { return []connectors.Format{able{}} }
func (able) Receivers() []connectors.Receiver { return []connectors.Receiver{reader{}} }
func (able) Triggers() []connectors.Trigger   { return []connectors.Trigger{calls{}} }
func (able) Name() string                     { return "able" }
func (able) EventTypes() []connectors.EventType {
	return []connectors.EventType{connectors.ScanCompleted}
}
func (able) SignatureRule() connectors.SignatureRule {
	return connectors.SignatureRule{Header: "X-Able", Prefix: "v1,", Encoding: connectors.Base64, Message: "{id}.{timestamp}.{body}",
		IDHeader: "X-Able-Id", TimestampHeader: "X-Able-Time", Tolerance: time.Minute}
}

func (able) Numbers(e *connectors.Event) []connectors.NumberKey {
	return []connectors.NumberKey{{Kind: "event", ID: e.ID}}
}

func (able) Render(e *connectors.Event, o connectors.RenderOptions) (connectors.Rendered, error) {
	if e.Type != connectors.ScanCompleted && e.Type != connectors.ScanStarted {
		return connectors.Rendered{}, &connectors.SkipError{Reason: "it says scans only"}
	}
	b, err := json.Marshal(map[string]any{"event": e, "number": o.Numbers[connectors.NumberKey{Kind: "event", ID: e.ID}]})
	return connectors.Rendered{Method: "PUT", TargetSuffix: "/x", Header: []connectors.Header{{Name: "X-Type", Value: string(e.Type)}}, Body: b}, err
}

func (able) Required() bool { return true }

func (able) Challenge(c connectors.Challenge) (connectors.Rendered, error) {
	return connectors.Rendered{Method: "OPTIONS", Header: []connectors.Header{{Name: "WebHook-Request-Origin", Value: c.Origin}}}, nil
}

func (able) Granted(c connectors.Challenge, answer *connectors.Response) (connectors.Grant, error) {
	for _, h := range answer.Header {
		if h.Name == "WebHook-Allowed-Origin" && h.Value == c.Origin {
			return connectors.Grant{PerMinute: 60}, nil
		}
	}
	return connectors.Grant{}, errors.New("the address does not allow " + c.Origin)
}

func (able) Receive(in connectors.Inbound) (connectors.Received, error) { return reader{}.Receive(in) }

// reader is its receiver.
type reader struct{}

func (reader) Kind() string                            { return "able" }
func (reader) Methods() []string                       { return []string{http.MethodPost, http.MethodGet} }
func (reader) SignatureRule() connectors.SignatureRule { return able{}.SignatureRule() }

func (reader) Handshake(in connectors.Inbound) *connectors.Reply {
	if in.Method != http.MethodHead {
		return nil
	}
	return &connectors.Reply{Status: http.StatusOK}
}

func (reader) Receive(in connectors.Inbound) (connectors.Received, error) {
	if in.Via == connectors.ViaRequest && len(in.Body) == 0 {
		return connectors.Received{Enrich: true}, nil
	}
	var what struct{ ID string }
	if json.Unmarshal(in.Body, &what) != nil {
		return connectors.Received{}, connectors.Refuse(http.StatusBadRequest, "body", "not JSON")
	}
	if what.ID == "" {
		return connectors.Received{Note: "nothing in it"}, nil
	}
	return connectors.Received{Items: []connectors.Incoming{{Type: connectors.ScanStarted, Time: in.ReceivedAt, Key: what.ID, State: in.Location.String(),
		Data:   connectors.Data{Scan: &connectors.Scan{Key: what.ID, Name: in.Path + strings.Join(in.Query["q"], "") + strings.Join(in.Header["X-A"], "")}},
		Fields: map[string]string{"id": what.ID, "title": "The " + what.ID}, DefaultField: "id", NameField: "title"}}}, nil
}

// calls is its trigger.
type calls struct{}

func (calls) Kind() string { return "able" }

func (calls) Call(in connectors.Inbound, _ connectors.TargetKind) (connectors.TriggerCall, error) {
	switch {
	case in.Method == http.MethodPost && in.Path == "":
		return connectors.TriggerCall{Verb: connectors.TriggerStart, Setup: connectors.ScanSetup{Logins: []connectors.Login{}},
			Hosts: []connectors.NamedHost{{Host: "x.example", Field: "host"}}}, nil
	case in.Method == http.MethodGet && in.Path == "/scans/1/status":
		return connectors.TriggerCall{Verb: connectors.TriggerStatus, Scan: 1}, nil
	}
	return connectors.TriggerCall{}, connectors.Refuse(http.StatusNotFound, "", "no such call")
}

func (calls) Answer(c connectors.TriggerCall, r connectors.TriggerResult) connectors.Reply {
	status := http.StatusOK
	if r.Refused != nil {
		status = r.Refused.Status
	}
	b, _ := json.Marshal(map[string]any{"verb": c.Verb, "report": r.Report}) //nolint:errchkjson // a test
	return connectors.Reply{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: b}
}

func (calls) Snippets(url string) []connectors.Snippet {
	return []connectors.Snippet{{Name: "curl", Text: "curl -X POST " + url}}
}

func (able) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	var wg sync.WaitGroup
	for _, d := range items {
		wg.Go(func() {
			r := connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: time.Now()}
			if err := post(ctx, h, d); err != nil {
				r.Outcome, r.Fault, r.Error = connectors.Retry, connectors.FaultTarget, err.Error()
			}
			done(r)
		})
	}
	wg.Wait()
	return nil
}

func post(ctx context.Context, h connectors.Host, d connectors.Delivery) error {
	e, ok := h.Endpoint(d.Endpoint)
	if !ok {
		return errors.New("unknown")
	}
	client, err := h.HTTPClient(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, d.Request.Method, d.Request.URL, bytes.NewReader(d.Request.Body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Body.Close()
}

func (able) Check(ctx context.Context, h connectors.Host, e connectors.Endpoint) error {
	switch e.URL {
	case "memory":
		return remembers(ctx, h, e)
	case "memory of others":
		e.Ref = "end_9@1"
		_, err := h.State(ctx, e, "x")
		return err
	}
	return nil
}

// remembers does what a connector does with its memory.
func remembers(ctx context.Context, h connectors.Host, e connectors.Endpoint) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 200 { // more at once than may be unanswered
		wg.Go(func() {
			err := h.SetLink(ctx, e, connectors.Link{Kind: "issue", Ours: "fnd_1", Theirs: fmt.Sprint("SEC-", i), URL: "https://x.example", Note: []byte{1}})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, connectors.ErrConflict) {
				won = 1000
			}
		})
	}
	wg.Wait()
	l, err := h.Link(ctx, e, "issue", "fnd_1")
	if err != nil || won != 1 || l.Version != 1 || l.URL != "https://x.example" || !bytes.Equal(l.Note, []byte{1}) {
		return fmt.Errorf("the link is %+v, %w; %d were first", l, err, won)
	}
	if back, err := h.LinkTo(ctx, e, "issue", l.Theirs); err != nil || back.Ours != "fnd_1" {
		return fmt.Errorf("back it is %+v, %w", back, err)
	}
	var limit *connectors.LimitError
	if err := h.SetState(ctx, e, connectors.State{Key: "x", Value: make([]byte, connectors.MaxState+1)}); !errors.As(err, &limit) {
		return fmt.Errorf("too large, and yet: %w", err)
	}
	return nil
}

func (able) Poll(_ context.Context, _ connectors.Host, p connectors.Poll) (connectors.Polled, error) {
	var settings struct{ Page string }
	if err := json.Unmarshal(p.Source.Settings, &settings); err != nil {
		return connectors.Polled{}, err
	}
	from := 0
	if p.Cursor != nil {
		if _, err := fmt.Sscan(string(p.Cursor), &from); err != nil {
			return connectors.Polled{}, &connectors.Failure{Outcome: connectors.Permanent, RetryAfter: time.Minute, Message: "the cursor is none"}
		}
	}
	out := connectors.Polled{More: true, Cursor: fmt.Append(nil, from+p.Limit)}
	for i := range p.Limit {
		out.Documents = append(out.Documents, connectors.Document{Key: fmt.Sprint(from + i), Body: fmt.Appendf(nil, `{"id":"%d","page":%q}`, from+i, settings.Page)})
	}
	return out, nil
}

func (able) Enrich(ctx context.Context, h connectors.Host, e connectors.Enrichment) (connectors.Document, error) {
	s, err := h.State(ctx, e.Source, "seen")
	if err != nil {
		return connectors.Document{}, err
	}
	n := s.Version
	s.Value = []byte("x")
	if err := h.SetState(ctx, e.Source, s); err != nil {
		return connectors.Document{}, err
	}
	return connectors.Document{ContentType: "application/json", Body: fmt.Appendf(nil, `{"id":%q,"seen":%d}`, e.Request.Body, n)}, nil
}

func (able) Scan(ctx context.Context, _ connectors.Host, job connectors.ScanJob, tell func(connectors.ScanNews) error) error {
	now := time.Now()
	if err := tell(connectors.ScanNews{Kind: connectors.ScanBegan, Time: now}); err != nil {
		return err
	}
	switch job.Scanner.URL {
	case "endless":
		<-ctx.Done()
		return tell(connectors.ScanNews{Kind: connectors.ScanDone, Time: now, End: connectors.ScanStopped, Note: "cancelled"})
	case "panic":
		panic("as told")
	case "exit":
		os.Exit(3)
	}
	for _, n := range []connectors.ScanNews{{Kind: connectors.ScanProgressed, Percent: 50},
		{Kind: connectors.ScanFound, Checks: []connectors.ScanCheck{{Key: "1", Class: "xss", Title: "XSS", Finding: &connectors.Finding{Key: "1", Title: "XSS"}}}},
		{Kind: connectors.ScanDone, End: connectors.ScanFinished}} {
		n.Time = now
		if err := tell(n); err != nil {
			return err
		}
	}
	return nil
}
