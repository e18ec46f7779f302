package graph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/99designs/gqlgen/graphql"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// maxBulk is how many rows one call redelivers, cancels or processes again.
const maxBulk = 1000

// node finds anything by its global ID.
func (r *Resolver) node(ctx context.Context, id string) (gen.Noder, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	var n gen.Noder
	switch ids.Prefix(id) {
	case ids.Event:
		n, err = r.Events.Event(ctx, scope, id)
	case ids.Delivery:
		n, err = r.Deliveries.Delivery(ctx, scope, id)
	case ids.Attempt:
		n, err = r.Deliveries.Attempt(ctx, scope, id)
	case ids.Receipt:
		n, err = r.Receipts.Receipt(ctx, scope, id)
	default:
		n, err = r.DB.Client.Noder(ctx, id, store.WithNodeType())
	}
	if err != nil {
		return nil, orNotFound(err, "id", id)
	}
	return n, nil
}

// nodes finds each of a list, with an error at the place of each that there is none.
func (r *Resolver) nodes(ctx context.Context, list []string) ([]gen.Noder, error) {
	out := make([]gen.Noder, len(list))
	for i, id := range list {
		n, err := r.node(ctx, id)
		if err != nil {
			at := graphql.WithPathContext(ctx, graphql.NewPathWithIndex(i))
			graphql.AddError(at, err)
			continue
		}
		out[i] = n
	}
	return out, nil
}

// orNotFound says which ID was not found.
func orNotFound(err error, field, id string) error {
	if gen.IsNotFound(err) || errors.Is(err, flow.ErrNotFound) {
		return notFound(field, id)
	}
	return err
}

func (r *Resolver) attempts(ctx context.Context, delivery string) ([]*flow.AttemptView, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := r.Deliveries.Attempts(ctx, scope, delivery)
	return pointers(rows), err
}

// attemptsInFull reads attempts one by one, with their bodies.
func (r *Resolver) attemptsInFull(ctx context.Context, list []string) (map[string]*flow.AttemptView, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]*flow.AttemptView, len(list))
	for _, id := range list {
		a, err := r.Deliveries.Attempt(ctx, scope, id)
		if errors.Is(err, flow.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[id] = a
	}
	return out, nil
}

// receiptHeaders reads a receipt's headers, a JSON array of [name, value].
func receiptHeaders(b []byte) ([]*connectors.Header, error) {
	var lines [][2]string
	if len(b) > 0 {
		if err := json.Unmarshal(b, &lines); err != nil {
			return nil, fmt.Errorf("read the receipt's headers: %w", err)
		}
	}
	out := make([]*connectors.Header, len(lines))
	for i, l := range lines {
		out[i] = &connectors.Header{Name: l[0], Value: l[1]}
	}
	return out, nil
}

// The states of deliveries that have ended, and of those that have not.
func ended() []flow.DeliveryState {
	return []flow.DeliveryState{flow.Succeeded, flow.Failed, flow.SkippedState, flow.Cancelled}
}

func open() []flow.DeliveryState {
	return []flow.DeliveryState{flow.Pending, flow.Attempting, flow.Retrying}
}

func (r *Resolver) redeliver(ctx context.Context, id string) (*flow.DeliveryView, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	d, err := r.Deliveries.Delivery(ctx, scope, id)
	if err != nil {
		return nil, orNotFound(err, "input.deliveryId", id)
	}
	if !d.State.Final() {
		return nil, conflict("The delivery has not ended yet.")
	}
	if err := r.audit(ctx, store.Redeliver, "Delivery", id, "", d.Level); err != nil {
		return nil, err
	}
	done, err := r.Redeliverer.RedeliverMatching(ctx, scope, flow.DeliveryFilter{IDs: []string{id}}, 1, false)
	if err != nil {
		return nil, err
	}
	if len(done.IDs) == 0 {
		if gone, err := r.Eraser.Erasures(ctx, scope, []string{d.Event}); err == nil && gone[d.Event] != nil {
			return nil, &Error{Code: Expired, Field: "input.deliveryId", Message: "The payload of this delivery's event was erased. It cannot be delivered again."}
		}
		return nil, &Error{Code: Expired, Field: "input.deliveryId", Message: "What this delivery sent is not kept any more."}
	}
	return r.Deliveries.Delivery(ctx, scope, done.IDs[0])
}

func (r *Resolver) redeliverMatching(ctx context.Context, f flow.DeliveryFilter, dryRun bool) (flow.Bulk, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return flow.Bulk{}, err
	}
	if len(f.States) == 0 {
		f.States = []flow.DeliveryState{flow.Failed, flow.SkippedState}
	}
	for _, s := range f.States {
		if !s.Final() {
			return flow.Bulk{}, badInput("input.filter.states", "Only deliveries that have ended are delivered once more: %v.", ended())
		}
	}
	if !dryRun {
		if err := r.auditMany(ctx, scope, store.Redeliver, "Delivery"); err != nil {
			return flow.Bulk{}, err
		}
	}
	return r.Redeliverer.RedeliverMatching(ctx, scope, f, maxBulk, dryRun)
}

func (r *Resolver) cancelMatching(ctx context.Context, f flow.DeliveryFilter, dryRun bool) (flow.Bulk, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return flow.Bulk{}, err
	}
	if len(f.States) == 0 {
		f.States = open()
	}
	f.States = slices.DeleteFunc(slices.Clone(f.States), flow.DeliveryState.Final)
	if len(f.States) == 0 {
		return flow.Bulk{}, nil
	}
	rows, err := r.Deliveries.Deliveries(ctx, scope, f, flow.Page{Limit: maxBulk + 1, Oldest: true})
	if err != nil {
		return flow.Bulk{}, err
	}
	capped := len(rows) > maxBulk
	list := make([]string, min(len(rows), maxBulk))
	for i := range list {
		list[i] = rows[i].ID
	}
	done := flow.Bulk{Matched: len(list)}
	if !dryRun && len(list) > 0 {
		if err := r.auditMany(ctx, scope, store.Cancel, "Delivery"); err != nil {
			return done, err
		}
		if done, err = r.Redeliverer.CancelDeliveries(ctx, scope, list); err != nil {
			return done, err
		}
	}
	done.Capped = capped
	return done, nil
}

// reprocess reads receipts again, the oldest first. What is wrong with a receipt does
// not keep the others back.
func (r *Resolver) reprocess(ctx context.Context, f flow.ReceiptFilter, dryRun bool) (*graphgen.ReprocessReceiptsPayload, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	if !dryRun {
		if err := r.auditMany(ctx, scope, store.Reprocess, "Receipt"); err != nil {
			return nil, err
		}
	}
	out := &graphgen.ReprocessReceiptsPayload{EventIds: []string{}}
	for p := (flow.Page{Limit: maxPage, Oldest: true}); ; {
		rows, err := r.Receipts.Receipts(ctx, scope, f, p)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			if out.Matched == maxBulk {
				out.Capped = true
				return out, nil
			}
			out.Matched++
			out.LastReceivedAt = &rows[i].At
			if dryRun {
				continue
			}
			accepted, err := r.Reprocessor.Reprocess(ctx, viewer.FromContext(ctx).Organization, rows[i].ID)
			var refused *connectors.RefuseError
			if err != nil && !errors.As(err, &refused) && !errors.Is(err, flow.ErrNotFound) && !errors.Is(err, flow.ErrExpired) {
				return nil, err
			}
			for _, a := range accepted {
				out.EventIds = append(out.EventIds, a.ID)
			}
		}
		if len(rows) < p.Limit {
			return out, nil
		}
		p.After = rows[len(rows)-1].ID
	}
}
