package kms

import (
	"sync"
	"time"
)

// InFlight limits the operations that are in progress at once. One over a limit is refused with CodeBusy before it costs
// anything. A zero field means that of DefaultInFlight.
type InFlight struct {
	Total     int `yaml:"total"`
	Principal int `yaml:"principal"` // of one principal
}

// DefaultInFlight lets one principal have half of what is served at once, which is far more than keeps an HSM busy.
var DefaultInFlight = InFlight{Total: 2048, Principal: 1024}

// admission counts the operations in progress.
type admission struct {
	limits InFlight

	mu    sync.Mutex
	total int
	by    map[string]int // by principal
}

func newAdmission(limits InFlight) admission {
	if limits.Total == 0 {
		limits.Total = DefaultInFlight.Total
	}
	if limits.Principal == 0 {
		limits.Principal = min(DefaultInFlight.Principal, limits.Total)
	}
	return admission{limits: limits, by: map[string]int{}}
}

// enter counts an operation of a principal, or refuses it.
func (a *admission) enter(principal string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.total >= a.limits.Total || a.by[principal] >= a.limits.Principal {
		return busy
	}
	a.total++
	a.by[principal]++
	return nil
}

func (a *admission) leave(principal string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.total--
	if a.by[principal]--; a.by[principal] == 0 {
		delete(a.by, principal)
	}
}

var busy = &Error{Code: CodeBusy, Message: "too many operations are in progress: retry later", RetryAfter: time.Second}

// fullRetry is when to retry a change that a full disk refused: an operator must make room first.
const fullRetry = 30 * time.Second

// NoRoom returns the refusal of an operation for which the disk has no room.
func NoRoom(cause error) *Error {
	return (&Error{Code: CodeBusy, Message: "the disk of this service is full: retry later", RetryAfter: fullRetry}).Because(cause)
}
