package access

import (
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
)

// TestDecisionsReachNoTerminal checks that control characters in decisions and executables' names are quoted.
func TestDecisionsReachNoTerminal(t *testing.T) {
	const evil = "\x1b]0;gotcha\a"
	shown := decisionText(&client.Decision{
		Reason: evil, Hints: []string{evil}, User: evil, Caller: &client.Caller{Exe: "/" + evil, Selectors: []string{"exe:/" + evil}},
	})
	if n := strings.Count(shown, "gotcha"); n < 5 {
		t.Errorf("only %d are shown:\n%s", n, shown)
	}
	if strings.ContainsAny(shown, "\x1b\a") {
		t.Errorf("control characters are shown: %q", shown)
	}
}
