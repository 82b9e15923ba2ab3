package verb

import (
	"slices"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// plain are the codes whose message says enough.
var plain = []kms.Code{kms.CodeInvalidRequest, kms.CodeUnsupported, kms.CodeDryRun, kms.CodeUnauthenticated, kms.CodeTokenExpired}

// TestAdvices checks that every code of the core has an exit code and advice, and that every row can match.
func TestAdvices(t *testing.T) {
	for _, code := range kms.Codes {
		i := slices.IndexFunc(advices, func(a advice) bool { return a.of.Code == string(code) && a.field == "" && a.reason == "" })
		switch {
		case i < 0:
			t.Errorf("no advice for %s", code)
		case advices[i].exit == ExitOK:
			t.Errorf("no exit code for %s", code)
		case (advices[i].next == "") != slices.Contains(plain, code):
			t.Errorf("%s must have advice or be in plain", code)
		}
	}
	for i, a := range advices {
		if !slices.Contains(kms.Codes, kms.Code(a.of.Code)) {
			t.Errorf("%s is not a code of the core", a.of.Code)
		}
		answered := &client.Error{Code: a.of.Code, Field: a.field, Reason: a.reason}
		if found := slices.IndexFunc(advices, func(b advice) bool { return b.matches(answered) }); found != i {
			t.Errorf("row %d (%s) never matches", i, a.of.Code)
		}
	}
}
