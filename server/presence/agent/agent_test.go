package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/presence"
)

// repeating connectors repeat what they were given.
type repeating struct{}

func (repeating) Deliver(_ string, e connectors.Endpoint, d connectors.Delivery, done func(connectors.Result)) {
	all := e.Secrets["password"] + " and " + d.Request.Header[0].Value
	done(connectors.Result{DeliveryID: d.ID, Outcome: connectors.Permanent, Error: all,
		Response: &connectors.Response{Status: 401, Header: []connectors.Header{{Name: "X-Repeated", Value: all}}, Body: []byte(all)}})
}

func (repeating) Check(_ context.Context, _ string, e connectors.Endpoint) error {
	return errors.New("the password " + e.Secrets["password"] + " is wrong")
}

// What a receiver repeats of the secrets is neither written down nor told.
func TestRepeatedSecretsAreConcealed(t *testing.T) {
	a, err := Open(Config{DataDir: t.TempDir(), Connectors: repeating{}, Log: slog.New(slog.DiscardHandler),
		Allow: []connectors.AllowRule{{Host: "inside.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.lock.Close() }()
	sealed, err := presence.Seal(a.key.Public, "end_1@1", map[string]string{"password": "swordfish", "header:Authorization": "Bearer marlin-and-tuna"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.know(&endpoint{Ref: "end_1@1", ID: "end_1", Connector: "webhook", URL: "https://inside.example", SealedSecrets: sealed}); err != nil {
		t.Fatal(err)
	}
	var d delivery
	if err := json.Unmarshal([]byte(`{"attempt":"att_1","deliveryId":"dlv_1","number":1,"endpoint":"end_1@1","timeout":1000,
		"request":{"method":"POST","url":"https://inside.example","headers":[{"name":"Authorization","value":"","sealed":"header:Authorization"}]}}`), &d); err != nil {
		t.Fatal(err)
	}
	a.attempt(&d)
	o := a.journal.adds[0]
	body, err := base64.StdEncoding.DecodeString(o.Response.Body)
	if err != nil {
		t.Fatal(err)
	}
	const want = "[secret:password] and [secret:header:Authorization]"
	if o.Error != want || o.Response.Headers[0].Value != want || string(body) != want {
		t.Errorf("written down: %+v, %+v, %s", o, o.Response, body)
	}
	a.check(t.Context(), "chk_1", a.endpoint("end_1@1"))
	if got := a.checks[0].Error; strings.Contains(got, "swordfish") || !strings.Contains(got, "[secret:password]") {
		t.Errorf("a check says %q", got)
	}
}
