package verb

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"
)

// Table prints rows in aligned columns; the first row is the heading. Cells are harmless: others typed some of them. On a terminal, long
// cells are cut so that rows fit.
func Table(w io.Writer, rows [][]string) error {
	safe := make([][]string, len(rows))
	for i, row := range rows {
		safe[i] = make([]string, len(row))
		for j, cell := range row {
			safe[i][j] = Harmless(cell)
		}
	}
	if IsTerminal(w) {
		if width, _, err := term.GetSize(int(w.(*os.File).Fd())); err == nil {
			fit(safe, width)
		}
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range safe {
		if _, err := fmt.Fprintln(tw, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

// wholeCell is the length up to which cells are never cut: that of a key's id.
const wholeCell = 36

// fit cuts the longest cells until rows with two blanks between columns have at most width characters, or no cell is longer than wholeCell.
func fit(rows [][]string, width int) {
	for {
		var widths []int
		for _, row := range rows {
			for j, cell := range row {
				if j == len(widths) {
					widths = append(widths, 0)
				}
				widths[j] = max(widths[j], utf8.RuneCountInString(cell))
			}
		}
		total, widest := 2*(len(widths)-1), 0
		for j, n := range widths {
			total += n
			if n > widths[widest] {
				widest = j
			}
		}
		if len(widths) == 0 || total <= width || widths[widest] <= wholeCell {
			return
		}
		most := max(wholeCell, widths[widest]-(total-width))
		for _, row := range rows {
			if widest < len(row) && utf8.RuneCountInString(row[widest]) > most {
				row[widest] = string([]rune(row[widest])[:most-1]) + "…"
			}
		}
	}
}

// PrintJSON prints one value for programs.
func PrintJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// IsTerminal reports whether a stream is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// When returns a time in UTC for a table, "-" for the zero time.
func When(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

// Dash returns s, "-" if it is empty.
func Dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Harmless returns foreign text for a table: quoted if it has control characters, which could change the terminal.
func Harmless(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// printable reports whether b is text without control characters other than tab and line ends.
func printable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if (r < ' ' && r != '\n' && r != '\t' && r != '\r') || (r >= 0x7f && r < 0xa0) {
			return false
		}
	}
	return true
}

// TextOnly returns a writer to a terminal that refuses control characters.
func TextOnly(w io.Writer) io.Writer { return textOnly{w} }

type textOnly struct{ io.Writer }

func (t textOnly) Write(p []byte) (int, error) {
	for _, b := range p { // a character may be cut at the end of p
		if b < ' ' && b != '\n' && b != '\t' && b != '\r' || b == 0x7f {
			return 0, ErrBinary
		}
	}
	return t.Writer.Write(p)
}

// ShellQuote quotes a path for a shell if necessary.
func ShellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
