package store

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/hookyard/hookyard/ent/gen"
)

// resealer seals anew what an old key has sealed; see ent/secret.
type resealer interface {
	Reseal(id, field string, sealed []byte) (fresh []byte, changed bool, err error)
}

// resealBatch is how many rows one transaction touches.
const resealBatch = 50

// Reseal seals every secret in the database with today's key, a few rows at a time, and
// returns how many it had to. A secret that somebody changes meanwhile is left to him.
// When it was interrupted, the next call does the rest.
func (db *DB) Reseal(ctx context.Context, key resealer) (changed int, err error) {
	for _, c := range append(gen.SealedColumns(), statesColumn()) {
		n, err := db.reseal(ctx, key, c)
		if changed += n; err != nil {
			return changed, fmt.Errorf("seal %s of the %s anew: %w", c.Column, strings.ReplaceAll(c.Table, "_", " "), err)
		}
	}
	n, err := db.resealCheck(ctx, key)
	return changed + n, err
}

type sealedValue struct {
	id         string
	old, fresh []byte
}

func (db *DB) reseal(ctx context.Context, key resealer, c gen.SealedColumn) (changed int, err error) {
	for after, more := "", true; more; {
		var batch []sealedValue
		batch, after, more, err = db.sealedBatch(ctx, key, c, after)
		if err != nil {
			return changed, err
		}
		if len(batch) == 0 {
			continue
		}
		n := 0
		err := db.WithTx(ctx, func(ctx context.Context, tx *gen.Tx) error {
			n = 0
			for _, v := range batch {
				result, err := tx.ExecContext(ctx, fmt.Sprintf(`UPDATE %q SET %q = $1 WHERE id = $2 AND %q = $3`, c.Table, c.Column, c.Column), v.fresh, v.id, v.old)
				if err != nil {
					return err
				}
				touched, err := result.RowsAffected()
				if err != nil {
					return err
				}
				n += int(touched)
			}
			return nil
		})
		if err != nil {
			return changed, err
		}
		changed += n
	}
	return changed, nil
}

// sealedBatch reads the next rows, and seals anew what needs it.
func (db *DB) sealedBatch(ctx context.Context, key resealer, c gen.SealedColumn, after string) (batch []sealedValue, last string, more bool, err error) {
	rows, err := db.Client.QueryContext(ctx, fmt.Sprintf(`SELECT id, %q FROM %q WHERE id > $1 AND %q IS NOT NULL ORDER BY id LIMIT %d`, c.Column, c.Table, c.Column, resealBatch), after)
	if err != nil {
		return nil, after, false, err
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		var v sealedValue
		if err := rows.Scan(&v.id, &v.old); err != nil {
			return nil, after, false, err
		}
		last = v.id
		n++
		old := bytes.Clone(v.old)
		fresh, changed, err := key.Reseal(v.id, c.Column, old)
		if err != nil {
			return nil, after, false, err
		}
		if changed {
			batch = append(batch, sealedValue{v.id, old, fresh})
		}
	}
	return batch, last, n == resealBatch, rows.Err()
}

// resealCheck seals the mark anew by which CheckKey knows the key.
func (db *DB) resealCheck(ctx context.Context, key resealer) (changed int, err error) {
	value, err := db.meta(ctx, keyCheck)
	if err != nil || value == "" {
		return 0, err
	}
	old, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return 0, fmt.Errorf("look up which key seals the secrets: %w", err)
	}
	fresh, is, err := key.Reseal(keyCheck, "value", old)
	if err != nil || !is {
		return 0, err
	}
	_, err = db.Client.ExecContext(ctx, "UPDATE meta SET value = $1 WHERE name = $2 AND value = $3", base64.StdEncoding.EncodeToString(fresh), keyCheck, value)
	return 1, err
}

// keyCheck is the name, in meta, of the mark.
const keyCheck = "key_check"

func (db *DB) meta(ctx context.Context, name string) (value string, err error) {
	rows, err := db.Client.QueryContext(ctx, "SELECT value FROM meta WHERE name = $1", name)
	if err != nil {
		return "", fmt.Errorf("look %s up: %w", name, err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&value); err != nil {
			return "", fmt.Errorf("look %s up: %w", name, err)
		}
	}
	return value, rows.Err()
}

// nodeKeys begins the names, in meta, of what nodes say of their keys.
const nodeKeys = "secret.keys."

// SetNodeKeys notes which keys a node works with.
func (db *DB) SetNodeKeys(ctx context.Context, node, keys string) error {
	_, err := db.Client.ExecContext(ctx, "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value", nodeKeys+node, keys)
	if err != nil {
		return fmt.Errorf("note the node's keys: %w", err)
	}
	return nil
}

// NodeKeys is what the nodes that live say of their keys, "" nothing.
func (db *DB) NodeKeys(ctx context.Context) (map[string]string, error) {
	recent := "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
	if db.Dialect == Postgres {
		recent = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
	}
	rows, err := db.Client.QueryContext(ctx, "SELECT n.name, coalesce(m.value, '') FROM nodes n LEFT JOIN meta m ON m.name = '"+nodeKeys+"' || n.name WHERE n.dead = 0 AND n.heartbeat > "+recent+" - 15000000")
	if err != nil {
		return nil, fmt.Errorf("read the nodes' keys: %w", err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var node, keys string
		if err := rows.Scan(&node, &keys); err != nil {
			return nil, fmt.Errorf("read the nodes' keys: %w", err)
		}
		out[node] = keys
	}
	return out, rows.Err()
}
