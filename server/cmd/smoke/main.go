// Command smoke takes one event through the whole hub, as a stranger would: it starts
// the built binary on an empty folder, posts a vendor's exact bytes to a source, and
// looks at what receivers, the live delivery log and the API say of it.
//
// It prints a line for each check and closes with "N passed, N failed". It guarantees
// an end within 45 seconds, and that nothing of it stays behind.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"syscall"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/hookyard/hookyard/server/servertest/program"
)

func main() {
	binary := flag.String("hookyard", "bin/hookyard", "the built hub")
	sample := flag.String("sample", "connectors/holm/testdata/finished_scan.wire.json", "what the vendor posts")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 43*time.Second)
	defer cancel()
	t := &tally{}
	if err := smoke(ctx, t, *binary, *sample); err != nil {
		t.check("the smoke test itself", err)
	}
	fmt.Printf("%d passed, %d failed\n", t.passed, t.failed)
	if t.failed > 0 {
		os.Exit(1)
	}
}

// tally counts what was checked.
type tally struct{ passed, failed int }

// check prints and counts one check; it says whether it held.
func (t *tally) check(what string, err error) bool {
	if err != nil {
		t.failed++
		fmt.Printf("FAIL  %s: %v\n", what, err)
		return false
	}
	t.passed++
	fmt.Printf("ok    %s\n", what)
	return true
}

// request is what the receiver got.
type request struct {
	path   string
	header http.Header
	body   []byte
}

// receive answers everything with 204 and passes it on.
func receive() (addr string, got <-chan request, stop func(), err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, nil, err
	}
	requests := make(chan request, 16)
	s := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			requests <- request{r.URL.Path, r.Header, body}
		}
		w.WriteHeader(http.StatusNoContent)
	})}
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(ln) })
	return ln.Addr().String(), requests, func() { _ = s.Close(); wg.Wait() }, nil
}

// smoke runs the checks; its error is what kept it from running the rest of them.
func smoke(ctx context.Context, t *tally, binary, sample string) (err error) {
	wire, err := os.ReadFile(sample)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "hookyard-smoke-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	defer func() {
		if t.failed > 0 || err != nil {
			said, _ := os.ReadFile(log.Name())
			fmt.Printf("--- the hub said:\n%s---\n", said)
		}
		err = errors.Join(err, log.Close())
	}()
	addr, arrived, end, err := receive()
	if err != nil {
		return err
	}
	defer end()

	data := filepath.Join(dir, "data")
	hub, err := program.Start(ctx, program.Config{Binary: binary, Dir: data, Args: []string{"--allow-private-targets"}, Log: log})
	if !t.check("the hub starts on an empty folder and is ready", err) {
		return nil
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, hub.Stop())
		}
	}()
	t.check("the first credentials are for the owner's eyes only", private(filepath.Join(data, "admin.json")))

	group, err := hub.CreateAssetGroup(ctx, "Network")
	if !t.check("an asset group is created", err) {
		return nil
	}
	source, address, err := hub.CreateSource(ctx, program.Input{"name": "Holm", "kind": "holm", "assetGroupId": group, "mapping": program.Input{"create": true}})
	if !t.check("a Holm source is created", err) {
		return nil
	}
	secrets := map[string]string{}
	for _, format := range []string{"hookyard", "holm"} {
		id, err := hub.CreateEndpoint(ctx, program.Input{"name": format, "url": "http://" + addr + "/" + format})
		if err == nil {
			_, secrets[format], err = hub.CreateWebhook(ctx, program.Input{"name": format, "endpointId": id, "global": true, "format": format})
		}
		if !t.check("an endpoint and a webhook in the format "+format+" are created", err) {
			return nil
		}
	}
	live, err := hub.DeliveryLog(ctx, nil, "")
	if !t.check("the delivery log is open on a websocket", err) {
		return nil
	}
	defer func() { _ = live.Close() }()

	if !t.check("the vendor's POST is answered 200", post(ctx, address, wire)) {
		return nil
	}
	bodies := map[string]request{}
	for len(bodies) < 2 {
		select {
		case r := <-arrived:
			bodies[filepath.Base(r.path)] = r
		case <-ctx.Done():
			t.check("both deliveries arrive", fmt.Errorf("only %v came in time", slices.Sorted(maps.Keys(bodies))))
			return nil
		}
	}
	t.check("both deliveries arrive", nil)
	t.check("the hookyard body says what happened", saysScan(bodies["hookyard"].body))
	t.check("its signature is a valid Standard Webhooks signature", signed(secrets["hookyard"], bodies["hookyard"]))
	t.check("a changed body fails that signature", tampered(secrets["hookyard"], bodies["hookyard"]))
	t.check("the holm body is the vendor's own document", sameJSON(bodies["holm"].body, wire))
	t.check("both attempts arrive on the live log", watched(ctx, live, 2))
	t.check("the receipt holds the vendor's bytes", receipt(ctx, hub.Client, source, wire))
	t.check("the API shows one event, its application and two deliveries that succeeded", recorded(ctx, hub.Client, 1))
	t.check("the same POST again is answered 200", post(ctx, address, wire))
	t.check("and makes no second event", recorded(ctx, hub.Client, 1))
	t.check("a malformed POST is refused with the field's name", refused(ctx, address))
	t.check("the metrics count it", metrics(ctx, hub.URL))
	stopped = true
	t.check("the hub stops cleanly", hub.Stop())
	return nil
}

func private(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm() != 0o600 {
		err = fmt.Errorf("%s has mode %o", path, info.Mode().Perm())
	}
	return err
}

// send posts a body with the headers that the vendor sends, misspelt ones included.
func send(ctx context.Context, address string, body []byte) (status int, answer []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header = http.Header{"User-Agent": {"python-requests/2.8.1"}, "Accept": {"*/*"}, "Content-Type": {"application/json"},
		"Content_Type": {"application/json"}, "Content_Length": {"320"}}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	return resp.StatusCode, answer, err
}

func post(ctx context.Context, address string, body []byte) error {
	status, answer, err := send(ctx, address, body)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, answer)
	}
	return err
}

func refused(ctx context.Context, address string) error {
	status, answer, err := send(ctx, address, []byte(`{"finished_scan": {"name": "Daily scan", "finished": "yesterday"}}`))
	if err == nil && (status != http.StatusUnprocessableEntity || !bytes.Contains(answer, []byte("finished_scan."))) {
		err = fmt.Errorf("%d %s", status, answer)
	}
	return err
}

func saysScan(body []byte) error {
	var e struct {
		ID, Type    string
		Application struct{ Name string }
		AssetGroup  struct{ Name string }
		Data        struct {
			Scan struct {
				Name   string
				Counts struct{ Critical, Medium int }
			}
		}
	}
	if err := json.Unmarshal(body, &e); err != nil {
		return err
	}
	if e.ID == "" || e.Type != "scan.completed" || e.Application.Name != "Daily scan" || e.AssetGroup.Name != "Network" ||
		e.Data.Scan.Name != "Daily scan" || e.Data.Scan.Counts.Critical != 1 || e.Data.Scan.Counts.Medium != 3 {
		return fmt.Errorf("it says %s", body)
	}
	return nil
}

func signed(secret string, r request) error {
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return err
	}
	return wh.Verify(r.body, r.header)
}

func tampered(secret string, r request) error {
	r.body = append(bytes.Clone(r.body), ' ')
	if signed(secret, r) == nil {
		return errors.New("it was taken for genuine")
	}
	return nil
}

func sameJSON(got, want []byte) error {
	var a, b any
	if err := errors.Join(json.Unmarshal(got, &a), json.Unmarshal(want, &b)); err != nil {
		return err
	}
	if !reflect.DeepEqual(a, b) {
		return fmt.Errorf("got %s", got)
	}
	return nil
}

// watched waits for n deliveries that succeeded on the live log.
func watched(ctx context.Context, live *program.Subscription, n int) error {
	seen := map[string]bool{}
	for len(seen) < n {
		b, err := live.NextBatch(ctx)
		if err != nil {
			return fmt.Errorf("after %d entries: %w", len(seen), err)
		}
		for _, e := range b.Entries {
			if e.State != "SUCCEEDED" || e.Number != 1 || e.EventType != "scan.completed" {
				return fmt.Errorf("an entry says %+v", e)
			}
			seen[e.DeliveryID] = true
		}
	}
	return nil
}

func receipt(ctx context.Context, c *program.Client, source string, wire []byte) error {
	var got struct {
		Receipts struct {
			Edges []struct {
				Node struct {
					State    string
					Body     struct{ Text string }
					EventIDs []string
				}
			}
		}
	}
	err := c.Do(ctx, `query ($s: [ID!]) { receipts(first: 5, filter: {sourceIds: $s}) { edges { node { state body { text } eventIds } } } }`, program.Input{"s": []string{source}}, &got)
	if err != nil {
		return err
	}
	if e := got.Receipts.Edges; len(e) != 1 || e[0].Node.State != "ACCEPTED" || e[0].Node.Body.Text != string(wire) || len(e[0].Node.EventIDs) != 1 {
		return fmt.Errorf("it says %+v", e)
	}
	return nil
}

func recorded(ctx context.Context, c *program.Client, events int) error {
	var got struct {
		Events struct {
			Edges []struct {
				Node struct {
					Type        string
					Application struct{ Name string }
					Deliveries  struct {
						Edges []struct {
							Node struct {
								State    string
								Attempts []struct{ HTTPStatus int }
							}
						}
					}
				}
			}
		}
	}
	err := c.Do(ctx, `{ events(first: 10) { edges { node { type application { name } deliveries { edges { node { state attempts { httpStatus } } } } } } } }`, nil, &got)
	if err != nil {
		return err
	}
	if len(got.Events.Edges) != events {
		return fmt.Errorf("%d events", len(got.Events.Edges))
	}
	e := got.Events.Edges[0].Node
	if e.Type != "scan.completed" || e.Application.Name != "Daily scan" || len(e.Deliveries.Edges) != 2 {
		return fmt.Errorf("the event says %+v", e)
	}
	for _, d := range e.Deliveries.Edges {
		if d.Node.State != "SUCCEEDED" || len(d.Node.Attempts) != 1 || d.Node.Attempts[0].HTTPStatus != http.StatusNoContent {
			return fmt.Errorf("a delivery says %+v", d.Node)
		}
	}
	return nil
}

func metrics(ctx context.Context, base string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.Contains(text, []byte("\nhookyard_events_accepted_total 1\n")) {
		err = errors.New("hookyard_events_accepted_total is not 1")
	}
	return err
}
