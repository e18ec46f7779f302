package connectortest

import (
	"fmt"
	"net/http"
	"reflect"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

func testChallenger(t *testing.T, c connectors.Challenger) {
	ch := connectors.Challenge{ID: "chl_1", Webhook: "whk_1", Time: Moment(), Origin: "hub.example.com", PublicURL: "https://hub.example.com"}
	r, err := c.Challenge(ch)
	if err != nil {
		t.Errorf("the handshake's request cannot be written: %v", err)
	}
	if again, _ := c.Challenge(ch); !reflect.DeepEqual(r, again) {
		t.Error("the same handshake was written in two ways")
	}
	for _, status := range []int{200, 204, 301, 400, 405, 500} {
		for _, body := range junk()[:15] {
			for _, header := range [][]connectors.Header{nil, {{Name: "WebHook-Allowed-Origin", Value: "other.example.com"}, {Name: "webhook-allowed-rate", Value: "-1x"}}} {
				answer := &connectors.Response{Status: status, Header: header, Body: body}
				g, err := c.Granted(ch, answer)
				if err != nil && err.Error() == "" {
					t.Errorf("status %d: refused without a reason", status)
				}
				if err == nil && status >= 400 {
					t.Errorf("status %d was taken for consent", status)
				}
				g2, err2 := c.Granted(ch, answer)
				if g != g2 || fmt.Sprint(err) != fmt.Sprint(err2) {
					t.Errorf("status %d: the same answer was read in two ways", status)
				}
			}
		}
	}
}

// testRule says that what is signed by the rule is verified by it, and nothing else is.
func testRule(t *testing.T, r connectors.SignatureRule) {
	if err := r.Check(); err != nil {
		t.Errorf("the signature rule: %v", err)
		return
	}
	body, key := []byte(`{"a":1}`), []byte("key one")
	headers, err := r.Sign([][]byte{key}, "dlv_1", Moment(), body)
	if err != nil {
		t.Errorf("signing by the rule: %v", err)
		return
	}
	in := connectors.Inbound{Method: http.MethodPost, Header: http.Header{}, Body: body, ReceivedAt: Moment()}
	for _, h := range headers {
		in.Header.Set(h.Name, h.Value)
	}
	if err := r.Verify(in, [][]byte{[]byte("key two"), key}); err != nil {
		t.Errorf("what was signed by the rule is not verified by it: %v", err)
	}
	if r.Verify(in, [][]byte{[]byte("key two")}) == nil {
		t.Error("another key verifies, too")
	}
	in.Body = []byte(`{"a":2}`)
	if r.Verify(in, [][]byte{key}) == nil {
		t.Error("another body verifies, too")
	}
}
