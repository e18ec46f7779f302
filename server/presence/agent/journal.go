package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// journal keeps what came of attempts on disk until the hub has it. A line is an outcome,
// or names attempts that may be forgotten; only outcomes are worth an fsync, since telling
// one twice does no harm.
type journal struct {
	path    string
	file    *os.File
	size    int64
	fresh   int64               // its size when it was last written anew
	most    int64               // up to which it may grow before it is written anew, or to twice fresh
	written func(...*outcome)   // told of outcomes that are on disk
	failed  func(error)         // told that nothing can be written any more
	open    map[string]*outcome // not forgotten, by slot; of the goroutine that writes

	mu      sync.Mutex
	adds    []*outcome
	forgets []*outcome
	wake    chan struct{}
}

// line is one line of the file.
type line struct {
	Made   *outcome `json:"made,omitempty"`
	Forget []string `json:"forget,omitempty"` // slots
}

// openJournal opens the file and returns what an earlier life has left in it.
func openJournal(dir string) (_ *journal, left []*outcome, err error) {
	j := &journal{path: filepath.Join(dir, "outcomes.jsonl"), most: 16 << 20, open: map[string]*outcome{}, wake: make(chan struct{}, 1)}
	b, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("read the journal: %w", err)
	}
	for r := bufio.NewReader(bytes.NewReader(b)); ; {
		text, err := r.ReadBytes('\n')
		if err == io.EOF {
			break // without an end it was not yet on disk when somebody could have been told
		}
		var l line
		if json.Unmarshal(text, &l) != nil {
			continue // torn by a crash and written over by the next life
		}
		if l.Made != nil {
			j.open[slot(l.Made.DeliveryID, l.Made.Number)] = l.Made
		}
		for _, s := range l.Forget {
			delete(j.open, s)
		}
	}
	for _, o := range j.open {
		left = append(left, o)
	}
	slices.SortFunc(left, func(a, b *outcome) int { return bytes.Compare([]byte(a.Attempt), []byte(b.Attempt)) })
	if err := j.rewrite(); err != nil {
		return nil, nil, err
	}
	return j, left, nil
}

// rewrite leaves only what is open in the file.
func (j *journal) rewrite() (err error) {
	fresh := j.path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	var all bytes.Buffer
	for _, o := range j.open {
		if err := put(&all, line{Made: o}); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	if _, err = f.Write(all.Bytes()); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(fresh, j.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write the journal: %w", err), f.Close())
	}
	if j.file != nil {
		_ = j.file.Close()
	}
	j.file, j.size, j.fresh = f, int64(all.Len()), int64(all.Len())
	return nil
}

// syncFolder makes a new name in a folder durable.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func put(to *bytes.Buffer, l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	to.Write(b)
	to.WriteByte('\n')
	return nil
}

// add keeps an outcome; written is told once it is on disk.
func (j *journal) add(o *outcome) {
	j.mu.Lock()
	j.adds = append(j.adds, o)
	j.mu.Unlock()
	j.raise()
}

// forget lets go of outcomes that the hub has.
func (j *journal) forget(all ...*outcome) {
	j.mu.Lock()
	j.forgets = append(j.forgets, all...)
	j.mu.Unlock()
	j.raise()
}

func (j *journal) raise() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// run writes until stop is closed, and then what is left.
func (j *journal) run(stop <-chan struct{}) {
	for ended := false; !ended; {
		select {
		case <-j.wake:
		case <-stop:
			ended = true
		}
		if err := j.turn(); err != nil {
			j.failed(err)
			return
		}
	}
	_ = j.file.Close()
}

// turn writes what has come together: all of it with one fsync.
func (j *journal) turn() error {
	j.mu.Lock()
	adds, forgets := j.adds, j.forgets
	j.adds, j.forgets = nil, nil
	j.mu.Unlock()
	if len(adds)+len(forgets) == 0 {
		return nil
	}
	var all bytes.Buffer
	if len(forgets) > 0 {
		var l line
		for _, o := range forgets {
			s := slot(o.DeliveryID, o.Number)
			delete(j.open, s)
			l.Forget = append(l.Forget, s)
		}
		if err := put(&all, l); err != nil {
			return err
		}
	}
	for _, o := range adds {
		j.open[slot(o.DeliveryID, o.Number)] = o
		if err := put(&all, line{Made: o}); err != nil {
			return err
		}
	}
	j.size += int64(all.Len())
	if len(j.open) == 0 && j.size > j.most/16 || j.size > max(j.most, 2*j.fresh) {
		if err := j.rewrite(); err != nil {
			return err
		}
		if len(adds) > 0 {
			j.written(adds...)
		}
		return nil
	}
	if _, err := j.file.Write(all.Bytes()); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	if len(adds) == 0 {
		return nil
	}
	if err := j.file.Sync(); err != nil {
		return fmt.Errorf("write the journal: %w", err)
	}
	j.written(adds...)
	return nil
}
