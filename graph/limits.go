package graph

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// Page sizes of every connection.
const (
	defaultPage = 50
	maxPage     = 200
)

// Limits bound one request. Zero values take the defaults.
type Limits struct {
	Body       int64         // bytes of a request: 4 MiB
	Tokens     int           // of a document: 10,000
	RootFields int           // of an operation: 20
	Cost       int           // fields that an answer may have, as far as can be told before: 50,000
	Time       time.Duration // of a query or mutation: 30 s
	Write      time.Duration // for a client to take what is written: 10 s
	Streams    int           // sockets and event streams of one viewer at a time: 2,000
}

func (l *Limits) defaults() {
	for to, v := range map[*int]int{&l.Tokens: 10_000, &l.RootFields: 20, &l.Cost: 50_000, &l.Streams: 2_000} {
		if *to == 0 {
			*to = v
		}
	}
	if l.Body == 0 {
		l.Body = 4 << 20
	}
	if l.Time == 0 {
		l.Time = 30 * time.Second
	}
	if l.Write == 0 {
		l.Write = 10 * time.Second
	}
}

// limiter looks an operation over before it runs: it bounds the pages of connections,
// which have no bound of their own, and adds up what the answer may cost. It changes
// the document, so the documents must not come from a cache.
type limiter struct {
	limits        Limits
	introspection bool
}

var (
	_ graphql.HandlerExtension        = limiter{}
	_ graphql.OperationContextMutator = limiter{}
)

// ExtensionName implements graphql.HandlerExtension.
func (limiter) ExtensionName() string { return "Limits" }

// Validate implements graphql.HandlerExtension.
func (limiter) Validate(graphql.ExecutableSchema) error { return nil }

// MutateOperationContext implements graphql.OperationContextMutator.
func (l limiter) MutateOperationContext(_ context.Context, op *graphql.OperationContext) *gqlerror.Error {
	op.DisableIntrospection = !l.introspection
	w := walk{introspection: l.introspection, vars: op.Variables, left: l.limits.Cost, roots: l.limits.RootFields}
	if err := w.selections(op.Operation.SelectionSet, 1, true); err != nil {
		return &gqlerror.Error{Message: err.Error(), Err: err}
	}
	return nil
}

// walk goes over an operation once.
type walk struct {
	introspection bool

	vars  map[string]any
	left  int // of the cost
	roots int // root fields left
}

func (w *walk) selections(set ast.SelectionSet, times int, root bool) error {
	for _, s := range set {
		var err error
		switch s := s.(type) {
		case *ast.Field:
			if root {
				if w.roots--; w.roots < 0 {
					return &Error{Code: Limited, Message: "The operation has too many fields at its root; split it."}
				}
			}
			err = w.field(s, times)
		case *ast.InlineFragment:
			err = w.selections(s.SelectionSet, times, root)
		case *ast.FragmentSpread:
			err = w.selections(s.Definition.SelectionSet, times, root)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// field takes the cost of a field that is asked for so many times.
func (w *walk) field(f *ast.Field, times int) error {
	switch {
	case (f.Name == "__schema" || f.Name == "__type") && !w.introspection:
		return badInput(f.Alias, "This hub does not give its schema out; docs/schema.graphql of the same version has it.")
	case strings.HasPrefix(f.Name, "__"):
		return nil // has a limit of its own in the library
	}
	if w.left -= times; w.left < 0 {
		return &Error{Code: Limited, Message: "The answer may be too large; ask for smaller pages or fewer fields."}
	}
	switch {
	case isConnection(f.Definition):
		n, err := w.page(f)
		if err != nil {
			return err
		}
		times *= n
	case f.Name == "nodes":
		n, err := w.ids(f)
		if err != nil {
			return err
		}
		times *= n
	case f.Name != "edges" && f.Definition.Type.Elem != nil && len(f.SelectionSet) > 0:
		times *= listLength
	}
	return w.selections(f.SelectionSet, times, false)
}

// listLength is how long a list without pages is taken to be.
const listLength = 5

func isConnection(d *ast.FieldDefinition) bool {
	return strings.HasSuffix(d.Type.Name(), "Connection") && d.Arguments.ForName("first") != nil
}

// page checks the page of a connection, and gives it one when it has none. The
// arguments are changed in place, because the storage reads them there, too.
func (w *walk) page(f *ast.Field) (int, error) {
	sizes := map[string]int{}
	for _, name := range []string{"first", "last"} {
		a := f.Arguments.ForName(name)
		if a == nil {
			continue
		}
		v, err := a.Value.Value(w.vars)
		if err != nil || v == nil {
			continue
		}
		n, err := graphql.UnmarshalInt(v)
		if err != nil || n < 1 || n > maxPage {
			return 0, badInput(f.Alias+"."+name, "A page has 1 to %d rows.", maxPage)
		}
		sizes[name] = n
	}
	if len(sizes) == 2 {
		return 0, badInput(f.Alias+".last", "first and last do not go together.")
	}
	for _, n := range sizes {
		return n, nil
	}
	value := &ast.Value{Kind: ast.IntValue, Raw: strconv.Itoa(defaultPage), Position: f.Position}
	if a := f.Arguments.ForName("first"); a != nil { // a variable without a value
		a.Value = value
	} else {
		f.Arguments = append(f.Arguments, &ast.Argument{Name: "first", Value: value, Position: f.Position})
	}
	return defaultPage, nil
}

// ids counts the IDs that nodes is asked for.
func (w *walk) ids(f *ast.Field) (int, error) {
	a := f.Arguments.ForName("ids")
	if a == nil {
		return 1, nil
	}
	v, err := a.Value.Value(w.vars)
	if err != nil {
		return 1, nil //nolint:nilerr // the library tells of it when it runs the field
	}
	list, _ := v.([]any)
	if len(list) > maxPage {
		return 0, badInput(f.Alias+".ids", "At most %d at a time.", maxPage)
	}
	return max(len(list), 1), nil
}

// deadline bounds how long a query or mutation may take. A subscription lives as long
// as its client does.
func deadline(limit time.Duration) graphql.OperationMiddleware {
	return func(ctx context.Context, next graphql.OperationHandler) graphql.ResponseHandler {
		if graphql.GetOperationContext(ctx).Operation.Operation == ast.Subscription {
			return next(ctx)
		}
		answer := next(ctx)
		return func(ctx context.Context) *graphql.Response {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return answer(ctx)
		}
	}
}
