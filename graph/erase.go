package graph

import (
	"context"
	"errors"
	"net/mail"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/user"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/store"
	"github.com/hookyard/hookyard/ent/viewer"
	graphgen "github.com/hookyard/hookyard/graph/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// Eraser removes payloads for good.
type Eraser interface {
	Erase(ctx context.Context, scope rule.Scope, event string, e flow.Erasure) (cancelled int, err error)
	// ErasePerson goes through the history piece by piece; see flow.PersonErased.
	ErasePerson(ctx context.Context, scope rule.Scope, email string, e flow.Erasure, next string, dryRun bool) (flow.PersonErased, error)
	// Erasures are tombstones by event.
	Erasures(ctx context.Context, scope rule.Scope, events []string) (map[string]*flow.Erasure, error)
}

// erasure is the tombstone to be.
func erasure(ctx context.Context, reason string) (flow.Erasure, error) {
	v := viewer.FromContext(ctx)
	reason = strings.TrimSpace(reason)
	if n := utf8.RuneCountInString(reason); n < 1 || n > 500 {
		return flow.Erasure{}, badInput("input.reason", "Say why in 1 to 500 characters.")
	}
	return flow.Erasure{At: time.Now().UTC().Truncate(time.Microsecond), ByID: v.ID, By: v.Name, Reason: reason}, nil
}

func (r *Resolver) eraseEventPayload(ctx context.Context, in graphgen.EraseEventPayloadInput) (*graphgen.EraseEventPayloadPayload, error) {
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	event, err := r.Events.Event(ctx, scope, in.EventID)
	if err != nil {
		return nil, orNotFound(err, "input.eventId", in.EventID)
	}
	e, err := erasure(ctx, in.Reason)
	if err != nil {
		return nil, err
	}
	if err := r.DB.Audit(ctx, store.Action{Action: store.Erase, Noun: "Event", ID: event.ID, Group: event.Group, Details: map[string]any{"reason": e.Reason}}); err != nil {
		return nil, err
	}
	cancelled, err := r.Eraser.Erase(ctx, scope, in.EventID, e)
	if errors.Is(err, flow.ErrShared) {
		return nil, forbidden("The receipt of this event gave events of other asset groups, too, and would be erased with it; it takes access to those.")
	}
	if err != nil {
		return nil, orNotFound(err, "input.eventId", in.EventID)
	}
	if event, err = r.Events.Event(ctx, scope, in.EventID); err != nil {
		return nil, err
	}
	return &graphgen.EraseEventPayloadPayload{Event: event, Cancelled: cancelled}, nil
}

func (r *Resolver) erasePerson(ctx context.Context, in graphgen.ErasePersonInput) (*flow.PersonErased, error) {
	if !viewer.FromContext(ctx).All() {
		return nil, forbidden("A person may be anywhere; it takes access to all asset groups.")
	}
	e, err := erasure(ctx, in.Reason)
	if err != nil {
		return nil, err
	}
	address, err := mail.ParseAddress(in.Email)
	if err != nil || address.Address != in.Email {
		return nil, badInput("input.email", "That is no e-mail address such as ann@example.com.")
	}
	if strings.Contains(strings.ToLower(e.Reason), strings.ToLower(in.Email)) {
		return nil, badInput("input.reason", "The reason stays on record; leave the address out of it.")
	}
	scope, err := rule.LedgerScope(ctx)
	if err != nil {
		return nil, err
	}
	// Whether there is such a user is not told to those who may not see users.
	if viewer.FromContext(ctx).Can(viewer.ManageAccess) {
		switch is, err := r.DB.Client.User.Query().Where(user.Email(strings.ToLower(in.Email))).Exist(ctx); {
		case err != nil:
			return nil, err
		case is:
			return nil, conflict("There is a user with this address. Delete the user first, so that nothing new is recorded of the person.")
		}
	}
	if in.After == nil && !in.DryRun {
		err := r.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			if err := r.DB.Audit(ctx, store.Action{Action: store.Erase, Noun: "Person", Details: map[string]any{"reason": e.Reason}}); err != nil {
				return err
			}
			_, err := r.DB.EraseFromAudit(ctx, tx, scope.Organization(), store.Person{Email: strings.ToLower(in.Email)}, e.At)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	done, err := r.Eraser.ErasePerson(ctx, scope, in.Email, e, or(in.After), in.DryRun)
	if errors.Is(err, flow.ErrNotFound) {
		return nil, badInput("input.after", "Go on with next of the last answer.")
	}
	return &done, err
}
