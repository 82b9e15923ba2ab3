package verb

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// InputFlags select a verb's input.
type InputFlags struct {
	text, file string
	More       string // advice for input above the limit; may be empty
	Secret     bool   // the input should not be an argument
}

// Add adds the flags to cmd. what names the input.
func (i *InputFlags) Add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&i.text, "text", "", what+" as an argument; not for secrets: other users can read it with ps")
	cmd.Flags().StringVar(&i.file, "in", "-", "file with "+what+"; - for standard input")
	cmd.MarkFlagsMutuallyExclusive("text", "in")
}

// Open returns the input, which the caller closes.
func (i *InputFlags) Open(cmd *cobra.Command) (io.ReadCloser, error) {
	switch {
	case cmd.Flags().Changed("text") && i.Secret && !quiet(cmd):
		cmd.PrintErrln("warning: every user of this node can read --text in the list of processes: use standard input, or --in")
		fallthrough
	case cmd.Flags().Changed("text"):
		return io.NopCloser(strings.NewReader(i.text)), nil
	case i.file == "-":
		if IsTerminal(cmd.InOrStdin()) {
			cmd.PrintErrln("reading from the terminal; end with Ctrl-D")
		}
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(i.file)
}

// quiet reports whether --quiet is set.
func quiet(cmd *cobra.Command) bool {
	set, _ := cmd.Flags().GetBool("quiet")
	return set
}

// Read returns the whole input, at most limit bytes.
func (i *InputFlags) Read(cmd *cobra.Command, limit int) ([]byte, error) {
	r, err := i.Open(cmd)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if len(b) > limit {
		clear(b)
		return nil, Failf(ExitUsage, "the input is longer than %d bytes%s", limit, i.More)
	}
	return b, nil
}

// OutputFlags select where a verb's result goes.
type OutputFlags struct {
	File  string // "-": standard output
	force bool
}

// Add adds the flags to cmd.
func (o *OutputFlags) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.File, "out", "-", "file for the result, which appears whole or not at all; - for standard output")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace the output file")
}

// Print writes a result: JSON for programs, else text with a line end. It clears its copies of it.
func (o *OutputFlags) Print(s *Session, v any, text string) error {
	return o.PrintRaw(s, v, append([]byte(text), '\n'))
}

// PrintRaw writes a result: JSON for programs, else bytes, which it clears.
func (o *OutputFlags) PrintRaw(s *Session, v any, result []byte) error {
	defer clear(result)
	if s.JSON {
		var b bytes.Buffer
		if err := PrintJSON(&b, v); err != nil {
			return err
		}
		defer clear(b.Bytes())
		result = b.Bytes()
	}
	return o.write(s.Cmd, result)
}

// PrintBinary writes a binary result: JSON for programs, base64 to standard output, bytes to a file. It clears the result.
func (o *OutputFlags) PrintBinary(s *Session, v any, result []byte) error {
	if o.File == "-" {
		defer clear(result)
		result = Base64Line(result)
	}
	return o.PrintRaw(s, v, result)
}

// write writes a result. It refuses to show binary data on a terminal.
func (o *OutputFlags) write(cmd *cobra.Command, result []byte) error {
	if o.File == "-" {
		if IsTerminal(cmd.OutOrStdout()) && !printable(result) {
			return ErrBinary
		}
		_, err := cmd.OutOrStdout().Write(result)
		return err
	}
	dst, err := CreateOutput(o.File, o.force)
	if err != nil {
		return err
	}
	if IsTerminal(dst.File) && !printable(result) {
		return errors.Join(ErrBinary, dst.Discard())
	}
	return dst.finish(result)
}

// ErrBinary is the refusal to show binary data on a terminal.
var ErrBinary = Failf(ExitUsage, "the result is binary and the output is a terminal: name an output file, or use a pipe")

// AskToShow asks for confirmation before a private key is shown on a terminal.
func (o *OutputFlags) AskToShow(cmd *cobra.Command, yes YesFlag) error {
	if o.File != "-" || !IsTerminal(cmd.OutOrStdout()) {
		return nil
	}
	return yes.Confirm(cmd, Confirmation{
		Word: "yes", Text: "The private key will be shown on this terminal and stay in its scrollback. --out writes it to a file instead.",
	})
}
