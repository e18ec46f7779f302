package connectors

// TriggerProvider is the ability to be called by CI: to start a scan, to follow it and to
// fetch its report in the way of one vendor.
type TriggerProvider interface {
	Triggers() []Trigger
}

// Trigger knows the calls of one vendor and the answers that its clients expect. It is
// pure: see the package's life cycle. The hub finds the project by the secret in the
// address, does what a call asks and has the answer written.
type Trigger interface {
	// Kind is what people choose: "crashtest". Lower case, digits, hyphens.
	Kind() string
	// Call reads a request. Inbound.Path is what follows the secret. What is not
	// acceptable gives a *RefuseError, which goes through Answer like everything else.
	Call(in Inbound, target TargetKind) (TriggerCall, error)
	// Answer writes what came of a call. c is the zero value when there was none to read. That a
	// scan begins is written before it is durable, and sent afterwards: it may still be refused.
	Answer(c TriggerCall, r TriggerResult) Reply
	// Snippets are ready to be copied into a pipeline; url is the address with its secret, or
	// stands for it and is replaced in the text.
	Snippets(url string) []Snippet
}

// TriggerCall is what a request asks for.
type TriggerCall struct {
	Verb TriggerVerb
	Scan int64 // TriggerStatus and TriggerReport: the number of the scan
	// TriggerStart: the parts of the setup that the request brings, and all origins
	// ("https://app.example.com") and bare hosts that they name.
	Setup ScanSetup
	Hosts []NamedHost
}

// NamedHost is a place that a setup names.
type NamedHost struct {
	Host  string // an origin, "host:port" or a host
	Field string // the path of the field that names it, for the refusal
}

// TriggerVerb is what a call wants.
type TriggerVerb string

// The verbs.
const (
	TriggerStart  TriggerVerb = "START"
	TriggerStatus TriggerVerb = "STATUS"
	TriggerReport TriggerVerb = "REPORT"
)

// TriggerResult is what came of a call.
type TriggerResult struct {
	// Refused says why nothing came of it. Reason tells those apart that a vendor has
	// words of its own for.
	Refused *RefuseError
	Reason  TriggerReason
	// Report is the scan as it is; Checks only for TriggerReport.
	Report ScanReport
}

// TriggerReason is why a call was refused.
type TriggerReason string

// The reasons.
const (
	TriggerOther    TriggerReason = ""
	TriggerRunning  TriggerReason = "RUNNING"   // a scan of the project is running already
	TriggerNotReady TriggerReason = "NOT_READY" // the scan has no report yet
	TriggerUnknown  TriggerReason = "UNKNOWN"   // the project has no such scan
)

// Snippet is text for one kind of pipeline.
type Snippet struct {
	Name string // "curl", "GitHub Actions", …
	Text string
}
