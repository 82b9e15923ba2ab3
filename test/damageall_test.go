//go:build damage

package test

import (
	"os"
	"regexp"
	"slices"
	"testing"
)

// TestAllDamage damages every file in every way. KEYSIDE_DAMAGE, a regular expression, selects some.
func TestAllDamage(t *testing.T) {
	selected := regexp.MustCompile(os.Getenv("KEYSIDE_DAMAGE"))
	for _, driver := range []string{"soft", "softhsm"} {
		t.Run(driver, func(t *testing.T) {
			l := newLaboratory(t, driver)
			l.runAll(slices.DeleteFunc(l.experiments(), func(e experiment) bool { return !selected.MatchString(e.String()) }), 8)
		})
	}
}
