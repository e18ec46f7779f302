package server_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/auth"
	"github.com/hookyard/hookyard/server/servertest/program"
)

// acme is the world of the acceptance cases: an organization with the asset groups A (a1,
// a2) and B (b1), a user of each kind with an API key, and an endpoint at each level.
type acme struct {
	*program.Hub
	t    *testing.T
	sink *sink
	dir  string
	url  string // of the database, "" for the embedded one
	log  *lockedBuffer

	as        map[string]*program.Client // by user
	group     map[string]string          // IDs of A and B, and of "nowhere", which is none
	app       map[string]string          // IDs of a1, a2 and b1
	endpoint  map[string]string          // by level: "organization", "A", "B"
	published int
	names     int          // how many names hook, source and idle have given
	clock     *http.Client // moves the hub's clock: see ahead

	// What cases leave for those that come after them.
	signed             []arrival
	failing, recovered string  // webhooks
	broken             *target // of the failing one
}

// people are the users of the acceptance cases, in their order.
var people = []struct {
	name, role  string
	permissions []string // of a custom role
	all         bool
	groups      []string
}{
	{name: "mgrAll", role: "MANAGER", all: true},
	{name: "mgrA", role: "MANAGER", groups: []string{"A"}},
	{name: "cusYesAll", role: "CUSTOM", permissions: []string{"RUN_SCANS", "CREATE_MODIFY_WEBHOOKS"}, all: true},
	{name: "cusYesA", role: "CUSTOM", permissions: []string{"RUN_SCANS", "CREATE_MODIFY_WEBHOOKS"}, groups: []string{"A"}},
	{name: "cusNoAll", role: "CUSTOM", permissions: []string{"RUN_SCANS", "MANAGE_SOURCES", "REDELIVER"}, all: true},
	{name: "appMgrA", role: "APPLICATION_MANAGER", groups: []string{"A"}},
	{name: "testerA", role: "TESTER", groups: []string{"A"}},
	{name: "viewerAll", role: "REPORT_VIEWER", all: true},
}

func newAcme(t *testing.T, url string) *acme {
	t.Helper()
	return newAcmeWith(t, url)
}

// newAcmeWith is newAcme with further flags of the hub.
func newAcmeWith(t *testing.T, url string, flags ...string) *acme {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return newAcmeOn(t, program.Config{Binary: path, Args: flags}, url)
}

// newAcmeOn is newAcmeWith on a hub of any build of the program.
func newAcmeOn(t *testing.T, c program.Config, url string) *acme {
	t.Helper()
	ctx := t.Context()
	w := &acme{t: t, sink: newSink(t), dir: t.TempDir(), url: url, as: map[string]*program.Client{},
		group: map[string]string{"nowhere": "grp_00000000000000000000000000"}, app: map[string]string{}, endpoint: map[string]string{}}
	c.Dir, c.Args = w.dir, append([]string{"--allow-private-targets", "--organization", "Acme"}, c.Args...)
	w.Hub, w.log = startConfigured(t, c, url)
	w.as["admin"] = w.Client
	w.as["nobody"] = w.holder("")
	var err error
	for _, g := range []string{"A", "B"} {
		if w.group[g], err = w.CreateAssetGroup(ctx, g); err != nil {
			t.Fatal(err)
		}
	}
	for app, g := range map[string]string{"a1": "A", "a2": "A", "b1": "B"} {
		if w.app[app], err = w.CreateApplication(ctx, app, w.group[g]); err != nil {
			t.Fatal(err)
		}
	}
	for _, level := range []string{"organization", "A", "B"} {
		in := program.Input{"name": "sink of " + level, "connector": "webhook", "url": w.sink.url + "/" + level}
		if w.endpoint[level], err = w.CreateEndpoint(ctx, w.at(level, in)); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range people {
		in := program.Input{"role": p.role, "allGroups": p.all, "groupIds": w.groups(p.groups)}
		if p.permissions != nil {
			in["customRoleId"] = w.role("role of "+p.name, p.permissions...)
		}
		w.user(p.name, in)
	}
	return w
}

// user makes a user with an API key of his own, and returns the user's ID.
func (w *acme) user(name string, in program.Input) (id string) {
	w.t.Helper()
	in["email"] = name + "@example.com"
	var got struct {
		R struct{ User struct{ ID string } }
	}
	if err := w.Do(w.t.Context(), `mutation ($in: CreateUserInput!) { r: createUser(input: $in) { user { id } } }`, program.Input{"in": in}, &got); err != nil {
		w.t.Fatalf("create %s: %v", name, err)
	}
	delete(in, "email")
	in["ownerId"] = got.R.User.ID
	w.as[name] = w.holder(w.newKey(w.t, "key of "+name, in))
	return got.R.User.ID
}

// role makes a custom role and returns its ID.
func (w *acme) role(name string, permissions ...string) string {
	w.t.Helper()
	var got struct {
		R struct{ Role struct{ ID string } }
	}
	if err := w.Do(w.t.Context(), `mutation ($in: CreateRoleInput!) { r: createRole(input: $in) { role { id } } }`,
		program.Input{"in": program.Input{"name": name, "permissions": permissions}}, &got); err != nil {
		w.t.Fatalf("create the role %s: %v", name, err)
	}
	return got.R.Role.ID
}

func (w *acme) groups(names []string) []string {
	ids := make([]string, len(names))
	for i, n := range names {
		ids[i] = w.group[n]
	}
	return ids
}

// holder is a client with a credential.
func (w *acme) holder(credential string) *program.Client {
	return &program.Client{URL: w.URL, Key: credential, HTTP: w.HTTP}
}

// at puts an input at a level: "organization" or the name of an asset group.
func (w *acme) at(level string, in program.Input) program.Input {
	if level != "organization" {
		in["assetGroupId"] = w.group[level]
	}
	return in
}

// webhook is the input of a webhook at a level that delivers to the level's endpoint.
func (w *acme) webhook(level string, in program.Input) program.Input {
	out := program.Input{"name": "hook", "endpointId": w.endpoint[level], "format": "cloudevents", "eventTypes": []string{"scan.completed"}}
	if w.endpoint[level] == "" {
		out["endpointId"] = w.endpoint["organization"]
	}
	for k, v := range in {
		out[k] = v
	}
	return w.at(level, out)
}

// webhooks are the IDs of all webhooks, as the Administrator sees them.
func (w *acme) webhooks() []string {
	w.t.Helper()
	var got struct {
		Webhooks struct {
			Edges []struct{ Node struct{ ID string } }
		}
	}
	if err := w.Do(w.t.Context(), `{ webhooks(first: 200) { edges { node { id } } } }`, nil, &got); err != nil {
		w.t.Fatal(err)
	}
	ids := make([]string, len(got.Webhooks.Edges))
	for i, e := range got.Webhooks.Edges {
		ids[i] = e.Node.ID
	}
	return ids
}

// create makes a webhook as the Administrator.
func (w *acme) create(level string, in program.Input) string {
	w.t.Helper()
	id, _, err := w.CreateWebhook(w.t.Context(), w.webhook(level, in))
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *acme) remove(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		if err := w.Do(w.t.Context(), `mutation ($id: ID!) { deleteWebhook(input: {id: $id}) { deletedId } }`, program.Input{"id": id}, nil); err != nil {
			w.t.Fatal(err)
		}
	}
}

// publish makes an event of an application happen and returns its number.
func (w *acme) publish(kind, app string) int {
	w.t.Helper()
	w.published++
	in := program.Input{"type": kind, "applicationId": w.app[app], "attributes": program.Input{"n": w.published}}
	if kind == "application.changed" {
		in["application"] = program.Input{"status": "changed"}
	} else {
		in["scan"] = program.Input{"key": fmt.Sprint(w.published), "name": "scan of " + app}
	}
	if err := w.Do(w.t.Context(), `mutation ($in: SendEventInput!) { sendEvent(input: $in) { result { eventId } } }`, program.Input{"in": in}, nil); err != nil {
		w.t.Fatal(err)
	}
	return w.published
}

// expect checks that a webhook got exactly these events: that there are no more deliveries
// of it, which are all made before an event is answered, and that the sink has them.
func (w *acme) expect(t *testing.T, webhook, level string, events ...int) {
	t.Helper()
	var got struct {
		Deliveries struct {
			Edges []struct{ Node struct{ EventID string } }
		}
	}
	if err := w.Do(t.Context(), `query ($w: [ID!]) { deliveries(filter: {webhookIds: $w}) { edges { node { eventId } } } }`,
		program.Input{"w": []string{webhook}}, &got); err != nil {
		t.Fatal(err)
	}
	if n := len(got.Deliveries.Edges); n != len(events) {
		t.Errorf("%d deliveries, want %d", n, len(events))
	}
	w.sink.await(t, level, events, 10*time.Second)
	if twice := w.sink.twice(level); len(twice) > 0 {
		t.Errorf("%d requests came twice", len(twice))
	}
}

// verdict is what an answer comes to: "ok", or the code of its error.
func verdict(err error) string {
	var refusal *program.Error
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &refusal):
		return refusal.Extensions.Code
	}
	return err.Error()
}

// levels are the columns of the permission matrices.
var levels = []string{"organization", "A", "B"}

// TestAcceptance shows the cases of docs/acceptance.md, each on a running hub through its API
// and its addresses. "make acceptance" prints a line for each.
func TestAcceptance(t *testing.T) {
	cases := []struct {
		name string
		show func(*testing.T, *acme)
	}{
		{"PUB-01 permission matrix, create", createMatrix},
		{"PUB-02 permission matrix, update and delete", changeMatrix},
		{"PUB-03 no token", noToken},
		{"PUB-04 global at organization level", globalAtOrganization},
		{"PUB-05 global at group level", globalAtGroup},
		{"PUB-06 scoped to one application", oneApplication},
		{"PUB-07 scoped to an asset group", oneGroup},
		{"PUB-08 several scopes", severalScopes},
		{"PUB-09 invalid scope combinations", scopeRules},
		{"PUB-10 event type mismatch", typeMismatch},
		{"PUB-11 the document's example", appscanExample},
		{"PUB-12 placeholder in the query, twice", placeholderTwice},
		{"PUB-13 the Presence makes the call", presenceCalls},
		{"PUB-14 any 2xx is success for GET", anySuccess},
		{"PUB-15 finished_scan, emit", holmFinished},
		{"PUB-16 scheduled_scan, emit", holmScheduled},
		{"PUB-17 ticket, emit", holmTickets},
		{"PUB-18 finished_scan, receive", holmReceive},
		{"PUB-19 the document's odd headers", holmOddHeaders},
		{"PUB-20 ticket, receive", holmTicketsReceive},
		{"PUB-21 envelope", apvisoEnvelope},
		{"PUB-22 event selection", apvisoSelection},
		{"PUB-23 signature, emit", apvisoSignature},
		{"PUB-24 signature, receive (vectors)", apvisoVectors},
		{"PUB-25 verification handshake, good", handshakeGood},
		{"PUB-26 verification handshake, bad", handshakeBad},
		{"PUB-27 retry timetable", retryTimetable},
		{"PUB-28 identical retries", identicalRetries},
		{"PUB-29 recovery stops retries", recoveryStopsRetries},
		{"PUB-30 delivery log", deliveryLogKeepsAll},
		{"PUB-31 several endpoints are independent", independentEndpoints},
		{"PUB-32 start with an empty body", triggerEmpty},
		{"PUB-33 already running", triggerRunning},
		{"PUB-34 status", triggerStatus},
		{"PUB-35 JUnit report", triggerReport},
		{"PUB-36 payload is applied and remembered", triggerPayload},
		{"PUB-37 JSON under curl's default content type; API specification", triggerSpecification},
		{"PUB-38 receive all three samples", veracodeReceive},
		{"PUB-39 emit and convert", emitAndConvert},
	}
	doc, err := os.ReadFile("../docs/acceptance.md")
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`(?m)^\*\*(PUB-\d+) `).FindAllStringSubmatch(string(doc), -1)
	if len(told) != len(cases) {
		t.Errorf("there are %d cases, and %d are shown", len(told), len(cases))
	}
	for i, c := range cases {
		if i < len(told) && !strings.HasPrefix(c.name, told[i][1]+" ") {
			t.Errorf("%s is shown in the place of %s", c.name, told[i][1])
		}
	}
	onEach(t, func(t *testing.T, url string) {
		w := newMovableAcme(t, url)
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				w.t = t
				c.show(t, w)
			})
		}
	})
}

// expectations reads a table of the specification: a line per user, a column per level.
func expectations(t *testing.T, want int, table string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for line := range strings.Lines(strings.TrimSpace(table)) {
		cells := strings.Fields(line)
		for _, user := range strings.Split(cells[0], ",") {
			out[user] = cells[1:]
		}
	}
	if n := len(out) * len(levels); n != want {
		t.Fatalf("the table has %d cells, want %d", n, want)
	}
	return out
}

func createMatrix(t *testing.T, w *acme) {
	before := w.webhooks()
	assertions := 0
	for user, cells := range expectations(t, 27, `
		admin      ok        ok        ok
		mgrAll     ok        ok        ok
		mgrA       FORBIDDEN ok        FORBIDDEN
		cusYesAll  ok        ok        ok
		cusYesA    FORBIDDEN ok        FORBIDDEN
		cusNoAll   FORBIDDEN FORBIDDEN FORBIDDEN
		appMgrA    FORBIDDEN FORBIDDEN FORBIDDEN
		testerA    FORBIDDEN FORBIDDEN FORBIDDEN
		viewerAll  FORBIDDEN FORBIDDEN FORBIDDEN`) {
		for i, level := range levels {
			assertions++
			id, _, err := w.as[user].CreateWebhook(t.Context(), w.webhook(level, program.Input{"global": true}))
			if got := verdict(err); got != cells[i] {
				t.Errorf("%s creates at %s: %s (%v), want %s", user, level, got, err, cells[i])
			}
			if err == nil {
				w.remove(id)
			}
		}
		// The same for a group that does not exist, in the same words.
		_, _, none := w.as[user].CreateWebhook(t.Context(), w.webhook("nowhere", program.Input{"global": true}))
		if got := verdict(none); got != "FORBIDDEN" {
			t.Errorf("%s creates in a group that does not exist: %s (%v)", user, got, none)
		}
		if user == "mgrA" || user == "cusYesA" {
			_, _, unseen := w.as[user].CreateWebhook(t.Context(), w.webhook("B", program.Input{"global": true}))
			if a, b := fmt.Sprint(none), strings.ReplaceAll(fmt.Sprint(unseen), w.group["B"], w.group["nowhere"]); a != b {
				t.Errorf("the answer tells a group that is not there (%s) from one that is not seen (%s)", a, b)
			}
		}
	}
	if after := w.webhooks(); !slices.Equal(before, after) {
		t.Errorf("refused webhooks are there: %d before, %d after", len(before), len(after))
	}
	t.Logf("%d assertions", assertions)
}

func changeMatrix(t *testing.T, w *acme) {
	assertions := 0
	for user, cells := range expectations(t, 27, `
		admin,mgrAll,cusYesAll  ok        ok        ok
		mgrA,cusYesA            NOT_FOUND ok        NOT_FOUND
		cusNoAll,viewerAll      FORBIDDEN FORBIDDEN FORBIDDEN
		appMgrA,testerA         NOT_FOUND FORBIDDEN NOT_FOUND`) {
		for i, level := range levels {
			endpoint, err := w.CreateEndpoint(t.Context(), w.at(level, program.Input{"name": "for " + user + " at " + level, "connector": "webhook", "url": "https://old.example.com"}))
			if err != nil {
				t.Fatal(err)
			}
			hook := w.create(level, program.Input{"global": true, "endpointId": endpoint})
			tries := []struct {
				what, query string
				in          program.Input
			}{
				{"changes the URL of", `mutation ($in: UpdateEndpointInput!) { updateEndpoint(input: $in) { endpoint { id } } }`,
					program.Input{"id": endpoint, "url": "https://new.example.com"}},
				{"changes", `mutation ($in: UpdateWebhookInput!) { updateWebhook(input: $in) { webhook { id } } }`,
					program.Input{"id": hook, "description": "new"}},
				{"deletes", `mutation ($in: DeleteWebhookInput!) { deleteWebhook(input: $in) { deletedId } }`,
					program.Input{"id": hook}},
			}
			for _, try := range tries {
				assertions++
				if got := verdict(w.as[user].Do(t.Context(), try.query, program.Input{"in": try.in}, nil)); got != cells[i] {
					t.Errorf("%s %s a webhook at %s: %s, want %s", user, try.what, level, got, cells[i])
				}
			}
			if cells[i] == "ok" {
				continue
			}
			var got struct {
				Node *struct {
					Description string
					Endpoint    struct{ URL string }
				}
			}
			if err := w.Do(t.Context(), `query ($id: ID!) { node(id: $id) { ... on Webhook { description endpoint { url } } } }`, program.Input{"id": hook}, &got); err != nil {
				t.Fatal(err)
			}
			if got.Node == nil || got.Node.Description != "" || got.Node.Endpoint.URL != "https://old.example.com" {
				t.Errorf("%s was refused, and the webhook at %s is now %+v", user, level, got.Node)
			}
			w.remove(hook)
		}
	}
	t.Logf("%d assertions", assertions)
}

func noToken(t *testing.T, w *acme) {
	before := w.webhooks()
	signed := w.token(t)
	head, signature := signed[:strings.LastIndexByte(signed, '.')+1], signed[strings.LastIndexByte(signed, '.')+1:]
	for what, credential := range map[string]string{
		"no token": "", "nonsense": "nonsense", "a wrong signature": head + strings.Map(func(r rune) rune {
			if r == 'A' {
				return 'B'
			}
			return 'A'
		}, signature), "an expired token": w.expired(t, signed), "an unknown key": auth.KeyPrefix + "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	} {
		_, _, err := w.holder(credential).CreateWebhook(t.Context(), w.webhook("organization", program.Input{"global": true}))
		if got := verdict(err); got != "UNAUTHENTICATED" {
			t.Errorf("%s: %s (%v)", what, got, err)
		}
	}
	id, _, err := w.holder(signed).CreateWebhook(t.Context(), w.webhook("organization", program.Input{"global": true}))
	if err != nil {
		t.Fatalf("a good token: %v", err)
	}
	w.remove(id)
	if after := w.webhooks(); !slices.Equal(before, after) {
		t.Errorf("%d webhooks before, %d after", len(before), len(after))
	}
}

// token is a token of the Administrator.
func (w *acme) token(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.URL+"/auth/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.Key)
	resp, err := w.HTTP.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var got struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("no token: %s, %v", resp.Status, err)
	}
	return got.Token
}

// expired is the token as it would be once it has expired: signed by the hub's own key.
func (w *acme) expired(t *testing.T, token string) string {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{DataDir: w.dir, DatabaseURL: w.url, Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	box, err := secret.Open(t.Context(), secret.Config{KeyFile: filepath.Join(w.dir, "hookyard.key")})
	if err != nil {
		t.Fatal(err)
	}
	parsed, _, err := jwt.NewParser().ParseUnverified(token, &jwt.RegisteredClaims{})
	if err != nil {
		t.Fatal(err)
	}
	row, err := db.Client.SigningKey.Get(viewer.SystemContext(t.Context()), parsed.Header["kid"].(string))
	if err != nil {
		t.Fatal(err)
	}
	seed, err := box.Unseal(row.ID, "material", row.Material)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Claims.(*jwt.RegisteredClaims).ExpiresAt = jwt.NewNumericDate(time.Now().Add(-time.Minute))
	raw, err := parsed.SignedString(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func globalAtOrganization(t *testing.T, w *acme) {
	w.matches(t, "organization", program.Input{"global": true}, []string{"a1", "b1"}, 0, 1)
}

func globalAtGroup(t *testing.T, w *acme) {
	w.matches(t, "A", program.Input{"global": true}, []string{"a1", "a2", "b1"}, 0, 1)
}

func oneApplication(t *testing.T, w *acme) {
	w.matches(t, "organization", program.Input{"applicationIds": []string{w.app["a1"]}}, []string{"a1", "a1", "a2", "b1"}, 0, 1)
}

func oneGroup(t *testing.T, w *acme) {
	w.matches(t, "organization", program.Input{"scopeGroupIds": []string{w.group["A"]}}, []string{"a1", "a2", "b1"}, 0, 1)
}

func severalScopes(t *testing.T, w *acme) {
	w.matches(t, "organization", program.Input{"applicationIds": []string{w.app["a1"]}, "scopeGroupIds": []string{w.group["B"]}}, []string{"a1", "a2", "b1"}, 0, 2)
	// One delivery, however many scopes match.
	w.matches(t, "organization", program.Input{"applicationIds": []string{w.app["a1"]}, "scopeGroupIds": []string{w.group["A"]}}, []string{"a1"}, 0)
}

// matches publishes completed scans of applications and checks that a webhook gets those
// with these indexes, and no others.
func (w *acme) matches(t *testing.T, level string, in program.Input, apps []string, indexes ...int) {
	t.Helper()
	hook := w.create(level, in)
	defer w.remove(hook)
	var sent, want []int
	for _, app := range apps {
		sent = append(sent, w.publish("scan.completed", app))
	}
	for _, i := range indexes {
		want = append(want, sent[i])
	}
	w.expect(t, hook, level, want...)
	for _, n := range sent {
		if came := len(w.sink.missing(level, []int{n})) == 0; came != slices.Contains(want, n) {
			t.Errorf("event %d of %v: at the sink: %t", n, apps, came)
		}
	}
}

func scopeRules(t *testing.T, w *acme) {
	before := w.webhooks()
	for what, in := range map[string]program.Input{
		"(a) a group's webhook with a group as its scope":                w.webhook("A", program.Input{"scopeGroupIds": []string{w.group["A"]}}),
		"(b) a group's webhook with an application of another group":     w.webhook("A", program.Input{"applicationIds": []string{w.app["b1"]}}),
		"(c) global and scoped":                                          w.webhook("organization", program.Input{"global": true, "applicationIds": []string{w.app["a1"]}}),
		"a scope that does not exist":                                    w.webhook("organization", program.Input{"applicationIds": []string{"app_00000000000000000000000000"}}),
		"a group's webhook, global and scoped to the group's own things": w.webhook("A", program.Input{"global": true, "applicationIds": []string{w.app["a1"]}}),
	} {
		_, _, err := w.CreateWebhook(t.Context(), in)
		if got := verdict(err); got != "BAD_USER_INPUT" {
			t.Errorf("%s: %s (%v)", what, got, err)
		}
	}
	if after := w.webhooks(); !slices.Equal(before, after) {
		t.Errorf("%d webhooks before, %d after", len(before), len(after))
	}
	w.matches(t, "organization", program.Input{"global": false}, []string{"a1"}) // (d)
}

func typeMismatch(t *testing.T, w *acme) {
	hook := w.create("organization", program.Input{"global": true, "eventTypes": []string{"application.changed"}})
	defer w.remove(hook)
	w.publish("scan.completed", "a1")
	w.expect(t, hook, "organization")
	w.expect(t, hook, "organization", w.publish("application.changed", "a1"))
}
