package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// errFenced says that the others have given this node up: it has to join again before
// it may lease anything.
var errFenced = errors.New("the node's leases were taken back")

// writing is one try of one group: the rows of each table, collected and then written
// table by table.
type writing struct {
	l        *Ledger
	group    []*job
	lease    flow.Lease
	now      int64 // the age of keys counts from here
	recorded int

	receipts, waiting                        rows
	events, renderings, open, ended, entries rows
	keys, rekeys, finish, postpone           rows
	leases                                   bool
	catalogue                                catalogueRows
}

func newWriting(l *Ledger, group []*job) *writing {
	s := &l.st
	w := &writing{l: l, group: group, lease: l.Lease(), now: micros(l.clock.Now()), catalogue: catalogueRows{of: &s.catalogue}}
	w.waiting.of = s.waiting
	w.receipts.of, w.events.of, w.renderings.of, w.open.of, w.ended.of = s.receipt, s.event, s.rendering, s.open, s.ended
	w.entries.of, w.keys.of, w.rekeys.of, w.finish.of, w.postpone.of = s.entry, s.key, s.rekey, s.finish, s.postpone
	return w
}

func (w *writing) write(ctx context.Context, t tx) error {
	known, err := w.recordedBefore(ctx, t)
	if err != nil {
		return err
	}
	w.results(known)
	finished, postponed := t.run(&w.finish), t.run(&w.postpone)
	fresh, err := w.claimKeys(ctx, t)
	if err != nil {
		return err
	}
	if err := w.log(ctx, t, known, finished, postponed); err != nil {
		return err
	}
	for _, j := range w.group {
		if !j.isRecord() {
			w.accept(j, fresh)
		}
	}
	if w.leases && w.l.pg {
		if err := w.l.fence(ctx, t, w.lease); err != nil {
			return err
		}
	}
	t.run(&w.rekeys)
	w.catalogue.run(t)
	for _, r := range []*rows{&w.receipts, &w.waiting, &w.events, &w.renderings, &w.open, &w.ended} {
		t.run(r)
	}
	if w.entries.n > 0 {
		if err := w.number(ctx, t); err != nil {
			return err
		}
		t.run(&w.entries)
	}
	return nil
}

// number gives the entries their place on SQLite; on PostgreSQL the insert does.
func (w *writing) number(ctx context.Context, t tx) error {
	if w.l.pg {
		return nil
	}
	more := rows{of: w.l.st.tail}
	more.add(int64(w.entries.n))
	t.run(&more)
	var last int64
	if _, err := one(ctx, t, "SELECT seq FROM tail", nil, &last); err != nil {
		return err
	}
	for i := range w.entries.n {
		row := w.entries.row(i)
		row[len(row)-1] = last - int64(w.entries.n) + int64(i) + 1
	}
	return nil
}

// keyed is an event with a key, and its place in the group.
type keyed struct {
	e *flow.NewEvent
	n int
}

func compareKeys(a, b *flow.NewEvent) int {
	return cmp.Or(cmp.Compare(a.Org, b.Org), cmp.Compare(a.Source, b.Source), cmp.Compare(a.Key, b.Key))
}

// claimKeys decides for every event of the group whether it is new, as if they had
// come one after the other. The result tells of those that are not.
func (w *writing) claimKeys(ctx context.Context, t tx) (map[*flow.NewEvent]flow.Accepted, error) {
	var all []keyed
	for _, j := range w.group {
		for i := range j.events {
			if e := &j.events[i]; e.Key != "" {
				all = append(all, keyed{e, len(all)})
			}
		}
	}
	// Sorted, so that two writers never wait for each other.
	slices.SortFunc(all, func(a, b keyed) int { return cmp.Or(compareKeys(a.e, b.e), cmp.Compare(a.n, b.n)) })
	for i := range all {
		if e := all[i].e; i == 0 || compareKeys(all[i-1].e, e) != 0 {
			w.addKey(&w.keys, e)
		}
	}
	inserted := t.run(&w.keys)
	if err := t.flush(ctx); err != nil {
		return nil, err
	}
	repeats := map[*flow.NewEvent]flow.Accepted{}
	for i := 0; i < len(all); {
		e := all[i].e
		end := i + 1
		for end < len(all) && compareKeys(all[end].e, e) == 0 {
			end++
		}
		last, changed := stand{e.State, e.Digest, e.ID, e.App == ""}, false
		from := i + 1
		if !inserted.has(e.ID) {
			from = i
			if err := last.read(ctx, t, e); err != nil {
				return nil, err
			}
		}
		newest := e
		for ; from < end; from++ {
			e := all[from].e
			if e.State == "" || e.State == last.state {
				repeats[e] = flow.Accepted{ID: last.event, Duplicate: true, Unmapped: last.unmapped,
					Conflict: e.State == "" && !bytes.Equal(e.Digest, last.digest)}
				continue
			}
			last, newest, changed = stand{e.State, e.Digest, e.ID, e.App == ""}, e, true
		}
		if changed {
			w.addKey(&w.rekeys, newest)
		}
		i = end
	}
	return repeats, nil
}

// addKey writes a key that is known from now on, however old the receipt is.
func (w *writing) addKey(r *rows, e *flow.NewEvent) {
	r.add(e.Org, e.Source, []byte(e.Key), e.State, e.Digest, e.ID, flag(e.App == ""), w.now)
}

// stand is what a key stands for.
type stand struct {
	state    string
	digest   []byte
	event    string
	unmapped bool
}

func (s *stand) read(ctx context.Context, t tx, e *flow.NewEvent) error {
	var unmapped int64
	found, err := one(ctx, t, "SELECT state, digest, event, unmapped FROM keys WHERE org = ? AND source = ? AND key = ?"+forUpdate(t),
		[]any{e.Org, e.Source, []byte(e.Key)}, &s.state, &s.digest, &s.event, &unmapped)
	if err == nil && !found {
		// Retention took it between the insert and here.
		err = &failure{cause: again, err: fmt.Errorf("the key of event %s went away", e.ID)}
	}
	s.unmapped = unmapped != 0
	return err
}

func forUpdate(t tx) string {
	if _, ok := t.(*pgTx); ok {
		return " FOR UPDATE"
	}
	return ""
}

// accept collects the rows of one Accept.
func (w *writing) accept(j *job, repeats map[*flow.NewEvent]flow.Accepted) {
	j.accepted = j.accepted[:0]
	for i := range j.events {
		e := &j.events[i]
		a, repeat := repeats[e]
		if !repeat {
			a = flow.Accepted{ID: e.ID, Lease: w.lease}
			w.event(e)
		}
		j.accepted = append(j.accepted, a)
	}
	if r := j.receipt; r != nil {
		addReceipt(&w.receipts, r, level(j.events))
		if r.State == flow.ReceiptWaiting {
			w.waiting.add(r.Org, r.ID, micros(r.At), int64(0), r.Source)
		}
	}
}

func addReceipt(to *rows, r *flow.Receipt, group string) {
	to.add(r.ID, r.Org, r.Source, group, micros(r.At), r.Method, r.Header, r.Path, r.Query, r.ContentType, kept(r.Body), r.Remote, string(r.State), r.Note)
}

// level is the asset group that all events are in, "" when there is no such group.
func level(events []flow.NewEvent) string {
	for i := range events {
		if events[i].Group != events[0].Group {
			return ""
		}
	}
	if len(events) == 0 {
		return ""
	}
	return events[0].Group
}

// kept is a body as it is stored: one without bytes is there, for NULL is one that is not
// kept any more.
func kept(body []byte) []byte {
	if body == nil {
		return []byte{}
	}
	return body
}

func (w *writing) event(e *flow.NewEvent) {
	w.events.add(e.ID, e.Org, e.Source, e.Receipt, string(e.Type), micros(e.Time), micros(e.Received), e.Subject,
		e.Group, e.App, string(e.Severity), e.Document)
	w.catalogue.add(e)
	for i := range e.Renderings {
		r := &e.Renderings[i]
		w.renderings.add(e.Org, e.ID, r.Key, r.Method, r.TargetSuffix, joinHeaders(r.Header), kept(r.Body))
	}
	created := micros(e.Received)
	for i := range e.Deliveries {
		d := &e.Deliveries[i]
		if d.State == flow.SkippedState {
			w.ended.add(d.ID, e.Org, e.ID, d.Webhook, d.Endpoint, d.Level, e.App, string(e.Type), d.Rendering,
				string(d.State), int64(0), int64(0), created, d.Reason, d.Redelivers, created)
			w.entry(&flow.Record{
				Due: &flow.Due{ID: d.ID, Org: e.Org, Event: e.ID, Webhook: d.Webhook, Endpoint: d.Endpoint, Level: d.Level, App: e.App, Type: e.Type},
				At:  e.Received, State: flow.SkippedState, Reason: d.Reason,
			}, d.Rendering)
			continue
		}
		node, epoch := "", int64(0)
		if d.Lease {
			node, epoch = w.lease.Node, w.lease.Epoch
			w.leases = true
		}
		w.open.add(d.ID, e.Org, e.ID, d.Webhook, d.Endpoint, d.Level, e.App, string(e.Type), d.Rendering,
			string(flow.Pending), int64(0), int64(0), created, created, d.Reason, d.Redelivers, node, epoch)
	}
}

// recordedBefore finds the entries of doubtful jobs that an earlier try has committed
// although it was told otherwise.
func (w *writing) recordedBefore(ctx context.Context, t tx) (map[string]bool, error) {
	var asked []string
	for _, j := range w.group {
		for i := range j.records {
			if j.doubt {
				asked = append(asked, j.records[i].Attempt)
			}
		}
	}
	return logged(ctx, t, asked)
}

// logged says which entries are there.
func logged(ctx context.Context, t tx, ids []string) (map[string]bool, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var s selection
	s.in("id", ids)
	known := map[string]bool{}
	err := t.query(ctx, "SELECT id FROM entries WHERE "+s.sql(), s.args, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		known[id] = true
		return err
	})
	return known, err
}

// results collects what becomes of the deliveries.
func (w *writing) results(known map[string]bool) {
	for _, j := range w.group {
		for i := range j.records {
			r := &j.records[i]
			w.recorded++
			if known[r.Attempt] {
				continue
			}
			lease := r.Due.Lease
			if lease.Node == "" {
				lease = w.lease
			}
			if r.State.Final() {
				w.finish.add(r.Due.ID, lease.Node, lease.Epoch, string(r.State), int64(attempts(r)), micros(r.FirstFailed), r.Reason, micros(r.At))
			} else {
				state := r.State
				if state == flow.Attempting {
					state = flow.Pending
				}
				w.postpone.add(r.Due.ID, lease.Node, lease.Epoch, string(state), int64(attempts(r)), micros(r.FirstFailed), r.Reason, micros(r.NextAt))
			}
		}
	}
}

func attempts(r *flow.Record) int { return max(r.Number, r.Due.Attempts) }

// log collects the entries of the records, in the order in which they came.
func (w *writing) log(ctx context.Context, t tx, known map[string]bool, finished, postponed *hits) error {
	held := func(r *flow.Record) bool { return finished.has(r.Due.ID) || postponed.has(r.Due.ID) }
	var late []string
	erased := map[string]bool{}
	for _, j := range w.group {
		for i := range j.records {
			if r := &j.records[i]; r.Result != nil && !held(r) && !known[r.Attempt] {
				late = append(late, r.Attempt)
				if err := forgotten(ctx, t, r.Due, erased); err != nil {
					return err
				}
			}
		}
	}
	again, err := logged(ctx, t, late) // late, or the same attempt once more
	if err != nil {
		return err
	}
	for _, j := range w.group {
		for i := range j.records {
			r := &j.records[i]
			// Without an attempt only the end of a delivery is worth a line, and only
			// where it came about.
			if known[r.Attempt] || again[r.Attempt] || r.Result == nil && (!r.State.Final() || !held(r)) {
				continue
			}
			key := documentKey
			if r.Due.Rendering != nil {
				key = r.Due.Rendering.Key
			}
			if r.Result != nil && erased[r.Due.Event] {
				r = withoutPayload(r)
			}
			w.entry(r, key)
		}
	}
	return nil
}

func (w *writing) entry(r *flow.Record, rendering string) {
	d, id := r.Due, r.Attempt
	if id == "" {
		id = w.l.c.IDs.New(ids.Attempt)
	}
	res := r.Result
	if res == nil {
		res = &connectors.Result{Outcome: outcome(r.State), Started: r.At, Error: r.Reason}
	}
	method, url, sent := "", r.URL, ""
	switch {
	case res.Request != nil:
		method, sent = res.Request.Method, joinHeaders(res.Request.Header)
		if res.Request.URL != "" {
			url = res.Request.URL
		}
	case r.Result != nil && d.Rendering != nil:
		method, sent = d.Rendering.Method, joinHeaders(d.Rendering.Header)
	}
	var answer connectors.Response
	var got string
	if res.Response != nil {
		answer = *res.Response
		got = joinHeaders(answer.Header)
	}
	tm := &res.Timing
	w.entries.add(id, d.Org, d.ID, d.Event, d.Webhook, d.Endpoint, d.Level, d.App, string(d.Type), rendering,
		int64(r.Number), string(r.State), string(res.Outcome), string(res.Fault), micros(res.Started), tm.Total.Microseconds(),
		int64(answer.Status), res.Error, micros(r.NextAt), method, url, sent, got, answer.Body, flag(answer.Truncated),
		tm.DNS.Microseconds(), tm.Connect.Microseconds(), tm.TLS.Microseconds(), tm.FirstByte.Microseconds(), int64(0))
}

// outcome is that of a delivery that ended without an attempt.
func outcome(s flow.DeliveryState) connectors.Outcome {
	switch s {
	case flow.SkippedState:
		return connectors.Skipped
	case flow.Succeeded:
		return connectors.Done
	}
	return connectors.Permanent
}
