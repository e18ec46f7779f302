package ledger

import (
	"context"

	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// The way in is the index by receipt: with a plain org SQLite would take the primary key, and
// read all events of the organization. The ID spares PostgreSQL the older partitions.
const givenBy = "SELECT id, type, time, subject, grp, app FROM events WHERE receipt = ? AND org || '' = ? AND id >= ? ORDER BY id"

// Given are the events that name a receipt, in the order in which they were made: what it
// has told already, long after the keys have gone. Those that retention has taken are not
// among them.
func (l *Ledger) Given(ctx context.Context, r *flow.Receipt) ([]flow.Given, error) {
	var out []flow.Given
	err := l.read(ctx, "read what a receipt has given", givenBy, []any{r.ID, r.Org, ids.Floor(ids.Event, r.At.Add(-idSlack))}, func(scan func(...any) error) error {
		var g flow.Given
		var at int64
		err := scan(&g.ID, &g.Type, &at, &g.Subject, &g.Group, &g.App)
		g.Time = instant(at)
		out = append(out, g)
		return err
	})
	return out, err
}
