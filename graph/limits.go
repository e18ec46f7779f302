package graph

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/hookyard/hookyard/ent/viewer"
)

// Page sizes of every connection.
const (
	defaultPage = 50
	maxPage     = 200
)

// Limits bound one request. Zero values take the defaults. What runs into a limit is
// refused with the code LIMITED and the limit's name, in quotes here; so is a page of
// more rows than maxPage ("pageSize"), more than one operation at once ("batch"), and
// what Options.Rate and Options.Strangers refuse ("rate").
type Limits struct {
	Body       int64         // "bodySize", bytes of a request: 4 MiB
	Tokens     int           // "tokens" of a document: 10,000
	RootFields int           // "rootFields" of an operation: 20
	Depth      int           // "depth", fields in fields: 20
	Aliases    int           // "aliases", fields under another name: 100
	Cost       int           // "cost", fields that an answer may have, as far as can be told before: 50,000
	Time       time.Duration // "time" of a query or mutation: 30 s
	Write      time.Duration // for a client to take what is written, or "slowness": 10 s
	Streams    int           // "streams", event streams and operations on sockets of one viewer at a time: 2,000
}

func (l *Limits) defaults() {
	for to, v := range map[*int]int{&l.Tokens: 10_000, &l.RootFields: 20, &l.Depth: 20, &l.Aliases: 100, &l.Cost: 50_000, &l.Streams: 2_000} {
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
	rate          Throttle
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
func (l limiter) MutateOperationContext(ctx context.Context, op *graphql.OperationContext) *gqlerror.Error {
	op.DisableIntrospection = !l.introspection
	// A request's one operation has paid already; those on a websocket pay one by one.
	if v := viewer.FromContext(ctx); v != nil && isSocket(ctx) {
		if err := take(l.rate, v.ID); err != nil {
			return &gqlerror.Error{Message: err.Message, Extensions: err.extensions(), Err: err}
		}
	}
	w := walk{introspection: l.introspection, vars: op.Variables, left: l.limits.Cost, roots: l.limits.RootFields, aliases: l.limits.Aliases, deepest: l.limits.Depth}
	if err := w.selections(op.Operation.SelectionSet, 1, 1); err != nil {
		return &gqlerror.Error{Message: err.Error(), Err: err}
	}
	return nil
}

// walk goes over an operation once.
type walk struct {
	introspection bool

	vars    map[string]any
	left    int // of the cost
	roots   int // root fields left
	aliases int // left
	deepest int
}

// selections goes over what is selected so many times at a depth, 1 at the root.
func (w *walk) selections(set ast.SelectionSet, times, depth int) error {
	if len(set) > 0 && depth > w.deepest {
		return limited("depth", "The operation goes deeper than %d fields; ask in several steps.", w.deepest)
	}
	for _, s := range set {
		var err error
		switch s := s.(type) {
		case *ast.Field:
			if depth == 1 {
				if w.roots--; w.roots < 0 {
					return limited("rootFields", "The operation has too many fields at its root; split it.")
				}
			}
			err = w.field(s, times, depth)
		case *ast.InlineFragment:
			err = w.selections(s.SelectionSet, times, depth)
		case *ast.FragmentSpread:
			err = w.selections(s.Definition.SelectionSet, times, depth)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// field takes the cost of a field that is asked for so many times.
func (w *walk) field(f *ast.Field, times, depth int) error {
	switch {
	case (f.Name == "__schema" || f.Name == "__type") && !w.introspection:
		return badInput(f.Alias, "This hub does not give its schema out; docs/schema.graphql of the same version has it.")
	case strings.HasPrefix(f.Name, "__"):
		return nil // has a limit of its own in the library
	}
	if w.left -= times; w.left < 0 {
		return limited("cost", "The answer may be too large; ask for smaller pages or fewer fields.")
	}
	if f.Alias != f.Name {
		if w.aliases--; w.aliases < 0 {
			return limited("aliases", "The operation gives too many fields another name; split it.")
		}
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
	return w.selections(f.SelectionSet, times, depth+1)
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
		switch {
		case err != nil || n < 1:
			return 0, badInput(f.Alias+"."+name, "A page has 1 to %d rows.", maxPage)
		case n > maxPage:
			return 0, tooMany(f.Alias + "." + name)
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

func tooMany(field string) error {
	e := limited("pageSize", "At most %d at a time.", maxPage)
	e.Field = field
	return e
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
		return 0, tooMany(f.Alias + ".ids")
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
		answer, begun := next(ctx), false
		return func(ctx context.Context) *graphql.Response {
			late := limited("time", "It took longer than %v. Ask for less at once.", limit)
			ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
			defer cancel()
			resp := answer(ctx)
			if resp == nil && ctx.Err() != nil && !begun { // before it began
				resp = &graphql.Response{Errors: gqlerror.List{{Message: late.Message, Extensions: late.extensions()}}}
			}
			begun = true
			return resp
		}
	}
}
