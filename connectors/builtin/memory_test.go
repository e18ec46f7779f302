package builtin

import (
	"encoding/json"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
)

// TestMemoryIsBounded gives every receiver and trigger large bodies that are made to cost as
// much as they can, and holds what they allocate against their size.
func TestMemoryIsBounded(t *testing.T) {
	const (
		size = 256 << 10 // a quarter of what a hub takes
		most = 64        // bytes allocated for each byte of a body
	)
	fill := func(begin, again, end string) []byte {
		return []byte(begin + strings.Repeat(again, (size-len(begin)-len(end))/len(again)) + end)
	}
	event := `{"specversion":"1.0","id":"1","source":"s","type":"x"}`
	hostile := map[string][]byte{
		"nothing":      fill("", "\x00", ""),
		"open lists":   fill("", "[", ""),
		"deep lists":   []byte(strings.Repeat("[", size/2) + strings.Repeat("]", size/2)),
		"open objects": fill("", `{"a":`, ""),
		"numbers":      fill("[", "1,", "1]"),
		"objects":      fill("[", "{},", "{}]"),
		"events":       fill("[", event+",", event+"]"),
		"one name":     fill("{", `"a":0,`, `"a":0}`),
		"text":         fill(`{"a":"`, "x", `"}`),
		"escapes":      fill(`{"a":"`, `\u00e9`, `"}`),
		"a number":     fill(`{"a":`, "9", "}"),
		"fields":       fill("", "a&", "a"),
		"percents":     fill("a=", "%41", ""),
		"parts":        fill("--b\r\n", "\r\n\r\n--b\r\n", "--b--"),
	}
	set := shipped(t)
	check := func(what, kind string, body []byte, call func()) {
		t.Helper()
		if n := allocated(call); n > most*size {
			t.Errorf("%s of %d bytes cost %s %d bytes", what, len(body), kind, n)
		}
	}
	for what, body := range hostile {
		in := connectors.Inbound{Method: http.MethodPost, Body: body, ReceivedAt: connectortest.Moment(), Location: time.UTC, SourceID: "src_1"}
		for _, in.ContentType = range []string{"application/cloudevents+json", "application/cloudevents-batch+json"} {
			in.Header = http.Header{"Content-Type": {in.ContentType}}
			for _, r := range set.Receivers() {
				check(what, r.Kind(), body, func() { _, _ = r.Receive(in) })
			}
		}
		for _, in.ContentType = range []string{"application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"} {
			in.Header = http.Header{"Content-Type": {in.ContentType}}
			for _, g := range set.Triggers() {
				for _, kind := range []connectors.TargetKind{connectors.TargetWeb, connectors.TargetAPI} {
					check(what, g.Kind(), body, func() { _, _ = g.Call(in, kind) })
				}
			}
		}
	}
	for _, s := range sent {
		sample, err := os.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		r, _ := set.Receiver(s.receiver)
		in := connectors.Inbound{Method: http.MethodPost, ReceivedAt: connectortest.Moment(), Location: time.UTC, SourceID: "src_1"}
		if s.path != "" {
			in.Method, in.Path, in.Via = http.MethodGet, s.path, connectors.ViaEnrich
		}
		for where, body := range swollen(t, sample, size) {
			in.Body = body
			check(s.file+" "+where, s.receiver, body, func() { _, _ = r.Receive(in) })
		}
	}
}

// allocated is how many bytes a call takes from the heap, whether it gives them back or not.
func allocated(call func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	call()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// swollen are a sample's copies with one list, or one text, as large as there is room for.
func swollen(t *testing.T, sample []byte, size int) map[string][]byte {
	t.Helper()
	var root any
	if err := json.Unmarshal(sample, &root); err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	write := func(where string) {
		b, err := json.Marshal(root)
		if err != nil {
			t.Fatal(err)
		}
		out[where] = b
	}
	var walk func(where string, v any, set func(any))
	walk = func(where string, v any, set func(any)) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				walk(where+"."+k, x, func(n any) { v[k] = n })
			}
		case []any:
			if len(v) == 0 {
				return
			}
			for n, item := range map[string]any{"of such": v[0], "of empty ones": map[string]any{}} {
				one, err := json.Marshal(item)
				if err != nil {
					t.Fatal(err)
				}
				list := make([]any, (size-len(sample))/(len(one)+1))
				for i := range list {
					list[i] = item
				}
				set(list)
				write(where + " " + n)
				set(v)
			}
			walk(where+"[0]", v[0], func(n any) { v[0] = n })
		case string:
			set(strings.Repeat("<", (size-len(sample))/6)) // written as \u003c
			write(where)
			set(v)
		}
	}
	walk("", root, func(n any) { root = n })
	return out
}
