package verb

import (
	"errors"
	"fmt"
)

// Exit codes of every verb. Scripts rely on them: a number never changes its meaning.
const (
	ExitOK          = 0
	ExitFailure     = 1 // anything not below
	ExitUsage       = 2 // a flag, an argument or a configuration file is wrong
	ExitRefused     = 3 // not allowed, or not in the key's present state
	ExitNotFound    = 4 // no such key or file
	ExitUnavailable = 5 // Keyside or its HSM cannot answer now; the same command may work later
	ExitBadData     = 6 // a ciphertext, file or signature does not verify
	ExitExists      = 7 // the name or the output file is taken, or the quota is used up
)

// Error is a failure with an exit code of its own.
type Error struct {
	Code int
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the failure itself.
func (e *Error) Unwrap() error { return e.Err }

// Failf makes an Error as fmt.Errorf would.
func Failf(code int, format string, args ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// ExitCode returns the exit code that an error of a verb stands for.
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
