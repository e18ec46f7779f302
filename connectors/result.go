package connectors

import "time"

// Outcome is what the hub does next with a delivery.
type Outcome string

// The outcomes.
const (
	Done      Outcome = "DONE"      // it arrived
	Retry     Outcome = "RETRY"     // try again by the webhook's timetable, not before RetryAfter
	Permanent Outcome = "PERMANENT" // it can never arrive as it is; do not try again
	Skipped   Outcome = "SKIPPED"   // there was nothing to do; Error says why
)

// Fault says whose fault a failure was; it decides whose breaker counts it.
type Fault string

// The faults.
const (
	FaultNone      Fault = ""
	FaultTarget    Fault = "TARGET"    // the outside system answered badly or not at all
	FaultConnector Fault = "CONNECTOR" // the connector or its process broke
	FaultPolicy    Fault = "POLICY"    // the address policy refused the target
	FaultSettings  Fault = "SETTINGS"  // the endpoint's settings cannot work
	FaultDelivery  Fault = "DELIVERY"  // the delivery itself: each process that it is handed to ends; only the host says so
)

// Result is the outcome of one attempt of one delivery.
type Result struct {
	DeliveryID string
	Outcome    Outcome
	Fault      Fault
	RetryAfter time.Duration // 0: the sender did not say
	Started    time.Time
	Timing     Timing
	Request    *Request  // as sent, without its body, secrets as "[secret:name]"; nil: as it was given
	Response   *Response // nil: there was none
	Error      string    // one sentence for people; "" when Done
}

// Timing is how long the phases took, each 0 when it did not happen.
type Timing struct {
	DNS, Connect, TLS, FirstByte, Total time.Duration
}

// Response is what came back. Body holds at most MaxResponseBody bytes.
type Response struct {
	Status    int
	Header    []Header
	Body      []byte
	Truncated bool
}

// MaxResponseBody is how much of a response is kept, in bytes.
const MaxResponseBody = 64 << 10

// Failure is why a call other than Deliver did not succeed: what the hub does next, and
// whose fault it was.
type Failure struct {
	Outcome    Outcome // Retry or Permanent; "" is Retry
	Fault      Fault
	RetryAfter time.Duration // 0: when the hub thinks fit
	Message    string        // one sentence for people; no secrets
}

func (f *Failure) Error() string { return f.Message }
