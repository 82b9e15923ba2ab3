package verb

import (
	"errors"
	"fmt"
)

// The exit codes of all verbs. Scripts rely on them: a number never changes its meaning.
const (
	ExitOK          = 0
	ExitFailure     = 1 // any other failure
	ExitUsage       = 2 // a flag, an argument or a configuration file is wrong
	ExitRefused     = 3 // not allowed, or not in the state of the key
	ExitNotFound    = 4 // the key or file does not exist
	ExitUnavailable = 5 // Keyside or its HSM is unavailable; a retry may succeed
	ExitBadData     = 6 // a ciphertext, file or signature does not verify
	ExitExists      = 7 // the name or the output file exists, or the quota is exhausted
)

// Error is an error with an exit code.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error without the exit code.
func (e *Error) Unwrap() error { return e.Err }

// Failf returns an Error with the text of fmt.Errorf.
func Failf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// ExitCode returns the exit code for an error of a verb: ExitOK for nil, ExitFailure if it is no Error.
func ExitCode(err error) int {
	if err == nil {
		return ExitOK
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ExitFailure
}
