package verb

import (
	"os/exec"
	"testing"
)

func TestPrintable(t *testing.T) {
	for text, want := range map[string]bool{
		"attack at dawn\n": true, "größer\t→": true, "\x1b[2J": false, "\xff": false, "\x00": false, "\u009b": false, "\x7f": false,
	} {
		if got := printable([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// TestShellQuote lets a shell read the quoted text.
func TestShellQuote(t *testing.T) {
	for _, s := range []string{"", "plain", "/a/b-c_d.e", "with blank", "it's", `back\slash`, "$HOME", "`id`", "new\nline", "~"} {
		out, err := exec.Command("sh", "-c", "printf %s "+ShellQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q came back as %q, %v", s, out, err)
		}
	}
}
