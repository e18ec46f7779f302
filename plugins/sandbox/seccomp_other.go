//go:build linux && !amd64 && !arm64

package sandbox

import "errors"

const canFilter = false

func restrictCalls(*Plan) error {
	return errors.New("the filter of system calls is not made for this kind of processor")
}
