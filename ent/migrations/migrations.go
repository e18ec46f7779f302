// Package migrations holds the versioned schema of both databases as plain SQL, in
// the form that goose applies. A file that was ever released is not edited.
//
// The tables of ent/schema are written by the diff program beside this file
// (go run ./ent/migrations/diff NAME), the ledger's by hand.
package migrations

import (
	"embed"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

//go:embed sqlite/*.sql postgres/*.sql
var files embed.FS

// Files returns the migrations of a dialect: "sqlite" or "postgres".
func Files(dialect string) (fs.FS, error) { return fs.Sub(files, dialect) }

// Latest is the version of the newest migration of a dialect.
func Latest(dialect string) (int64, error) {
	entries, err := files.ReadDir(dialect)
	if err != nil {
		return 0, err
	}
	var latest int64
	for _, e := range entries {
		number, _, _ := strings.Cut(path.Base(e.Name()), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return 0, err
		}
		latest = max(latest, n)
	}
	return latest, nil
}
