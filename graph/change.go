package graph

import (
	"context"

	"github.com/hookyard/hookyard/ent/gen"
	graphgen "github.com/hookyard/hookyard/graph/gen"
)

// change runs a change in a transaction and reads its row again once it is committed,
// so that the answer is what everybody sees.
func change[V any](ctx context.Context, r *Resolver, get func(context.Context, string) (*V, error),
	do func(ctx context.Context, tx *gen.Tx) (id string, err error)) (*V, error) {
	var id string
	err := r.DB.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) (err error) {
		id, err = do(ctx, tx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return get(ctx, id)
}

// delete runs a deletion.
func (r *Resolver) delete(ctx context.Context, id string, do func(context.Context, *gen.Tx) error) (*graphgen.DeletePayload, error) {
	if err := r.DB.WithTx(ctx, do); err != nil {
		return nil, err
	}
	return &graphgen.DeletePayload{DeletedID: id}, nil
}
