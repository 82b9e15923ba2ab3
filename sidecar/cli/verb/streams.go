package verb

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// InputFlags say where a verb's input comes from.
type InputFlags struct {
	text, file string
	More       string // what to do with more than the limit; may be empty
}

func (i *InputFlags) Add(cmd *cobra.Command, what string) {
	cmd.Flags().StringVar(&i.text, "text", "", what+", as an argument; do not use it for secrets, others see it in ps")
	cmd.Flags().StringVar(&i.file, "in", "-", "file with "+what+"; - for standard input")
	cmd.MarkFlagsMutuallyExclusive("text", "in")
}

// Open returns the input, which the caller closes.
func (i *InputFlags) Open(cmd *cobra.Command) (io.ReadCloser, error) {
	switch {
	case cmd.Flags().Changed("text"):
		return io.NopCloser(strings.NewReader(i.text)), nil
	case i.file == "-":
		if IsTerminal(cmd.InOrStdin()) {
			cmd.PrintErrln("reading from the terminal; end with Ctrl-D")
		}
		return Stdin(cmd), nil
	}
	return os.Open(i.file)
}

// Stdin is standard input, whose reading ends when the verb is interrupted.
func Stdin(cmd *cobra.Command) io.ReadCloser {
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

// Read returns the whole input, of at most limit bytes.
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
		return nil, Failf(ExitUsage, "the input has more than %d bytes%s", limit, i.More)
	}
	return b, nil
}

// OutputFlags say where a verb's result goes.
type OutputFlags struct {
	File  string
	force bool
}

func (o *OutputFlags) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.File, "out", "-", "file for the result, which appears whole or not at all; - for standard output")
	cmd.Flags().BoolVar(&o.force, "force", false, "replace the output file")
}

// JSON writes a value for programs.
func (o *OutputFlags) JSON(cmd *cobra.Command, v any) error {
	var b bytes.Buffer
	if err := PrintJSON(&b, v); err != nil {
		return err
	}
	defer clear(b.Bytes())
	return o.Write(cmd, b.Bytes())
}

// Write writes a result. What a terminal cannot show is refused there.
func (o *OutputFlags) Write(cmd *cobra.Command, result []byte) error {
	if o.File == "-" {
		if IsTerminal(cmd.OutOrStdout()) && !printable(result) {
			return Failf(ExitUsage, "the result is binary and standard output is a terminal: use --out FILE, or a pipe")
		}
		_, err := cmd.OutOrStdout().Write(result)
		return err
	}
	f, err := CreateOutput(o.File, o.force)
	if err != nil {
		return err
	}
	if _, err := f.Write(result); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit()
}

// AskToShow asks before a private key goes to a terminal.
func (o *OutputFlags) AskToShow(cmd *cobra.Command, yes YesFlag) error {
	if o.File != "-" || !IsTerminal(cmd.OutOrStdout()) {
		return nil
	}
	return yes.Confirm(cmd, Confirmation{Word: "yes", Always: true, Text: "The private key will be shown on this terminal, and stay in what it remembers. --out keeps it in a file."})
}
