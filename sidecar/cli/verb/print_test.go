package verb

import (
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"
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

// TestTable checks that control characters of others reach no terminal, and that long cells are cut to the width.
func TestTable(t *testing.T) {
	var b strings.Builder
	if err := Table(&b, [][]string{{"A", "B"}, {"x\x1b[2J", "right\u202eleft"}, {"two\nlines", "tab\there"}}); err != nil {
		t.Fatal(err)
	}
	want := "A             B\n\"x\\x1b[2J\"    \"right\\u202eleft\"\n\"two\\nlines\"  \"tab\\there\"\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	id := strings.Repeat("i", wholeCell)
	rows := [][]string{{"ID", "TEXT", "STATE"}, {id, strings.Repeat("ü", 100), "Enabled"}, {id, "short", "Disabled"}, {id}}
	fit(rows, 100)
	if got := rows[1]; got[0] != id || got[1] != strings.Repeat("ü", 51)+"…" || got[2] != "Enabled" || rows[2][1] != "short" {
		t.Errorf("%q", rows)
	}
	fit(rows, 10) // ids stay whole
	if rows[1][0] != id || utf8.RuneCountInString(rows[1][1]) != wholeCell {
		t.Errorf("%q", rows)
	}
	fit(nil, 10)
}
