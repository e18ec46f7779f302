package connectors_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/connectors"
)

func TestDecodeBody(t *testing.T) {
	for _, c := range []struct {
		body   string
		status int
		field  string
		name   string // what is read
	}{
		{`{"name":"a","more":{}}`, 0, "", "a"},
		{`{"name":"a\u0000b\\u0000c\\\u0000"}`, 0, "", "a\uFFFDb\\u0000c\\\uFFFD"},
		{`{"name":null}`, 0, "", ""},
		{``, 400, "", ""},
		{`{"name":"a"} x`, 400, "", ""},
		{`{"name":“a"}`, 400, "", ""},
		{`[]`, 422, "", ""},
		{`"a"`, 422, "", ""},
		{`{"name":7}`, 422, "name", ""},
		{`{"in":{"n":"7"}}`, 422, "in.n", ""},
		{`{"in":{"n":1.5}}`, 422, "in.n", ""},
		{`{"in":{"n":99999999999999999999}}`, 422, "in.n", ""},
	} {
		var v struct {
			Name string `json:"name"`
			In   struct {
				N int `json:"n"`
			} `json:"in"`
		}
		err := connectors.DecodeBody([]byte(c.body), &v)
		if c.status == 0 {
			if err != nil || v.Name != c.name {
				t.Errorf("%s: got %q, %v", c.body, v.Name, err)
			}
			continue
		}
		var refused *connectors.RefuseError
		if !errors.As(err, &refused) || refused.Status != c.status || refused.Field != c.field || refused.Message == "" {
			t.Errorf("%s: got %v, want %d at %q", c.body, err, c.status, c.field)
		}
	}
}

func TestIdentity(t *testing.T) {
	if got := connectors.Identity("a", "b"); got != "a b" {
		t.Errorf("got %q", got)
	}
	long := strings.Repeat("x", 600)
	if got := connectors.Identity(long); len(got) != 71 || got != connectors.Digest([]byte(long)) {
		t.Errorf("got %q", got)
	}
}
