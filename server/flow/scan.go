package flow

import "errors"

// Errors of starting and stopping scans.
var (
	ErrScanRunning = errors.New("a scan of the project is running already")
	ErrScanEnded   = errors.New("the scan has ended")
)

// ScannerAwayError is a third party's connector whose process does not answer: nothing was begun.
type ScannerAwayError struct {
	Connector string
	Why       error
}

func (e *ScannerAwayError) Error() string {
	return "the connector " + e.Connector + " cannot scan now: " + e.Why.Error()
}
