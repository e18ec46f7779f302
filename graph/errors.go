package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect/sql/sqlgraph"
	"entgo.io/ent/privacy"
	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/errcode"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/server/flow"
)

// Code says what kind of error it is, in extensions.code.
type Code string

// The codes. There are no others.
const (
	Unauthenticated Code = "UNAUTHENTICATED" // nobody is asking, as far as the hub can tell
	Forbidden       Code = "FORBIDDEN"       // the viewer may not do this
	NotFound        Code = "NOT_FOUND"       // there is none, as far as the viewer may know
	BadUserInput    Code = "BAD_USER_INPUT"  // the request is wrong; extensions.field says where
	Conflict        Code = "CONFLICT"        // it does not fit to what there is
	Limited         Code = "LIMITED"         // too much at once
	Expired         Code = "EXPIRED"         // it is not kept any more
	Unavailable     Code = "UNAVAILABLE"     // the hub cannot do it now; the same request may work later
	Internal        Code = "INTERNAL"        // the hub's fault; the message has the ID under which it is logged
)

// Error is an error with the words for people.
type Error struct {
	Code    Code
	Field   string // path of the input at fault, "input.url"; "" none
	Message string
	Limit   string        // of Limited: which limit
	Retry   time.Duration // of Limited: when to try again; 0: the same will not do later either
	cause   error
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause, which people are not told.
func (e *Error) Unwrap() error { return e.cause }

func badInput(field, format string, args ...any) error {
	return &Error{Code: BadUserInput, Field: field, Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &Error{Code: Conflict, Message: fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) error {
	return &Error{Code: Forbidden, Message: fmt.Sprintf(format, args...)}
}

// limited says which limit a request has run into; see Limits.
func limited(limit, format string, args ...any) *Error {
	return &Error{Code: Limited, Limit: limit, Message: fmt.Sprintf(format, args...)}
}

// extensions are what programs read of an error.
func (e *Error) extensions() map[string]any {
	out := map[string]any{"code": string(e.Code)}
	if e.Field != "" {
		out["field"] = e.Field
	}
	if e.Limit != "" {
		out["limit"] = e.Limit
	}
	if e.Retry > 0 {
		out["retryAfter"] = e.retryAfter()
	}
	return out
}

// retryAfter is in whole seconds.
func (e *Error) retryAfter() int { return int((e.Retry + time.Second - 1) / time.Second) }

func notFound(field, id string) error {
	return &Error{Code: NotFound, Field: field, Message: fmt.Sprintf("There is no %q here.", id)}
}

var errUnauthenticated = &Error{Code: Unauthenticated, Message: "Send a valid credential: \"Authorization: Bearer\" and an API key or a token."}

// presenter turns errors into what people are told.
type presenter struct {
	log *slog.Logger
	ids *ids.Maker
}

// present implements graphql.ErrorPresenterFunc. It is the only way out for errors.
func (p presenter) present(ctx context.Context, err error) *gqlerror.Error {
	out := &gqlerror.Error{Path: graphql.GetPath(ctx)}
	var wrapped *gqlerror.Error
	if errors.As(err, &wrapped) {
		out.Path, out.Locations = wrapped.Path, wrapped.Locations
	}
	e := inputError(ctx, wrapped, out)
	if e == nil {
		e = explain(err)
	}
	if late := (*Error)(nil); (e.Code == Internal || e.Code == Unavailable) && errors.As(context.Cause(ctx), &late) && late.Limit == "time" {
		e = late // whatever the database calls it
	}
	if e.Code == Internal && e.Message == "" {
		e = p.internal(ctx, err, "path", out.Path.String())
	}
	out.Message, out.Extensions = e.Message, e.extensions()
	return out
}

// recovered implements graphql.RecoverFunc.
func (p presenter) recovered(ctx context.Context, panicked any) error {
	return p.internal(ctx, fmt.Errorf("panic: %v", panicked), "stack", string(debug.Stack()))
}

// internal logs an error and returns what is told of it.
func (p presenter) internal(ctx context.Context, err error, more ...any) *Error {
	id := p.ids.New("err")
	p.log.ErrorContext(ctx, "the API failed", append([]any{"id", id, "error", err}, more...)...)
	return &Error{Code: Internal, Message: "The hub failed at this. It is in its log as " + id + ".", cause: err}
}

// inputError recognises what the GraphQL library has found wrong with the request: the
// document, its limits, or a value that cannot be read. It returns nil for the rest,
// and ends out's path at the field.
func inputError(ctx context.Context, g *gqlerror.Error, out *gqlerror.Error) *Error {
	if g == nil {
		return nil
	}
	switch code, _ := g.Extensions["code"].(string); code {
	case errcode.ParseFailed, errcode.ValidationFailed:
		out.Path = nil
		if strings.Contains(g.Message, "token limit") {
			return limited("tokens", "The document has too many words; split it.")
		}
		return &Error{Code: BadUserInput, Message: withoutValue(g.Message), Field: fieldPath(g.Path)}
	}
	var own *Error
	field := graphql.GetFieldContext(ctx)
	if errors.As(error(g), &own) || field == nil {
		return nil
	}
	// A value that cannot be read has a path that goes on behind the field's.
	at := len(field.Path())
	if len(g.Path) <= at {
		return nil
	}
	out.Path = g.Path[:at]
	return &Error{Code: BadUserInput, Message: withoutValue(g.Message), Field: fieldPath(g.Path[at:])}
}

// withoutValue takes the value out of what the GraphQL library says of one that does not
// do: it may be a secret in the wrong place, and errors end up in logs.
func withoutValue(message string) string {
	if said, _, cut := strings.Cut(message, ", found "); cut {
		return sentence(said)
	}
	if said, _, cut := strings.Cut(message, " value: "); cut {
		return sentence(said + " value")
	}
	for _, after := range []string{" is not a valid ", " does not exist in "} {
		if i := strings.LastIndex(message, after); i >= 0 {
			return sentence("this value" + message[i:])
		}
	}
	if strings.HasPrefix(message, "Unexpected ") {
		said, _, _ := strings.Cut(message, " \"")
		return sentence(said)
	}
	return message
}

// fieldPath writes a path as people do, without the word that variables begin with.
func fieldPath(p ast.Path) string {
	if len(p) > 0 && p[0] == ast.PathName("variable") {
		p = p[1:]
	}
	return p.String()
}

// explain finds the words for an error. Internal means that there are none.
func explain(err error) *Error {
	var (
		own     *Error
		denied  *rule.Denied
		unknown *rule.UnknownReference
		clash   *rule.Conflict
		invalid *gen.ValidationError
		refused *connectors.RefuseError
		list    *gen.ListArgumentError
	)
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, rule.ErrNoViewer):
		return errUnauthenticated
	case errors.As(err, &denied):
		return &Error{Code: Forbidden, Message: sentence(denied.Error())}
	case errors.As(err, &clash):
		return &Error{Code: Conflict, Message: sentence(clash.Error())}
	case errors.As(err, &list):
		return &Error{Code: BadUserInput, Field: list.Argument, Message: list.Message}
	case errors.Is(err, privacy.Deny):
		return &Error{Code: Forbidden, Message: "You may not do this."}
	case errors.As(err, &unknown) && unknown.Field == "asset_group": // as one that the viewer has no access to
		return &Error{Code: Forbidden, Message: fmt.Sprintf("You have no access to the asset group %s.", strings.Join(unknown.IDs, ", "))}
	case errors.As(err, &unknown):
		return &Error{Code: BadUserInput, Field: "input." + inputName(unknown.Field),
			Message: fmt.Sprintf("There is no such %s here: %s.", strings.TrimSuffix(strings.ReplaceAll(unknown.Field, "_", " "), "s"), strings.Join(unknown.IDs, ", "))}
	case errors.As(err, &invalid):
		return &Error{Code: BadUserInput, Field: "input." + inputName(invalid.Name), Message: sentence(cause(invalid).Error())}
	case gen.IsNotFound(err), errors.Is(err, flow.ErrNotFound):
		return &Error{Code: NotFound, Message: "There is none here with this ID."}
	case sqlgraph.IsUniqueConstraintError(err):
		return &Error{Code: Conflict, Message: "There is one with this name already."}
	case sqlgraph.IsForeignKeyConstraintError(err):
		return &Error{Code: Conflict, Message: "Something else still refers to it; change or delete that first."}
	case errors.As(err, &refused):
		return &Error{Code: BadUserInput, Field: refused.Field, Message: sentence(refused.Message)}
	case errors.Is(err, flow.ErrDisabled):
		return &Error{Code: Conflict, Message: "The source is disabled. Nothing was accepted; enable it first."}
	case errors.Is(err, flow.ErrExpired):
		return &Error{Code: Expired, Message: "What follows this cursor is not kept any more. Start again without a cursor."}
	case errors.Is(err, flow.ErrSlow):
		return limited("slowness", "You did not read fast enough. Connect again with the last cursor; nothing is lost.")
	case errors.Is(err, flow.ErrBusy):
		return &Error{Code: Limited, Limit: "backlog", Retry: time.Second, Message: "The hub has more to write than it can take. Nothing was accepted; send it again in a moment."}
	case errors.Is(err, flow.ErrUnavailable):
		return &Error{Code: Unavailable, Message: "The database does not take it now. Nothing was accepted; send it again."}
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: Unavailable, Message: "It took too long. Ask for less at once, or try again."}
	case errors.Is(err, context.Canceled):
		return &Error{Code: Unavailable, Message: "The request was given up."}
	}
	return &Error{Code: Internal}
}

// cause is the innermost error, without the words that wrap it.
func cause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

// sentence makes an error's text one that can stand by itself.
func sentence(s string) string {
	if s == "" {
		return s
	}
	s = strings.ToUpper(s[:1]) + s[1:]
	if !strings.ContainsAny(s[len(s)-1:], ".!?") {
		s += "."
	}
	return s
}

// inputName is a column's or edge's name as the API's inputs have it.
func inputName(column string) string {
	if name, ok := map[string]string{
		"applications": "applicationIds", "scope_groups": "scopeGroupIds", "sources": "sourceIds", "groups": "groupIds",
		"endpoint": "endpointId", "asset_group": "assetGroupId", "owner": "ownerId", "custom_role": "customRoleId", "shared_groups": "sharedGroupIds",
	}[column]; ok {
		return name
	}
	words := strings.Split(column, "_")
	for i, w := range words[1:] {
		if w != "" {
			words[i+1] = strings.ToUpper(w[:1]) + w[1:]
		}
	}
	return strings.Join(words, "")
}

// firstDuplicate returns a value that is in the list twice, "" when none is.
func firstDuplicate(list []string) string {
	sorted := slices.Sorted(slices.Values(list))
	for i := 1; i < len(sorted); i++ {
		if sorted[i] == sorted[i-1] {
			return sorted[i]
		}
	}
	return ""
}
