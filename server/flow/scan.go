package flow

import "errors"

// Errors of starting and stopping scans.
var (
	ErrScanRunning = errors.New("a scan of the project is running already")
	ErrScanEnded   = errors.New("the scan has ended")
)
