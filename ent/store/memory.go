package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/ent/gen"
	"github.com/hookyard/hookyard/ent/ids"
)

// Memory is what the hub keeps for connectors, one row per link and per state; see
// connectors.Memory. The endpoint's ID and organization have to be the hub's own
// knowledge: both are part of every key. States are sealed, because connectors keep tokens in
// them. What belongs to an endpoint or a source goes when that is deleted. It is not
// configuration: no revision is raised and nothing is in the audit log.
type Memory struct {
	MaxLinks, MaxLinkBytes int // as in the contract; tests have less

	db  *DB
	key sealer

	mu   sync.Mutex
	kept map[string]*kept // by organization and owner
}

// kept is what an owner's links take: as it was counted at a time, and what has been written
// since by this node. Counting is dear, and links are written one by one.
type kept struct {
	links, bytes, writes int
	at                   time.Time
}

const (
	countWrites = 1000        // after so many writes links are counted again, …
	countAge    = time.Minute // … and after this time: other nodes write and remove, too
	mostKept    = 1000        // owners whose count is remembered
)

// Memory returns the database's.
func (db *DB) Memory(key sealer) *Memory {
	return &Memory{MaxLinks: connectors.MaxLinks, MaxLinkBytes: connectors.MaxLinkBytes, db: db, key: key, kept: map[string]*kept{}}
}

// statesColumn is what a change of the key has to seal anew.
func statesColumn() gen.SealedColumn {
	return gen.SealedColumn{Table: "connector_states", Column: "value"}
}

// Link implements connectors.Memory.
func (m *Memory) Link(ctx context.Context, e connectors.Endpoint, kind, ours string) (connectors.Link, error) {
	return m.link(ctx, connectors.Link{Kind: kind, Ours: ours}, "ours = $4", e.Organization, e.ID, kind, ours)
}

// LinkTo implements connectors.Memory.
func (m *Memory) LinkTo(ctx context.Context, e connectors.Endpoint, kind, theirs string) (connectors.Link, error) {
	return m.link(ctx, connectors.Link{Kind: kind, Theirs: theirs}, "theirs = $4", e.Organization, e.ID, kind, theirs)
}

func (m *Memory) link(ctx context.Context, l connectors.Link, where string, args ...any) (connectors.Link, error) {
	err := m.row(ctx, "SELECT ours, theirs, url, note, version FROM connector_links WHERE org = $1 AND owner = $2 AND kind = $3 AND "+where, args,
		&l.Ours, &l.Theirs, &l.URL, &l.Note, &l.Version)
	if err != nil {
		return l, fmt.Errorf("look up what a connector has linked: %w", err)
	}
	return l, nil
}

// row reads the one row that there may be.
func (m *Memory) row(ctx context.Context, query string, args []any, into ...any) error {
	rows, err := m.db.Client.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	if rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
	}
	return rows.Err()
}

// SetLink implements connectors.Memory.
func (m *Memory) SetLink(ctx context.Context, e connectors.Endpoint, l connectors.Link) error {
	if err := l.Check(); err != nil {
		return err
	}
	key := []any{e.Organization, e.ID, l.Kind, l.Ours}
	const at = " WHERE org = $1 AND owner = $2 AND kind = $3 AND ours = $4"
	switch {
	case l.Theirs == "" && l.Version == 0:
		found, err := m.Link(ctx, e, l.Kind, l.Ours)
		if err == nil && found.Version != 0 {
			err = connectors.ErrConflict
		}
		return err
	case l.Theirs == "":
		err := m.one(ctx, "DELETE FROM connector_links"+at+" AND version = $5", append(key, l.Version)...)
		if err == nil {
			m.removed(e)
		}
		return err
	}
	if err := m.room(ctx, e, l); err != nil {
		return err
	}
	if l.Version == 0 {
		err := m.one(ctx, "INSERT INTO connector_links (org, owner, kind, ours, theirs, url, note, version) SELECT $1, $2, $3, $4, $5, $6, "+m.blob("$7")+", 1"+
			m.where(e)+" ON CONFLICT DO NOTHING", append(key, l.Theirs, l.URL, l.Note)...)
		if err != nil {
			m.removed(e)
		}
		return err
	}
	return m.one(ctx, "UPDATE connector_links SET theirs = $6, url = $7, note = $8, version = version + 1"+at+" AND version = $5 AND NOT EXISTS "+
		"(SELECT 1 FROM connector_links WHERE org = $1 AND owner = $2 AND kind = $3 AND theirs = $6 AND ours <> $4)", append(key, l.Version, l.Theirs, l.URL, l.Note)...)
}

// room says whether there is some for a link: *connectors.LimitError if not. What is written
// counts in full until links are counted again, also where it replaces something.
func (m *Memory) room(ctx context.Context, e connectors.Endpoint, l connectors.Link) error {
	owner, more := e.Organization+"/"+e.ID, len(l.URL)+len(l.Note)
	m.mu.Lock()
	k := m.kept[owner]
	m.mu.Unlock()
	if k == nil || k.writes >= countWrites || time.Since(k.at) > countAge {
		k = &kept{at: time.Now()}
		if err := m.row(ctx, "SELECT count(*), coalesce(sum(octet_length(url) + coalesce(octet_length(note), 0)), 0) FROM connector_links WHERE org = $1 AND owner = $2",
			[]any{e.Organization, e.ID}, &k.links, &k.bytes); err != nil {
			return fmt.Errorf("count what a connector has linked: %w", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.kept) >= mostKept {
		clear(m.kept)
	}
	m.kept[owner] = k
	switch {
	case l.Version == 0 && k.links >= m.MaxLinks: // within a few, when several nodes write
		return &connectors.LimitError{Message: fmt.Sprintf("%d links are kept for it, which is the most", k.links)}
	case k.bytes+more > m.MaxLinkBytes:
		return &connectors.LimitError{Message: fmt.Sprintf("the notes and addresses of its links have %d bytes, of at most %d; what is removed makes room within a minute", k.bytes, m.MaxLinkBytes)}
	}
	k.bytes += more
	k.writes++
	if l.Version == 0 {
		k.links++
	}
	return nil
}

// removed takes a link off the count.
func (m *Memory) removed(e connectors.Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k := m.kept[e.Organization+"/"+e.ID]; k != nil {
		k.links--
	}
}

// State implements connectors.Memory.
func (m *Memory) State(ctx context.Context, e connectors.Endpoint, key string) (connectors.State, error) {
	s := connectors.State{Key: key}
	var sealed []byte
	err := m.row(ctx, "SELECT value, version FROM connector_states WHERE org = $1 AND owner = $2 AND key = $3", []any{e.Organization, e.ID, key}, &sealed, &s.Version)
	if err == nil {
		s.Value, err = m.key.Unseal(stateID(e, key), statesColumn().Column, sealed)
	}
	if err != nil {
		return s, fmt.Errorf("look up what a connector keeps: %w", err)
	}
	return s, nil
}

// SetState implements connectors.Memory.
func (m *Memory) SetState(ctx context.Context, e connectors.Endpoint, s connectors.State) error {
	if err := s.Check(); err != nil {
		return err
	}
	key := []any{e.Organization, e.ID, s.Key}
	const at = " WHERE org = $1 AND owner = $2 AND key = $3"
	id := stateID(e, s.Key)
	var sealed []byte
	if len(s.Value) > 0 {
		var err error
		if sealed, err = m.key.Seal(id, statesColumn().Column, s.Value); err != nil {
			return err
		}
	}
	switch {
	case sealed == nil && s.Version == 0:
		found, err := m.State(ctx, e, s.Key)
		if err == nil && found.Version != 0 {
			err = connectors.ErrConflict
		}
		return err
	case sealed == nil:
		return m.one(ctx, "DELETE FROM connector_states"+at+" AND version = $4", append(key, s.Version)...)
	case s.Version > 0:
		return m.one(ctx, "UPDATE connector_states SET value = $5, version = version + 1"+at+" AND version = $4", append(key, s.Version, sealed)...)
	}
	var n int
	if err := m.row(ctx, "SELECT count(*) FROM connector_states WHERE org = $1 AND owner = $2", key[:2], &n); err != nil {
		return fmt.Errorf("count what a connector keeps: %w", err)
	}
	if n >= connectors.MaxStates { // within a few, when many are made at once
		return &connectors.LimitError{Message: fmt.Sprintf("%d states are kept for it, which is the most", n)}
	}
	return m.one(ctx, "INSERT INTO connector_states (org, owner, key, id, value, version) SELECT $1, $2, $3, $4, "+m.blob("$5")+", 1"+m.where(e)+" ON CONFLICT DO NOTHING",
		append(key, id, sealed)...)
}

// ForgetStates removes the states of an endpoint or a source that leads elsewhere from now on:
// tokens of the old place have nothing to do at the new one.
func ForgetStates(ctx context.Context, c *gen.Client, org, owner string) error {
	if _, err := c.ExecContext(ctx, "DELETE FROM connector_states WHERE org = $1 AND owner = $2", org, owner); err != nil {
		return fmt.Errorf("forget what a connector kept: %w", err)
	}
	return nil
}

// where holds while what owns the row is there.
func (*Memory) where(e connectors.Endpoint) string {
	switch ids.Prefix(e.ID) {
	case ids.Endpoint:
		return " WHERE EXISTS (SELECT 1 FROM endpoints WHERE id = $2)"
	case ids.Source:
		return " WHERE EXISTS (SELECT 1 FROM sources WHERE id = $2)"
	}
	return " WHERE 1 = 1"
}

// blob says of a parameter that it is bytes, which PostgreSQL cannot know in a SELECT.
func (m *Memory) blob(parameter string) string {
	if m.db.Dialect == Postgres {
		return parameter + "::bytea"
	}
	return parameter
}

// one changes one row, or it is ErrConflict.
func (m *Memory) one(ctx context.Context, query string, args ...any) error {
	res, err := m.db.Client.ExecContext(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("keep something for a connector: %w", err)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = connectors.ErrConflict
	}
	return err
}

// stateID is what a state's value is sealed for.
func stateID(e connectors.Endpoint, key string) string {
	sum := sha256.Sum256([]byte(e.Organization + "\x00" + e.ID + "\x00" + key))
	return hex.EncodeToString(sum[:16])
}
