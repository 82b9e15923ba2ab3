package drivertest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// Status is the result of a check.
type Status string

// The statuses.
const (
	Pass Status = "pass"
	Fail Status = "fail"
	Skip Status = "skip"
)

// Outcome is one check of a report.
type Outcome struct {
	Name   string        `json:"name"`
	Status Status        `json:"status"`
	Detail string        `json:"detail,omitempty"` // why it failed or was skipped
	Took   time.Duration `json:"took_ns"`
}

// Report is the result of Check.
type Report struct {
	Outcomes []Outcome `json:"checks"`
}

// Count returns the number of checks with a status.
func (r *Report) Count(s Status) int {
	n := 0
	for _, o := range r.Outcomes {
		if o.Status == s {
			n++
		}
	}
	return n
}

// Passed reports whether checks ran and none failed.
func (r *Report) Passed() bool { return len(r.Outcomes) > 0 && r.Count(Fail) == 0 }

// maxFailures is how many failures of a check are listed; the rest is counted.
const maxFailures = 8

// probe is one check in progress.
type probe struct {
	ctx      context.Context
	failures []string
	more     int
	skipped  string
	secrets  func() [][]byte
}

// stop is what Fatalf and Skipf panic with, to end the check.
type stop struct{}

// Errorf records a failure and continues. Only the check's own goroutine may call it.
func (p *probe) Errorf(format string, args ...any) {
	if len(p.failures) == maxFailures {
		p.more++
		return
	}
	p.failures = append(p.failures, fmt.Sprintf(format, args...))
}

// Fatalf records a failure and ends the check.
func (p *probe) Fatalf(format string, args ...any) {
	p.Errorf(format, args...)
	panic(stop{})
}

// Skipf ends the check because the driver announces nothing to test.
func (p *probe) Skipf(format string, args ...any) {
	p.skipped = fmt.Sprintf(format, args...)
	panic(stop{})
}

// errorIf, fatalIf and skipIf are Errorf, Fatalf and Skipf under a condition.
func (p *probe) errorIf(bad bool, format string, args ...any) {
	if bad {
		p.Errorf(format, args...)
	}
}

func (p *probe) fatalIf(bad bool, format string, args ...any) {
	if bad {
		p.Fatalf(format, args...)
	}
}

func (p *probe) skipIf(idle bool, format string, args ...any) {
	if idle {
		p.Skipf(format, args...)
	}
}

// should records err as a failure.
func (p *probe) should(err error, format string, args ...any) {
	if err != nil {
		p.Errorf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// must is should that ends the check.
func (p *probe) must(err error, format string, args ...any) {
	if err != nil {
		p.Fatalf("%s: %v (%s)", fmt.Sprintf(format, args...), err, driver.CodeOf(err))
	}
}

// refused checks that a call failed with one of the codes, with a typed error that contains no secret.
func (p *probe) refused(err error, codes []driver.Code, format string, args ...any) {
	p.should(p.refusal(err, codes), format, args...)
}

func (p *probe) refusal(err error, codes []driver.Code) error {
	var typed *driver.Error
	switch {
	case err == nil:
		return fmt.Errorf("accepted, want %s", names(codes))
	case !errors.As(err, &typed):
		return fmt.Errorf("error is not a *driver.Error: %T", err)
	}
	text := err.Error()
	for _, secret := range p.secrets() {
		for _, form := range []string{string(secret), hex.EncodeToString(secret), base64.StdEncoding.EncodeToString(secret), fmt.Sprint(secret)} {
			if strings.Contains(text, form) {
				return errors.New("error text contains plaintext or key material")
			}
		}
	}
	switch {
	case strings.ContainsAny(text, "\n\r\x00"):
		return errors.New("error text is not one line")
	case !slices.Contains(codes, typed.Code):
		return fmt.Errorf("refused with %s (%s), want %s", typed.Code, text, names(codes))
	}
	return nil
}

func names(codes []driver.Code) string {
	list := make([]string, len(codes))
	for i, c := range codes {
		list[i] = c.String()
	}
	return strings.Join(list, " or ")
}

// errorOf drops the value of a call that must fail.
func errorOf[T any](_ T, err error) error { return err }

// only returns a list of codes.
func only(codes ...driver.Code) []driver.Code { return codes }

func (p *probe) equal(got, want []byte, what string) {
	p.errorIf(!bytes.Equal(got, want), "%s differs: %d bytes, want %d", what, len(got), len(want))
}

// contain runs fn and records a panic as a failure.
func (p *probe) contain(fn func()) {
	defer func() {
		switch r := recover().(type) {
		case nil, stop:
		default:
			p.Errorf("panicked: %v\n%s", r, debug.Stack())
		}
	}()
	fn()
}

func (p *probe) outcome() Outcome {
	switch {
	case p.more > 0:
		return Outcome{Status: Fail, Detail: fmt.Sprintf("%s; and %d more", strings.Join(p.failures, "; "), p.more)}
	case len(p.failures) > 0:
		return Outcome{Status: Fail, Detail: strings.Join(p.failures, "; ")}
	case p.skipped != "":
		return Outcome{Status: Skip, Detail: p.skipped}
	}
	return Outcome{Status: Pass}
}
