package spelling

import (
	"slices"
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	words := []string{"encrypt", "decrypt", "re-encrypt", "encrypt-data-key", "sign", "verify", "AES_256", "AES_128", "RSA_2048", "up"}
	for typed, want := range map[string]string{
		"decrpyt": "decrypt", "ecnrypt": "encrypt", "encryp": "encrypt", "reencrypt": "re-encrypt", "sing": "sign",
		"veriyf": "verify", "aes256": "AES_256", "AES265": "AES_256", "rsa": "RSA_2048", "SIGN": "sign",
	} {
		if got := Nearest(typed, words); len(got) == 0 || got[0] != want || len(got) > maxNearest {
			t.Errorf("%s: %v", typed, got)
		}
	}
	for _, typed := range []string{"", "x", "delete-everything", "42", "zzzz"} {
		if got := Nearest(typed, words); len(got) > 0 {
			t.Errorf("%q: %v", typed, got)
		}
	}
	if got := DidYouMean("decrpyt", []string{"decrypt"}); got != "; did you mean decrypt?" {
		t.Error(got)
	}
	if got := DidYouMean("aaab", []string{"aaaa", "aaac", "aaad"}); got != "; did you mean aaaa, aaac or aaad?" {
		t.Error(got)
	}
}

// FuzzDistance checks the axioms of a distance that suggestions rely on.
func FuzzDistance(f *testing.F) {
	f.Add("decrpyt", "decrypt")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > 50 || len(b) > 50 {
			return // quadratic
		}
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) || d < max(len(a), len(b))-min(len(a), len(b)) {
			t.Errorf("%q, %q: %d", a, b, d)
		}
		Nearest(a, slices.Repeat([]string{b}, 2))
		Nearest(a, strings.Fields(b))
	})
}
