package driver

import (
	"testing"

	"github.com/keyside/keyside/plugins/driverv1"
)

// TestSpecTable checks that the table has one row for each spec of the contract, and that each row is complete.
func TestSpecTable(t *testing.T) {
	if got, want := len(Specs()), len(driverv1.KeySpec_name)-1; got != want || len(specsByName) != want || len(specsByValue) != want {
		t.Errorf("%d rows, %d names, %d values; the contract has %d specs", got, len(specsByName), len(specsByValue), want)
	}
	for _, s := range Specs() {
		if driverv1.KeySpec_name[int32(s.Value)] == "" || SpecOf(s.Value) != s || SpecNamed(s.Name) != s {
			t.Errorf("%s is not found by its value or name", s.Name)
		}
		if s.Family == 0 || s.Bits == 0 || len(s.Uses) == 0 || (s.Family == EC) != (s.OID != nil) {
			t.Errorf("%s is not complete", s.Name)
		}
		if s.Curve != nil && s.Curve.Params().BitSize != s.Bits {
			t.Errorf("%s has a curve of %d bits", s.Name, s.Curve.Params().BitSize)
		}
		for _, u := range s.Uses {
			if (len(u.Algorithms) == 0) != (u.Usage == Unwrap) {
				t.Errorf("%s for %s has %d algorithms", s.Name, u.Usage, len(u.Algorithms))
			}
		}
	}
	for _, unknown := range []*Spec{SpecOf(0), SpecOf(120), SpecNamed(""), SpecNamed("AES_512")} {
		if _, ok := unknown.Algorithms(EncryptDecrypt); ok || unknown.Value != 0 || unknown.Family != 0 || unknown.Symmetric() {
			t.Errorf("row of an unknown spec is %+v", unknown)
		}
	}
}

// TestNames checks the look-ups by the core's names.
func TestNames(t *testing.T) {
	if UsageNamed("SIGN_VERIFY") != SignVerify || UsageNamed("sign") != 0 {
		t.Error("usages are not found by name")
	}
	if AlgorithmNamed("RSAES_OAEP_SHA_256") != OAEPSHA256 || AlgorithmNamed("none") != 0 {
		t.Error("algorithms are not found by name")
	}
	for v := range driverv1.Protection_name {
		if p := Protection(v); (ProtectionName(p) == "") != (p == 0) {
			t.Errorf("%s has the name %q", p, ProtectionName(p))
		}
	}
}
