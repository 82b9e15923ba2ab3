package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// inputFlags say where a verb's input comes from.
type inputFlags struct {
	text, file string
	more       string // what to do with more than the limit; may be empty
}

func (i *inputFlags) add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&i.text, "text", "", what+", as an argument; do not use it for secrets, others see it in ps")
	cmd.Flags().StringVar(&i.file, "in", "-", "file with "+what+"; - for standard input")
	cmd.MarkFlagsMutuallyExclusive("text", "in")
}

// open returns the input, which the caller closes.
func (i *inputFlags) open(cmd *cobra.Command) (io.ReadCloser, error) {
	switch {
	case cmd.Flags().Changed("text"):
		return io.NopCloser(strings.NewReader(i.text)), nil
	case i.file == "-":
		if isTerminal(cmd.InOrStdin()) {
			cmd.PrintErrln("reading from the terminal; end with Ctrl-D")
		}
		return stdin(cmd), nil
	}
	return os.Open(i.file)
}

// stdin is standard input, whose reading ends when the verb is interrupted.
func stdin(cmd *cobra.Command) io.ReadCloser {
	return io.NopCloser(interruptible{cmd.Context(), cmd.InOrStdin()})
}

// interruptible ends a Read that waits for a person or a pipe when the verb is interrupted. What is read after that is
// lost.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	type result struct {
		n   int
		err error
	}
	own := make([]byte, len(p)) // p is the caller's again after an interruption
	done := make(chan result, 1)
	go func() {
		n, err := r.Reader.Read(own)
		done <- result{n, err}
	}()
	select {
	case got := <-done:
		copy(p, own[:got.n])
		clear(own)
		return got.n, got.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

// read returns the whole input, of at most limit bytes.
func (i *inputFlags) read(cmd *cobra.Command, limit int) ([]byte, error) {
	r, err := i.open(cmd)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if len(b) > limit {
		clear(b)
		return nil, failf(ExitUsage, "the input has more than %d bytes%s", limit, i.more)
	}
	return b, nil
}

// outputFlags say where a verb's result goes.
type outputFlags struct {
	file  string
	force bool
}

func (o *outputFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.file, "out", "-", "file for the result, which appears whole or not at all; - for standard output")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace the output file")
}

// json writes a value for programs.
func (o *outputFlags) json(cmd *cobra.Command, v any) error {
	var b bytes.Buffer
	if err := printJSON(&b, v); err != nil {
		return err
	}
	defer clear(b.Bytes())
	return o.write(cmd, b.Bytes())
}

// write writes a result. What a terminal cannot show is refused there.
func (o *outputFlags) write(cmd *cobra.Command, result []byte) error {
	if o.file == "-" {
		if isTerminal(cmd.OutOrStdout()) && !printable(result) {
			return failf(ExitUsage, "the result is binary and standard output is a terminal: use --out FILE, or a pipe")
		}
		_, err := cmd.OutOrStdout().Write(result)
		return err
	}
	f, err := createOutput(o.file, o.force)
	if err != nil {
		return err
	}
	if _, err := f.Write(result); err != nil {
		return errors.Join(err, f.discard())
	}
	return f.commit()
}

// askToShow asks before a private key goes to a terminal.
func (o *outputFlags) askToShow(cmd *cobra.Command, yes yesFlag) error {
	if o.file != "-" || !isTerminal(cmd.OutOrStdout()) {
		return nil
	}
	return yes.confirm(cmd, confirmation{word: "yes", always: true, text: "The private key will be shown on this terminal, and stay in what it remembers. --out keeps it in a file."})
}

// harmless is text of somebody else's as a table shows it: quoted where it would do more to a terminal than show letters.
func harmless(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.QuoteToGraphic(s)
	}
	return s
}

// printable reports whether a terminal shows b as it is: text without control characters but tab and line ends.
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

// decodeBase64 returns what base64 text stands for, or the input itself where it is none: what is binary is given either way.
func decodeBase64(b []byte) []byte {
	text := bytes.TrimSpace(b)
	decoded := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	if n, err := base64.StdEncoding.Decode(decoded, text); err == nil {
		return decoded[:n]
	}
	return b
}
