package settings

import (
	"encoding/json"
	"fmt"
	"testing"
)

func TestWays(t *testing.T) {
	s, err := Compile(json.RawMessage(`{"type": "object", "properties": {
		"service": {"type": "string", "title": "Service", "description": "Where.", "default": "https://cloud.example.com"},
		"instance": {"type": "string", "title": "Instance", "description": "Part of a host.", "format": "hostname"},
		"project": {"type": "string", "title": "Project", "description": "Which."},
		"port": {"type": "integer", "title": "Port", "description": "Of the host."},
		"brokers": {"type": "array", "title": "Brokers", "description": "Hosts.", "items": {"type": "string"}},
		"mirror": {"type": "object", "title": "Mirror", "description": "Another.", "properties": {"host": {"type": "string", "format": "hostname"}, "note": {"type": "string"}}},
		"forward_proxy": {"type": "string", "title": "Forward proxy", "description": "Before.", "writeOnly": true},
		"ca_bundle": {"type": "string", "title": "CA bundle", "description": "Whom to trust."}}}`))
	if err != nil {
		t.Fatal(err)
	}
	type values = map[string]any
	for _, c := range []struct {
		was, is values
		want    string // what has turned
	}{
		{nil, values{"service": "https://cloud.example.com/"}, ""}, // the default
		{nil, values{"service": "https://cloud.example.com:443/api?x"}, ""},
		{nil, values{"service": "https://CLOUD.example.com"}, ""},
		{nil, values{"service": "http://cloud.example.com"}, "service"},
		{nil, values{"service": "https://cloud.example.com:8443"}, "service"},
		{nil, values{"service": "https://cloud.example.com.evil.example"}, "service"},
		{nil, values{"service": `https://cloud.example.com\@evil.example`}, "service"},
		{nil, values{"service": "//evil.example"}, "service"},
		{nil, values{"service": "https://ev il.example"}, "service"},
		{values{"service": "https://ev il.example"}, values{"service": "https://ev il.example:1"}, "service"},
		{values{"instance": "dev1"}, values{"instance": "dev2"}, "instance"},
		{values{"instance": "dev1"}, values{"instance": "DEV1"}, ""},
		{values{"project": "red"}, values{"project": "blue"}, ""},
		{values{"project": "red: 1"}, values{"project": "blue: 2"}, ""},
		{values{"project": "12:30"}, values{"project": "12:45"}, ""},
		{values{"port": 8080.0}, values{"port": int64(8080)}, ""},
		{values{"port": 8080.0}, values{"port": int64(8081)}, "port"},
		{values{"brokers": []any{"a.example:9092"}}, values{"brokers": []any{"a.example:9092", "b.example:9092"}}, "brokers"},
		{values{"mirror": values{"host": "a.example", "note": "x"}}, values{"mirror": values{"host": "a.example", "note": "y"}}, ""},
		{values{"mirror": values{"host": "a.example"}}, values{"mirror": values{"host": "b.example"}}, "mirror"},
		{values{"unknown": "https://a.example"}, values{"unknown": "https://b.example"}, "unknown"},
		{values{"ca_bundle": "PEM\n"}, values{"ca_bundle": "PEM"}, ""},
		{values{"ca_bundle": "PEM"}, values{"ca_bundle": "PEM and another"}, "ca_bundle"},
		{values{"ca_bundle": "PEM"}, nil, "ca_bundle"},
	} {
		was, is := s.Ways(c.was, nil), s.Ways(c.is, nil)
		turned := ""
		for name := range is {
			if was[name] != is[name] {
				turned += name
			}
		}
		for name := range was {
			if _, there := is[name]; !there {
				turned += name
			}
		}
		if turned != c.want {
			t.Errorf("%v to %v turns %q, want %q", c.was, c.is, turned, c.want)
		}
	}
	was, is := s.Ways(nil, map[string]string{"forward_proxy": "http://a.example"}), s.Ways(nil, map[string]string{"forward_proxy": "http://b.example"})
	if fmt.Sprint(was) == fmt.Sprint(is) {
		t.Error("a secret address turns nothing")
	}
	for a, same := range map[string]bool{"https://x.example/a": true, "HTTPS://X.example:443": true, "https://y.example": false, "http://x.example": false, "": false} {
		if (Place(a) == Place("https://x.example/b?c={d}")) != same {
			t.Errorf("%q: %s", a, Place(a))
		}
	}
}
