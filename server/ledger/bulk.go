package ledger

import (
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgtype"
)

// kind is the type of a column, nil being NULL in each.
type kind uint8

const (
	text kind = iota
	integer
	blob
	real
	// These three are an integer or text here and in SQLite, and in PostgreSQL:
	stamp   // a timestamptz, from unix microseconds
	boolean // a boolean, from 0 and 1
	jsonb   // a jsonb
)

type column struct {
	name string
	kind kind
}

// bulk is one statement for many rows of values: run row by row as a prepared
// statement on SQLite (binding many rows at once is quadratic in its driver), all at
// once from arrays on PostgreSQL.
type bulk struct {
	cols []column
	lite []part // run for each row, in this order
	pg   string
	// hit is the column by whose (text) value the rows are named that the statement
	// really touched; -1 when nobody asks.
	hit int
}

// part is one of SQLite's statements for a row: its arguments are indexes of columns.
type part struct {
	sql  string
	args []int
}

func columns(spec string) []column {
	kinds := map[string]kind{"": text, "int": integer, "blob": blob, "real": real, "stamp": stamp, "bool": boolean, "json": jsonb}
	var out []column
	for f := range strings.FieldsSeq(spec) {
		name, k, _ := strings.Cut(f, ":")
		out = append(out, column{name, kinds[k]})
	}
	return out
}

func names(cols []column, prefix string) string {
	var b strings.Builder
	for i, c := range cols {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(prefix + quoted(c.name))
	}
	return b.String()
}

// quoted protects names such as "commit" and "new".
func quoted(name string) string { return `"` + name + `"` }

// unnest is the FROM item "u" that turns the arrays $1… into rows.
func unnest(cols []column) string {
	types := [...]string{"text", "bigint", "bytea", "float8", "bigint", "bigint", "text"}
	var b strings.Builder
	b.WriteString("unnest(")
	for i, c := range cols {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1) + "::" + types[c.kind] + "[]")
	}
	b.WriteString(") WITH ORDINALITY AS u(" + names(cols, "") + ", ord)")
	return b.String()
}

// picked is the list of u's columns as the table wants them.
func picked(cols []column) string {
	var b strings.Builder
	for i, c := range cols {
		if i > 0 {
			b.WriteString(", ")
		}
		name := "u." + quoted(c.name)
		switch c.kind {
		case stamp:
			name = "timestamptz 'epoch' + " + name + " * interval '1 microsecond'"
		case boolean:
			name += " <> 0"
		case jsonb:
			name += "::jsonb"
		}
		b.WriteString(name)
	}
	return b.String()
}

func marks(n int) string { return strings.Repeat("?, ", n-1) + "?" }

// insertInto makes an INSERT of all columns; tail is what follows the values.
func insertInto(table string, cols []column, tail string) *bulk {
	head := "INSERT INTO " + table + " (" + names(cols, "") + ") "
	return &bulk{
		cols: cols,
		lite: []part{{sql: orFail(head) + "VALUES (" + marks(len(cols)) + ") " + tail}},
		// "WHERE true" keeps the parser from taking ON CONFLICT for a join's ON.
		pg:  head + "SELECT " + picked(cols) + " FROM " + unnest(cols) + " WHERE true " + tail,
		hit: -1,
	}
}

// orFail spares SQLite the journal that undoes a single statement: when one fails, the
// whole transaction is rolled back anyway.
func orFail(insert string) string {
	return strings.Replace(insert, "INSERT INTO", "INSERT OR FAIL INTO", 1)
}

// rows holds the values of a bulk, row after row.
type rows struct {
	of   *bulk
	n    int
	vals []any // string, int64, []byte, float64 or nil
}

func (r *rows) add(vals ...any) {
	r.vals = append(r.vals, vals...)
	r.n++
}

func (r *rows) row(i int) []any {
	w := len(r.of.cols)
	return r.vals[i*w : (i+1)*w]
}

// arrays turns the rows into one typed array per column, for PostgreSQL.
func (r *rows) arrays() []any {
	out := make([]any, len(r.of.cols))
	for c, col := range r.of.cols {
		switch col.kind {
		case text, jsonb:
			out[c] = array(r, c, clean)
		case integer, stamp, boolean:
			out[c] = array(r, c, func(v int64) int64 { return v })
		case real:
			out[c] = array(r, c, func(v float64) float64 { return v })
		case blob:
			a := make([][]byte, r.n)
			for i := range a {
				a[i], _ = r.row(i)[c].([]byte)
			}
			out[c] = pgtype.FlatArray[[]byte](a)
		}
	}
	return out
}

func array[T any](r *rows, c int, f func(T) T) any {
	a := make([]T, r.n)
	var null []*T
	for i := range a {
		v, ok := r.row(i)[c].(T)
		if !ok && null == nil {
			null = make([]*T, r.n)
			for j := range i {
				null[j] = &a[j]
			}
		}
		if ok {
			a[i] = f(v)
			if null != nil {
				null[i] = &a[i]
			}
		}
	}
	if null != nil {
		return pgtype.FlatArray[*T](null)
	}
	return pgtype.FlatArray[T](a)
}

// clean makes s fit for PostgreSQL, which takes neither NUL nor broken UTF-8 in text.
func clean(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
