package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jonboulle/clockwork"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/ids"
	"github.com/hookyard/hookyard/server/flow"
)

// SQLite is an opened SQLite database: Write holds at most one connection, which ent
// writes through as well; Read holds any number.
type SQLite struct{ Write, Read *sql.DB }

// Config is what a Ledger is made of. Exactly one of SQLite and Postgres is set, its
// schema is in place, and it outlives the Ledger.
type Config struct {
	SQLite   *SQLite
	Postgres *pgxpool.Pool
	Clock    clockwork.Clock // nil: the real one
	IDs      *ids.Maker
	NodeName string // unique among the running nodes, the same after a restart
	Version  string // of the program, for people
	Log      *slog.Logger

	Writers     int           // groups committed at a time on PostgreSQL, 0: 2; SQLite has one
	MaxGroup    int           // calls in a group, 0: 256
	QueueCalls  int           // waiting Accepts before ErrBusy, 0: 16384
	QueueBytes  int           // their bytes, 0: 64 MiB
	Grace       time.Duration // without a heartbeat before a node is dead, 0: 15 s
	KeyWindow   time.Duration // for which keys are kept, 0: 7 days
	StateWindow time.Duration // for which keys with a State are kept, 0: 400 days
	EntriesEach int64         // entries in a partition on PostgreSQL, 0: 2^20; the same for the life of a database
	// OnCommit is told of each group that was committed. It must be quick.
	OnCommit func(Commit)
}

// Commit describes one committed group.
type Commit struct {
	Calls, Events, Records int
	Took                   time.Duration
}

// ErrClosed says that the ledger is ending.
var ErrClosed = errors.New("ledger: closed")

// maxTries is how often a transaction is tried that lost against another one.
const maxTries = 20

// Ledger is the durable record. It is safe for concurrent use.
type Ledger struct {
	c     Config
	db    database
	pg    bool
	st    statements
	clock clockwork.Clock
	log   *slog.Logger

	lease    atomic.Pointer[flow.Lease]
	beaten   atomic.Pointer[time.Time] // when the last heartbeat that counted was begun
	held     atomic.Bool
	queue    queue
	tail     signal // a commit with entries, here or elsewhere
	told     chan struct{}
	nums     numbers
	health   health
	patience patience

	stop context.CancelFunc // ends the background work
	ctx  context.Context
	done sync.WaitGroup
}

// Open takes the database over: it joins the nodes under the name of the config, with
// a new epoch, and takes back what the node's earlier starts had in hand.
func Open(ctx context.Context, c Config) (*Ledger, error) {
	defaults(&c)
	l := &Ledger{c: c, clock: c.Clock, log: c.Log, told: make(chan struct{}, 1), patience: patience{until: map[string]time.Time{}}}
	writers := 1
	switch {
	case c.SQLite != nil && c.Postgres == nil:
		l.db = openLite(c.SQLite.Write, c.SQLite.Read)
	case c.Postgres != nil && c.SQLite == nil:
		l.db, l.pg, writers = &postgres{c.Postgres}, true, c.Writers
	default:
		return nil, errors.New("ledger: open: give exactly one of SQLite and Postgres")
	}
	if c.IDs == nil || c.NodeName == "" {
		return nil, errors.New("ledger: open: IDs and NodeName are required")
	}
	l.st = newStatements()
	l.nums.init()
	l.tail.init()
	l.queue.init(c.QueueCalls, c.QueueBytes, c.MaxGroup)
	if err := l.Join(ctx); err != nil {
		return nil, err
	}
	if err := l.takePollsBack(ctx); err != nil {
		return nil, err
	}
	if err := l.loadHeld(ctx); err != nil {
		return nil, err
	}
	if l.pg {
		// The default partitions take what has none yet.
		if _, _, err := l.repartition(ctx, time.Time{}); err != nil {
			l.log.Warn("make partitions", "err", err)
		}
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	for range writers {
		l.done.Go(l.writer)
	}
	if l.pg {
		l.done.Go(l.notify)
		l.done.Go(l.listen)
	}
	return l, nil
}

func defaults(c *Config) {
	if c.Clock == nil {
		c.Clock = clockwork.NewRealClock()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.EntriesEach == 0 {
		c.EntriesEach = 1 << 20
	}
	for _, d := range []struct {
		v *int
		d int
	}{{&c.Writers, 2}, {&c.MaxGroup, 256}, {&c.QueueCalls, 16384}, {&c.QueueBytes, 64 << 20}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
	for _, d := range []struct {
		v *time.Duration
		d time.Duration
	}{{&c.Grace, 15 * time.Second}, {&c.KeyWindow, 7 * 24 * time.Hour}, {&c.StateWindow, 400 * 24 * time.Hour}} {
		if *d.v == 0 {
			*d.v = d.d
		}
	}
}

// Close refuses new work, commits what waits, hands this node's leases back and ends.
// When ctx ends first, what still waits is answered with ErrClosed.
func (l *Ledger) Close(ctx context.Context) error {
	l.queue.close()
	drained := make(chan struct{})
	go func() { l.queue.drained(); close(drained) }()
	var err error
	select {
	case <-drained:
		err = l.releaseAll(ctx)
	case <-ctx.Done():
		err = fmt.Errorf("ledger: close: %w", ctx.Err())
	}
	l.abandon()
	<-drained
	l.db.close()
	return err
}

// abandon ends the background work as a crash would, but for its goroutines.
func (l *Ledger) abandon() {
	l.queue.close()
	l.stop()
	l.queue.abort()
	l.done.Wait()
}

// Lease is this node at this start, as its leases say it.
func (l *Ledger) Lease() flow.Lease { return *l.lease.Load() }

// Term is Lease, and until when nobody else takes over what is leased under it, whatever
// becomes of this node: for as long it may be relied on without asking the database. That
// is less than the grace, so that what is handed over at its end is on its way before others
// do the same. Zero is for ever: on SQLite there are no others.
func (l *Ledger) Term() (flow.Lease, time.Time) {
	if !l.pg {
		return l.Lease(), time.Time{}
	}
	until := l.beaten.Load().Add(l.c.Grace * 2 / 3) // before the lease, which is renewed first
	return l.Lease(), until
}

// Stats is the state of the queue in front of the database.
type Stats struct {
	Calls, Bytes int // Accepts that wait, and their size
	Records      int // Records that wait
}

// Stats returns the present state of the queue.
func (l *Ledger) Stats() Stats { return l.queue.stats() }

// micros is t as the ledger's tables keep it.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func instant(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// headers are kept as lines "Name: value".
func joinHeaders(h []connectors.Header) string {
	n := 0
	for i := range h {
		n += len(h[i].Name) + len(h[i].Value) + 3
	}
	if n == 0 {
		return ""
	}
	b := make([]byte, 0, n)
	for i := range h {
		b = append(b, h[i].Name...)
		b = append(b, ": "...)
		if h[i].Secret != "" {
			b = append(b, "[secret:"+h[i].Secret+"]"...)
		} else {
			b = append(b, h[i].Value...)
		}
		b = append(b, '\n')
	}
	return string(b)
}
