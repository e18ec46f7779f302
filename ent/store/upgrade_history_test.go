package store_test

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	"github.com/hookyard/hookyard/server/flow"
	"github.com/hookyard/hookyard/server/ledger"
)

// A history as the second schema keeps it, for both databases: an event that was delivered,
// and one with a delivery in the hands of a node and another that is being retried.
const oldHistory = `
INSERT INTO receipts (id, org, source, grp, at, method, header, query, content_type, body, remote, state, note) VALUES ('$RCT1', 'org_1', 'src_1', 'grp_1', $AT, 'POST', NULL, 'a=b', 'application/json', $RAW, '192.0.2.1', 'ACCEPTED', '');
INSERT INTO events (id, org, source, receipt, type, time, received, subject, grp, app, severity, document) VALUES ('$EVT1', 'org_1', 'src_1', '$RCT1', 'scan.completed', $AT, $AT, 'scn_1', 'grp_1', 'app_1', 'high', $DOC);
INSERT INTO events (id, org, source, receipt, type, time, received, subject, grp, app, severity, document) VALUES ('$EVT2', 'org_1', 'src_1', '$RCT1', 'scan.completed', $AT, $AT, 'scn_1', 'grp_1', 'app_1', '', $DOC);
INSERT INTO renderings (org, event, key, method, suffix, header, body) VALUES ('org_1', '$EVT2', 'holm', 'PUT', '/x', 'A: b', $RAW);
INSERT INTO keys (org, source, key, state, digest, event, unmapped, at) VALUES ('org_1', 'src_1', $KEY, '', $KEY, '$EVT1', 0, $AT);
INSERT INTO nodes (id, name, epoch, heartbeat, version, dead) VALUES ('nod_1', 'old', 3, $AT, '0.1', 0);
INSERT INTO open_deliveries (id, org, event, webhook, endpoint, level, app, type, rendering, state, attempts, first_failed, next_at, created, reason, redelivers, lease_node, lease_epoch) VALUES ('$DLV2', 'org_1', '$EVT2', 'whk_1', 'end_1', 'grp_1', 'app_1', 'scan.completed', 'holm', 'PENDING', 0, 0, $AT, $AT, '', '', 'nod_1', 3);
INSERT INTO open_deliveries (id, org, event, webhook, endpoint, level, app, type, rendering, state, attempts, first_failed, next_at, created, reason, redelivers, lease_node, lease_epoch) VALUES ('$DLV3', 'org_1', '$EVT2', 'whk_1', 'end_1', 'grp_1', 'app_1', 'scan.completed', 'raw', 'RETRYING', 4, $AT, $AT, $AT, 'it said no', '$DLV1', '', 0);
INSERT INTO deliveries (id, org, event, webhook, endpoint, level, app, type, rendering, state, attempts, first_failed, created, reason, redelivers, ended) VALUES ('$DLV1', 'org_1', '$EVT1', 'whk_1', 'end_1', 'grp_1', 'app_1', 'scan.completed', 'hookyard', 'SUCCEEDED', 1, 0, $AT, '', '', $AT);
INSERT INTO entries (seq, id, org, delivery, event, webhook, endpoint, level, app, type, rendering, number, state, outcome, fault, at, duration, status, error, next_at, method, url, request_header, response_header, response_body, truncated, dns, connect, tls, first_byte) VALUES (7, '$ATT1', 'org_1', '$DLV1', '$EVT1', 'whk_1', 'end_1', 'grp_1', 'app_1', 'scan.completed', 'hookyard', 1, 'SUCCEEDED', 'DONE', '', $AT, 5, 200, '', 0, 'POST', 'https://siem.example.com', 'A: b', 'C: d', $RAW, 0, 1, 2, 3, 4);
UPDATE tail SET seq = 7;
INSERT INTO marks (org, kind, pos, n) VALUES ('org_1', 'entries', '', 6);
INSERT INTO numbers (org, kind, object, n) VALUES ('org_1', 'scan', 'scn_1', 42)`

// oldDays are partitions as the hub makes them for the rows above.
const oldDays = `
CREATE TABLE receipts_p20260102 PARTITION OF receipts FOR VALUES FROM ('$RCT0') TO ('$RCT9');
CREATE TABLE events_p20260102 PARTITION OF events FOR VALUES FROM ('$EVT0') TO ('$EVT9');
CREATE TABLE renderings_p20260102 PARTITION OF renderings FOR VALUES FROM ('$EVT0') TO ('$EVT9');
CREATE TABLE deliveries_p20260102 PARTITION OF deliveries FOR VALUES FROM ('$DLV0') TO ('$DLV9');
CREATE TABLE entries_p0 PARTITION OF entries FOR VALUES FROM (0) TO (1048576);
`

const historyAt = 1767323045000006 // unix microseconds

// old is an ID of the history, by the place of its noun: "$EVT2" is old("evt", 2).
func old(prefix string, n int) string {
	return ids.Floor(prefix, time.UnixMicro(historyAt).Add(time.Duration(n)*time.Second))
}

// insertHistory fills the ledger of the second schema.
func insertHistory(t *testing.T, db *sql.DB, postgres bool) {
	t.Helper()
	var names []string
	rows, bytes := oldHistory, func(hex string) string { return "X'" + hex + "'" }
	if postgres {
		rows, bytes = oldDays+oldHistory, func(hex string) string { return `'\x` + hex + "'" }
	}
	for name, hex := range map[string]string{"$RAW": "7b00ff7d", "$DOC": "7b2261223a317d", "$KEY": "6100ff"} {
		names = append(names, name, bytes(hex))
	}
	for _, prefix := range []string{ids.Receipt, ids.Event, ids.Delivery, ids.Attempt} {
		for n := range 10 {
			names = append(names, "$"+strings.ToUpper(prefix)+string(rune('0'+n)), old(prefix, n))
		}
	}
	names = append(names, "$AT", strconv.Itoa(historyAt))
	for s := range strings.SplitSeq(strings.NewReplacer(names...).Replace(rows), ";\n") {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// checkHistory goes on where the older version stopped: what was open is claimed and
// recorded, what has ended is read, and a repeat is known.
func checkHistory(t *testing.T, db *store.DB) {
	t.Helper()
	ctx := t.Context()
	maker := ids.NewMaker(time.Now)
	c := ledger.Config{IDs: maker, NodeName: "old", Postgres: db.Pool}
	if db.Dialect == store.SQLite {
		c.SQLite = &ledger.SQLite{Write: db.Write, Read: db.Read}
	}
	l, err := ledger.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close(context.Background()) }()
	if lease := l.Lease(); lease.Node != "nod_1" || lease.Epoch != 4 {
		t.Errorf("the node is %+v", lease)
	}
	dues, err := l.Claim(ctx, "whk_1", time.Now(), 10)
	if err != nil || len(dues) != 2 {
		t.Fatalf("claimed %v, %v", dues, err)
	}
	raw := "{\x00\xff}"
	held, retried := dues[0], dues[1]
	if held.ID != old(ids.Delivery, 2) || held.Attempts != 0 || held.Rendering == nil || held.Rendering.Method != "PUT" || held.Rendering.TargetSuffix != "/x" || string(held.Rendering.Body) != raw ||
		held.Level != "grp_1" || held.App != "app_1" || string(held.Document) != `{"a":1}` || held.Created.UnixMicro() != historyAt {
		t.Errorf("what the node had in hand is %+v, %+v", held, held.Rendering)
	}
	if retried.ID != old(ids.Delivery, 3) || retried.Attempts != 4 || retried.FirstFailed.UnixMicro() != historyAt || retried.Rendering == nil || string(retried.Rendering.Body) != raw {
		t.Errorf("what is retried is %+v, %+v", retried, retried.Rendering)
	}
	for _, d := range dues {
		if err := l.Record(ctx, flow.Record{Due: d, Attempt: maker.New(ids.Attempt), Number: d.Attempts + 1, State: flow.Succeeded, At: time.Now(),
			Result: &connectors.Result{DeliveryID: d.ID, Outcome: connectors.Done, Started: time.Now()}}); err != nil {
			t.Fatal(err)
		}
	}
	v := &viewer.Viewer{ID: "usr_1", Organization: "org_1", Role: viewer.Administrator, Permissions: viewer.Administrator.Permissions()}
	scope, err := rule.LedgerScope(viewer.NewContext(ctx, v))
	if err != nil {
		t.Fatal(err)
	}
	ended, err := l.Deliveries(ctx, scope, flow.DeliveryFilter{States: []flow.DeliveryState{flow.Succeeded}}, flow.Page{Limit: 10, Oldest: true})
	if err != nil || len(ended) != 3 || ended[0].ID != old(ids.Delivery, 1) || ended[0].Attempts != 1 || ended[2].Attempts != 5 || ended[2].Redelivers != ended[0].ID {
		t.Errorf("ended: %+v, %v", ended, err)
	}
	a, err := l.Attempt(ctx, scope, old(ids.Attempt, 1))
	if err != nil || a.Seq != 7 || a.Status != 200 || string(a.Request.Body) != `{"a":1}` || string(a.Response.Body) != raw || a.Timing.FirstByte != 4*time.Microsecond {
		t.Errorf("the attempt: %+v, %v", a, err)
	}
	log, err := l.Tail(ctx, "org_1", 6, 10)
	if err != nil || len(log) != 3 || log[0].Seq != 7 || log[2].Seq != 9 {
		t.Errorf("the log: %+v, %v", log, err)
	}
	r, err := l.Receipt(ctx, scope, old(ids.Receipt, 1))
	if err != nil || string(r.Body) != raw || r.Query != "a=b" || r.Path != "" || len(r.Events) != 2 || r.Group != "grp_1" {
		t.Errorf("the receipt: %+v, %v", r, err)
	}
	again := flow.NewEvent{ID: maker.New(ids.Event), Org: "org_1", Source: "src_1", Key: "a\x00\xff", Digest: []byte("a\x00\xff"), Type: connectors.ScanCompleted, Time: time.Now(), Received: time.Now(), Document: []byte("{}")}
	other := again
	other.ID, other.Key = maker.New(ids.Event), "another"
	got, err := l.Accept(ctx, nil, []flow.NewEvent{again, other})
	if err != nil || !got[0].Duplicate || got[0].Conflict || got[0].ID != old(ids.Event, 1) || got[1].Duplicate {
		t.Errorf("a repeat: %+v, %v", got, err)
	}
	events, err := l.Events(ctx, scope, flow.EventFilter{}, flow.Page{Limit: 10, Oldest: true})
	if err != nil || len(events) != 3 || events[0].ID != old(ids.Event, 1) || events[0].Severity != "high" || events[0].Subject != "scn_1" || events[2].ID != other.ID {
		t.Errorf("the events: %+v, %v", events, err)
	}
	key := connectors.NumberKey{Kind: "scan", ID: "scn_1"}
	numbers, err := l.Numbers(ctx, "org_1", []connectors.NumberKey{key})
	if err != nil || numbers[key] != 42 {
		t.Errorf("the number: %v, %v", numbers, err)
	}
}
