package server_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookyard/hookyard/server/servertest/program"
)

// agreed is the key that sources of the faulty connector sign with.
const agreed = "a key that was agreed"

// sendNumber is send to a source of the faulty connector.
func sendNumber(client *http.Client, address string, n int) error {
	status, answer, err := sendSigned(client, address, fmt.Sprintf(`{"n":%d}`, n), agreed)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("%d: %s", status, answer)
	}
	return err
}

func sendSigned(client *http.Client, address, body, key string) (status int, answer string, err error) {
	req, err := http.NewRequest(http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	sum := hmac.New(sha256.New, []byte(key))
	_, _ = io.WriteString(sum, body)
	req.Header.Set("X-Signature", hex.EncodeToString(sum.Sum(nil)))
	req.Header.Set("Authorization", "Bearer agreed")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), errors.Join(err, resp.Body.Close())
}

// kill kills the hub's processes of a connector and says how many there were.
func kill(t *testing.T, h *program.Hub, connector string) (n int) {
	t.Helper()
	for _, pid := range children(t, h.Pid()) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && bytes.Contains(b, []byte("\x00"+connector+"\x00")) && syscall.Kill(pid, syscall.SIGKILL) == nil {
			n++
		}
	}
	return n
}

type waitingReceipt struct{ State, Note string }

// waiting are the receipts that nobody has read yet.
func waiting(t *testing.T, h *program.Hub) (list []waitingReceipt) {
	t.Helper()
	var got struct {
		Receipts struct {
			Edges []struct{ Node waitingReceipt }
		}
	}
	if err := h.Do(t.Context(), `{ receipts(filter: {states: [WAITING]}) { edges { node { state note } } } }`, nil, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Receipts.Edges {
		list = append(list, e.Node)
	}
	return list
}

// numbers makes a source of the faulty connector, and a webhook for what it sends.
func numbers(t *testing.T, h *program.Hub, s *sink) (address string) {
	t.Helper()
	world(t, h, s, "a")
	_, address, err := h.CreateSource(t.Context(), program.Input{"name": "numbers", "kind": "faulty/numbers", "secrets": []string{agreed}, "authorization": "Bearer agreed", "pollEverySeconds": 0})
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// TestThirdPartiesReceive has an installed connector read what a source sends: its process
// is killed, disabled and replaced, and no sender is ever asked to send again.
func TestThirdPartiesReceive(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer")
		installed(t, dir, url, "1.0.0", "")
		if _, _, err := h.CreateSource(t.Context(), program.Input{"name": "numbers", "kind": "faulty/numbers"}); err == nil || !strings.Contains(err.Error(), "no kind of sender") {
			t.Errorf("a source of a connector that is not enabled: %v", err)
		}
		e := enable(t, h, "1.0.0")
		address := numbers(t, h, s)
		var kinds struct{ SourceKinds []string }
		if err := h.Do(t.Context(), `{ sourceKinds }`, nil, &kinds); err != nil || !strings.Contains(fmt.Sprint(kinds.SourceKinds), "faulty/numbers") {
			t.Errorf("the kinds are %v, %v", kinds.SourceKinds, err)
		}
		if err := sendNumber(h.HTTP, address, 1); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", []int{1}, 20*time.Second)
		// The hub verifies, the connector decides.
		if status, answer, err := sendSigned(h.HTTP, address, `{"n":2}`, "another key"); err != nil || status != http.StatusUnauthorized {
			t.Errorf("a wrong signature: %d %s %v", status, answer, err)
		}
		if status, answer, err := sendSigned(h.HTTP, address, `{"n":0}`, agreed); err != nil || status != http.StatusUnprocessableEntity || !strings.Contains(answer, "there is no number") {
			t.Errorf("a malformed request: %d %s %v", status, answer, err)
		}

		l := startLoadOf(sendNumber, 100, 8, address)
		killed := 0
		for range 5 {
			l.until(t, l.count()+50)
			until(t, 20*time.Second, "there is a process to kill", func() bool { return kill(t, h, "faulty") > 0 })
			killed++
		}
		l.until(t, l.count()+50)
		// While it is disabled, what comes in waits.
		if err := h.Do(t.Context(), `mutation ($id: ID!) { disableConnector(input: {id: $id}) { enabledConnector { enabled } } }`, program.Input{"id": e.ID}, nil); err != nil {
			t.Fatal(err)
		}
		l.until(t, l.count()+100)
		until(t, 20*time.Second, "receipts wait and say why", func() bool { return strings.Contains(fmt.Sprint(waiting(t, h)), "faulty is disabled") })
		enable(t, h, "1.0.0")
		// A version that does not read the source's kind is not switched to.
		installed(t, dir, url, "3.0.0", "deaf")
		if err := switchTo(t, h, e.ID, "3.0.0"); err == nil || !strings.Contains(err.Error(), "CONFLICT") || !strings.Contains(err.Error(), "numbers: It reads no sources of kind faulty/numbers") {
			t.Errorf("a version that does not read the source: %v", err)
		}
		l.until(t, l.count()+100)
		accepted := l.end()
		if n := l.refusals(); n > 0 {
			t.Errorf("%d requests were refused", n)
		}
		s.await(t, "a", accepted, 2*time.Minute)
		if twice := s.twice("a"); len(twice) > 0 {
			t.Errorf("%d events came twice", len(twice))
		}
		until(t, 20*time.Second, "nothing waits any more", func() bool { return len(waiting(t, h)) == 0 })
		t.Logf("%d events arrived, with %d kills", len(accepted), killed)
		if said, err := tool(t, at(dir, url, "connector", "remove", "faulty@1.0.0")...); err == nil || !strings.Contains(err.Error(), "1 endpoints, sources, webhooks, triggers and projects use") {
			t.Errorf("a version in use was removed: %v %s", err, said)
		}
	})
}

// TestThirdPartiesReceiveBadly has connectors read that hang or talk nonsense: who sends is
// answered, and a better version reads it later.
func TestThirdPartiesReceiveBadly(t *testing.T) {
	for fault, note := range map[string]string{"hang": "deadline exceeded", "nonsense": "which there is not"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			s := newSink(t)
			dir := t.TempDir()
			h := startIn(t, dir, "", "--allow-private-targets", "--sandbox=prefer")
			installed(t, dir, "", "1.0.0", fault)
			e := enable(t, h, "1.0.0")
			address := numbers(t, h, s)
			for n := 1; n <= 3; n++ {
				began := time.Now()
				if err := sendNumber(h.HTTP, address, n); err != nil {
					t.Error(err)
				}
				if d := time.Since(began); d > 10*time.Second {
					t.Errorf("the answer took %v", d)
				}
			}
			until(t, 20*time.Second, "the receipts wait and say why", func() bool {
				list := waiting(t, h)
				return len(list) == 3 && strings.Contains(list[0].Note, note)
			})
			if err := errors.Join(h.Stop(), h.Start(t.Context())); err != nil {
				t.Fatal(err)
			}
			installed(t, dir, "", "2.0.0", "")
			if err := switchTo(t, h, e.ID, "2.0.0"); err != nil {
				t.Fatal(err)
			}
			s.await(t, "a", []int{1, 2, 3}, time.Minute)
		})
	}
}

// TestThirdPartiesFormats has an installed connector write down what a webhook sends: its
// process is killed, disabled, replaced and hangs; every event is accepted at once, and
// arrives in the end, signed by the hub.
func TestThirdPartiesFormats(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		s := newSink(t)
		dir := t.TempDir()
		h := startIn(t, dir, url, "--allow-private-targets", "--sandbox=prefer")
		installed(t, dir, url, "1.0.0", "")
		e := enable(t, h, "1.0.0")
		endpoint, err := h.CreateEndpoint(t.Context(), program.Input{"name": "a", "connector": "webhook", "url": s.url + "/a"})
		if err != nil {
			t.Fatal(err)
		}
		in := program.Input{"name": "a", "endpointId": endpoint, "global": true, "format": "faulty/sheets", "retryOffsetsSeconds": []int{5, 10, 20, 40}}
		if _, _, err := h.CreateWebhook(t.Context(), in); err == nil || !strings.Contains(err.Error(), "There is no format") {
			t.Errorf("a format that the connector has not: %v", err)
		}
		in["format"] = "faulty/lines"
		_, secret, err := h.CreateWebhook(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		address, _ := world(t, h, s, "b")
		if err := send(h.HTTP, address, 1); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", []int{1}, 20*time.Second)
		key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
		if err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		body, signature := s.body["a"], s.head["a"].Get("X-Signature")
		s.mu.Unlock()
		sum := hmac.New(sha256.New, key)
		_, _ = sum.Write(body)
		if !strings.Contains(string(body), `"by":"1.0.0"`) || signature != hex.EncodeToString(sum.Sum(nil)) {
			t.Errorf("what arrived is %s, signed %s", body, signature)
		}

		l := startLoad(100, 8, address)
		for range 5 {
			l.until(t, l.count()+25)
			until(t, 20*time.Second, "there is a process to kill", func() bool { return kill(t, h, "faulty") > 0 })
		}
		l.until(t, l.count()+50)
		// While it is disabled, deliveries wait; those of others do not.
		if err := h.Do(t.Context(), `mutation ($id: ID!) { disableConnector(input: {id: $id}) { enabledConnector { enabled } } }`, program.Input{"id": e.ID}, nil); err != nil {
			t.Fatal(err)
		}
		l.until(t, l.count()+50)
		enable(t, h, "1.0.0")
		// A version without the format is not switched to; one that hangs holds up its own only.
		installed(t, dir, url, "3.0.0", "deaf")
		if err := switchTo(t, h, e.ID, "3.0.0"); err == nil || !strings.Contains(err.Error(), "CONFLICT") || !strings.Contains(err.Error(), "a: It has no format faulty/lines") {
			t.Errorf("a version that has not the format: %v", err)
		}
		installed(t, dir, url, "4.0.0", "hang")
		if err := switchTo(t, h, e.ID, "4.0.0"); err != nil {
			t.Fatal(err)
		}
		l.until(t, l.count()+50)
		accepted := l.end()
		if n := l.refusals(); n > 0 {
			t.Errorf("%d events were refused", n)
		}
		s.await(t, "b", accepted, 20*time.Second)
		if err := switchTo(t, h, e.ID, "1.0.0"); err != nil {
			t.Fatal(err)
		}
		s.await(t, "a", accepted, 2*time.Minute)
		t.Logf("%d events arrived", len(accepted))
	})
}
