package agent

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opened is a journal that runs, and tells of what is on disk.
func opened(t *testing.T, dir string) (j *journal, left []*outcome, written chan *outcome, end func()) {
	t.Helper()
	j, left, err := openJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	written = make(chan *outcome, 1000)
	j.written = func(all ...*outcome) {
		for _, o := range all {
			written <- o
		}
	}
	j.failed = func(err error) { t.Error(err) }
	stop := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() { j.run(stop) })
	return j, left, written, func() { close(stop); running.Wait() }
}

// What was made is there after a crash at any moment, until it is forgotten.
func TestJournalSurvives(t *testing.T) {
	dir := t.TempDir()
	j, left, written, end := opened(t, dir)
	if len(left) > 0 {
		t.Fatal("a new journal is not empty")
	}
	one, two := &outcome{Attempt: "att_1", DeliveryID: "dlv_1", Number: 1, Outcome: "DONE"}, &outcome{Attempt: "att_2", DeliveryID: "dlv_2", Number: 3, Outcome: "RETRY", Error: "no"}
	j.add(one)
	j.add(two)
	<-written
	<-written
	// A crash leaves the file as it is, perhaps with half a line at its end.
	file := filepath.Join(dir, "outcomes.jsonl")
	b, err := os.ReadFile(file)
	if err != nil || strings.Count(string(b), "\n") != 2 {
		t.Fatalf("%v: %s", err, b)
	}
	j.forget(one)
	end()
	crashed := t.TempDir()
	if err := os.WriteFile(filepath.Join(crashed, "outcomes.jsonl"), append(b, `{"made":{"attempt":"att_3"`...), 0o600); err != nil {
		t.Fatal(err)
	}
	_, left, _, end = opened(t, crashed)
	end()
	if len(left) != 2 || left[0].Attempt != "att_1" || left[1].Number != 3 || left[1].Error != "no" {
		t.Errorf("after a crash: %+v", left)
	}
	_, left, _, end = opened(t, dir)
	end()
	if len(left) != 1 || left[0].Attempt != "att_2" {
		t.Errorf("after one was forgotten: %+v", left)
	}
}

// Nor does it grow when there is something new in every turn, or when much is open.
func TestJournalIsShortUnderLoad(t *testing.T) {
	j, _, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = j.file.Close() }()
	told := 0
	j.written = func(all ...*outcome) { told += len(all) }
	j.most = 16 << 10
	made := func(n int) *outcome {
		return &outcome{Attempt: "att_x", DeliveryID: "dlv_x", Number: n, Error: strings.Repeat("x", 500)}
	}
	turn := func(adds, forgets []*outcome) {
		t.Helper()
		j.adds, j.forgets = adds, forgets
		if err := j.turn(); err != nil {
			t.Fatal(err)
		}
	}
	last, rewritten, fresh := made(0), 0, int64(0)
	turn([]*outcome{last}, nil)
	for i := 1; i < 500; i++ {
		next := made(i)
		turn([]*outcome{next}, []*outcome{last})
		if last = next; j.size > 2*j.most {
			t.Fatalf("%d bytes for one outcome", j.size)
		}
	}
	for i := 500; i < 1000; i++ { // nothing is forgotten: far more than most is open
		turn([]*outcome{made(i)}, nil)
		if j.fresh != fresh {
			rewritten++
		}
		fresh = j.fresh
	}
	if told != 1000 || rewritten > 10 {
		t.Errorf("%d of 1000 told; the file was written anew %d times", told, rewritten)
	}
}

// The file does not grow with what is forgotten.
func TestJournalIsShort(t *testing.T) {
	dir := t.TempDir()
	j, _, written, end := opened(t, dir)
	j.most = 64 << 10
	kept := &outcome{Attempt: "att_0", DeliveryID: "dlv_0", Number: 1}
	j.add(kept)
	<-written
	for i := range 2000 {
		o := &outcome{Attempt: "att_x", DeliveryID: "dlv_x", Number: i, Error: strings.Repeat("x", 500)}
		j.add(o)
		<-written
		j.forget(o)
	}
	end()
	if info, err := os.Stat(filepath.Join(dir, "outcomes.jsonl")); err != nil || info.Size() > 128<<10 {
		t.Errorf("%v, %v", info.Size(), err)
	}
	_, left, _, end := opened(t, dir)
	end()
	if len(left) != 1 || left[0].Attempt != "att_0" {
		t.Errorf("left: %+v", left)
	}
}
