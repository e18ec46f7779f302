package graph

import (
	"context"
	"errors"
	"fmt"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/server/flow"
)

// ScanRunner starts and stops scans for the viewer.
type ScanRunner interface {
	// Start returns the ID of the run. flow.ErrScanRunning: the project is being scanned.
	Start(ctx context.Context, project string) (run string, err error)
	// Stop ends a run. flow.ErrScanEnded: it has ended.
	Stop(ctx context.Context, run string) error
}

func (r *Resolver) startScan(ctx context.Context, project string) (*gen.Run, error) {
	id, err := r.Scans.Start(ctx, project)
	if errors.Is(err, flow.ErrScanRunning) {
		return nil, conflict("The project is being scanned already.")
	} else if away := (*flow.ScannerAwayError)(nil); errors.As(err, &away) {
		return nil, &Error{Code: Unavailable, Message: fmt.Sprintf("The connector %s, which scans the project, does not answer now. Nothing was started; see connectorCatalogue.", away.Connector)}
	} else if err != nil {
		return nil, err
	}
	return r.DB.Client.Run.Get(ctx, id)
}

func (r *Resolver) stopScan(ctx context.Context, id string) (*gen.Run, error) {
	if err := r.Scans.Stop(ctx, id); errors.Is(err, flow.ErrScanEnded) {
		return nil, conflict("The scan has ended.")
	} else if err != nil {
		return nil, err
	}
	return r.DB.Client.Run.Get(ctx, id)
}
