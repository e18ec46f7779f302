package server_test

import (
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestMetricsAreDocumented compares /metrics with its table in the docs, both ways.
func TestMetricsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	documented := map[string]bool{}
	for row := range strings.Lines(section) {
		if !strings.HasPrefix(row, "| `") {
			continue
		}
		names, _, _ := strings.Cut(row[1:], "|")
		first := ""
		for _, m := range regexp.MustCompile("`([a-z_…]+)[{`]").FindAllStringSubmatch(names, -1) {
			name := m[1]
			if suffix, short := strings.CutPrefix(name, "…"); short { // the same beginning, another end
				name = first[:strings.LastIndexByte(first, '_')] + suffix
			} else {
				first = name
			}
			documented[name] = true
		}
	}

	s := newSink(t)
	h := start(t, "", "--allow-private-targets", "--metrics-token", "let me see")
	address, _ := world(t, h, s, "a")
	if err := send(h.HTTP, address, 1); err != nil {
		t.Fatal(err)
	}
	s.await(t, "a", []int{1}, 5*time.Second)
	if resp, err := h.HTTP.Get(h.URL + "/metrics"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %v, %v", resp, err)
	}
	for token, want := range map[string]int{"let me se": 401, "let me see": 200, h.Key: 401} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := h.HTTP.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != want {
			t.Errorf("with %q: %s, %v", token, resp.Status, err)
		}
		if want != 200 {
			continue
		}
		shown := map[string]bool{}
		for _, m := range regexp.MustCompile(`(?m)^# TYPE (hookyard_\w+) `).FindAllStringSubmatch(string(b), -1) {
			shown[m[1]] = true
		}
		// These have a line for each that there is: see TestTheExamplesDeliver, TestOneNodeHasThePackage and TestTwoNodesAskInTurn.
		shown["hookyard_connector_processes"], shown["hookyard_connector_stranded_endpoints"], shown["hookyard_polls_total"] = true, true, true
		if !maps.Equal(shown, documented) {
			t.Errorf("shown:      %v\ndocumented: %v", slices.Sorted(maps.Keys(shown)), slices.Sorted(maps.Keys(documented)))
		}
	}
}
