package appscan

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/hookyard/hookyard/connectors"
)

// Receiver reads what AppScan sends: a GET whose path or query ends in the ID of a scan
// execution or of an application. Which of the two it is, the address says: the source's
// own and then
//
//	/scan/{SubjectId}         or ?ScanExecutionId={SubjectId}   a scan execution is complete
//	/application/{SubjectId}  or ?ApplicationId={SubjectId}     an application has changed
//
// All else is fetched by Enrich, and read here in a second call. An execution completes
// once; each notice of an application is an event.
type Receiver struct{}

// Kind is "appscan".
func (Receiver) Kind() string { return Name }

// Methods is GET alone.
func (Receiver) Methods() []string { return []string{http.MethodGet} }

// Receive asks for enrichment, or turns what it brought into one event.
func (Receiver) Receive(in connectors.Inbound) (connectors.Received, error) {
	if in.Method != "" && in.Method != http.MethodGet {
		return connectors.Received{}, connectors.Refuse(http.StatusMethodNotAllowed, "", "AppScan sends with GET, not %s", in.Method)
	}
	kind, id, err := subject(in)
	if err != nil {
		return connectors.Received{}, err
	}
	if in.Via != connectors.ViaEnrich {
		return connectors.Received{Enrich: true}, nil
	}
	var d document
	if err := connectors.DecodeBody(in.Body, &d); err != nil {
		return connectors.Received{}, err
	}
	var item connectors.Incoming
	if kind == execution {
		item, err = d.scan(id)
	} else {
		item, err = d.application(id)
		item.Key = connectors.Identity(string(application), id, in.ReceivedAt.UTC().Format(time.RFC3339Nano))
	}
	if err != nil {
		return connectors.Received{}, err
	}
	return connectors.Received{Items: []connectors.Incoming{item}}, nil
}

// maxID is the longest ID that is believed, in bytes.
const maxID = 128

// subject reads the address.
func subject(in connectors.Inbound) (kind subjectKind, id string, err error) {
	switch parts := strings.Split(strings.Trim(in.Path, "/"), "/"); {
	case len(parts) == 2:
		kind, id = kindOf(parts[0]), parts[1]
	case len(parts) == 1 && parts[0] != "":
		kind, id = execution, parts[0]
	case len(parts) == 1 && len(in.Query["ScanExecutionId"]) > 0:
		kind, id = execution, in.Query["ScanExecutionId"][0]
	case len(parts) == 1 && len(in.Query["ApplicationId"]) > 0:
		kind, id = application, in.Query["ApplicationId"][0]
	}
	switch {
	case kind == "":
		return "", "", connectors.Refuse(http.StatusUnprocessableEntity, "", "the address must end in /scan/{SubjectId} or /application/{SubjectId}")
	case id == "":
		return "", "", connectors.Refuse(http.StatusUnprocessableEntity, "SubjectId", "is missing")
	case len(id) > maxID || strings.ContainsFunc(id, strange):
		return "", "", connectors.Refuse(http.StatusBadRequest, "SubjectId", "must be an ID of letters, digits, - and _, in place of {SubjectId}")
	}
	return kind, id, nil
}

// kindOf reads the word before the ID: ours, or AppScan's names of its events.
func kindOf(word string) subjectKind {
	switch strings.ToLower(word) {
	case "scan", "scanended", "scanexecution", "scanexecutioncompleted":
		return execution
	case "application", "app", "applicationcounterschanged", "applicationupdated":
		return application
	}
	return ""
}

func strange(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
}

// document is what Enrich fetched: AppScan's own answers.
type document struct {
	Execution   *executionData   `json:"execution,omitempty"`
	Scan        *scanData        `json:"scan,omitempty"`
	Application *applicationData `json:"application,omitempty"`
}

type executionData struct {
	ID        string  `json:"Id"`
	ScanID    string  `json:"ScanId"`
	Status    string  `json:"Status"`
	EndTime   string  `json:"ScanEndTime"`
	Duration  *int    `json:"ExecutionDurationSec"`
	Total     *int    `json:"NIssuesFound"`
	Critical  *int    `json:"NCriticalIssues"`
	High      *int    `json:"NHighIssues"`
	Medium    *int    `json:"NMediumIssues"`
	Low       *int    `json:"NLowIssues"`
	Info      *int    `json:"NInfoIssues"`
	CreatedBy *person `json:"CreatedBy"`
}

type person struct {
	FirstName string `json:"FirstName"`
	LastName  string `json:"LastName"`
	Email     string `json:"Email"`
}

type scanData struct {
	ID         string `json:"Id"`
	Name       string `json:"Name"`
	AppID      string `json:"AppId"`
	AppName    string `json:"AppName"`
	Technology string `json:"Technology"`
}

type applicationData struct {
	ID             string `json:"Id"`
	Name           string `json:"Name"`
	AssetGroupID   string `json:"AssetGroupId"`
	AssetGroupName string `json:"AssetGroupName"`
	Status         string `json:"TestingStatus"`
	Total          *int   `json:"TotalIssues"`
	Critical       *int   `json:"CriticalIssues"`
	High           *int   `json:"HighIssues"`
	Medium         *int   `json:"MediumIssues"`
	Low            *int   `json:"LowIssues"`
	Info           *int   `json:"InformationalIssues"`
}

// failed are the ends of an execution that found nothing out.
func failed(status string) bool {
	switch strings.ToLower(status) {
	case "failed", "stopped", "canceled", "cancelled", "aborted":
		return true
	}
	return false
}

// scanType is the canonical word for a technology where there is one.
func scanType(technology string) string {
	if technology == "DynamicAnalyzer" {
		return "web application"
	}
	return technology
}

func (d *document) scan(id string) (item connectors.Incoming, err error) {
	x, s := d.Execution, d.Scan
	if x == nil || s == nil {
		return item, connectors.Refuse(http.StatusUnprocessableEntity, "execution", "AppScan's answer is not whole")
	}
	for name, n := range map[string]*int{"ExecutionDurationSec": x.Duration, "NIssuesFound": x.Total, "NCriticalIssues": x.Critical, "NHighIssues": x.High,
		"NMediumIssues": x.Medium, "NLowIssues": x.Low, "NInfoIssues": x.Info} {
		if n != nil && (*n < 0 || *n > math.MaxInt32) {
			return item, connectors.Refuse(http.StatusUnprocessableEntity, "execution."+name, "must be a count")
		}
	}
	end, err := moment(x.EndTime)
	if err != nil {
		return item, err
	}
	scan := &connectors.Scan{Key: id, Name: s.Name, Type: scanType(s.Technology), Status: x.Status, FinishedAt: end, Duration: x.Duration,
		Counts: counts(connectors.Counts{Critical: x.Critical, High: x.High, Medium: x.Medium, Low: x.Low, Info: x.Info, Total: x.Total})}
	if p := x.CreatedBy; p != nil {
		scan.Actor = &connectors.Actor{Name: strings.TrimSpace(p.FirstName + " " + p.LastName), Email: p.Email}
	}
	item = connectors.Incoming{Type: connectors.ScanCompleted, Data: connectors.Data{Scan: scan}, Key: connectors.Identity(string(execution), id)}
	if failed(x.Status) {
		item.Type = connectors.ScanFailed
	}
	if end != nil {
		item.Time = *end
	}
	d.place(&item, &identities{ExecutionID: id, ScanID: x.ScanID, ApplicationID: s.AppID})
	return item, nil
}

func (d *document) application(id string) (item connectors.Incoming, err error) {
	a := d.Application
	if a == nil {
		return item, connectors.Refuse(http.StatusUnprocessableEntity, "application", "AppScan's answer is not whole")
	}
	item = connectors.Incoming{Type: connectors.ApplicationChanged, Data: connectors.Data{Application: &connectors.ApplicationCounts{Key: id, Name: a.Name, Status: a.Status,
		Counts: counts(connectors.Counts{Critical: a.Critical, High: a.High, Medium: a.Medium, Low: a.Low, Info: a.Info, Total: a.Total})}}}
	d.place(&item, &identities{ApplicationID: id})
	return item, nil
}

// place says what mapping may look at and how AppScan knows the subjects.
func (d *document) place(item *connectors.Incoming, ids *identities) {
	f := map[string]string{}
	put := func(name, value string) {
		if value != "" {
			f[name] = value
		}
	}
	put("AppId", ids.ApplicationID)
	put("ScanId", ids.ScanID)
	if s := d.Scan; s != nil {
		put("AppName", s.AppName)
		put("Name", s.Name)
		put("Technology", s.Technology)
	}
	if a := d.Application; a != nil {
		put("AppName", a.Name)
		put("AssetGroupId", a.AssetGroupID)
		put("AssetGroupName", a.AssetGroupName)
	}
	item.Fields, item.DefaultField, item.NameField = f, "AppId", "AppName"
	item.Data.Attributes, _ = json.Marshal(extras{ids}) // strings only: it cannot fail
}

// counts is nil when nothing was counted.
func counts(c connectors.Counts) *connectors.Counts {
	if c == (connectors.Counts{}) {
		return nil
	}
	return &c
}

// moment reads AppScan's times, which may have seven digits after the second, and no zone.
func moment(s string) (*time.Time, error) {
	if s == "" {
		return nil, nil //nolint:nilnil // no time is no error
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t, err = time.Parse("2006-01-02T15:04:05", s)
	}
	t = t.UTC().Truncate(time.Microsecond)
	if err != nil || t.Year() < 1 || t.Year() > 9999 {
		return nil, connectors.Refuse(http.StatusUnprocessableEntity, "execution.ScanEndTime", "is not a time")
	}
	return &t, nil
}
