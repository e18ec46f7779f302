package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"

	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// IdentityProvider is an OpenID Connect provider where people of the organization sign in.
type IdentityProvider struct{ ent.Schema }

func (IdentityProvider) Mixin() []ent.Mixin { return configured() }

func (IdentityProvider) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		field.String("issuer").MaxLen(2048).Immutable().Validate(parts.CheckIssuer).Comment("Its issuer, exactly as it writes it: an https address below which /.well-known/openid-configuration is."),
		field.String("client_id").NotEmpty().MaxLen(500).Comment("The name by which it knows the hub."),
		sealed("client_secret", "What the hub proves with that it is that client, encrypted by ent/secret."),
		field.JSON("scopes", []string{}).Default([]string{}).Annotations(entgql.Type("[String!]")).Comment("Scopes that are asked for beside openid, email and profile."),
		claimField(),
		mappingField("Who gets which rights at each sign-in. Whom no rule fits may not sign in."),
		field.Bool("create_users").Default(true).Comment("Whether a user is created at the first sign-in of somebody who is not one yet."),
		field.Bool("enabled").Default(true).Comment("Whether anyone may sign in through it."),
	}
}

func (IdentityProvider) Indexes() []ent.Index { return []ent.Index{uniqueName()} }

func (IdentityProvider) Annotations() []schema.Annotation {
	return noun("An OpenID Connect provider where people of the organization sign in.")
}

func (IdentityProvider) Policy() ent.Policy {
	return rule.Noun{Name: "identity provider", Tenant: "organization_id", Level: rule.Managers, Write: viewer.ManageAccess}
}

// claimField and mappingField are how an outside party's word becomes rights here.
func claimField() ent.Field {
	return field.String("groups_claim").Default("groups").NotEmpty().MaxLen(500).
		Comment("The claim that the rules of the mapping look at: its exact name, or a path with dots such as realm_access.roles.")
}

func mappingField(comment string) ent.Field {
	return field.JSON("mapping", []parts.AccessRule{}).Default([]parts.AccessRule{}).
		Annotations(entgql.Type("[AccessRule!]")).Comment(comment)
}
