package ledger

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// Which sources are asked, and how often, is configuration; how that goes is one row for
// each, from its first turn on, which goes with the source. A node that asks has the turn to
// itself until a time by the database's clock, so that two never ask at once; what it has
// fetched is committed only while the turn is still its own.

// DuePolls are the sources that may have to be asked at now and that nobody is asking, the
// longest due first; ClaimPoll decides. While deliveries are held there are none.
func (l *Ledger) DuePolls(ctx context.Context, now time.Time) ([]flow.DuePoll, error) {
	if l.held.Load() {
		return nil, nil
	}
	const due = "(p.source IS NULL OR p.due <= ? OR p.revision <> s.revision)"
	sql := "SELECT s.organization_id, s.id, COALESCE(p.package, ''), CASE WHEN " + due + " THEN 1 ELSE 0 END " +
		"FROM sources s JOIN organizations o ON o.id = s.organization_id LEFT JOIN polls p ON p.org = s.organization_id AND p.source = s.id " +
		"WHERE s.poll_every_seconds > 0 AND s.enabled AND o.suspended_at IS NULL AND COALESCE(p.lease_until, 0) <= " + l.clockSQL() + " AND (" + due + " OR p.failures > 0) " +
		"ORDER BY COALESCE(p.due, 0), s.id"
	var out []flow.DuePoll
	err := l.read(ctx, "look for sources to ask", sql, []any{micros(now), micros(now)}, func(scan func(...any) error) error {
		var d flow.DuePoll
		var is int64
		err := scan(&d.Org, &d.Source, &d.Package, &is)
		d.Due = is != 0
		out = append(out, d)
		return err
	})
	return out, err
}

// ClaimPoll gives a source's turn to this node, which asks through a package of its
// connector, for as long as keep; nil when somebody else has it or it is not due any more.
func (l *Ledger) ClaimPoll(ctx context.Context, d flow.DuePoll, now time.Time, keep time.Duration) (*flow.Poll, error) {
	lock := ""
	if l.pg {
		lock = " FOR KEY SHARE" // a source that is being deleted takes its row along, this one too
	}
	lease := l.Lease()
	var out *flow.Poll
	err := l.writeTx(ctx, "take a source's turn", func(t tx) error {
		out = nil
		p := flow.Poll{Org: d.Org, Source: d.Source, Package: d.Package, Lease: rand.Text()}
		found, err := one(ctx, t, "SELECT revision FROM sources WHERE organization_id = ? AND id = ? AND poll_every_seconds > 0 AND enabled"+lock, []any{d.Org, d.Source}, &p.Revision)
		if err != nil || !found {
			return err
		}
		if err := exec(ctx, t, "INSERT INTO polls (org, source, due, since) VALUES (?, ?, ?, ?) ON CONFLICT (org, source) DO NOTHING", d.Org, d.Source, micros(now), micros(now)); err != nil {
			return err
		}
		var since, failures int64
		found, err = one(ctx, t, "UPDATE polls SET lease = ?, lease_until = "+l.clockSQL()+" + ?, lease_node = ?, lease_epoch = ? "+
			"WHERE org = ? AND source = ? AND lease_until <= "+l.clockSQL()+" AND (due <= ? OR revision <> ? OR failures > 0 AND package <> ?) RETURNING cursor, since, failures",
			[]any{p.Lease, keep.Microseconds(), lease.Node, lease.Epoch, d.Org, d.Source, micros(now), p.Revision, d.Package}, &p.Cursor, &since, &failures)
		if found {
			p.Since, p.Failures = instant(since), int(failures)
			out = &p
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// EndPoll ends a turn: receipts, which wait to be read, and cursor in one transaction. A
// document with a key that is known from an earlier poll is none; fresh is how many are left.
// It is flow.ErrPollLost, and nothing is kept, when the turn was not this node's any more.
func (l *Ledger) EndPoll(ctx context.Context, p *flow.Poll, e flow.PollEnd) (fresh int, err error) {
	err = l.writeTx(ctx, "end a source's turn", func(t tx) error {
		// What was not answered may have been cut short, and has a moment to end.
		set, args := l.pollsOver(), []any{pollsEnd.Microseconds()}
		switch {
		case e.At.IsZero():
		case e.Error != "":
			set += ", due = ?, failures = failures + 1, error = ?, permanent = ?, revision = ?, package = ?"
			args = append(args, micros(e.Next), e.Error, flag(e.Permanent), p.Revision, p.Package)
		default:
			var cursor any // not an empty one
			if len(e.Cursor) > 0 {
				cursor = e.Cursor
			}
			set += ", due = ?, polled = ?, cursor = ?, failures = 0, error = '', permanent = 0, revision = ?, package = ?"
			args = []any{int64(0), micros(e.Next), micros(e.At), cursor, p.Revision, p.Package}
		}
		found, err := one(ctx, t, "UPDATE polls SET "+set+" WHERE org = ? AND source = ? AND lease = ? RETURNING 1", append(args, p.Org, p.Source, p.Lease), new(int64))
		if err == nil && !found {
			err = flow.ErrPollLost
		}
		if err != nil {
			return err
		}
		fresh, err = l.addPolled(ctx, t, e.Receipts)
		return err
	})
	return fresh, err
}

// polledKey is how a document is known among the keys of its source, and polledState has
// it known for as long as the longest.
const (
	polledKey   = "\x00polled\x00"
	polledState = "POLLED"
)

func (l *Ledger) addPolled(ctx context.Context, t tx, list []flow.PolledReceipt) (fresh int, err error) {
	keys, receipts, waiting := rows{of: l.st.key}, rows{of: l.st.receipt}, rows{of: l.st.waiting}
	for i := range list {
		if r := &list[i]; r.Key != "" {
			keys.add(r.Org, r.Source, []byte(polledKey+r.Key), polledState, []byte{}, r.ID, int64(0), micros(r.At))
		}
	}
	inserted := t.run(&keys)
	if err := t.flush(ctx); err != nil {
		return 0, err
	}
	for i := range list {
		if r := &list[i]; r.Key == "" || inserted.has(r.ID) {
			addReceipt(&receipts, &r.Receipt, "")
			waiting.add(r.Org, r.ID, micros(r.At), int64(0), r.Source)
			fresh++
		}
	}
	t.run(&receipts)
	t.run(&waiting)
	return fresh, t.flush(ctx)
}

// PollNow has a source's turn come at once; with from, as if it were the first, for what
// there is from then on. A poll that is under way then ends as lost, and its time has to
// run out.
func (l *Ledger) PollNow(ctx context.Context, org, source string, from time.Time) error {
	now := micros(l.clock.Now())
	return l.writeTx(ctx, "have a source asked", func(t tx) error {
		if from.IsZero() {
			return exec(ctx, t, "UPDATE polls SET due = ? WHERE org = ? AND source = ?", now, org, source)
		}
		return exec(ctx, t, "INSERT INTO polls (org, source, due, since) VALUES (?, ?, ?, ?) ON CONFLICT (org, source) DO UPDATE SET "+
			"due = excluded.due, since = excluded.since, cursor = NULL, lease = ''", org, source, now, micros(from))
	})
}

// Polls is how asking sources goes, by source; those that have not had a turn yet are not
// among them. The caller has read the sources.
func (l *Ledger) Polls(ctx context.Context, scope rule.Scope, sources []string) (map[string]*flow.PollView, error) {
	if scope.Organization() == "" {
		return nil, rule.ErrNoViewer
	}
	var s selection
	s.and("org = ?", scope.Organization())
	s.in("source", sources)
	out := map[string]*flow.PollView{}
	err := l.read(ctx, "read how polls go", "SELECT source, due, polled, failures, error, permanent FROM polls WHERE "+s.sql(), s.args, func(scan func(...any) error) error {
		var source string
		var due, polled, failures, permanent int64
		v := &flow.PollView{}
		if err := scan(&source, &due, &polled, &failures, &v.Error, &permanent); err != nil {
			return err
		}
		v.Next, v.Last, v.Failures, v.Permanent = instant(due), instant(polled), int(failures), permanent != 0
		out[source] = v
		return nil
	})
	return out, err
}

// pollsEnd is how long after a node's death, or after they were told, connectors have ended
// for sure what they had in hand.
const pollsEnd = 2 * time.Second

// pollsOver hands a turn back, which nobody takes for a time of so many microseconds.
func (l *Ledger) pollsOver() string {
	return "lease = '', lease_node = '', lease_epoch = 0, lease_until = " + l.clockSQL() + " + ?"
}

// takePollsBack ends the turns that earlier starts of this node had, which are over with
// their processes. (Those of other nodes that died are waited for.)
func (l *Ledger) takePollsBack(ctx context.Context) error {
	lease := l.Lease()
	return l.writeTx(ctx, "take turns back", func(t tx) error {
		return exec(ctx, t, "UPDATE polls SET "+l.pollsOver()+" WHERE lease_node = ? AND lease_epoch < ?", pollsEnd.Microseconds(), lease.Node, lease.Epoch)
	})
}
