package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/gen/webhook"
	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/viewer"
)

// breaking seals a few values anew and is then as good as killed.
type breaking struct {
	*secret.Box
	left int
}

func (b *breaking) Reseal(id, field string, sealed []byte) ([]byte, bool, error) {
	if b.left--; b.left < 0 {
		return nil, false, errors.New("killed")
	}
	return b.Box.Reseal(id, field, sealed)
}

// The key is exchanged while a hub runs and people change secrets, also when it is
// interrupted half-way.
func TestRotateSecrets(t *testing.T) {
	onBoth(t, func(t *testing.T, cfg Config) {
		h := openHub(t, cfg)
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { h.keepSecrets(ctx) })
		defer running.Wait()
		defer stop()
		var hooks []string
		for i := range 30 {
			hook, _ := sealedRows(t, h, time.Now().Add(time.Hour), fmt.Sprint("secret ", i))
			hooks = append(hooks, hook)
		}
		before := h.secrets.Keys()

		// Half-way: a part is sealed with the new key, the rest with the old one.
		if err := h.secrets.AddKey(ctx); err != nil {
			t.Fatal(err)
		}
		if err := h.secrets.Promote(ctx); err != nil {
			t.Fatal(err)
		}
		if n, err := h.db.Reseal(ctx, &breaking{h.secrets, 40}); err == nil {
			t.Fatalf("not killed: %d", n)
		}

		// Somebody changes a secret all the time.
		last, editing, edited := "", make(chan struct{}), make(chan struct{})
		go func() {
			defer close(edited)
			for i := 0; ; i++ {
				select {
				case <-editing:
					return
				default:
				}
				value := fmt.Sprint("edit ", i)
				sealed, err := h.secrets.SealJSON(hooks[7], webhook.FieldSigningSecrets, [][]byte{[]byte(value)})
				if err == nil {
					err = h.db.WithTx(viewer.SystemContext(ctx), func(ctx context.Context, tx *gen.Tx) error {
						return tx.Webhook.UpdateOneID(hooks[7]).SetSigningSecrets(sealed).Exec(ctx)
					})
				}
				if err != nil {
					t.Error(err)
					return
				}
				last = value
			}
		}()
		var said bytes.Buffer
		err := RotateSecrets(ctx, h.cfg, &said, 30*time.Second)
		close(editing)
		<-edited
		if err != nil {
			t.Fatalf("%v after: %s", err, &said)
		}
		if !strings.Contains(said.String(), "anew") {
			t.Errorf("it said %q", &said)
		}
		if _, err := h.secrets.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		if k := h.secrets.Keys(); len(k.All) != 1 || k.Primary == before.Primary {
			t.Errorf("the keys were %v and are %v", before, k)
		}
		if n, err := h.db.Reseal(ctx, h.secrets); err != nil || n != 0 {
			t.Errorf("%d secrets are still as they were, %v", n, err)
		}
		w, err := worlds{db: h.db, secrets: h.secrets}.World(ctx, h.db.Client.Organization.Query().OnlyIDX(viewer.SystemContext(ctx)))
		if err != nil {
			t.Fatal(err)
		}
		for i, hook := range hooks {
			want := fmt.Sprint("secret ", i)
			if i == 7 {
				want = last
			}
			if got := string(w.Webhooks[hook].Keys[0].Reveal()); got != want {
				t.Errorf("webhook %d has %q, want %q", i, got, want)
			}
		}
		if err := h.db.CheckKey(ctx, h.secrets); err != nil {
			t.Error(err)
		}
		// And once more, from the start.
		if err := RotateSecrets(ctx, h.cfg, io.Discard, 30*time.Second); err != nil {
			t.Error(err)
		}
		if _, err := (worlds{db: h.db, secrets: h.secrets}).World(ctx, w.Organization.ID); err != nil {
			t.Error(err)
		}
	})
}

// A node that has another copy of the file holds the exchange up before it could hurt.
func TestRotateWaitsForAllNodes(t *testing.T) {
	h := openHub(t, Config{})
	if err := h.db.SetNodeKeys(t.Context(), h.cfg.NodeName, "something else"); err != nil {
		t.Fatal(err)
	}
	err := RotateSecrets(t.Context(), h.cfg, io.Discard, 300*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), h.cfg.NodeName) || !strings.Contains(err.Error(), KeyFile) {
		t.Errorf("%v", err)
	}
	if k := h.secrets.Keys(); len(k.All) != 1 {
		t.Errorf("a hub that has not looked knows %v", k)
	}
	if _, err := h.secrets.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if k := h.secrets.Keys(); len(k.All) != 2 || k.Primary == k.Newest() {
		t.Errorf("the new key seals already: %v", k)
	}
}
