package ledger

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
)

// numbers remembers what Numbers gave out: a number never changes.
type numbers struct {
	mu    sync.Mutex
	known map[orgKey]int32
}

type orgKey struct {
	org string
	connectors.NumberKey
}

// maxNumbers bounds the memory of numbers; beyond it the memory starts anew.
const maxNumbers = 1 << 16

func (n *numbers) init() { n.known = map[orgKey]int32{} }

// Numbers returns the stable numbers of objects, 1..2147483647, and assigns the next
// one of the kind, within the organization, to those that have none yet.
func (l *Ledger) Numbers(ctx context.Context, org string, keys []connectors.NumberKey) (map[connectors.NumberKey]int32, error) {
	out := make(map[connectors.NumberKey]int32, len(keys))
	missing := map[string][]string{}
	l.nums.mu.Lock()
	for _, k := range keys {
		if n, ok := l.nums.known[orgKey{org, k}]; ok {
			out[k] = n
		} else if k.ID != "" {
			missing[k.Kind] = append(missing[k.Kind], k.ID)
		}
	}
	l.nums.mu.Unlock()
	for kind, objects := range missing {
		slices.Sort(objects)
		objects = slices.Compact(objects)
		var got map[string]int32
		err := l.writeTx(ctx, "assign numbers", func(t tx) (err error) {
			got, err = assign(ctx, t, org, kind, objects)
			return err
		})
		if err != nil {
			return nil, err
		}
		l.nums.mu.Lock()
		if len(l.nums.known) > maxNumbers {
			clear(l.nums.known)
		}
		for object, n := range got {
			k := connectors.NumberKey{Kind: kind, ID: object}
			out[k], l.nums.known[orgKey{org, k}] = n, n
		}
		l.nums.mu.Unlock()
	}
	return out, nil
}

func assign(ctx context.Context, t tx, org, kind string, objects []string) (map[string]int32, error) {
	// The row of the empty object holds the last number and is the lock.
	var last int64
	if _, err := one(ctx, t, "INSERT INTO numbers (org, kind, object, n) VALUES (?, ?, '', 0) ON CONFLICT (org, kind, object) DO UPDATE SET n = numbers.n RETURNING n",
		[]any{org, kind}, &last); err != nil {
		return nil, err
	}
	var s selection
	s.and("org = ? AND kind = ?", org, kind)
	s.in("object", objects)
	got := make(map[string]int32, len(objects))
	err := t.query(ctx, "SELECT object, n FROM numbers WHERE "+s.sql(), s.args, func(scan func(...any) error) error {
		var object string
		var n int32
		err := scan(&object, &n)
		got[object] = n
		return err
	})
	if err != nil {
		return nil, err
	}
	before := last
	for _, object := range objects {
		if _, ok := got[object]; ok {
			continue
		}
		if last++; last > math.MaxInt32 {
			return nil, fmt.Errorf("all numbers of kind %q in %s are given", kind, org)
		}
		got[object] = int32(last)
		if err := exec(ctx, t, "INSERT INTO numbers (org, kind, object, n) VALUES (?, ?, ?, ?)", org, kind, object, last); err != nil {
			return nil, err
		}
	}
	if last == before {
		return got, nil
	}
	return got, exec(ctx, t, "UPDATE numbers SET n = ? WHERE org = ? AND kind = ? AND object = ''", last, org, kind)
}

// FindingKnown says whether the catalogue has the finding that the source names key.
func (l *Ledger) FindingKnown(ctx context.Context, org, source, key string) (known bool, err error) {
	err = l.read(ctx, "look a finding up", "SELECT 1 FROM findings WHERE id = ?", []any{ids.Of(ids.Finding, org, source, key)},
		func(func(...any) error) error { known = true; return nil })
	return known, err
}
