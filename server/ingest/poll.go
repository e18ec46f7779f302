package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

const (
	pollLook      = time.Second      // how often the ledger is asked whose turn it is
	pollAtOnce    = 128              // sources that are asked at a time
	pollOfOne     = 8                // of them, through one connector for one organization
	pollTimeout   = time.Minute      // of one poll
	pollKeep      = 90 * time.Second // for how long a node has a source to itself: longer than a poll and its commit
	pollDocuments = 100              // of one poll
	pollPermanent = 6 * time.Hour    // until what cannot help is tried all the same
	pollLongest   = 24 * time.Hour   // that a connector can have the hub wait
)

// Polls is the ledger's list of sources that are to be asked.
type Polls interface {
	DuePolls(ctx context.Context, now time.Time) ([]flow.DuePoll, error)
	// ClaimPoll gives a source's turn to this node, for as long as keep; nil when it cannot be had.
	ClaimPoll(ctx context.Context, d flow.DuePoll, now time.Time, keep time.Duration) (*flow.Poll, error)
	// EndPoll keeps what a poll gave with its cursor, or why it gave nothing. It is
	// flow.ErrPollLost, and keeps nothing, when the turn is not this node's any more.
	EndPoll(ctx context.Context, p *flow.Poll, e flow.PollEnd) (fresh int, err error)
}

// Poller has a connector ask a source for what is new, in the connector's process. A third
// party's is that of the source's organization.
type Poller interface {
	Poll(ctx context.Context, connector string, p connectors.Poll) (connectors.Polled, error)
}

// asking is a source that this node can ask.
type asking struct {
	due       flow.DuePoll
	place     *Place
	src       *flow.Source
	connector string
}

// share is what sources that are asked have in common.
type share struct{ org, connector string }

// RunPolls asks sources whose turn it is until ctx ends. What a poll gives is durable with
// its cursor, as receipts that wait to be read; a crash before that costs the poll, which
// comes again, and one after it nothing.
func (in *Ingest) RunPolls(ctx context.Context) {
	tick := in.c.Clock.NewTicker(pollLook)
	defer tick.Stop()
	busy, shares := map[string]bool{}, map[share]int{}
	done := make(chan asking)
	for {
		select {
		case <-ctx.Done():
			for len(busy) > 0 {
				delete(busy, (<-done).src.ID)
			}
			return
		case a := <-done:
			delete(busy, a.src.ID)
			if s := (share{a.due.Org, a.connector}); shares[s] == 1 {
				delete(shares, s)
			} else {
				shares[s]--
			}
			continue
		case <-tick.Chan():
		}
		for _, a := range in.due(ctx) {
			s := share{a.due.Org, a.connector}
			if len(busy) >= pollAtOnce || busy[a.src.ID] || shares[s] >= pollOfOne {
				continue
			}
			p, err := in.c.Polls.ClaimPoll(ctx, a.due, in.at(), pollKeep)
			if err != nil {
				in.pollWarning(ctx, "take a source's turn", a.src, err)
				break
			}
			if p == nil {
				continue
			}
			busy[a.src.ID] = true
			shares[s]++
			in.polling.Add(1)
			go func() {
				in.poll(ctx, p, &a)
				in.polling.Add(-1)
				done <- a
			}()
		}
	}
}

// Polling is how many sources are being asked at the moment.
func (in *Ingest) Polling() int { return int(in.polling.Load()) }

// due are the sources that are to be asked and that this node can ask.
func (in *Ingest) due(ctx context.Context) (list []asking) {
	due, err := in.c.Polls.DuePolls(ctx, in.at())
	if err != nil && ctx.Err() == nil {
		in.c.Log.Warn("look for sources to ask", "err", err)
	}
	if len(due) == 0 {
		return nil
	}
	silent := in.c.Silent()
	for _, d := range due {
		if a, ok := in.asking(d); ok && !slices.Contains(silent, d.Source) {
			list = append(list, a)
		}
	}
	return list
}

// asking holds what the ledger says against the world as this node knows it.
func (in *Ingest) asking(d flow.DuePoll) (a asking, ok bool) {
	place := in.c.Atlas.Place(d.Org)
	if place == nil || place.World.Organization.Suspended {
		return a, false
	}
	src := place.World.Sources[d.Source]
	if src == nil || !src.Enabled || src.PollEvery <= 0 {
		return a, false
	}
	_, of, installed, ok := in.reader(place, src.Kind)
	if !ok || !flow.Polls(of.Spec()) {
		return a, false
	}
	a = asking{due: d, place: place, src: src, connector: of.Spec().Name}
	a.due.Package = ""
	if installed {
		a.due.Package = place.World.Connectors[a.connector].Digest
	}
	return a, d.Due || d.Package != a.due.Package
}

// poll asks a source and keeps what came of it.
func (in *Ingest) poll(ctx context.Context, p *flow.Poll, a *asking) {
	limited, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	source := in.origin(a.place.World, a.src)
	got, err := in.c.Poller.Poll(limited, a.connector, connectors.Poll{Source: source, Kind: a.src.Kind, Cursor: p.Cursor, Since: p.Since, Limit: pollDocuments})
	outcome, end := "answered", flow.PollEnd{At: in.at()}
	switch {
	case err != nil && ctx.Err() != nil:
		outcome, end = "", flow.PollEnd{} // the next start goes on
	case err == nil && len(got.Documents) > pollDocuments:
		err = fmt.Errorf("its connector returned %d documents, and %d is the most", len(got.Documents), pollDocuments)
		fallthrough
	case err != nil:
		outcome = "failed"
		end.Permanent, end.Error, end.Next = failedPoll(err, p.Failures+1, end.At)
		end.Error = source.Conceal(end.Error)
	default:
		end.Cursor, end.Receipts = got.Cursor, in.polled(p, got.Documents, end.At)
		if end.Next = end.At; !got.More { // else by the next look
			end.Next = end.At.Add(max(a.src.PollEvery, min(got.After, pollLongest)))
		}
	}
	fresh, err := in.c.Polls.EndPoll(context.WithoutCancel(ctx), p, end)
	switch {
	case errors.Is(err, flow.ErrPollLost):
		outcome = "lost"
		in.c.Log.Info("a source's turn was taken away from this node; it comes again", "source", p.Source)
	case err != nil: // nobody can ask it before the turn's time is over
		outcome = "lost"
		in.pollWarning(ctx, "keep what was polled; it is polled again", a.src, err)
	case fresh > 0:
		in.wake()
	}
	if outcome != "" {
		in.c.Polled(a.src.Kind, outcome)
	}
}

// failedPoll is what the hub makes of an error.
func failedPoll(err error, failures int, now time.Time) (permanent bool, message string, next time.Time) {
	var failed *connectors.Failure
	pause := enrichPause(failures)
	switch {
	case errors.As(err, &failed):
		message, permanent = failed.Message, failed.Outcome == connectors.Permanent
		if permanent {
			pause = pollPermanent
		}
		pause = max(pause, min(failed.RetryAfter, pollLongest))
	case errors.Is(err, context.DeadlineExceeded):
		message = fmt.Sprintf("It did not answer within %v.", pollTimeout)
	default:
		message = "It could not be asked: " + err.Error() + "."
	}
	if message == "" {
		message = "Its connector does not say why."
	}
	return permanent, message, now.Add(pause)
}

// polled makes receipts of documents, which wait to be read.
func (in *Ingest) polled(p *flow.Poll, documents []connectors.Document, at time.Time) []flow.PolledReceipt {
	out := make([]flow.PolledReceipt, len(documents))
	for i, d := range documents {
		out[i] = flow.PolledReceipt{Key: d.Key, Receipt: flow.Receipt{ID: in.c.IDs.New(ids.Receipt), Org: p.Org, Source: p.Source, At: at, Method: flow.MethodPoll,
			Header: []byte("[]"), ContentType: d.ContentType, Body: d.Body, State: flow.ReceiptWaiting}}
	}
	return out
}

func (in *Ingest) pollWarning(ctx context.Context, doing string, src *flow.Source, err error) {
	if ctx.Err() == nil {
		in.c.Log.Warn(doing, "source", src.ID, "err", err)
	}
}
