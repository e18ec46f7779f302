package flow

import (
	"errors"
	"slices"

	"github.com/hookyard/hookyard/connectors"
)

// EntryFilter chooses lines of the delivery log: all that is set must fit. The zero
// value fits everything.
type EntryFilter struct {
	Webhook, Endpoint, Event, Delivery, App string                 // IDs
	States                                  []DeliveryState        // any of
	Types                                   []connectors.EventType // any of
}

// Match says whether e fits.
func (f *EntryFilter) Match(e *Entry) bool {
	return (f.Webhook == "" || f.Webhook == e.Webhook) &&
		(f.Endpoint == "" || f.Endpoint == e.Endpoint) &&
		(f.Event == "" || f.Event == e.Event) &&
		(f.Delivery == "" || f.Delivery == e.Delivery) &&
		(f.App == "" || f.App == e.App) &&
		(len(f.States) == 0 || slices.Contains(f.States, e.State)) &&
		(len(f.Types) == 0 || slices.Contains(f.Types, e.Type))
}

// EntryBatch is a piece of the delivery log as one watcher sees it. Who has handled
// it may come back with Cursor and gets exactly what follows.
type EntryBatch struct {
	Entries   []Entry // in order of Seq; shared, do not change
	Cursor    int64   // the watcher has seen everything up to and including this Seq
	Heartbeat bool    // nothing new: only the cursor moved, or not even that
}

// Why a watcher was cut off. Both come with the last cursor in the watcher's hands.
var (
	// ErrExpired: what follows the cursor is not kept any more, or never was here.
	ErrExpired = errors.New("flow: the cursor is outside of what is kept")
	// ErrSlow: the watcher did not take a batch in time; it may come back.
	ErrSlow = errors.New("flow: the watcher is too slow")
)
