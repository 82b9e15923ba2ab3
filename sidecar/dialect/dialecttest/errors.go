// Package dialecttest has the tests that every dialect must pass: its error table is total, and its handlers read only the
// fields that their routes list.
package dialecttest

import (
	"slices"
	"testing"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// CheckErrors checks that every condition of the kernel and every code of the core has an answer, and that every exception
// is for a code of the core and changes its answer, or one of the exceptions after it.
func CheckErrors(t *testing.T, conditions map[dialect.Condition]dialect.Answer, answers dialect.Answers) {
	t.Helper()
	for _, c := range dialect.Conditions() {
		if a := conditions[c]; a.Status == 0 || a.Code == "" {
			t.Errorf("condition %d is answered with %+v", c, a)
		}
	}
	for _, code := range kms.Codes {
		if a := answers.Codes[code]; a.Status == 0 || a.Code == "" {
			t.Errorf("%s is answered with %+v", code, a)
		}
	}
	if len(answers.Codes) != len(kms.Codes) {
		t.Errorf("%d answers for %d codes", len(answers.Codes), len(kms.Codes))
	}
	for i, ex := range answers.Exceptions {
		before := slices.ContainsFunc(answers.Exceptions[i+1:], func(later dialect.Exception) bool { return later.Code == ex.Code })
		if a := answers.Codes[ex.Code]; !slices.Contains(kms.Codes, ex.Code) || ex.As == "" || ex.As == a.Code && ex.Status == 0 && !before {
			t.Errorf("exception %d for %s changes nothing", i, ex.Code)
		}
	}
}
