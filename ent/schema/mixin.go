package schema

import (
	"context"
	"strings"
	"time"

	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/edge"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"
	"entgo.io/ent/schema/mixin"

	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// hidden keeps a field out of every generated GraphQL artefact.
func hidden() schema.Annotation { return entgql.Skip(entgql.SkipAll) }

// filterOnly keeps a field out of the GraphQL type, where an edge shows the same,
// but leaves it in the filters.
func filterOnly() schema.Annotation { return entgql.Skip(entgql.SkipType) }

// unfiltered keeps an edge or field out of the filters. Edges must be: a filter over
// one reads the other table without its policy. Long texts are for brevity.
func unfiltered() schema.Annotation { return entgql.Skip(entgql.SkipWhereInput) }

// inverse is the unseen other side of a many-to-many edge.
func inverse(name string, of any, ref string) ent.Edge {
	return edge.From(name, of).Ref(ref).Annotations(hidden())
}

// noun is what every GraphQL noun is annotated with.
func noun(comment string) []schema.Annotation {
	return []schema.Annotation{schema.Comment(comment), entgql.RelayConnection(), entgql.MultiOrder()}
}

// now is the time as both databases keep it: UTC, to the microsecond.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// id is the primary key of every noun, "prefix_" and 26 characters. The store makes
// it when a row is created without one.
type id struct{ mixin.Schema }

func (id) Fields() []ent.Field {
	return []ent.Field{
		field.String("id").Immutable().NotEmpty().MaxLen(64).Comment("The global ID."),
	}
}

// times are when a row was made and last changed.
type times struct {
	mixin.Schema
	order bool // whether lists may be sorted by the first; it needs an index then
}

func (t times) Fields() []ent.Field {
	created := field.Time("created_at").Immutable().Default(now).Comment("When it was created.")
	if t.order {
		created.Annotations(entgql.OrderField("CREATED_AT"))
	}
	return []ent.Field{
		created,
		field.Time("updated_at").Default(now).UpdateDefault(now).Comment("When it was last changed."),
	}
}

// tenant puts a row into one organization for good. New rows get the viewer's; what
// a row refers to must be in the same organization and visible to the viewer.
type tenant struct{ mixin.Schema }

func (tenant) Fields() []ent.Field {
	return []ent.Field{
		field.String("organization_id").Immutable().NotEmpty().Annotations(hidden()).Comment("The organization that it belongs to."),
	}
}

func (tenant) Hooks() []ent.Hook { return []ent.Hook{ownOrganization, knownReferences} }

func ownOrganization(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		if v := viewer.FromContext(ctx); m.Op().Is(ent.OpCreate) && v != nil && v.Organization != "" {
			if _, ok := m.Field("organization_id"); !ok {
				if err := m.SetField("organization_id", v.Organization); err != nil {
					return nil, err
				}
			}
		}
		return next.Mutate(ctx, m)
	})
}

func knownReferences(next ent.Mutator) ent.Mutator {
	return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
		if r, ok := m.(rule.Referrer); ok && !m.Op().Is(ent.OpDelete|ent.OpDeleteOne) {
			if err := r.CheckReferences(ctx); err != nil {
				return nil, err
			}
		}
		return next.Mutate(ctx, m)
	})
}

// configured is a tenant's row that people edit; lists of it go by organization.
func configured() []ent.Mixin { return []ent.Mixin{id{}, times{}, tenant{}} }

// onEach makes a hook of something to be done to a mutation of the given kinds.
func onEach(ops ent.Op, do func(ent.Mutation) error) ent.Hook {
	return func(next ent.Mutator) ent.Mutator {
		return ent.MutateFunc(func(ctx context.Context, m ent.Mutation) (ent.Value, error) {
			if m.Op().Is(ops) {
				if err := do(m); err != nil {
					return nil, err
				}
			}
			return next.Mutate(ctx, m)
		})
	}
}

// revised counts a row's changes in its field "revision".
func revised() ent.Hook {
	return onEach(ent.OpUpdate|ent.OpUpdateOne, func(m ent.Mutation) error { return m.AddField("revision", int64(1)) })
}

// lower stores a field in lower case, so that its unique index is case-insensitive.
func lower(name string) ent.Hook {
	return onEach(ent.OpCreate|ent.OpUpdate|ent.OpUpdateOne, func(m ent.Mutation) error {
		if v, ok := m.Field(name); ok {
			return m.SetField(name, strings.ToLower(strings.TrimSpace(v.(string))))
		}
		return nil
	})
}

// nameField is the name of a noun, unique where uniqueName is among its indexes.
func nameField(comment string) ent.Field {
	return field.String("name").NotEmpty().MaxLen(200).Annotations(entgql.OrderField("NAME")).Comment(comment)
}

func uniqueName() ent.Index { return index.Fields("organization_id", "name").Unique() }

// describes a noun for people.
func descriptionField() ent.Field {
	return field.String("description").MaxLen(4000).Default("").Annotations(unfiltered()).Comment("What it is for, in the words of whoever made it.")
}

// sealed is a column of secrets, encrypted by ent/secret and never readable in the API.
func sealed(name, comment string) ent.Field {
	return field.Bytes(name).Optional().Sensitive().Annotations(hidden(), isSealed{Yes: true}).Comment(comment)
}

// isSealed marks what is sealed, for the list that a change of the key goes by.
type isSealed struct{ Yes bool }

// Name implements schema.Annotation.
func (isSealed) Name() string { return "Sealed" }
