package store

import (
	"context"
	"fmt"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/apikey"
	"github.com/hookyard/hookyard/ent/gen/application"
	"github.com/hookyard/hookyard/ent/gen/assetgroup"
	"github.com/hookyard/hookyard/ent/gen/auditentry"
	"github.com/hookyard/hookyard/ent/gen/customrole"
	"github.com/hookyard/hookyard/ent/gen/enabledconnector"
	"github.com/hookyard/hookyard/ent/gen/endpoint"
	"github.com/hookyard/hookyard/ent/gen/finding"
	"github.com/hookyard/hookyard/ent/gen/identityprovider"
	"github.com/hookyard/hookyard/ent/gen/organization"
	"github.com/hookyard/hookyard/ent/gen/presence"
	"github.com/hookyard/hookyard/ent/gen/project"
	"github.com/hookyard/hookyard/ent/gen/report"
	"github.com/hookyard/hookyard/ent/gen/run"
	"github.com/hookyard/hookyard/ent/gen/scan"
	"github.com/hookyard/hookyard/ent/gen/session"
	"github.com/hookyard/hookyard/ent/gen/source"
	"github.com/hookyard/hookyard/ent/gen/ticket"
	"github.com/hookyard/hookyard/ent/gen/trigger"
	"github.com/hookyard/hookyard/ent/gen/trustedissuer"
	"github.com/hookyard/hookyard/ent/gen/user"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/ids"
)

// WithNodeType lets gen.Client.Noder find the table of a global ID by its prefix. An
// ID of no noun in ent gives an error that is NotFound.
func WithNodeType() gen.NodeOption {
	return gen.WithNodeType(func(_ context.Context, id string) (string, error) {
		switch ids.Prefix(id) {
		case ids.Organization:
			return organization.Table, nil
		case ids.AssetGroup:
			return assetgroup.Table, nil
		case ids.Application:
			return application.Table, nil
		case ids.User:
			return user.Table, nil
		case ids.APIKey:
			return apikey.Table, nil
		case ids.CustomRole:
			return customrole.Table, nil
		case ids.Session:
			return session.Table, nil
		case ids.IdentityProvider:
			return identityprovider.Table, nil
		case ids.TrustedIssuer:
			return trustedissuer.Table, nil
		case ids.EnabledConnector:
			return enabledconnector.Table, nil
		case ids.Source:
			return source.Table, nil
		case ids.Endpoint:
			return endpoint.Table, nil
		case ids.Webhook:
			return webhook.Table, nil
		case ids.Presence:
			return presence.Table, nil
		case ids.Scan:
			return scan.Table, nil
		case ids.Finding:
			return finding.Table, nil
		case ids.Ticket:
			return ticket.Table, nil
		case ids.Report:
			return report.Table, nil
		case ids.Project:
			return project.Table, nil
		case ids.Trigger:
			return trigger.Table, nil
		case ids.Run:
			return run.Table, nil
		case ids.AuditEntry:
			return auditentry.Table, nil
		}
		return "", fmt.Errorf("%q: %w", id, &gen.NotFoundError{})
	})
}
