package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	cloudevents "github.com/cloudevents/sdk-go/v2/event"
	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

var update = flag.Bool("update", false, "write the golden files anew")

func options() connectors.RenderOptions {
	return connectors.RenderOptions{PublicURL: "https://hub.example.com",
		Raw: &connectors.RawReceipt{ContentType: "application/x-holm", Body: []byte("{ \"as\": \"sent\"}\n")}}
}

// TestGolden keeps every format and kind, full and sparse, as files that people can read.
func TestGolden(t *testing.T) {
	for _, f := range (Connector{}).Formats() {
		for _, typ := range connectors.EventTypes() {
			for name, e := range map[string]*connectors.Event{"full": connectortest.Event(typ), "sparse": connectortest.Sparse(typ)} {
				r, err := f.Render(e, options())
				if err != nil {
					t.Errorf("%s %s %s: %v", f.Name(), typ, name, err)
					continue
				}
				got := append([]byte(r.Method+" "+r.Header[0].Name+": "+r.Header[0].Value+"\n"), r.Body...)
				if f.Name() == FormatRaw {
					if !bytes.Equal(r.Body, options().Raw.Body) || r.Header[0].Value != "application/x-holm" {
						t.Errorf("raw changed the receipt: %s", got)
					}
					continue
				}
				path := filepath.Join("testdata", f.Name(), string(typ)+"."+name+".golden")
				got = append(got, '\n')
				if *update {
					if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, got, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Errorf("%s:\ngot  %s\nwant %s", path, got, want)
				}
			}
		}
	}
}

func TestRawWithoutReceipt(t *testing.T) {
	_, err := RawFormat{}.Render(connectortest.Event(connectors.ScanCompleted), connectors.RenderOptions{})
	var skip *connectors.SkipError
	if !errors.As(err, &skip) {
		t.Errorf("got %v", err)
	}
}

// TestSignatures verifies what we sign with the library of Standard Webhooks.
func TestSignatures(t *testing.T) {
	keys := [][]byte{[]byte("the current key of the webhook"), []byte("the key before that")}
	at := time.Now()
	body := []byte(`{"a":1}`)
	for _, f := range (Connector{}).Formats() {
		s, ok := f.(connectors.Signer)
		if !ok {
			continue
		}
		list, err := s.Sign(keys, "dlv_1", at, body)
		if err != nil {
			t.Fatal(err)
		}
		h := http.Header{}
		for _, line := range list {
			h.Set(line.Name, line.Value)
		}
		for _, key := range keys {
			w, err := standardwebhooks.NewWebhookRaw(key)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Verify(body, h); err != nil {
				t.Errorf("%s: %v in %v", f.Name(), err, h)
			}
			if w.Verify([]byte(`{"a":2}`), h) == nil {
				t.Errorf("%s: another body passes", f.Name())
			}
		}
		if unsigned, err := s.Sign(nil, "dlv_1", at, body); err != nil || len(unsigned) != 2 {
			t.Errorf("%s without keys: %v, %v", f.Name(), unsigned, err)
		}
	}
}

// TestCloudEventsForOthers reads what we emit with the CloudEvents SDK and with our
// own receiver.
func TestCloudEventsForOthers(t *testing.T) {
	for _, typ := range connectors.EventTypes() {
		e := connectortest.Event(typ)
		r, err := CloudEventsFormat{}.Render(e, options())
		if err != nil {
			t.Fatal(err)
		}
		var ce cloudevents.Event
		if err := json.Unmarshal(r.Body, &ce); err != nil {
			t.Fatal(err)
		}
		if err := ce.Validate(); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
		if ce.ID() != e.ID || ce.Source() != e.Source || ce.Type() != string(typ) || ce.Subject() != e.Subject || !ce.Time().Equal(e.Time) || ce.Extensions()["application"] != e.Application.Name {
			t.Errorf("%s: the SDK reads %s", typ, ce)
		}
		var data connectors.Data
		if err := ce.DataAs(&data); err != nil || !reflect.DeepEqual(data, e.Data) {
			t.Errorf("%s: the SDK reads the data %s, %v", typ, show(data), err)
		}
		in := receiveOne(t, r.Header[0].Value, nil, string(r.Body))
		if !reflect.DeepEqual(in.Data, withoutIDs(e.Data)) || in.DefaultField != "application" || in.Fields["application"] != e.Application.Name {
			t.Errorf("%s: another hub reads %s", typ, show(in))
		}
	}
}

// TestChatsEscape: nothing from outside becomes a link or a mention.
func TestChatsEscape(t *testing.T) {
	e := connectortest.Event(connectors.FindingDiscovered)
	e.Data.Finding.Title = "<!channel> & [click](https://evil.example)"
	e.Data.Finding.Description = strings.Repeat("ä", 5000)
	e.Data.Finding.Link = "javascript:alert(1)"
	slack, err := SlackFormat{}.Render(e, options())
	if err != nil {
		t.Fatal(err)
	}
	teams, err := TeamsFormat{}.Render(e, options())
	if err != nil {
		t.Fatal(err)
	}
	if s := string(slack.Body); strings.Contains(s, "<!channel>") || !strings.Contains(s, "&lt;!channel&gt; &amp;") {
		t.Errorf("slack: %s", s)
	}
	if s := string(teams.Body); strings.Contains(s, " [click]") {
		t.Errorf("teams: %s", s)
	}
	for _, r := range []connectors.Rendered{slack, teams} {
		if bytes.Contains(r.Body, []byte("javascript:")) || len(r.Body) > 20_000 {
			t.Errorf("got %d bytes: %s", len(r.Body), r.Body)
		}
	}
}
