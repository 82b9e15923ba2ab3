package dialect

import (
	"strings"

	"github.com/keyside/keyside/sidecar/kms"
)

// Registration is a dialect in the list of those that the sidecar can serve.
type Registration struct {
	Key     string         // of the dialect's section in the configuration
	Marks   Marks          // of its requests
	Section func() Section // returns a new section with its defaults
}

// Section is a dialect's section of the configuration: a pointer to a struct with yaml tags.
type Section interface {
	// Validate calls check for each key of the section; ok false means that its value is invalid.
	Validate(check func(ok bool, key, format string, args ...any))
	// OwnLimits returns the dialect's limits: a zero field takes the tenant's.
	OwnLimits() kms.Limits
	// New returns the dialect.
	New(host Host, core *kms.Service) Dialect
}

// IsName reports whether s can stand in a path and in JSON as it is: 1 to 64 letters, digits, - and _.
func IsName(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, lettersAndDigits+"-_") == ""
}
