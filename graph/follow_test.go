package graph

import (
	"fmt"
	"testing"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/watch"
)

// What a connector has kept for itself, such as a token, does not follow to another place.
func TestStatesDoNotFollow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, Options{}, watch.Options{})
		m := db.Memory(w.secrets)
		made := func(query, payload, noun string) connectors.Endpoint {
			t.Helper()
			id := w.must("admin", "mutation { "+query+" }")[payload].(map[string]any)[noun].(map[string]any)["id"].(string)
			e := connectors.Endpoint{ID: id, Organization: w.org}
			if err := m.SetState(t.Context(), e, connectors.State{Key: "token", Value: []byte("t")}); err != nil {
				t.Fatal(err)
			}
			return e
		}
		end := made(`createEndpoint(input: {name: "e", url: "https://a.example.com/"}) { endpoint { id } }`, "createEndpoint", "endpoint")
		src := made(`createSource(input: {name: "s", kind: "appscan", settings: {key_id: "k"}, settingSecrets: [{name: "key_secret", value: "x"}]}) { source { id } }`, "createSource", "source")
		for _, c := range []struct {
			of     connectors.Endpoint
			change string
			stays  bool
		}{
			{end, `updateEndpoint(input: {id: %q, name: "f", url: "https://a.example.com/b"}) { endpoint { id } }`, true},
			{end, `updateEndpoint(input: {id: %q, url: "https://b.example.com/b"}) { endpoint { id } }`, false},
			{src, `updateSource(input: {id: %q, settings: {key_id: "l"}}) { source { id } }`, true},
			{src, `updateSource(input: {id: %q, settings: {key_id: "l", service_url: "https://b.example.com"}, settingSecrets: [{name: "key_secret", value: "x"}]}) { source { id } }`, false},
		} {
			w.must("admin", "mutation { "+fmt.Sprintf(c.change, c.of.ID)+" }")
			if s, err := m.State(t.Context(), c.of, "token"); err != nil || (s.Version != 0) != c.stays {
				t.Errorf("after %s: %+v, %v", c.change, s, err)
			}
		}
	})
}
