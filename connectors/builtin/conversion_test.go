package builtin

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookyard/hookyard/connectors"
	"github.com/hookyard/hookyard/connectors/connectortest"
	"github.com/hookyard/hookyard/connectors/webhook"
)

var update = flag.Bool("update", false, "write the golden files anew")

// vendors are the formats that are one vendor's own.
var vendors = []string{"appscan", "holm", "apviso", "veracode-sca"}

// sent is what each vendor sends: the receiver, the file in its room's testdata, and, for a
// request without a body, the path after the source's address.
var sent = []struct{ receiver, file, path string }{
	{"appscan", "../appscan/testdata/enriched_execution.json", "/scan/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b"},
	{"appscan", "../appscan/testdata/enriched_application.json", "/application/5b1c2f6e-0d4a-4b0f-9a53-4d8d5e0f7a11"},
	{"holm", "../holm/testdata/finished_scan.json", ""},
	{"holm", "../holm/testdata/scheduled_scan.json", ""},
	{"holm", "../holm/testdata/ticket_opened.json", ""},
	{"holm", "../holm/testdata/ticket_closed.json", ""},
	{"apviso", "../apviso/testdata/finding_created.json", ""},
	{"apviso", "../apviso/testdata/scan_started.json", ""},
	{"apviso", "../apviso/testdata/scan_progress.json", ""},
	{"apviso", "../apviso/testdata/scan_completed.json", ""},
	{"apviso", "../apviso/testdata/scan_failed.json", ""},
	{"apviso", "../apviso/testdata/report_ready.json", ""},
	{"veracode-sca", "../veracode/testdata/scan_success.json", ""},
	{"veracode-sca", "../veracode/testdata/vuln_issues_discovered_after_scan.json", ""},
	{"veracode-sca", "../veracode/testdata/vuln_issues_changed_after_scan.json", ""},
}

func shipped(t *testing.T) *connectors.Set {
	t.Helper()
	set, err := connectors.NewSet(Connectors())
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// receive reads a sample and gives it a place, as the hub does.
func receive(t *testing.T, set *connectors.Set, receiver, file, path string) *connectors.Event {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := connectors.Inbound{Method: http.MethodPost, Body: body, ReceivedAt: connectortest.Moment(), Location: time.UTC, SourceID: "src_1"}
	if path != "" {
		in.Method, in.Path, in.Via = http.MethodGet, path, connectors.ViaEnrich
	}
	r, ok := set.Receiver(receiver)
	if !ok {
		t.Fatalf("there is no receiver %s", receiver)
	}
	got, err := r.Receive(in)
	if err != nil || len(got.Items) != 1 {
		t.Fatalf("%s: %d items, %v", file, len(got.Items), err)
	}
	item := got.Items[0]
	if item.Time.IsZero() {
		item.Time = in.ReceivedAt
	}
	name := item.Fields[item.DefaultField]
	if item.NameField != "" {
		name = item.Fields[item.NameField]
	}
	e := &connectors.Event{ID: "evt_1", Type: item.Type, Source: "/sources/src_1", Time: item.Time, Received: in.ReceivedAt,
		Organization: connectors.Ref{ID: "org_1", Name: "Acme"}, AssetGroup: &connectors.Ref{ID: "grp_1", Name: "Shops"},
		Application: &connectors.Ref{ID: "app_1", Name: name}, Data: item.Data}
	switch d := &e.Data; {
	case d.Scan != nil:
		d.Scan.ID, e.Subject = "scn_1", "scn_1"
	case d.Finding != nil:
		d.Finding.ID, e.Subject = "fnd_1", "fnd_1"
	case d.Ticket != nil:
		d.Ticket.ID, e.Subject = "tkt_1", "tkt_1"
	case d.Report != nil:
		d.Report.ID, e.Subject = "rpt_1", "rpt_1"
	default:
		e.Subject = "app_1"
	}
	return e
}

// written is an event in a format as people read it: the request line, what is signed, and
// the body, indented; or why it is skipped.
func written(t *testing.T, f connectors.Format, e *connectors.Event, unknown connectors.UnknownCounts) []byte {
	t.Helper()
	o := connectors.RenderOptions{UnknownCounts: unknown, PublicURL: "https://hub.example.com", Numbers: map[connectors.NumberKey]int32{}}
	if n, ok := f.(connectors.Numberer); ok {
		for i, k := range n.Numbers(e) {
			o.Numbers[k] = int32(i + 1)
		}
	}
	r, err := f.Render(e, o)
	var skip *connectors.SkipError
	switch {
	case errors.As(err, &skip):
		return []byte("skipped: " + skip.Reason + "\n")
	case err != nil:
		t.Fatal(err)
	}
	var b bytes.Buffer
	address := "https://receiver.example.com/{SubjectId}" + r.TargetSuffix
	if a, ok := f.(connectors.Addresser); ok {
		if address, err = a.Address("https://receiver.example.com/{SubjectId}", r.TargetSuffix); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintln(&b, r.Method, address)
	for _, h := range r.Header {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
	}
	if len(r.Body) > 0 {
		b.WriteByte('\n')
		if err := json.Indent(&b, r.Body, "", "  "); err != nil {
			t.Fatal(err)
		}
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// golden compares with a file, or writes it.
func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s:\ngot  %s\nwant %s", path, got, want)
	}
}

// formats are all formats but raw, which repeats a request's bytes.
func formats(set *connectors.Set) []connectors.Format {
	return slices.DeleteFunc(slices.Clone(set.Formats()), func(f connectors.Format) bool { return f.Name() == webhook.FormatRaw })
}

// TestEveryKindInEveryFormat keeps every kind of event, full and sparse, in every format.
func TestEveryKindInEveryFormat(t *testing.T) {
	for _, f := range formats(shipped(t)) {
		for _, typ := range connectors.EventTypes() {
			dir := filepath.Join("testdata", "kinds", f.Name())
			golden(t, filepath.Join(dir, string(typ)+".full.golden"), written(t, f, connectortest.Event(typ), connectors.UnknownCountsSkip))
			golden(t, filepath.Join(dir, string(typ)+".sparse.golden"), written(t, f, connectortest.Sparse(typ), connectors.UnknownCountsSkip))
			golden(t, filepath.Join(dir, string(typ)+".zeros.golden"), written(t, f, connectortest.Sparse(typ), connectors.UnknownCountsZero))
		}
	}
}

// TestEveryVendorInEveryFormat keeps what becomes of each vendor's messages in each format.
func TestEveryVendorInEveryFormat(t *testing.T) {
	set := shipped(t)
	for _, s := range sent {
		e := receive(t, set, s.receiver, s.file, s.path)
		for _, f := range formats(set) {
			message := strings.TrimSuffix(filepath.Base(s.file), ".json")
			golden(t, filepath.Join("testdata", "conversions", s.receiver+"."+message+".to."+f.Name()+".golden"), written(t, f, e, connectors.UnknownCountsSkip))
		}
	}
}

// says is the table of what each format can say: a line per kind, a column per vendor.
const says = `
	scan.scheduled          no   yes  no   no
	scan.started            no   no   yes  no
	scan.progress           no   no   yes  no
	scan.completed          yes  yes  yes  yes
	scan.failed             asked yes yes  no
	finding.discovered      no   asked yes yes
	finding.changed         no   no   no   yes
	finding.changed+resolved no  asked no  yes
	ticket.opened           no   yes  asked asked
	ticket.closed           no   yes  no   asked
	report.ready            no   no   yes  no
	application.changed     asked no  no   no
`

// TestTableOfWhatFormatsSay: a format says exactly these kinds. "asked" can be said, but is
// not among those that a new webhook gets, or one fact would be told twice.
func TestTableOfWhatFormatsSay(t *testing.T) {
	set := shipped(t)
	rows := 0
	for line := range strings.Lines(strings.TrimSpace(says)) {
		rows++
		cells := strings.Fields(line)
		kind, resolved, _ := strings.Cut(cells[0], "+")
		typ := connectors.EventType(kind)
		e := connectortest.Event(typ)
		if e.Data.Finding != nil && resolved == "" {
			e.Data.Finding.Status = "open"
		}
		for i, name := range vendors {
			f, ok := set.Format(name)
			if !ok {
				t.Errorf("there is no format %s", name)
				continue
			}
			said := !bytes.HasPrefix(written(t, f, e, connectors.UnknownCountsSkip), []byte("skipped"))
			if want := cells[i+1] != "no"; said != want {
				t.Errorf("%s in the format %s: %v, want %v", cells[0], name, said, want)
			}
			if byDefault := slices.Contains(f.EventTypes(), typ); byDefault && cells[i+1] == "asked" {
				t.Errorf("the format %s gives new webhooks %s", name, typ)
			}
		}
	}
	if rows != len(connectors.EventTypes())+1 {
		t.Errorf("the table has %d rows", rows)
	}
}

// expected are the conversions that the vendors' documents let us expect: in the values,
// <ANY:…> stands for any of a kind, and <HUB:…> for the name of a hub object.
var expected = []struct{ receiver, file, format, want string }{
	{"holm", "../holm/testdata/finished_scan.json", "apviso", "holm_finished_scan.to_apviso.json"},
	{"holm", "../holm/testdata/finished_scan.json", "veracode-sca", "holm_finished_scan.to_veracode.json"},
	{"apviso", "../apviso/testdata/finding_created.json", "veracode-sca", "apviso_finding_created.to_veracode.json"},
	{"apviso", "../apviso/testdata/finding_created.json", "holm", "apviso_finding_created.to_holm.json"},
	{"veracode-sca", "../veracode/testdata/vuln_issues_discovered_after_scan.json", "apviso", "veracode_discovered.to_apviso.json"},
}

func TestExpectedConversions(t *testing.T) {
	set := shipped(t)
	for _, c := range expected {
		e := receive(t, set, c.receiver, c.file, "")
		f, _ := set.Format(c.format)
		got := written(t, f, e, connectors.UnknownCountsSkip)
		_, body, _ := bytes.Cut(got, []byte("\n\n"))
		raw, err := os.ReadFile(filepath.Join("testdata", "expected", c.want))
		if err != nil {
			t.Fatal(err)
		}
		raw = []byte(strings.NewReplacer("<HUB:organization.name>", e.Organization.Name, "<HUB:assetGroup.name>", e.AssetGroup.Name,
			"<HUB:application.name>", e.Application.Name).Replace(string(raw)))
		var is, want any
		if json.Unmarshal(body, &is) != nil || json.Unmarshal(raw, &want) != nil || !alike(is, want) {
			t.Errorf("%s in the format %s:\ngot  %s\nwant %s", c.file, c.format, got, raw)
		}
	}
}

// alike compares as the expectations mean it; no key may be there that is not expected.
func alike(is, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		m, ok := is.(map[string]any)
		if !ok || len(m) != len(want) {
			return false
		}
		for k, v := range want {
			if got, there := m[k]; !there || !alike(got, v) {
				return false
			}
		}
		return true
	case []any:
		l, ok := is.([]any)
		return ok && slices.EqualFunc(l, want, alike)
	case string:
		s, text := is.(string)
		n, number := is.(float64)
		_, err := time.Parse("2006-01-02T15:04:05Z", s)
		switch want {
		case "<ANY:int32>":
			return number && n >= 1 && n <= 1<<31-1
		case "<ANY:nonempty-string>":
			return text && s != ""
		case "<ANY:rfc3339-utc>":
			return err == nil
		}
	}
	return is == want
}
