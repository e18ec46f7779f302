package host

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/webhook"
	"github.com/hookyard/hookyard/plugins"
	"github.com/hookyard/hookyard/plugins/sandbox"
)

// The test binary is also the plugin ("plugin <name>") and a host that is killed
// ("host"), as the hub's binary is.
func TestMain(m *testing.M) {
	sandbox.Main()
	if len(os.Args) > 2 && os.Args[1] == "plugin" {
		version := ""
		if len(os.Args) > 3 {
			version = os.Args[3]
		}
		if err := plugins.Main(os.Args[2], []connectors.Connector{obedient{name: "obedient", version: version}, obedient{name: "other"}, webhook.Connector{}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 1 && os.Args[1] == "host" {
		doomedHost()
		return
	}
	goleak.VerifyTestMain(m)
}

// obedient does what the delivery's method says.
type obedient struct{ name, version string }

func (o obedient) Spec() connectors.Spec {
	return connectors.Spec{Name: o.name, Title: "Obedient", Version: cmp.Or(o.version, "1.2.3"), Abilities: []connectors.Ability{connectors.AbilityDeliver, connectors.AbilityCheck},
		Settings: json.RawMessage(`{"type":"object"}`), TakesRequest: true}
}

func (o obedient) Deliver(ctx context.Context, h connectors.Host, items []connectors.Delivery, done func(connectors.Result)) error {
	var wg sync.WaitGroup
	for _, d := range items {
		if d.Request.Method == "OK" || len(items) == 1 {
			if err := o.one(ctx, h, d, done); err != nil {
				return err
			}
			continue
		}
		wg.Go(func() { _ = o.one(ctx, h, d, done) })
	}
	wg.Wait()
	return nil
}

func (o obedient) one(ctx context.Context, h connectors.Host, d connectors.Delivery, done func(connectors.Result)) error {
	ok := connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: time.Now(), Response: &connectors.Response{Status: 200}}
	switch d.Request.Method {
	case "OK":
		done(ok)
	case "HANG":
		<-ctx.Done()
		h.Log().Info("cancelled as told")
		done(connectors.Result{DeliveryID: d.ID, Outcome: connectors.Retry, Fault: connectors.FaultTarget, Error: "cancelled"})
	case "DEAF": // breaks the contract
		select {}
	case "TWICE":
		done(ok)
		done(ok)
		done(connectors.Result{DeliveryID: "dlv_unknown", Outcome: connectors.Done})
	case "SILENT":
	case "PANIC":
		panic("as told")
	case "ERROR":
		return errors.New("as told")
	case "EXIT":
		os.Exit(3)
	case "ENDPOINT":
		e, known := h.Endpoint(d.Endpoint)
		ok.Error = fmt.Sprintf("%v %s %s %s %s", known, e.Ref, e.URL, e.Settings, e.Secrets["token"])
		done(ok)
	case "GET":
		e, _ := h.Endpoint(d.Endpoint)
		client, err := h.HTTPClient(e)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Request.URL, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			done(connectors.Result{DeliveryID: d.ID, Outcome: connectors.Retry, Fault: connectors.FaultPolicy, Error: err.Error()})
			return nil
		}
		_ = resp.Body.Close()
		ok.Response.Status = resp.StatusCode
		done(ok)
	case "SECRET":
		e, _ := h.Endpoint(d.Endpoint)
		h.Log().Warn("the token is "+e.Secrets["token"], "token", e.Secrets["token"])
		done(ok)
	case "VERSION":
		ok.Error = o.version
		done(ok)
	case "ENV":
		ok.Response.Body = []byte(strings.Join(os.Environ(), "\x00"))
		done(ok)
	case "EXE":
		exe, _ := os.Readlink("/proc/self/exe")
		ok.Error = exe
		done(ok)
	case "LATIN":
		ok.Response.Header = []connectors.Header{{Name: "X-Caf\xe9", Value: "\xe9"}}
		ok.Response.Body = make([]byte, connectors.MaxResponseBody+10)
		ok.Error = strings.Repeat("x", 1<<20)
		done(ok)
	case "LOG":
		h.Log().Warn("as told", "delivery", d.ID)
		fmt.Fprintln(os.Stdout, strings.Repeat("noise", 1<<20))
		fmt.Fprintln(os.Stderr, strings.Repeat("noise\n", 1<<18))
		done(ok)
	}
	return nil
}

func (obedient) Check(ctx context.Context, h connectors.Host, e connectors.Endpoint) error {
	switch e.URL {
	case "bad":
		return errors.New("the address is bad")
	case "hang":
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// doomedHost runs a connector, says its process's ID and waits to be killed.
func doomedHost() {
	signal.Ignore(syscall.SIGTERM)
	s, self, err := newSupervisor(os.Args[2], nil)
	if err != nil {
		panic(err)
	}
	defer self.Close()
	if err := s.Start(context.Background()); err != nil {
		panic(err)
	}
	fmt.Println(s.Stats()[0].PID)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		e := endpoint(1)
		answer := make(chan connectors.Result, 1)
		s.Deliver("obedient", e, delivery("dlv_1", "OK", e), func(r connectors.Result) { answer <- r })
		fmt.Println((<-answer).Outcome)
	}
}

func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}
