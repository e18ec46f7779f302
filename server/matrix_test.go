package server_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2/ast"

	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/servertest/program"
)

var update = flag.Bool("update", false, "write docs/access-matrix.md anew")

const matrixFile = "../docs/access-matrix.md"

// TestAccessMatrix runs every operation of the API, for a row at every place, as every
// kind of viewer, and holds what comes of it against docs/access-matrix.md. No answer,
// error or not, may hold the ID or the name of something that the viewer does not see.
func TestAccessMatrix(t *testing.T) {
	onEach(t, func(t *testing.T, url string) {
		w := newMatrix(t, url)
		tables := w.run()
		t.Logf("%d questions", w.asked)
		got := render(tables)
		if *update {
			if url == "" && !t.Failed() {
				if err := os.WriteFile(matrixFile, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			return
		}
		want, err := os.ReadFile(matrixFile)
		if err != nil {
			t.Fatal(err)
		}
		if got == string(want) {
			return
		}
		told := 0
		known := strings.Split(string(want), "\n")
		for line := range strings.Lines(got) {
			if line = strings.TrimSuffix(line, "\n"); !slices.Contains(known, line) && told < 40 {
				t.Errorf("not in docs/access-matrix.md: %s", line)
				told++
			}
		}
		t.Error("docs/access-matrix.md says something else. If that is meant: go test ./server -run TestAccessMatrix -update, and read what has changed.")
	})
}

// schema is the API's.
func schema() *ast.Schema { return graphgen.NewExecutableSchema(graphgen.Config{}).Schema() }

func builtIn(d *ast.Definition) bool { return d.BuiltIn || strings.HasPrefix(d.Name, "__") }

func isNode(d *ast.Definition) bool { return d != nil && slices.Contains(d.Interfaces, "Node") }

// edgeOf is the type that a field leads to, when that has rows of its own: directly, by
// a list or by a connection.
func edgeOf(s *ast.Schema, f *ast.FieldDefinition) (to string, connection bool) {
	name := f.Type.Name()
	if base, ok := strings.CutSuffix(name, "Connection"); ok {
		return base, true
	}
	if name == "Node" || isNode(s.Types[name]) {
		return name, false
	}
	return "", false
}

// TestEverythingHasARule walks the whole schema: every operation is in the matrix, every
// type with an ID has a row at every place, and every field was thought about.
func TestEverythingHasARule(t *testing.T) {
	s := schema()
	declared := map[string]bool{}
	for _, o := range operations() {
		field, _, _ := strings.Cut(o.field, " ")
		declared[field] = true
	}
	for _, root := range []*ast.Definition{s.Query, s.Mutation, s.Subscription} {
		for _, f := range root.Fields {
			_, connection := edgeOf(s, f)
			name := root.Name + "." + f.Name
			switch {
			case strings.HasPrefix(f.Name, "__"), root == s.Query && connection, root == s.Subscription && live()[f.Name] != "":
			case !declared[name]:
				t.Errorf("%s has no rule: add a line such as\n\t{%q, \"webhook\", `…`, false, \"\"},\nto operations in server/matrix_table_test.go, and see there", name, name)
			}
			delete(declared, name)
		}
	}
	for name := range declared {
		t.Errorf("%s is in operations of server/matrix_table_test.go and not in the schema any more", name)
	}
	types := map[string]bool{}
	for _, n := range nouns() {
		types[n.typ] = true
	}
	for _, d := range s.Types {
		if isNode(d) && !types[d.Name] {
			t.Errorf("nothing says who sees a %s: add it to nouns in server/matrix_table_test.go, with how a row is made", d.Name)
		}
	}
	fieldsAreKnown(t, s)
}

// fieldsAreKnown holds the fields of all types against testdata/fields.txt: a field that
// shows more than its row needs a guard, and somebody has to see that.
func fieldsAreKnown(t *testing.T, s *ast.Schema) {
	t.Helper()
	const file = "testdata/fields.txt"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		typ, fields, _ := strings.Cut(strings.TrimSpace(line), ":")
		for _, f := range strings.Fields(fields) {
			known[typ+"."+f] = true
		}
	}
	for _, d := range s.Types {
		if builtIn(d) || d.Kind != ast.Object || d == s.Query || d == s.Mutation || d == s.Subscription {
			continue
		}
		for _, f := range d.Fields {
			if name := d.Name + "." + f.Name; !known[name] {
				t.Errorf("%s is new: may everybody who sees the %s see it? Then add %s to the line of %s in server/%s; if not, guard it and add it to guarded in server/matrix_table_test.go as well",
					name, d.Name, f.Name, d.Name, file)
			}
			delete(known, d.Name+"."+f.Name)
		}
	}
	for name := range known {
		t.Errorf("%s is in server/%s and not in the schema any more", name, file)
	}
}

// matrix is the world of the matrix: a row of every noun at every place.
type matrix struct {
	*acme
	schema *ast.Schema
	other  *program.Client // the Administrator elsewhere
	nouns  map[string]noun
	rows   map[string]map[string]string // IDs by noun and place
	placed map[string]string            // every canary's place, by ID
	hidden map[string]string            // the permission that is needed to see it
	past   map[string]*history
	starts map[string]string // cursors at the beginning of the subscriptions, by organization and field
	people []*person
	names  int
	asked  int
}

// person is a viewer with what he may see.
type person struct {
	asked
	client *program.Client
	may    []string // permissions
	all    bool
}

// ofAll ends the permission of what takes access to all asset groups, too.
const ofAll = " of all"

// sees says what the model of docs/security.md says.
func (p *person) sees(place, hidden string) bool {
	switch {
	case p.name == "nobody", place == inOther != (p.name == "Administrator elsewhere"):
		return false
	case hidden != "" && !slices.Contains(p.may, strings.TrimSuffix(hidden, ofAll)):
		return false
	case place == inA || place == inB:
		return p.all || slices.Contains(p.groups, place)
	}
	return place == inOther || p.all || hidden == "MANAGE_ACCESS"
}

func newMatrix(t *testing.T, url string) *matrix {
	t.Helper()
	w := &matrix{acme: &acme{t: t, sink: newSink(t), dir: t.TempDir(), url: url, as: map[string]*program.Client{}, group: map[string]string{}},
		schema: schema(), nouns: map[string]noun{}, rows: map[string]map[string]string{}, placed: map[string]string{}, hidden: map[string]string{}, past: map[string]*history{}}
	w.Hub = startIn(t, w.dir, url, "--allow-private-targets", "--organization", "Acme", "--api-rate", "0", "--stranger-rate", "0")
	said, err := tool(t, at(w.dir, url, "org", "create", "Other", "--administrator", "other@example.com")...)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(said)
	w.other = w.holder(lines[len(lines)-1])
	until(t, 5*time.Second, "the other organization is known", func() bool { return w.other.Do(t.Context(), `{ viewer { id } }`, nil, nil) == nil })
	installed(t, w.dir, url, "1.0.0", "") // a third party's connector
	until(t, 20*time.Second, "its package is known", func() bool { return len(catalogue(t, w.Hub).Versions) > 0 })
	w.starts = map[string]string{}
	for _, place := range whole() {
		for field := range live() {
			w.starts[place+field] = w.beginning(place, field)
		}
	}
	for _, n := range nouns() {
		w.nouns[n.name] = n
		w.rows[n.name] = map[string]string{}
		for _, place := range n.places {
			w.renew(n.name, place)
		}
	}
	for _, a := range everybody() {
		p := &person{asked: a}
		switch {
		case a.name == "nobody":
			p.client = w.holder("")
		case a.key == nil:
			p.client = w.other
		default:
			in := program.Input{"groupIds": w.groupIDs(a.groups)}
			maps.Copy(in, a.key)
			if a.custom != nil {
				in["customRoleId"] = w.role("role of "+a.name, a.custom...)
			}
			p.client = w.holder(w.newKey(t, "key of "+a.name, in))
		}
		var got struct {
			Viewer struct {
				Permissions []string
				AllGroups   bool
			}
		}
		if a.name != "nobody" {
			if err := p.client.Do(t.Context(), `{ viewer { permissions allGroups } }`, nil, &got); err != nil {
				t.Fatalf("%s: %v", a.name, err)
			}
		}
		p.may, p.all = got.Viewer.Permissions, got.Viewer.AllGroups
		w.people = append(w.people, p)
	}
	return w
}

func (w *matrix) groupIDs(places []string) []string {
	ids := []string{}
	for _, p := range places {
		ids = append(ids, w.rows["assetGroup"][p])
	}
	return ids
}

// renew makes the noun's row at the place, or makes it anew.
func (w *matrix) renew(name, place string) {
	w.t.Helper()
	n := w.nouns[name]
	id := n.make(w, place)
	if id == "" {
		w.t.Fatalf("there is no %s at %s", name, place)
	}
	w.rows[name][place] = id
	w.placed[id], w.hidden[id] = place, n.hidden
	if name == "organization" {
		w.hidden[id] = "everybody"
	}
}

// admin is the Administrator who may act at the place.
func (w *matrix) admin(place string) *program.Client {
	if place == inOther {
		return w.other
	}
	return w.Client
}

// must asks as the Administrator of the place, and decodes the answer.
func (w *matrix) must(place, query string) map[string]any {
	w.t.Helper()
	var got map[string]any
	if err := w.admin(place).Do(w.t.Context(), query, nil, &got); err != nil {
		w.t.Fatalf("%s: %v\n%s", place, err, query)
	}
	return got
}

func (w *matrix) organization(place string) string {
	return firstID(w.must(place, `{ organization { id } }`))
}

// create makes a row whose name is a canary.
func (w *matrix) create(place, mutation, input string) string {
	w.t.Helper()
	w.names++
	name := fmt.Sprintf("canary-%s-%d", place, w.names)
	input = strings.NewReplacer("<new>", `"`+name+`"`, "<newEmail>", `"`+name+`@example.com"`).Replace(input)
	return firstID(w.must(place, w.mutation(mutation, w.fill(input, place))))
}

// signIn makes a user who signs in, and returns the session's ID.
func (w *matrix) signIn(place string) string {
	w.t.Helper()
	user := w.create(place, "createUser", `{email: <newEmail>, name: <new>, role: TESTER}`)
	email := fmt.Sprintf("canary-%s-%d@example.com", place, w.names)
	got, err := w.admin(place).SignIn(w.t.Context(), user, strings.ToLower(email), "a horse and a battery")
	if err != nil {
		w.t.Fatalf("a session of %s: %v", place, err)
	}
	return got.SessionID
}

// firstID is the first "id" in an answer.
func firstID(v any) string {
	switch v := v.(type) {
	case map[string]any:
		if id, ok := v["id"].(string); ok {
			return id
		}
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if id := firstID(v[k]); id != "" {
				return id
			}
		}
	case []any:
		for _, e := range v {
			if id := firstID(e); id != "" {
				return id
			}
		}
	}
	return ""
}

// mutation writes a mutation down, with everything that its payload says of itself.
func (w *matrix) mutation(name, input string) string {
	w.t.Helper()
	f := w.schema.Mutation.Fields.ForName(name)
	if f == nil {
		w.t.Fatalf("there is no mutation %s", name)
	}
	if input != "" {
		input = "(input: " + input + ")"
	}
	return "mutation { r: " + name + input + " " + w.selection(f.Type.Name(), 3) + " }"
}

// selection asks for all of a type that belongs to it: not for what it leads to, but for
// an ID of that in a payload.
func (w *matrix) selection(typ string, depth int) string {
	d := w.schema.Types[typ]
	if d == nil || d.IsLeafType() {
		return ""
	}
	var fields []string
	for _, f := range d.Fields {
		if strings.HasPrefix(f.Name, "__") || slices.ContainsFunc(f.Arguments, func(a *ast.ArgumentDefinition) bool { return a.Type.NonNull && a.DefaultValue == nil }) {
			continue
		}
		to, connection := edgeOf(w.schema, f)
		switch t := w.schema.Types[f.Type.Name()]; {
		case connection, to != "" && isNode(d):
		case to != "":
			fields = append(fields, f.Name+" { id }")
		case t.IsLeafType():
			fields = append(fields, f.Name)
		case t.Kind == ast.Object && depth > 0:
			fields = append(fields, f.Name+" "+w.selection(t.Name, depth-1))
		}
	}
	return "{ " + strings.Join(fields, " ") + " }"
}

var placeholder = regexp.MustCompile(`<([a-zA-Z]+)(?:@([A-Za-z]+))?>`)

// fill puts IDs into a text for a place.
func (w *matrix) fill(text, place string) string {
	return placeholder.ReplaceAllStringFunc(text, func(m string) string {
		parts := placeholder.FindStringSubmatch(m)
		name, at := parts[1], place
		if parts[2] != "" {
			at = parts[2]
		}
		switch name {
		case "new", "newEmail", "newURL":
			w.names++
			if name == "new" {
				return fmt.Sprintf(`"new %d"`, w.names)
			}
			if name == "newURL" {
				return fmt.Sprintf(`"https://id.example.com/%d"`, w.names)
			}
			return fmt.Sprintf(`"new%d@example.com"`, w.names)
		case "sink":
			return `"` + w.sink.url + `/matrix"`
		case "level", "levels":
			if at == inOrg || at == inOther && name == "level" && !w.elsewhere() {
				return map[string]string{"level": "null", "levels": "[]"}[name]
			}
			id := `"` + w.row("assetGroup", at) + `"`
			if name == "levels" {
				return "[" + id + "]"
			}
			return id
		}
		return `"` + w.row(name, at) + `"`
	})
}

// elsewhere says that the world is complete: then another organization's level is its
// asset group, which others may try to name.
func (w *matrix) elsewhere() bool { return len(w.people) > 0 }

// row is the ID of a noun's row at a place; where there is none, one that nothing has.
func (w *matrix) row(name, place string) string {
	w.t.Helper()
	rows, ok := w.rows[name]
	if !ok {
		w.t.Fatalf("there is no noun %s in server/matrix_table_test.go", name)
	}
	if id := rows[place]; id != "" {
		return id
	}
	if place == inOrg && name == "endpoint" {
		return rows[inOrg]
	}
	for _, id := range rows {
		return id[:strings.IndexByte(id, '_')+1] + strings.Repeat("0", 26)
	}
	w.t.Fatalf("no row of %s was made yet", name)
	return ""
}

// history is what happened at a place: an event of each noun, and how it was delivered.
type history struct {
	event, receipt, delivery, attempt string
	subjects                          map[string]string
}

func (w *matrix) history(place string) *history {
	w.t.Helper()
	if h := w.past[place]; h != nil {
		return h
	}
	h := &history{subjects: map[string]string{}}
	for noun, typ := range map[string]string{"scan": "scan.completed", "finding": "finding.discovered", "ticket": "ticket.opened", "report": "report.ready"} {
		title := map[string]string{"scan": "name: ", "finding": "title: ", "ticket": "title: ", "report": "link: "}[noun]
		w.names++
		canary := fmt.Sprintf(`"canary-%s-%d"`, place, w.names)
		subject := fmt.Sprintf(`%s: {key: %s, %s%s}`, noun, canary, title, canary)
		id := w.send(place, typ, subject)
		got := w.must(place, `{ node(id: "`+id+`") { ... on Event { subject { id } receipt { id } } } }`)["node"].(map[string]any)
		h.subjects[noun] = firstID(got["subject"])
		if noun == "scan" {
			h.event, h.receipt = id, firstID(got["receipt"])
		}
	}
	var d struct {
		Deliveries struct {
			Edges []struct {
				Node struct {
					ID, State, AssetGroupID string
					Webhook                 struct{ ID string }
					Attempts                []struct{ ID string }
				}
			}
		}
	}
	until(w.t, 10*time.Second, "the event at "+place+" is delivered", func() bool {
		if err := w.admin(place).Do(w.t.Context(), `query ($e: ID) { deliveries(filter: {eventId: $e}) { edges { node { id state assetGroupId webhook { id } attempts { id } } } } }`,
			program.Input{"e": h.event}, &d); err != nil {
			w.t.Fatal(err)
		}
		for _, e := range d.Deliveries.Edges {
			if e.Node.State == "SUCCEEDED" && e.Node.Webhook.ID == w.row("globalWebhook", place) {
				h.delivery, h.attempt = e.Node.ID, e.Node.Attempts[0].ID
			}
		}
		return h.delivery != ""
	})
	for _, e := range d.Deliveries.Edges { // the organization's webhooks get what happens in the groups as well
		level := place
		if e.Node.AssetGroupID == "" && place != inOther {
			level = inOrg
		}
		w.placed[e.Node.ID] = level
		for _, a := range e.Node.Attempts {
			w.placed[a.ID] = level
		}
	}
	w.past[place] = h
	return h
}

// send makes an event happen at a place and returns its ID.
func (w *matrix) send(place, typ, subject string) string {
	w.t.Helper()
	app := ""
	if place != inOrg {
		app = `applicationId: "` + w.row("application", place) + `", `
	}
	got := w.must(place, `mutation { sendEvent(input: {type: "`+typ+`", sourceId: "`+w.row("source", place)+`", `+app+subject+`}) { result { eventId } } }`)
	return got["sendEvent"].(map[string]any)["result"].(map[string]any)["eventId"].(string)
}

// open makes an open delivery at a place.
func (w *matrix) open(place string) string {
	w.t.Helper()
	w.names++
	event := w.send(place, "scan.completed", fmt.Sprintf(`scan: {key: "canary-%s-%d", name: "x"}`, place, w.names))
	return firstID(w.must(place, `{ deliveries(filter: {webhookIds: ["`+w.row("heldWebhook", place)+`"], eventId: "`+event+`"}) { edges { node { id } } } }`))
}

// ran makes a run at a place, and waits for its end.
func (w *matrix) ran(place string) string {
	w.t.Helper()
	id := firstID(w.must(place, `mutation { startScan(input: {projectId: "`+w.row("project", place)+`"}) { run { id } } }`))
	until(w.t, 20*time.Second, "the scan at "+place+" ends", func() bool { return state(w.t, w.admin(place), id) == "FINISHED" })
	return id
}

var anyID = regexp.MustCompile(`\b[a-z]{3}_[0-9a-z]{20,30}\b`)

// ask asks as somebody and returns the data and the code of the first error, after a look
// for canaries in the answer.
func (w *matrix) ask(p *person, query string) (data map[string]any, code string) {
	w.t.Helper()
	w.asked++
	body, err := json.Marshal(map[string]string{"query": query})
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.URL+"/graphql", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if p.client.Key != "" {
		req.Header.Set("Authorization", "Bearer "+p.client.Key)
	}
	resp, err := w.HTTP.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	w.noCanary(p, query, answer)
	var got struct {
		Data   map[string]any
		Errors []*program.Error
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		w.t.Fatalf("%s: %s", query, answer)
	}
	if len(got.Errors) > 0 {
		code = got.Errors[0].Extensions.Code
		if code == "INTERNAL" {
			w.t.Errorf("%s, as %s: %s", query, p.name, answer)
		}
	}
	return got.Data, code
}

// noCanary checks that an answer does not name what the viewer does not see, unless the
// viewer has named it.
func (w *matrix) noCanary(p *person, query string, answer []byte) {
	w.t.Helper()
	for _, id := range anyID.FindAll(answer, -1) {
		place, known := w.placed[string(id)]
		hidden := w.hidden[string(id)]
		if !known || strings.Contains(query, string(id)) || hidden == "everybody" && place != inOther && p.name != "nobody" {
			continue
		}
		if hidden == "everybody" {
			hidden = ""
		}
		if !p.sees(place, hidden) {
			w.t.Errorf("%s is told of %s, which is in %s:\n%s\n%.2000s", p.name, id, place, query, answer)
		}
	}
	for _, place := range []string{inOrg, inA, inB, inOther} {
		if name := "canary-" + place + "-"; !p.sees(place, "") && bytes.Contains(answer, []byte(name)) && !hiddenOnly(p, place) {
			w.t.Errorf("%s is told a name in %s:\n%s\n%.2000s", p.name, place, query, answer)
		}
	}
}

// hiddenOnly says that somebody may see some rows of the organization's level, and no others:
// users and keys, for whoever manages access.
func hiddenOnly(p *person, place string) bool {
	return place == inOrg && slices.Contains(p.may, "MANAGE_ACCESS")
}

// table is what came of an operation: a line of cells per viewer.
type table struct {
	title string
	cols  []string
	cells map[string][]string
}

// run asks everything.
func (w *matrix) run() []*table {
	w.t.Helper()
	var out []*table
	add := func(title string, cols []string, ask func(p *person) []string) {
		t := &table{title: title, cols: cols, cells: map[string][]string{}}
		for _, p := range w.people {
			t.cells[p.name] = ask(p)
		}
		out = append(out, t)
	}
	for _, field := range slices.Sorted(maps.Keys(live())) {
		add("Subscription."+field, levelled(), func(p *person) []string { return w.follow(p, field) })
	}
	seen := map[string]bool{}
	for _, n := range nouns() {
		if seen[n.typ] {
			continue
		}
		seen[n.typ] = true
		w.reads(n, add)
	}
	for _, o := range operations() {
		places := []string{""}
		switch {
		case o.on == "level":
			places = append(levelled(), nowhere)
		case o.on != "":
			places = append(slices.Clone(w.nouns[o.on].places), nowhere)
		}
		cols := places
		if o.on == "" {
			cols = []string{"result"}
		}
		add(o.field, cols, func(p *person) []string {
			cells := make([]string, len(places))
			for i, place := range places {
				cells[i] = w.perform(p, o, place)
			}
			return cells
		})
	}
	return out
}

// perform does one operation at one place and sets the world right again.
func (w *matrix) perform(p *person, o operation, place string) string {
	w.t.Helper()
	field, _, _ := strings.Cut(o.field, " ")
	root, name, _ := strings.Cut(field, ".")
	text := w.fill(o.text, place)
	query := "{ r: " + text + " }"
	if root == "Mutation" {
		query = w.mutation(name, text)
	} else if root == "Subscription" {
		query = "subscription " + query
	}
	data, code := w.ask(p, query)
	if code != "" {
		return code
	}
	payload, _ := data["r"].(map[string]any)
	if n, counted := payload["matched"].(float64); counted && n == 0 {
		return "–"
	}
	if o.renew {
		w.renew(o.on, place)
	}
	if o.undo != "" {
		at := place
		if p.name == "Administrator elsewhere" {
			at = inOther
		}
		w.must(at, w.mutation(o.undo, `{id: "`+firstID(data)+`"}`))
	}
	return "ok"
}

// reads asks for the noun in every way in which it can be read.
func (w *matrix) reads(n noun, add func(string, []string, func(*person) []string)) {
	w.t.Helper()
	d := w.schema.Types[n.typ]
	node := func(p *person, place, selection string) (map[string]any, string) {
		data, code := w.ask(p, `{ node(id: "`+w.row(n.name, place)+`") { ... on `+n.typ+` `+selection+` } }`)
		row, _ := data["node"].(map[string]any)
		return row, code
	}
	add("node("+n.typ+")", append(slices.Clone(n.places), nowhere), func(p *person) (cells []string) {
		for _, place := range append(slices.Clone(n.places), nowhere) {
			row, code := node(p, place, w.selection(n.typ, 3))
			if code == "" {
				code = "ok"
				if row["id"] != w.row(n.name, place) {
					code = "another row"
				}
			}
			cells = append(cells, code)
		}
		return cells
	})
	for _, f := range w.schema.Query.Fields {
		if to, connection := edgeOf(w.schema, f); connection && to == n.typ {
			add("Query."+f.Name, n.places, func(p *person) (cells []string) {
				data, code := w.ask(p, `{ r: `+f.Name+`(first: 200) { edges { node { id } } } }`)
				reached := w.places(data)
				for _, place := range n.places {
					switch {
					case code != "":
						cells = append(cells, code)
					case slices.Contains(reached, place):
						cells = append(cells, "seen")
					default:
						cells = append(cells, "–")
					}
				}
				return cells
			})
		}
	}
	for _, f := range d.Fields {
		to, connection := edgeOf(w.schema, f)
		guard := slices.Contains(guarded(), n.typ+"."+f.Name)
		if to == "" && !guard {
			continue
		}
		selection := "{ r: " + f.Name
		switch {
		case connection:
			selection += " { edges { node { id } } } }"
		case to != "":
			selection += " { id } }"
		default:
			selection += " " + w.selection(f.Type.Name(), 1) + " }"
		}
		add(n.typ+"."+f.Name, n.places, func(p *person) (cells []string) {
			for _, place := range n.places {
				row, code := node(p, place, selection)
				switch {
				case code != "":
				case guard && row["r"] != nil:
					code = "read"
				case guard:
					code = "–"
				default:
					if code = strings.Join(w.places(row), ", "); code == "" {
						code = "–"
					}
				}
				cells = append(cells, code)
			}
			return cells
		})
	}
}

// places are those of the rows that an answer names, in their order.
func (w *matrix) places(data map[string]any) []string {
	b, err := json.Marshal(data)
	if err != nil {
		w.t.Fatal(err)
	}
	reached := map[string]bool{}
	for _, id := range anyID.FindAll(b, -1) {
		if place, known := w.placed[string(id)]; known {
			reached[place] = true
		}
	}
	var out []string
	for _, place := range levelled() {
		if reached[place] {
			out = append(out, place)
		}
	}
	return out
}

// live are the subscriptions, with what is asked of their entries.
func live() map[string]string {
	return map[string]string{
		"deliveryLog": "id deliveryId eventId webhookId endpointId assetGroupId applicationId",
		"auditLog":    "id objectId objectName actorId assetGroupId changes { field before after }",
	}
}

// beginning is the cursor of a subscription as it is now.
func (w *matrix) beginning(place, field string) string {
	w.t.Helper()
	s, err := w.admin(place).Subscribe(w.t.Context(), `subscription { r: `+field+` { cursor } }`, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	var got struct{ R struct{ Cursor string } }
	if err := s.Next(w.t.Context(), &got); err != nil {
		w.t.Fatalf("%s: %v", field, err)
	}
	return got.R.Cursor
}

// follow reads a subscription from its beginning, as far as it goes at once.
func (w *matrix) follow(p *person, field string) []string {
	w.t.Helper()
	w.asked++
	start := w.starts[inOrg+field]
	if p.name == "Administrator elsewhere" { // a cursor is one organization's
		start = w.starts[inOther+field]
	}
	cells := make([]string, len(levelled()))
	s, err := p.client.Subscribe(w.t.Context(), `subscription ($a: String) { r: `+field+`(after: $a) { entries { `+live()[field]+` } } }`, program.Input{"a": start})
	var answer struct {
		Data   struct{ R map[string]any }
		Errors []*program.Error
	}
	if err == nil {
		raw, nextErr := s.NextRaw(w.t.Context())
		_ = s.Close()
		if err = nextErr; err == nil {
			w.noCanary(p, "subscription { "+field+" }", raw)
			if err := json.Unmarshal(raw, &answer); err != nil {
				w.t.Fatal(err)
			}
			if len(answer.Errors) > 0 {
				err = answer.Errors[0]
			}
		}
	}
	reached := w.places(answer.Data.R)
	for i, place := range levelled() {
		switch refusal := (*program.Error)(nil); {
		case errors.As(err, &refusal):
			cells[i] = refusal.Extensions.Code
		case err != nil:
			cells[i] = "UNAUTHENTICATED" // the socket was refused
		case slices.Contains(reached, place):
			cells[i] = "seen"
		default:
			cells[i] = "–"
		}
	}
	return cells
}

// render writes the matrix for people: operations with the same outcome share a table,
// and viewers with the same outcome a line.
func render(tables []*table) string {
	var out strings.Builder
	out.WriteString(`# Access matrix

Who may do what, as it came out when a test (TestAccessMatrix) ran every operation of the API on a hub, for a row at every place, as every kind of viewer. Do not edit:
the test writes this file when it is asked to, and fails when it does not hold any more. The model behind it is in [security](security.md).

Columns are places: the organization's own level, the asset groups A and B, another organization (elsewhere), and an ID that nothing has (nowhere). Cells are
what came of it: ok, seen or read; the code of an error; – for nothing; for a field that leads to other rows, where these are.
Operations with the same outcome share a table, and viewers with the same outcome a line.
`)
	type section struct {
		titles []string
		body   string
	}
	var sections []*section
	for _, t := range tables {
		var lines []string
		who := map[string][]string{}
		for _, p := range everybody() {
			key := strings.Join(t.cells[p.name], " | ")
			if who[key] == nil {
				lines = append(lines, key)
			}
			who[key] = append(who[key], p.name)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "| | %s |\n|---|%s\n", strings.Join(t.cols, " | "), strings.Repeat("---|", len(t.cols)))
		for _, key := range lines {
			fmt.Fprintf(&b, "| %s | %s |\n", together(who[key]), key)
		}
		i := slices.IndexFunc(sections, func(s *section) bool { return s.body == b.String() })
		if i < 0 {
			i = len(sections)
			sections = append(sections, &section{body: b.String()})
		}
		sections[i].titles = append(sections[i].titles, "`"+t.title+"`")
	}
	for _, s := range sections {
		fmt.Fprintf(&out, "\n%s\n\n%s", strings.Join(s.titles, ", "), s.body)
	}
	return out.String()
}

// together joins names, those of one role to one.
func together(names []string) string {
	var out []string
	last := ""
	for _, n := range names {
		role, access, of := strings.Cut(n, " of ")
		if of && role == last {
			out[len(out)-1] += ", " + access
			continue
		}
		last = role
		out = append(out, n)
	}
	return strings.Join(out, "; ")
}
