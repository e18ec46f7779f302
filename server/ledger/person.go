package ledger

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hookyard/hookyard/server/flow"
)

// person returns what finds an e-mail address in texts, whole and in any case: as it is,
// and as JSON, forms and addresses may write it.
func person(email string) func([]byte) bool {
	at := regexp.QuoteMeta("@") + `|%40|\\u0040|&#64;`
	local, host, _ := strings.Cut(email, "@")
	name := strings.NewReplacer(`\+`, `(?:\+|%2b|\\u002b)`, `&`, `(?:&|%26|\\u0026|&amp;)`, `'`, `(?:'|%27|\\u0027|&#39;)`).Replace(regexp.QuoteMeta(local))
	// Another address may end or go on like this one.
	return regexp.MustCompile(`(?i)(?:^|[^a-z0-9._%+\-]|%[0-9a-f]{2}|\\[nrt])` + name + `(?:` + at + `)` + regexp.QuoteMeta(host) + `(?:$|[^a-z0-9.\-]|\.(?:$|[^a-z0-9]))`).Match
}

// personTime is how long one call of ErasePerson may go on.
const personTime = 5 * time.Second

// personSearch is one call of ErasePerson.
type personSearch struct {
	l      *Ledger
	org    string
	match  func([]byte) bool
	e      flow.Erasure
	dryRun bool
	out    *flow.PersonErased
	ends   time.Time
}

// hit is a row that names the person.
type hit struct {
	key     string
	columns []string
}

// table looks through a table; last is the last row that was looked at, and done says
// that there is nothing more.
func (p *personSearch) table(ctx context.Context, s searched, last string) (_ string, done bool, err error) {
	for {
		if p.out.Looked >= personRows || p.l.clock.Now().After(p.ends) {
			return last, false, nil
		}
		hits, end, n, err := p.read(ctx, s, last)
		if err != nil {
			return last, false, err
		}
		for _, h := range hits {
			if err := p.take(ctx, s, h); err != nil {
				return last, false, err
			}
			if last = h.key; p.l.clock.Now().After(p.ends) {
				return last, false, nil
			}
		}
		if last = end; n < personBatch {
			return last, true, nil
		}
	}
}

func (p *personSearch) read(ctx context.Context, s searched, after string) (hits []hit, last string, n int, err error) {
	columns := make([]string, len(s.columns))
	for i, c := range s.columns {
		// Bytes and JSON alike, and nothing is an empty text.
		columns[i] = quoted(c)
		if s.org == "organization_id" {
			columns[i] = "coalesce(CAST(" + quoted(c) + " AS text), '')"
		}
	}
	var from any = after
	if s.key == "seq" {
		from, _ = strconv.ParseInt(after, 10, 64)
	}
	values := make([][]byte, len(columns))
	dest := make([]any, 1+len(columns))
	for i := range values {
		dest[1+i] = &values[i]
	}
	last = after
	err = p.l.read(ctx, "look for a person", "SELECT "+s.key+", "+strings.Join(columns, ", ")+" FROM "+s.table+" WHERE "+s.org+" = ? AND "+s.key+" > ? ORDER BY "+s.key+" LIMIT ?",
		[]any{p.org, from, int64(personBatch)}, func(scan func(...any) error) error {
			var seq int64
			dest[0] = &last
			if s.key == "seq" {
				dest[0] = &seq
			}
			if err := scan(dest...); err != nil {
				return err
			}
			if s.key == "seq" {
				last = strconv.FormatInt(seq, 10)
			}
			n++
			h := hit{key: last}
			for i, v := range values {
				if p.match(v) {
					h.columns = append(h.columns, s.columns[i])
				}
			}
			if len(h.columns) > 0 {
				hits = append(hits, h)
			}
			return nil
		})
	p.out.Looked += n
	return hits, last, n, err
}

// take erases a row that was found.
func (p *personSearch) take(ctx context.Context, s searched, h hit) error {
	switch s.table {
	case "events":
		p.out.Events++
		_, err := p.events(ctx, "id", h.key)
		return err
	case "receipts":
		n, err := p.events(ctx, "receipt", h.key)
		if err != nil || n > 0 {
			return err
		}
		p.out.Receipts++
		return p.write(ctx, eraseReceipt, p.org, h.key)
	case "entries":
		p.out.Attempts++
		seq, _ := strconv.ParseInt(h.key, 10, 64)
		set := eraseEntry
		for _, c := range h.columns {
			if c == "url" {
				set += ", url = ''"
			}
		}
		return p.write(ctx, set+" WHERE org = ? AND seq = ?", p.org, seq)
	case "deliveries", "open_deliveries":
		p.out.Attempts++
		return p.write(ctx, "UPDATE "+s.table+" SET reason = '"+erasedText+"' WHERE org = ? AND id = ?", p.org, h.key)
	}
	p.out.Objects++
	var set []string
	for _, c := range h.columns {
		switch c {
		case "errors", "reproduction":
			set = append(set, c+" = NULL")
		case "actor_email":
			set = append(set, "actor_email = ''", "actor_name = ''", "actor_id = ''")
		case "actor_name", "actor_id":
			if !slices.Contains(h.columns, "actor_email") {
				set = append(set, c+" = ''")
			}
		default:
			set = append(set, quoted(c)+" = ''")
		}
	}
	return p.write(ctx, "UPDATE "+s.table+" SET "+strings.Join(set, ", ")+" WHERE organization_id = ? AND id = ?", p.org, h.key)
}

// events erases the events whose column has the value. Those of a receipt count here, but
// for those that a dry run has found already.
func (p *personSearch) events(ctx context.Context, column, value string) (n int, err error) {
	var list []flow.EventView
	err = p.l.read(ctx, "read events", "SELECT id, org, receipt, subject, document FROM events WHERE org = ? AND "+column+" = ?", []any{p.org, value}, func(scan func(...any) error) error {
		var e flow.EventView
		err := scan(&e.ID, &e.Org, &e.Receipt, &e.Subject, &e.Document)
		if column == "receipt" && !p.match(e.Document) {
			p.out.Events++
		}
		list = append(list, e)
		return err
	})
	if err != nil {
		return 0, err
	}
	for i := range list {
		if p.dryRun {
			break
		}
		if _, err := p.l.erase(ctx, &list[i], p.e); err != nil {
			return 0, err
		}
	}
	return len(list), nil
}

func (p *personSearch) write(ctx context.Context, sql string, args ...any) error {
	if p.dryRun {
		return nil
	}
	return p.l.thoroughly(ctx, "erase a person", func(t tx) error { return exec(ctx, t, sql, args...) })
}
