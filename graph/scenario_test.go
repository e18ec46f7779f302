package graph

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"sort"
	"strings"
	"testing"

	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/store/storetest"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/watch"
)

// TestScenarios runs the files of testdata on both databases. A file is a list of
// steps, each "=== viewer: what is shown", a query, "---", and the answer as JSON. A
// viewer is one of the world's by name, or "<name>" of a user that was made before. In
// an answer "*" is anything, and "<name>" is anything that is then known by that name
// and goes into the queries that follow. A key that the expected answer does not have
// is not compared; a list is compared whole. The step "=== hub: ended STATE" records
// an attempt for each open delivery.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	storetest.Each(t, func(t *testing.T, db *store.DB) {
		for i, file := range files {
			t.Run(strings.TrimSuffix(filepath.Base(file), ".scenario"), func(t *testing.T) {
				own := db
				if i > 0 { // the first one has the database that is there
					own = another(t, db)
				}
				runScenario(t, newWorld(t, own, Options{Introspection: true}, watch.Options{}), file)
			})
		}
	})
}

func another(t *testing.T, like *store.DB) *store.DB {
	if like.Pool != nil {
		return storetest.Open(t, store.Config{DatabaseURL: storetest.Postgres(t)})
	}
	return storetest.Open(t, store.Config{DataDir: t.TempDir()})
}

func runScenario(t *testing.T, w *world, file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	steps := strings.Split("\n"+string(b), "\n=== ")
	for _, step := range steps[1:] {
		title, rest, _ := strings.Cut(step, "\n")
		who, what, _ := strings.Cut(title, ": ")
		if who == "hub" {
			if what == "held" {
				w.held = true
			} else {
				w.end(flow.DeliveryState(strings.TrimPrefix(what, "ended ")))
			}
			continue
		}
		query, want, ok := strings.Cut(rest, "\n---\n")
		if !ok {
			t.Fatalf("%s: no --- in it", title)
		}
		var expected any
		if err := json.Unmarshal([]byte(want), &expected); err != nil {
			t.Fatalf("%s: expected answer: %v", title, err)
		}
		_, got := w.post(w.fill(who), w.fill(query))
		if at := w.differs(expected, got, ""); at != "" {
			pretty, _ := json.MarshalIndent(got, "", "  ")
			t.Fatalf("%s: %s\n%s", title, at, pretty)
		}
	}
}

var name = regexp.MustCompile(`<[a-z0-9]+>`)

func (w *world) fill(s string) string {
	return name.ReplaceAllStringFunc(s, func(n string) string {
		v, ok := w.vars[strings.Trim(n, "<>")]
		if !ok {
			w.t.Fatalf("%s is not known", n)
		}
		return v
	})
}

// differs says where got is not what was wanted, "" nowhere.
func (w *world) differs(want, got any, at string) string {
	switch want := want.(type) {
	case map[string]any:
		m, ok := got.(map[string]any)
		if !ok {
			return fmt.Sprintf("%s is %v, want an object", at, got)
		}
		if at == "" && m["errors"] != nil && want["errors"] == nil {
			return fmt.Sprintf("errors: %v", m["errors"])
		}
		keys := make([]string, 0, len(want))
		for k := range want {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		for _, k := range keys {
			v, there := m[k]
			if !there {
				return at + "." + k + " is missing"
			}
			if d := w.differs(want[k], v, at+"."+k); d != "" {
				return d
			}
		}
		return ""
	case []any:
		l, ok := got.([]any)
		if !ok || len(l) != len(want) {
			return fmt.Sprintf("%s is %v, want %d in a list", at, got, len(want))
		}
		for i := range want {
			if d := w.differs(want[i], l[i], fmt.Sprintf("%s[%d]", at, i)); d != "" {
				return d
			}
		}
		return ""
	case string:
		s, ok := got.(string)
		if want == "*" && got != nil {
			return ""
		}
		if name.MatchString(want) && name.FindString(want) == want {
			n := strings.Trim(want, "<>")
			if known, set := w.vars[n]; set && known != s || !ok {
				return fmt.Sprintf("%s is %v, want %s = %q", at, got, want, known)
			}
			w.vars[n] = s
			return ""
		}
	}
	if !reflect.DeepEqual(want, got) {
		return fmt.Sprintf("%s is %v, want %v", at, got, want)
	}
	return ""
}
