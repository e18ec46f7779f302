package schema

import (
	"entgo.io/contrib/entgql"
	"entgo.io/ent"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"
	"entgo.io/ent/schema/index"

	"github.com/hookyard/hookyard/ent/parts"
	"github.com/hookyard/hookyard/ent/rule"
	"github.com/hookyard/hookyard/ent/viewer"
)

// TrustedIssuer is an outside system whose JWTs are credentials here.
type TrustedIssuer struct{ ent.Schema }

func (TrustedIssuer) Mixin() []ent.Mixin { return configured() }

func (TrustedIssuer) Fields() []ent.Field {
	return []ent.Field{
		nameField("The name, unique in the organization."),
		field.String("issuer").MaxLen(2048).Immutable().Validate(parts.CheckIssuer).Comment("The \"iss\" of its tokens, exactly."),
		field.String("audience").NotEmpty().MaxLen(500).Immutable().
			Comment("What must be in the \"aud\" of its tokens. Issuer and audience together are unique on this hub, so that a token belongs to one organization."),
		field.String("keys_url").Default("").MaxLen(2048).Validate(parts.CheckKeysURL).Comment("Where its keys are, as a JWKS; empty: where its /.well-known/openid-configuration says."),
		field.JSON("algorithms", []string{}).Default(parts.DefaultAlgorithms()).Annotations(entgql.Type("[String!]")).
			Comment("The signature algorithms that its tokens may have: RS256 to RS512, PS256 to PS512, ES256 to ES512, EdDSA."),
		field.Enum("acts_as").NamedValues("Users", "USERS", "Roles", "ROLES").Immutable().Comment("Whom its tokens speak for."),
		claimField(),
		mappingField("For ROLES: which tokens have which rights. A token that no rule fits is refused."),
		field.Bool("enabled").Default(true).Comment("Whether its tokens are taken."),
	}
}

func (TrustedIssuer) Indexes() []ent.Index {
	return []ent.Index{uniqueName(), index.Fields("issuer", "audience").Unique()}
}

func (TrustedIssuer) Annotations() []schema.Annotation {
	return noun("An outside system whose JWTs are credentials here.")
}

func (TrustedIssuer) Policy() ent.Policy {
	return rule.Noun{Name: "trusted issuer", Tenant: "organization_id", Level: rule.Managers, Write: viewer.ManageAccess}
}
