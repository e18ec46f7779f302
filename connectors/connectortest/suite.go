// Package connectortest is the conformance suite of connectors: what connectors/doc.go
// promises, as tests. The shipped rooms run it, and so should every author of a plugin:
//
//	func TestConformance(t *testing.T) { connectortest.Run(t, acme.Connector{}) }
//
// Package plugins/plugintest runs it over a real process. Run calls no outside system but
// receivers of its own on the loopback interface.
package connectortest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Option changes what Run does.
type Option func(*suite)

// WithSettings has endpoints of the role tried with these settings, where an empty object
// does not fit the schema. Secrets are made up.
func WithSettings(role connectors.Role, settings string) Option {
	return func(s *suite) { s.settings[role] = json.RawMessage(settings) }
}

// Remote says that c stands for a connector in another process: its abilities are those that
// its Spec states, whatever it implements.
func Remote() Option { return func(s *suite) { s.remote = true } }

// suite is one run.
type suite struct {
	c        connectors.Connector
	spec     connectors.Spec
	settings map[connectors.Role]json.RawMessage
	remote   bool
}

// Run tests a connector against the contract, ability by ability.
func Run(t *testing.T, c connectors.Connector, options ...Option) {
	s := &suite{c: c, spec: c.Spec(), settings: map[connectors.Role]json.RawMessage{}}
	for _, o := range options {
		o(s)
	}
	t.Run("Spec", s.testSpec)
	if p, ok := c.(connectors.FormatProvider); ok && s.has(connectors.AbilityFormat) {
		for _, f := range p.Formats() {
			t.Run("Format/"+f.Name(), func(t *testing.T) { testFormat(t, f) })
		}
	}
	if p, ok := c.(connectors.ReceiverProvider); ok && s.has(connectors.AbilityReceive) {
		for _, r := range p.Receivers() {
			t.Run("Receiver/"+r.Kind(), func(t *testing.T) { s.testReceiver(t, r) })
		}
	}
	if p, ok := c.(connectors.TriggerProvider); ok && s.has(connectors.AbilityTrigger) {
		for _, x := range p.Triggers() {
			t.Run("Trigger/"+x.Kind(), func(t *testing.T) { testTrigger(t, x) })
		}
	}
	if d, ok := c.(connectors.Deliverer); ok && s.has(connectors.AbilityDeliver) {
		t.Run("Deliverer", func(t *testing.T) { s.testDeliverer(t, d) })
	}
	if k, ok := c.(connectors.Checker); ok && s.has(connectors.AbilityCheck) {
		t.Run("Checker", func(t *testing.T) { s.testChecker(t, k) })
	}
	if p, ok := c.(connectors.Poller); ok && s.has(connectors.AbilityPoll) {
		t.Run("Poller", func(t *testing.T) { s.testPoller(t, p) })
	}
	if n, ok := c.(connectors.Enricher); ok && s.has(connectors.AbilityEnrich) {
		t.Run("Enricher", func(t *testing.T) { s.testEnricher(t, n) })
	}
	if x, ok := c.(connectors.Scanner); ok && s.has(connectors.AbilityScan) {
		t.Run("Scanner", func(t *testing.T) { s.testScanner(t, x) })
	}
}

func (s *suite) has(a connectors.Ability) bool { return slices.Contains(s.spec.Abilities, a) }

var (
	nameForm    = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	versionForm = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

func (s *suite) testSpec(t *testing.T) {
	spec := s.spec
	if !reflect.DeepEqual(spec, s.c.Spec()) {
		t.Error("a Spec is a constant, and this one changed")
	}
	if !nameForm.MatchString(spec.Name) {
		t.Errorf("name %q: lower-case letters, digits and hyphens", spec.Name)
	}
	if spec.Title == "" || spec.Description == "" {
		t.Error("title and description are for people and must not be empty")
	}
	if !versionForm.MatchString(spec.Version) {
		t.Errorf("version %q is not a semantic version", spec.Version)
	}
	if s.has(connectors.AbilityDeliver) && len(spec.Settings) == 0 {
		t.Error("without a schema of its settings nobody can make an endpoint; {\"type\": \"object\"} is the least")
	}
	for _, role := range roles() {
		s.testSettings(t, role)
	}
	stated, implemented := slices.Sorted(slices.Values(spec.Abilities)), slices.Sorted(slices.Values(connectors.Abilities(s.c)))
	if !s.remote && !slices.Equal(stated, implemented) {
		t.Errorf("the Spec states the abilities %v, implemented are %v", stated, implemented)
	}
}

func roles() []connectors.Role {
	return []connectors.Role{connectors.RoleEndpoint, connectors.RoleSource, connectors.RoleScanner}
}

// events are the events that every format must cope with: full, sparse, and without
// the noun that the kind promises.
func events() []*connectors.Event {
	var list []*connectors.Event
	for _, typ := range connectors.EventTypes() {
		bare := Sparse(typ)
		bare.Data = connectors.Data{}
		list = append(list, Event(typ), Sparse(typ), bare, &connectors.Event{Type: typ})
	}
	return append(list, &connectors.Event{}, &connectors.Event{Type: "unheard.of"})
}

// options are the choices under which a format is tried.
func options(f connectors.Format, e *connectors.Event) []connectors.RenderOptions {
	numbers := map[connectors.NumberKey]int32{}
	if n, ok := f.(connectors.Numberer); ok {
		for i, k := range n.Numbers(e) {
			numbers[k] = int32(i + 1)
		}
	}
	return []connectors.RenderOptions{{}, {
		UnknownCounts: connectors.UnknownCountsZero,
		PublicURL:     "https://hub.example.com",
		Numbers:       numbers,
		Raw:           &connectors.RawReceipt{ContentType: "application/json", Body: []byte(`{"raw":true}`)},
	}}
}

func testFormat(t *testing.T, f connectors.Format) {
	if !nameForm.MatchString(f.Name()) {
		t.Errorf("name %q: lower-case letters, digits and hyphens", f.Name())
	}
	said := map[connectors.EventType]bool{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, e := range events() {
		for _, o := range options(f, e) {
			before := snapshot(t, e)
			want, wantErr := f.Render(e, o)
			var skip *connectors.SkipError
			switch {
			case wantErr == nil:
				said[e.Type] = true
			case !errors.As(wantErr, &skip) || skip.Reason == "":
				t.Errorf("%s: %v; a format renders or skips with a reason", e.Type, wantErr)
			}
			for range 4 { // pure: the same again, at the same time, whoever asks
				wg.Go(func() {
					got, err := f.Render(e, o)
					mu.Lock()
					defer mu.Unlock()
					if !reflect.DeepEqual(got, want) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
						t.Errorf("%s: the same event was written in two ways", e.Type)
					}
				})
			}
			wg.Wait()
			if !bytes.Equal(before, snapshot(t, e)) {
				t.Errorf("%s: the format changed the event", e.Type)
			}
		}
	}
	if len(f.EventTypes()) == 0 {
		t.Error("EventTypes is empty: a new webhook would get nothing")
	}
	for _, typ := range f.EventTypes() {
		if !typ.Valid() {
			t.Errorf("EventTypes names %q, which is not canonical", typ)
		} else if !said[typ] {
			t.Errorf("EventTypes names %s, but the sample event of that kind cannot be said", typ)
		}
	}
	if s := connectors.SignerOf(f); s != nil {
		testSigner(t, s)
	}
	if r, ok := f.(connectors.RuledFormat); ok {
		testRule(t, r.SignatureRule())
	}
	if c, ok := f.(connectors.Challenger); ok {
		testChallenger(t, c)
	}
}

func snapshot(t *testing.T, e *connectors.Event) []byte {
	t.Helper()
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testSigner(t *testing.T, s connectors.Signer) {
	body := []byte(`{"a":1}`)
	if _, once := s.(connectors.SingleSigner); !once {
		testOverlap(t, s, body)
	}
	for _, keys := range [][][]byte{nil, {[]byte("key one")}, {[]byte("key one"), []byte("key two")}} {
		one, err := s.Sign(keys, "dlv_1", Moment(), body)
		if err != nil {
			t.Errorf("signing with %d keys: %v", len(keys), err)
		}
		two, _ := s.Sign(keys, "dlv_1", Moment(), body)
		if !reflect.DeepEqual(one, two) {
			t.Error("the same body was signed in two ways")
		}
		for _, h := range one {
			for _, key := range keys {
				if strings.Contains(h.Value, string(key)) {
					t.Errorf("the header %s holds the key", h.Name)
				}
			}
		}
	}
}

// testOverlap holds when receivers that know one of two keys find its signature.
func testOverlap(t *testing.T, s connectors.Signer, body []byte) {
	both, err := s.Sign([][]byte{[]byte("key one"), []byte("key two")}, "dlv_1", Moment(), body)
	if err != nil {
		t.Errorf("signing with two keys: %v", err)
	}
	for _, key := range []string{"key one", "key two"} {
		alone, err := s.Sign([][]byte{[]byte(key)}, "dlv_1", Moment(), body)
		if err != nil {
			t.Errorf("signing: %v", err)
		}
		for i, h := range alone {
			if i >= len(both) || !strings.Contains(both[i].Value, h.Value) {
				t.Errorf("of two keys, the header %s has not both signatures; a rule with room for one makes a SingleSigner", h.Name)
			}
		}
	}
}

// junk is what no receiver may stumble over.
func junk() [][]byte {
	return [][]byte{nil, {}, []byte(" "), []byte("null"), []byte("0"), []byte(`""`), []byte("[]"), []byte("{}"), []byte("[[]]"), []byte("{"),
		[]byte(`{"a":`), []byte("\x00\xff\xfe"), []byte("<xml/>"), []byte("a=b&c=d"), []byte(`{"event":null,"data":null}`),
		[]byte(strings.Repeat("[", 100_000)), []byte(strings.Repeat(`{"a":`, 100_000)), []byte(`{"data":` + strings.Repeat("9", 10_000) + `}`)}
}

func (s *suite) testReceiver(t *testing.T, r connectors.Receiver) {
	if !nameForm.MatchString(r.Kind()) {
		t.Errorf("kind %q: lower-case letters, digits and hyphens", r.Kind())
	}
	if rule, ok := r.(connectors.RuledReceiver); ok {
		testRule(t, rule.SignatureRule())
	}
	vias := []connectors.Via{connectors.ViaRequest, connectors.ViaPoll, connectors.ViaEnrich}
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodHead, http.MethodOptions} {
		for _, contentType := range []string{"", "application/json", "application/cloudevents+json", "application/cloudevents-batch+json", "text/plain; charset=latin1", ";;"} {
			for i, body := range junk() {
				in := connectors.Inbound{Via: vias[(i+len(method))%len(vias)], Method: method, Header: http.Header{"Content-Type": {contentType}}, Body: body,
					ReceivedAt: Moment(), Location: time.UTC, SourceID: "src_1", ContentType: contentType}
				got, err := r.Receive(in)
				var refused *connectors.RefuseError
				switch {
				case err == nil:
					if got.Enrich && (len(got.Items) > 0 || !s.has(connectors.AbilityEnrich) || in.Via != connectors.ViaRequest) {
						t.Errorf("%s %q %.40q: it asks to be enriched, but gives events, too, or has been fetched already, or the connector has no Enricher", method, contentType, body)
					}
					if len(got.Items) == 0 && got.Note == "" && got.Reply == nil && !got.Enrich {
						t.Errorf("%s %q %.40q: no event, and no note why", method, contentType, body)
					}
				case !errors.As(err, &refused):
					t.Errorf("%s %q %.40q: %v is not a *RefuseError", method, contentType, body, err)
				case refused.Status < 400 || refused.Status > 499 || refused.Message == "":
					t.Errorf("%s %q %.40q: %+v wants a status of 4xx and a message", method, contentType, body, refused)
				}
				again, err2 := r.Receive(in)
				if !reflect.DeepEqual(got, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
					t.Errorf("%s %q %.40q: the same request was read in two ways", method, contentType, body)
				}
			}
		}
	}
}

// tally counts the answers of a Deliverer.
type tally struct {
	mu      sync.Mutex
	results map[string][]connectors.Result
	arrived chan struct{}
}

func newTally(n int) *tally {
	return &tally{results: map[string][]connectors.Result{}, arrived: make(chan struct{}, n)}
}

func (y *tally) done(r connectors.Result) {
	y.mu.Lock()
	y.results[r.DeliveryID] = append(y.results[r.DeliveryID], r)
	y.mu.Unlock()
	y.arrived <- struct{}{}
}

// once says that every item was answered exactly once, and decently.
func (y *tally) once(t *testing.T, items []connectors.Delivery) {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	for _, d := range items {
		got := y.results[d.ID]
		if len(got) != 1 {
			t.Errorf("%s was answered %d times", d.ID, len(got))
			continue
		}
		r := got[0]
		switch r.Outcome {
		case connectors.Done:
			if r.Error != "" || r.Fault != connectors.FaultNone {
				t.Errorf("%s is done and has an error: %+v", d.ID, r)
			}
		case connectors.Retry, connectors.Permanent:
			if r.Error == "" || r.Fault == connectors.FaultNone {
				t.Errorf("%s failed without an error or a fault: %+v", d.ID, r)
			}
		case connectors.Skipped:
			if r.Error == "" {
				t.Errorf("%s was skipped without a reason", d.ID)
			}
		default:
			t.Errorf("%s has the outcome %q", d.ID, r.Outcome)
		}
		if r.Started.IsZero() {
			t.Errorf("%s has no start", d.ID)
		}
	}
	if len(y.results) != len(items) {
		t.Errorf("%d IDs were answered, there were %d items", len(y.results), len(items))
	}
}

// noSecrets says that no secret is in what people can read of an answer.
func (y *tally) noSecrets(t *testing.T) {
	t.Helper()
	y.mu.Lock()
	defer y.mu.Unlock()
	for id, list := range y.results {
		for _, r := range list {
			seen := r.Error
			if r.Request != nil {
				seen += " " + r.Request.URL
				for _, h := range r.Request.Header {
					if h.Secret == "" {
						seen += " " + h.Value
					}
				}
			}
			if strings.Contains(seen, secretMark) {
				t.Errorf("%s: a secret is in what people see of the attempt: %.200s", id, seen)
			}
		}
	}
}

func deliveries(s connectors.Spec, ref, url string, n int) []connectors.Delivery {
	items := make([]connectors.Delivery, n)
	for i := range items {
		items[i] = connectors.Delivery{ID: fmt.Sprintf("dlv_%d", i), Attempt: 1, Endpoint: ref, Timeout: 30 * time.Second}
		if s.TakesRequest {
			items[i].Request = &connectors.Request{Method: http.MethodPost, URL: url, Body: []byte(`{}`)}
		} else {
			items[i].Event, _ = connectors.AppendEvent(nil, Event(connectors.ScanCompleted))
		}
	}
	return items
}

func (s *suite) testDeliverer(t *testing.T, d connectors.Deliverer) {
	if !s.has(connectors.AbilityCheck) {
		t.Log("it has no Checker: people will learn only from a delivery whether an endpoint works")
	}
	quick := NewServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	entered := make(chan struct{}, 64)
	hanging := NewServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that its client goes
		entered <- struct{}{}
		<-r.Context().Done()
	})
	h := NewHost(t, s.endpoint("end_quick", connectors.RoleEndpoint, quick), s.endpoint("end_hanging", connectors.RoleEndpoint, hanging))

	t.Run("none", func(t *testing.T) {
		if err := d.Deliver(t.Context(), h, nil, func(connectors.Result) { t.Error("an answer to nothing") }); err != nil {
			t.Error(err)
		}
	})
	t.Run("unknown endpoint", func(t *testing.T) {
		items := deliveries(s.spec, "end_nobody@1", quick, 2)
		y := newTally(len(items))
		if err := d.Deliver(t.Context(), h, items, y.done); err != nil {
			t.Error(err)
		}
		y.once(t, items)
	})
	t.Run("many at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				items := deliveries(s.spec, "end_quick@1", quick, 20)
				y := newTally(len(items))
				if err := d.Deliver(t.Context(), h, items, y.done); err != nil {
					t.Error(err)
				}
				y.once(t, items)
				y.noSecrets(t)
			})
		}
		wg.Wait()
		h.noSecrets(t)
	})
	if !s.spec.TakesRequest {
		return // where others connect to is theirs to try
	}
	t.Run("slow items hold nobody up, and a cancelled call ends", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		items := deliveries(s.spec, "end_hanging@1", hanging, 10)
		for i := range items {
			if i%2 == 1 {
				items[i].Endpoint, items[i].Request.URL = "end_quick@1", quick
			}
		}
		y := newTally(len(items))
		ended := make(chan error, 1)
		go func() { ended <- d.Deliver(ctx, h, items, y.done) }()
		for range len(items) / 2 {
			<-entered   // the slow ones hang
			<-y.arrived // and yet the quick ones are answered
		}
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(5 * time.Second): // the contract says one; machines that test are busy
			t.Fatal("Deliver did not return when its context had ended")
		}
		y.once(t, items)
	})
}
