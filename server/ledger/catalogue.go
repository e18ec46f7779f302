package ledger

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/server/flow"
)

// catalogue is the bulk statements for the tables of what events speak of. They belong
// to ent, which only reads them; they are written here because a subject must be known
// before it is announced.
type catalogue struct{ scans, findings, tickets, reports, applications *bulk }

const (
	catalogued    = "id created_at:stamp updated_at:stamp organization_id source_id key application_id asset_group_id "
	scanColumns   = catalogued + "name type status target starts_at:stamp started_at:stamp finished_at:stamp duration_seconds:int progress_percent:int critical:int high:int medium:int low:int info:int total:int errors:json link actor_id actor_name actor_email commit branch tag out_of_date_count:int licence_count:int"
	findingColumn = catalogued + "scan_key title severity status new:bool cvss2:real cvss3:real cvss_vector cwe cve vulnerability_types:json affected_endpoint asset asset_link description reproduction:json remediation has_exploits:bool link"
	ticketColumns = catalogued + "number:int title status severity asset asset_link due_date owner link"
	reportColumns = catalogued + "scan_key format download_url link"
)

func newCatalogue() catalogue {
	return catalogue{
		scans: upsert("scans", scanColumns), findings: upsert("findings", findingColumn),
		tickets: upsert("tickets", ticketColumns), reports: upsert("reports", reportColumns),
		applications: insertInto("applications", columns("id created_at:stamp updated_at:stamp organization_id name description key asset_group_id"), "ON CONFLICT DO NOTHING"),
	}
}

// upsert keeps what is known of a row where the new values are not.
func upsert(table, spec string) *bulk {
	cols := columns(spec)
	var set []string
	for i, c := range cols {
		switch {
		case i == 0, c.name == "created_at", c.name == "organization_id", c.name == "source_id", c.name == "key":
		case c.kind == text && c.name != "application_id" && c.name != "asset_group_id":
			set = append(set, quoted(c.name)+" = CASE WHEN excluded."+quoted(c.name)+" <> '' THEN excluded."+quoted(c.name)+" ELSE "+table+"."+quoted(c.name)+" END")
		default:
			set = append(set, quoted(c.name)+" = coalesce(excluded."+quoted(c.name)+", "+table+"."+quoted(c.name)+")")
		}
	}
	return insertInto(table, cols, "ON CONFLICT (id) DO UPDATE SET "+strings.Join(set, ", "))
}

// catalogueRows are the rows of one group: one per object, however many events of the
// group speak of it, because a statement may touch a row only once.
type catalogueRows struct {
	of  *catalogue
	all [5]subjects
}

// subjects are the rows of one table by ID.
type subjects map[string][]any

func (c *catalogueRows) add(e *flow.NewEvent) {
	at := micros(e.Received)
	if a := e.NewApplication; a != nil {
		c.put(0, []any{a.ID, at, at, e.Org, a.Name, "", a.Key, a.Group})
	}
	row := e.Catalogue
	if row == nil {
		return
	}
	head := func(id, key string) []any {
		return append(make([]any, 0, 33), id, at, at, e.Org, e.Source, key, known(e.App), known(e.Group))
	}
	switch {
	case row.Scan != nil:
		s := row.Scan
		n, a := s.Counts, s.Actor
		if n == nil {
			n = &connectors.Counts{}
		}
		if a == nil {
			a = &connectors.Actor{}
		}
		c.put(1, append(head(s.ID, s.Key), s.Name, s.Type, s.Status, s.Target, moment(s.StartsAt), moment(s.StartedAt), moment(s.FinishedAt),
			number(s.Duration), number(s.Progress), number(n.Critical), number(n.High), number(n.Medium), number(n.Low), number(n.Info), number(n.Total),
			list(s.Errors), s.Link, a.ID, a.Name, a.Email, s.Commit, s.Branch, s.Tag, number(s.OutOfDate), number(s.Licence)))
	case row.Finding != nil:
		f := row.Finding
		c.put(2, append(head(f.ID, f.Key), f.ScanKey, f.Title, string(f.Severity), f.Status, truth(f.New), score(f.CVSS2), score(f.CVSS3), f.Vector,
			f.CWE, f.CVE, list(f.Types), f.Endpoint, f.Asset, f.AssetLink, f.Description, list(f.Reproduction), f.Remediation, truth(f.HasExploits), f.Link))
	case row.Ticket != nil:
		t := row.Ticket
		c.put(3, append(head(t.ID, t.Key), number(t.Number), t.Title, t.Status, string(t.Severity), t.Asset, t.AssetLink, t.DueDate, t.Owner, t.Link))
	case row.Report != nil:
		r := row.Report
		c.put(4, append(head(r.ID, r.Key), r.ScanKey, r.Format, r.DownloadURL, r.Link))
	}
}

// put adds a row, or what it knows to the row that is there.
func (c *catalogueRows) put(table int, row []any) {
	id := row[0].(string)
	if c.all[table] == nil {
		c.all[table] = subjects{}
	}
	for i, v := range c.all[table][id] {
		if row[i] == nil || row[i] == "" {
			row[i] = v
		}
	}
	c.all[table][id] = row
}

// run writes the rows in the order of their IDs, so that two writers never wait for
// each other.
func (c *catalogueRows) run(t tx) {
	for i, b := range []*bulk{c.of.applications, c.of.scans, c.of.findings, c.of.tickets, c.of.reports} {
		if len(c.all[i]) == 0 {
			continue
		}
		sorted := make([]string, 0, len(c.all[i]))
		for id := range c.all[i] {
			sorted = append(sorted, id)
		}
		slices.Sort(sorted)
		r := rows{of: b}
		for _, id := range sorted {
			r.add(c.all[i][id]...)
		}
		t.run(&r)
	}
}

// The columns of what may be unknown.

func known(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func moment(t *time.Time) any {
	if t == nil {
		return nil
	}
	return t.UnixMicro()
}

func number(n *int) any {
	if n == nil {
		return nil
	}
	return int64(*n)
}

func score(f *float64) any {
	if f == nil {
		return nil
	}
	return *f
}

func truth(b *bool) any {
	if b == nil {
		return nil
	}
	return flag(*b)
}

func list(s []string) any {
	if len(s) == 0 {
		return nil
	}
	b, _ := json.Marshal(s) // strings always can
	return string(b)
}
