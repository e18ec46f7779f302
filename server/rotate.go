package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/ent/secret"
	"github.com/hookyard/hookyard/ent/store"
)

// RotateSecrets exchanges the key that seals secrets, while hubs run: it makes a new one,
// seals everything with it and throws the old one away. When it was interrupted, or a
// node on another machine waits for the file, the next call goes on where this one ended.
// A node that does not know the file as it is within wait is an error.
func RotateSecrets(ctx context.Context, cfg Config, out io.Writer, wait time.Duration) (err error) {
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return err
	}
	cfg.DataDir = dir
	file := cfg.secrets().KeyFile
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("there is no key file here: %w", err)
	}
	lock, err := os.OpenFile(file+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := flock(lock); err != nil {
		return errors.New("somebody else is exchanging the key")
	}
	return Operate(ctx, cfg, func(o *Operator) error {
		box, err := secret.Open(ctx, cfg.secrets())
		if err != nil {
			return err
		}
		if err := o.db.CheckKey(ctx, box); err != nil {
			return err
		}
		r := rotation{o, box, file, out, wait}
		return r.run(o.by(ctx))
	})
}

type rotation struct {
	*Operator
	box  *secret.Box
	file string
	out  io.Writer
	wait time.Duration
}

func (r rotation) run(ctx context.Context) error {
	if len(r.box.Keys().All) == 1 {
		if err := r.db.Audit(ctx, store.Action{Organization: store.Everywhere, Action: store.RotateSecrets, Noun: "Hub"}); err != nil {
			return err
		}
		if err := r.box.AddKey(ctx); err != nil {
			return err
		}
		r.say("made a new key")
	}
	if k := r.box.Keys(); k.Primary != k.Newest() {
		if err := r.agree(ctx); err != nil {
			return err
		}
		if err := r.box.Promote(ctx); err != nil {
			return err
		}
		r.say("the new key seals what is new")
	}
	if err := r.agree(ctx); err != nil {
		return err
	}
	// Somebody may have sealed with the old key while this began: go round until nobody has.
	for all := 0; ; {
		n, err := r.db.Reseal(ctx, r.box)
		if err != nil {
			return err
		}
		if all += n; n == 0 {
			r.say("sealed %d secrets anew", all)
			break
		}
	}
	if err := r.box.DropOld(ctx); err != nil {
		return err
	}
	r.say("removed the old key; backups made before hold their own")
	// Nodes on other machines may go on with a file that knows more.
	return nil
}

func (r rotation) say(format string, args ...any) { _, _ = fmt.Fprintf(r.out, format+"\n", args...) }

// agree waits until all nodes that live work with the file as it is.
func (r rotation) agree(ctx context.Context) error {
	want := r.box.Keys().String()
	late := time.After(r.wait)
	look := time.NewTicker(250 * time.Millisecond)
	defer look.Stop()
	for {
		said, err := r.db.NodeKeys(ctx)
		if err != nil {
			return err
		}
		maps.DeleteFunc(said, func(_, keys string) bool { return keys == want })
		if len(said) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			return fmt.Errorf("not all nodes know the key file as it is now, such as %s: copy %s to the data folder of each and run this again; nothing is lost, and the hubs go on working",
				strings.Join(slices.Sorted(maps.Keys(said)), ", "), r.file)
		case <-look.C:
		}
	}
}
