package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// The tables of this file are no nouns: every node writes down in them which packages of
// connectors it has and how their processes are, for whichever node somebody asks.

// ConnectorPackage is one package of a third party's connector, as some node has it.
type ConnectorPackage struct {
	Digest, Name, Version string
	Publisher             string   // "" nobody whom the operator of that node trusts
	Manifest              []byte   // of those that are told; see Manifest for the others
	Nodes                 []string // names of the running nodes that have it
}

// ConnectorReport is how one process was, at At.
type ConnectorReport struct {
	Node         string // its name
	Organization string
	Connector    string
	Digest       string
	At           time.Time
	Report       []byte // JSON
}

// alive is the condition that a node's heart beats; %s is the database's clock.
func (db *DB) alive() string {
	clock := "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
	if db.Dialect == Postgres {
		clock = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
	}
	return "n.dead = 0 AND n.heartbeat > " + clock + " - 60000000"
}

// write is one of a few that are done together.
type write struct {
	sql  string
	args []any
}

func (db *DB) together(ctx context.Context, list []write) error {
	if db.Dialect == SQLite {
		tx, err := db.Write.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, s := range list {
			if _, err := tx.ExecContext(ctx, s.sql, s.args...); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
	return pgx.BeginFunc(ctx, db.Pool, func(tx pgx.Tx) error {
		for _, s := range list {
			if _, err := tx.Exec(ctx, s.sql, s.args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// rows calls f for each row of a query.
func (db *DB) rows(ctx context.Context, query string, args []any, f func(scan func(...any) error) error) error {
	if db.Dialect == SQLite {
		rows, err := db.Read.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		return eachRow(rows, f)
	}
	rows, err := db.Pool.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

func eachRow(rows *sql.Rows, f func(scan func(...any) error) error) (err error) {
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// unused are the packages that no node has any more, and neither an organization nor an
// endpoint would need if one had.
const unused = "digest NOT IN (SELECT digest FROM connector_nodes) AND digest NOT IN (SELECT digest FROM enabled_connectors) " +
	"AND NOT EXISTS (SELECT 1 FROM endpoints e WHERE e.connector_digest = connector_packages.digest)"

// TellPackages writes down which packages a node has, and forgets what nodes that are
// gone have told, and packages that nobody can or wants to use any more.
func (db *DB) TellPackages(ctx context.Context, node string, list []ConnectorPackage) error {
	work := []write{
		{"DELETE FROM connector_nodes WHERE node = $1 OR node IN (SELECT id FROM nodes WHERE dead = 1)", []any{node}},
		{"DELETE FROM connector_reports WHERE node IN (SELECT id FROM nodes WHERE dead = 1)", nil},
	}
	for _, p := range list {
		work = append(work,
			write{"INSERT INTO connector_packages (digest, name, version, publisher, manifest) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (digest) DO UPDATE SET publisher = excluded.publisher",
				[]any{p.Digest, p.Name, p.Version, p.Publisher, p.Manifest}},
			write{"INSERT INTO connector_nodes (node, digest) VALUES ($1, $2)", []any{node, p.Digest}})
	}
	work = append(work, write{"DELETE FROM connector_packages WHERE " + unused, nil})
	if err := db.together(ctx, work); err != nil {
		return fmt.Errorf("tell which connectors are installed: %w", err)
	}
	return nil
}

// Packages returns every package that a node has or had, by digest, but for those that nobody
// has or uses any more.
func (db *DB) Packages(ctx context.Context) (map[string]*ConnectorPackage, error) {
	out := map[string]*ConnectorPackage{}
	err := db.rows(ctx, "SELECT digest, name, version, publisher FROM connector_packages", nil, func(scan func(...any) error) error {
		p := &ConnectorPackage{}
		err := scan(&p.Digest, &p.Name, &p.Version, &p.Publisher)
		out[p.Digest] = p
		return err
	})
	if err == nil {
		err = db.rows(ctx, "SELECT c.digest, n.name FROM connector_nodes c JOIN nodes n ON n.id = c.node WHERE "+db.alive()+" ORDER BY n.name", nil, func(scan func(...any) error) error {
			var digest, node string
			err := scan(&digest, &node)
			if p := out[digest]; p != nil {
				p.Nodes = append(p.Nodes, node)
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read which connectors are installed: %w", err)
	}
	return out, nil
}

// Manifest returns the manifest of one of Packages; nil: it is none of them.
func (db *DB) Manifest(ctx context.Context, digest string) (manifest []byte, err error) {
	err = db.rows(ctx, "SELECT manifest FROM connector_packages WHERE digest = $1", []any{digest}, func(scan func(...any) error) error { return scan(&manifest) })
	if err != nil {
		return nil, fmt.Errorf("read a connector's manifest: %w", err)
	}
	return manifest, nil
}

// TellReports writes down how processes of a node are, and forgets those that are gone.
func (db *DB) TellReports(ctx context.Context, node string, list, gone []ConnectorReport) error {
	var work []write
	for _, r := range gone {
		work = append(work, write{"DELETE FROM connector_reports WHERE node = $1 AND org = $2 AND digest = $3", []any{node, r.Organization, r.Digest}})
	}
	for _, r := range list {
		work = append(work, write{"INSERT INTO connector_reports (node, org, digest, connector, at, report) VALUES ($1, $2, $3, $4, $5, $6) " +
			"ON CONFLICT (node, org, digest) DO UPDATE SET at = excluded.at, report = excluded.report",
			[]any{node, r.Organization, r.Digest, r.Connector, r.At.UnixMicro(), r.Report}})
	}
	if err := db.together(ctx, work); err != nil {
		return fmt.Errorf("tell how connectors are: %w", err)
	}
	return nil
}

// ForgetReports forgets what an earlier start of a node has told.
func (db *DB) ForgetReports(ctx context.Context, node string) error {
	if err := db.together(ctx, []write{{"DELETE FROM connector_reports WHERE node = $1", []any{node}}}); err != nil {
		return fmt.Errorf("forget how connectors were: %w", err)
	}
	return nil
}

// Reports returns how an organization's processes are, on every running node.
func (db *DB) Reports(ctx context.Context, org string) (list []ConnectorReport, err error) {
	err = db.rows(ctx, "SELECT n.name, r.org, r.connector, r.digest, r.at, r.report FROM connector_reports r JOIN nodes n ON n.id = r.node WHERE r.org = $1 AND "+db.alive()+
		" ORDER BY r.connector, n.name, r.digest", []any{org}, func(scan func(...any) error) error {
		var r ConnectorReport
		var at int64
		err := scan(&r.Node, &r.Organization, &r.Connector, &r.Digest, &at, &r.Report)
		r.At = time.UnixMicro(at).UTC()
		list = append(list, r)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read how connectors are: %w", err)
	}
	return list, nil
}

// Usage counts the endpoints, sources, webhooks, triggers and projects of all organizations that use a package, by digest.
func (db *DB) Usage(ctx context.Context) (map[string]int, error) {
	out := map[string]int{}
	for _, query := range []string{
		"SELECT CASE WHEN e.connector_digest <> '' THEN e.connector_digest ELSE c.digest END, count(*) FROM endpoints e " +
			"JOIN enabled_connectors c ON c.organization_id = e.organization_id AND c.name = e.connector GROUP BY 1",
		"SELECT c.digest, count(*) FROM sources s JOIN enabled_connectors c ON c.organization_id = s.organization_id AND s.kind LIKE c.name || '/%' GROUP BY 1",
		"SELECT c.digest, count(*) FROM triggers t JOIN enabled_connectors c ON c.organization_id = t.organization_id AND t.kind LIKE c.name || '/%' GROUP BY 1",
		"SELECT c.digest, count(*) FROM projects p JOIN enabled_connectors c ON c.organization_id = p.organization_id AND p.scanner = c.name GROUP BY 1",
		"SELECT c.digest, count(*) FROM webhooks w JOIN enabled_connectors c ON c.organization_id = w.organization_id AND w.format LIKE c.name || '/%' GROUP BY 1",
	} {
		err := db.rows(ctx, query, nil, func(scan func(...any) error) error {
			var digest string
			var n int
			err := scan(&digest, &n)
			out[digest] += n
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("count what uses connectors: %w", err)
		}
	}
	return out, nil
}
