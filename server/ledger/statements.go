package ledger

import "strings"

// statements are the bulk statements of the hot path.
type statements struct {
	receipt, event, rendering, open, ended, entry *bulk
	waiting                                       *bulk
	key, rekey                                    *bulk
	tail                                          *bulk // SQLite only
	finish, postpone                              *bulk
	catalogue
}

const (
	openColumns = "id org event webhook endpoint level app type rendering state attempts:int first_failed:int next_at:int created:int reason redelivers lease_node lease_epoch:int"
	// endedColumns are those of a delivery in the history.
	endedColumns = "id org event webhook endpoint level app type rendering state attempts:int first_failed:int created:int reason redelivers ended:int"
	entryColumns = "id org delivery event webhook endpoint level app type rendering number:int state outcome fault at:int duration:int status:int error next_at:int method url request_header response_header response_body:blob truncated:int dns:int connect:int tls:int first_byte:int"
)

func newStatements() statements {
	s := statements{
		receipt:   insertInto("receipts", columns("id org source grp at:int method header:blob path query content_type body:blob remote state note"), ""),
		event:     insertInto("events", columns("id org source receipt type time:int received:int subject grp app severity document:blob"), ""),
		waiting:   insertInto("enrichments", columns("org receipt due:int attempts:int source"), ""),
		rendering: insertInto("renderings", columns("org event key method suffix header body:blob"), "ON CONFLICT DO NOTHING"),
		open:      insertInto("open_deliveries", columns(openColumns), ""),
		ended:     insertInto("deliveries", columns(endedColumns), ""),
	}

	// An entry's number comes from the row of the tail, which is locked by the update
	// until the commit. On SQLite there is one writer anyway: see writing.number.
	entry := columns(entryColumns)
	s.entry = &bulk{cols: append(entry, column{"seq", integer}), hit: -1}
	s.entry.lite = insertInto("entries", s.entry.cols, "").lite
	s.entry.pg = "WITH u AS MATERIALIZED (SELECT * FROM " + unnest(s.entry.cols) + "), " +
		"t AS (UPDATE tail SET seq = tail.seq + (SELECT count(*) FROM u) WHERE one = 1 RETURNING tail.seq - (SELECT count(*) FROM u) AS base) " +
		"INSERT INTO entries (seq, " + names(entry, "") + ") SELECT t.base + u.ord, " + names(entry, "u.") + " FROM t, u ORDER BY u.ord"

	s.tail = &bulk{cols: columns("n:int"), lite: []part{{sql: "UPDATE OR FAIL tail SET seq = seq + ? WHERE one = 1"}}, hit: -1}

	// Keys: insert, and see which were new; what was there is read afterwards.
	keys := columns("org source key:blob state digest:blob event unmapped:int at:int")
	s.key = insertInto("keys", keys, "ON CONFLICT (org, source, key) DO NOTHING")
	s.key.pg += " RETURNING event"
	s.key.hit = 5
	s.rekey = insertInto("keys", keys, "ON CONFLICT (org, source, key) DO UPDATE SET state = excluded.state, digest = excluded.digest, event = excluded.event, unmapped = excluded.unmapped, at = excluded.at")

	// finish moves a leased open delivery to the history.
	fin := columns("id node epoch:int state attempts:int first_failed:int reason ended:int")
	ended := columns(endedColumns)
	var from []string
	for _, c := range ended {
		switch c.name {
		case "state", "attempts", "first_failed", "reason", "ended":
			from = append(from, "?")
		default:
			from = append(from, c.name)
		}
	}
	s.finish = &bulk{cols: fin, hit: 0,
		lite: []part{
			{"INSERT OR FAIL INTO deliveries (" + names(ended, "") + ") SELECT " + strings.Join(from, ", ") + " FROM open_deliveries WHERE id = ? AND lease_node = ? AND lease_epoch = ?",
				[]int{3, 4, 5, 6, 7, 0, 1, 2}},
			{"DELETE FROM open_deliveries WHERE id = ? AND lease_node = ? AND lease_epoch = ?", []int{0, 1, 2}},
		},
		pg: "WITH u AS MATERIALIZED (SELECT * FROM " + unnest(fin) + "), " +
			"gone AS (DELETE FROM open_deliveries o USING u WHERE o.id = u.id AND o.lease_node = u.node AND o.lease_epoch = u.epoch " +
			"RETURNING o.id, o.org, o.event, o.webhook, o.endpoint, o.level, o.app, o.type, o.rendering, u.state, u.attempts, u.first_failed, o.created, u.reason, o.redelivers, u.ended), " +
			"kept AS (INSERT INTO deliveries (" + names(ended, "") + ") SELECT " + names(ended, "") + " FROM gone) " +
			"SELECT id FROM gone",
	}

	// postpone gives a leased delivery back to the ledger for later.
	later := columns("id node epoch:int state attempts:int first_failed:int reason next_at:int")
	s.postpone = &bulk{cols: later, hit: 0,
		lite: []part{{"UPDATE OR FAIL open_deliveries SET state = ?, attempts = ?, first_failed = ?, reason = ?, next_at = ?, lease_node = '', lease_epoch = 0 WHERE id = ? AND lease_node = ? AND lease_epoch = ?",
			[]int{3, 4, 5, 6, 7, 0, 1, 2}}},
		pg: "WITH u AS MATERIALIZED (SELECT * FROM " + unnest(later) + ") " +
			"UPDATE open_deliveries o SET state = u.state, attempts = u.attempts, first_failed = u.first_failed, reason = u.reason, next_at = u.next_at, lease_node = '', lease_epoch = 0 " +
			"FROM u WHERE o.id = u.id AND o.lease_node = u.node AND o.lease_epoch = u.epoch RETURNING o.id",
	}
	s.catalogue = newCatalogue()
	return s
}
