package ingest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

const (
	enrichEvery   = time.Second      // how often the ledger is asked for what is due
	enrichAtOnce  = 16               // receipts that are enriched at a time
	enrichOfOne   = 2                // of them, those of one source: a service that hangs holds up its own; …
	enrichOfQuick = 8                // … one whose last attempt was over at once may have more
	enrichQuick   = time.Second      // at once
	enrichTimeout = 30 * time.Second // of one attempt
	enrichKeep    = 2 * time.Minute  // for how long a node has a receipt to itself: longer than an attempt
	enrichGivenUp = 7 * 24 * time.Hour
	// enrichPatience is for how long a node that has started leaves it to connectors to come
	// back, and to other nodes to read, before it gives up what has waited too long.
	enrichPatience = time.Hour
	enrichFatal    = 10 // attempts after which a receipt is given up if it ends its connector's process again
)

// enrichPause is between attempts; the longest one is repeated until the receipt is given up.
func enrichPause(attempt int) time.Duration {
	pauses := [...]time.Duration{5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute}
	return pauses[min(max(attempt, 1), len(pauses))-1]
}

// wake has Run look at once.
func (in *Ingest) wake() {
	select {
	case in.awake <- struct{}{}:
	default:
	}
}

// Run enriches receipts that wait until ctx ends. What a receipt has become is recorded
// after its events are durable: a crash in between costs one more attempt, which finds
// them and makes none.
func (in *Ingest) Run(ctx context.Context) {
	tick := in.c.Clock.NewTicker(enrichEvery)
	defer tick.Stop()
	began := in.at()
	working, busy, quick := 0, map[string]int{}, map[string]bool{} // attempts under way, in all and by source
	// Which sources were left out when nothing else was due. To look again is not for free while
	// much of theirs waits.
	var dry []string
	type end struct {
		source string
		took   time.Duration
	}
	done := make(chan end)
	for {
		for working < enrichAtOnce && ctx.Err() == nil {
			var full []string
			for source, n := range busy {
				if n >= enrichOfQuick || n >= enrichOfOne && !quick[source] {
					full = append(full, source)
				}
			}
			silent := in.c.Silent()
			except := slices.Concat(full, silent)
			if len(dry) > 0 && !slices.ContainsFunc(dry, func(s string) bool { return !slices.Contains(except, s) }) {
				break
			}
			w := in.claim(ctx, full, silent, began)
			if w == nil {
				dry = except
				break
			}
			working++
			busy[w.Source]++
			go func() {
				began := in.c.Clock.Now()
				if err := in.enrich(ctx, w); err != nil && ctx.Err() == nil {
					in.c.Log.Warn("enrich a receipt", "receipt", w.ID, "err", err)
				}
				done <- end{w.Source, in.c.Clock.Since(began)}
			}()
		}
		select {
		case <-ctx.Done():
			for ; working > 0; working-- {
				<-done
			}
			return
		case e := <-done:
			working--
			quick[e.source] = e.took < enrichQuick
			if busy[e.source]--; busy[e.source] == 0 {
				delete(busy, e.source)
				delete(quick, e.source)
			}
		case <-tick.Chan():
			dry = nil
		case <-in.awake:
			dry = nil
		}
	}
}

// claim takes a receipt that is due, of a source that has not its share under way and whose
// connector answers on this node; nil when there is none. One that has waited too long is
// taken even so: its last attempt ends it.
func (in *Ingest) claim(ctx context.Context, full, silent []string, began time.Time) *flow.Waiting {
	now := in.at()
	w, err := in.c.Waiting.ClaimWaiting(ctx, now, enrichKeep, time.Time{}, slices.Concat(full, silent))
	if w == nil && err == nil && len(silent) > 0 && now.Sub(began) > enrichPatience {
		w, err = in.c.Waiting.ClaimWaiting(ctx, now, enrichKeep, now.Add(-enrichGivenUp), full)
	}
	if err != nil && ctx.Err() == nil {
		in.c.Log.Warn("look for receipts to enrich", "err", err)
	}
	return w
}

// enrich makes one attempt and records what came of it.
func (in *Ingest) enrich(ctx context.Context, w *flow.Waiting) error {
	accepted, err := in.fetch(ctx, w)
	var failed *connectors.Failure
	var refused *connectors.RefuseError
	var ended interface{ Ended() } // the connector's process, with the receipt in hand
	var unread *unreadError
	lost := errors.As(err, &ended)
	switch {
	case err == nil:
		state, note := flow.ReceiptAccepted, ""
		if len(accepted.events) == 0 {
			state, note = flow.ReceiptIgnored, accepted.note
		}
		return in.c.Waiting.Settle(ctx, w.Org, w.ID, state, accepted.group, note)
	case ctx.Err() != nil:
		return in.c.Waiting.PutOff(context.WithoutCancel(ctx), w.Org, w.ID, in.at(), w.Note) // the next start goes on
	case errors.As(err, &refused):
		return in.c.Waiting.Settle(ctx, w.Org, w.ID, flow.ReceiptRejected, "", "What was fetched cannot be read: "+refused.Error())
	case errors.Is(err, flow.ErrNotFound):
		return in.c.Waiting.Settle(ctx, w.Org, w.ID, flow.ReceiptRejected, "", "The source was deleted before the receipt was enriched.")
	case errors.As(err, &failed) && failed.Outcome == connectors.Permanent:
		return in.c.Waiting.Settle(ctx, w.Org, w.ID, flow.ReceiptRejected, "", failed.Message)
	case lost && w.Attempt >= enrichFatal: // others need the process, too
		return in.c.Waiting.Settle(ctx, w.Org, w.ID, flow.ReceiptRejected, "",
			fmt.Sprintf("Given up after %d attempts: the connector's process has ended with it in hand. Process it again with a version that can take it.", w.Attempt))
	}
	message, pause := "It could not be enriched: "+err.Error(), enrichPause(w.Attempt)
	switch {
	case failed != nil:
		message, pause = failed.Message, max(pause, failed.RetryAfter)
	case errors.As(err, &unread):
		message = unread.Error()
	}
	if lost { // those that it had in hand together must not come together again: most of them are innocent
		sum := fnv.New32a()
		_, _ = sum.Write([]byte(w.ID))
		pause += pause / 1000 * time.Duration(sum.Sum32()%1000)
	}
	now := in.at()
	if now.Sub(w.At) > enrichGivenUp {
		return in.c.Waiting.Settle(ctx, w.Org, w.ID, flow.ReceiptRejected, "", "Given up after a week; process it again when it can be enriched. "+message)
	}
	return in.c.Waiting.PutOff(ctx, w.Org, w.ID, now.Add(pause), message)
}

// enriched is what a receipt has become.
type enriched struct {
	events []flow.Accepted
	group  string // that all events are in, "" none
	note   string
}

// fetch has the document fetched and makes events of it.
func (in *Ingest) fetch(ctx context.Context, w *flow.Waiting) (out enriched, err error) {
	place := in.c.Atlas.Place(w.Org)
	if place == nil {
		return out, ErrNoOrganization
	}
	src := place.World.Sources[w.Source]
	if src == nil {
		return out, ErrNoSource
	}
	receiver, connector, installed, ok := in.reader(place, src.Kind)
	switch {
	case !ok:
		return out, fmt.Errorf("this hub cannot read sources of kind %s at the moment", src.Kind)
	case place.World.Organization.Suspended:
		return out, errors.New("the organization is suspended")
	case !src.Enabled:
		return out, errors.New("the source is disabled")
	}
	inbound, err := again(&w.Receipt, src)
	if err != nil {
		return out, err
	}
	received, outcome := connectors.Received{Enrich: true}, "enriched"
	if inbound.Via == connectors.ViaPoll {
		outcome = "polled"
	}
	if installed || inbound.Via == connectors.ViaPoll { // perhaps it has not been read at all
		if received, err = read(receiver, inbound); err != nil {
			return out, err
		}
	}
	if received.Enrich {
		limited, cancel := context.WithTimeout(ctx, enrichTimeout)
		defer cancel()
		d, err := in.c.Enricher.Enrich(limited, connector.Spec().Name, connectors.Enrichment{
			Source: in.origin(place.World, src), Kind: src.Kind, Receipt: w.ID, Attempt: w.Attempt, Request: inbound})
		if err != nil {
			return out, err
		}
		inbound.Via, inbound.Body, inbound.ContentType = connectors.ViaEnrich, d.Body, d.ContentType
		if received, err = receive(receiver, inbound); err != nil {
			return out, err
		}
	}
	s := &sending{Ingest: in, place: place, src: src, receipt: &w.Receipt}
	given, err := in.c.Ledger.Given(ctx, &w.Receipt)
	if err != nil {
		return out, err
	}
	if out.note = received.Note; len(received.Items)+len(given) == 0 {
		return out, nil
	}
	out.events, out.group, err = s.once(ctx, received.Items, given)
	in.c.Count(src.Kind, outcome, fresh(out.events))
	return out, err
}

// read has a receipt read that waits, and that nobody may have read yet.
func read(r connectors.Receiver, in connectors.Inbound) (connectors.Received, error) {
	got, err := receive(r, in)
	var refused *connectors.RefuseError
	switch {
	case errors.As(err, &refused):
		return got, &connectors.Failure{Outcome: connectors.Permanent, Message: "It cannot be read: " + refused.Error()}
	case err != nil:
		return got, &unreadError{err}
	}
	return got, nil
}

// unreadError is why nobody has read a receipt yet.
type unreadError struct{ error }

func (e *unreadError) Error() string { return notRead(e.error) }
func (e *unreadError) Unwrap() error { return e.error }

// notRead is why a receipt waits, for people.
func notRead(err error) string {
	return "It has not been read: " + err.Error() + "."
}

// level is the asset group that all items belong to, "" when there is no such group.
func (s *sending) level(items []connectors.Incoming) string {
	groups := make([]string, len(items))
	for i := range items {
		app, _ := s.place.application(s.src, &items[i])
		groups[i] = app.Group
	}
	return common(groups)
}

// origin is a source as its connector sees it. Its Ref changes with the source's revision
// and with the allow lists, which are not part of it.
func (in *Ingest) origin(w *flow.World, src *flow.Source) connectors.Endpoint {
	e := connectors.Endpoint{
		Ref: fmt.Sprintf("%s@%d", src.ID, src.Revision), ID: src.ID, Organization: w.Organization.ID, Role: connectors.RoleSource,
		Settings: src.Settings, Secrets: make(map[string]string, len(src.Connection)), Dial: connectors.DialPolicy{Open: in.c.Open},
	}
	for name, s := range src.Connection {
		e.Secrets[name] = string(s.Reveal())
	}
	e.Dial.Allow = append(e.Dial.Allow, w.Organization.Allow...)
	if src.Group != "" {
		e.Dial.Allow = append(e.Dial.Allow, w.Groups[src.Group].Allow...)
	}
	if len(e.Dial.Allow) > 0 {
		sum := fnv.New64a()
		fmt.Fprint(sum, e.Dial.Allow)
		e.Ref = fmt.Sprintf("%s-%x", e.Ref, sum.Sum64())
	}
	return e
}
