package rule

import (
	"context"
	"fmt"

	"entgo.io/ent"

	"github.com/hookyard/hookyard/ent/viewer"
)

// Audit is the policy of the audit log: who may read it sees the rows of the levels
// that they have access to, and nobody, not even the hub, changes a row. The store
// appends, and removes what is too old, below the policies.
type Audit struct{ Noun }

// EvalQuery narrows a query down to what the viewer may see.
func (a Audit) EvalQuery(ctx context.Context, q ent.Query) error {
	if v := viewer.FromContext(ctx); v != nil && !v.Can(viewer.ReadAudit) {
		return a.unreadable()
	}
	return a.Noun.EvalQuery(ctx, q)
}

// EvalMutation denies every change.
func (a Audit) EvalMutation(ctx context.Context, _ ent.Mutation) error {
	if viewer.FromContext(ctx) == nil {
		return ErrNoViewer
	}
	return &Denied{a.Name, "it is only ever appended to"}
}

func (a Audit) unreadable() error {
	return &Denied{a.Name, fmt.Sprintf("it needs the permission %s", viewer.ReadAudit)}
}

// AuditScope makes the scope in which the context's viewer sees the audit log.
func AuditScope(ctx context.Context) (Scope, error) {
	s, err := LedgerScope(ctx)
	if err == nil && !viewer.FromContext(ctx).Can(viewer.ReadAudit) {
		return Scope{}, Audit{Noun{Name: "audit log"}}.unreadable()
	}
	return s, err
}
