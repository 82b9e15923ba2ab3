package crypto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// transfer is the way of a file from its input through a transformation to its output. The output appears under its name only if the
// transformation succeeds.
type transfer struct {
	s       *verb.Session
	in, out string // "-": standard input and output
	force   bool
	src     io.ReadCloser
	size    int64        // of the input in bytes; -1: not known
	file    *verb.Output // nil: standard output
}

// newTransfer returns the transfer that the arguments IN and OUT name.
func newTransfer(s *verb.Session, args []string, force bool) *transfer {
	names := append(append([]string{}, args...), "-", "-")
	return &transfer{s: s, in: names[0], out: names[1], force: force}
}

// inName returns the name of the input for people.
func (t *transfer) inName() string {
	if t.in == "-" {
		return "standard input"
	}
	return t.in
}

// open opens the input and begins the output. It refuses an output that is the input, which would grow without end.
func (t *transfer) open() (err error) {
	if err := t.openInput(); err != nil {
		return err
	}
	if t.out != "-" {
		if t.file, err = verb.CreateOutput(t.out, t.force); err != nil {
			return errors.Join(err, t.src.Close())
		}
	}
	if sameFile(t.src, t.writer()) {
		err = verb.Failf(verb.ExitUsage, "the output is the input file %s: name another output", t.inName())
		return t.close(err)
	}
	return nil
}

func (t *transfer) openInput() error {
	if t.in == "-" {
		in := t.s.Cmd.InOrStdin()
		if verb.IsTerminal(in) {
			t.s.Note("reading from the terminal; end with Ctrl-D")
		}
		t.src, t.size = keepOpen{in}, -1
		return nil
	}
	f, err := os.Open(t.in)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if info.IsDir() {
		return errors.Join(verb.Failf(verb.ExitUsage, "%s is a directory: pack it first, tar c %s | keyside file encrypt --key KEY - OUT",
			t.in, verb.ShellQuote(t.in)), f.Close())
	}
	t.src, t.size = f, -1
	if info.Mode().IsRegular() {
		t.size = info.Size()
	}
	return nil
}

// keepOpen is standard input, which a transfer does not close.
type keepOpen struct{ io.Reader }

func (keepOpen) Close() error { return nil }

// sameFile reports whether an input and an output are the same regular file.
func sameFile(src, dst any) bool {
	if k, ok := src.(keepOpen); ok {
		src = k.Reader
	}
	var infos [2]os.FileInfo
	for i, stream := range []any{src, dst} {
		f, ok := stream.(*os.File)
		if !ok {
			return false
		}
		info, err := f.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return false
		}
		infos[i] = info
	}
	return os.SameFile(infos[0], infos[1])
}

// writer returns the output.
func (t *transfer) writer() io.Writer {
	if t.file != nil {
		return t.file.File
	}
	return t.s.Out()
}

// terminal reports whether the output is a terminal.
func (t *transfer) terminal() bool { return verb.IsTerminal(t.writer()) }

// run runs work from the input to the output. It shows a bar if standard error is a terminal, and the output is none.
func (t *transfer) run(ctx context.Context, work func(io.Writer, io.Reader) error) error {
	src, dst := io.Reader(&contextReader{ctx, t.src}), t.writer()
	switch {
	case t.terminal():
		dst = verb.TextOnly(dst)
	case verb.IsTerminal(t.s.Cmd.ErrOrStderr()) && !t.s.Quiet:
		bar := progressbar.DefaultBytes(t.size, t.inName())
		defer func() { _ = bar.Exit() }()
		src = io.TeeReader(src, bar)
	}
	return work(dst, src)
}

// close closes the input, and completes the output, or discards it if err is not nil.
func (t *transfer) close(err error) error {
	cerr := t.src.Close()
	switch {
	case t.file == nil:
	case err != nil:
		cerr = errors.Join(cerr, t.file.Discard())
	default:
		cerr = errors.Join(cerr, t.file.Commit())
	}
	if err != nil && cerr != nil {
		return fmt.Errorf("%w; %w", err, cerr)
	}
	return errors.Join(err, cerr)
}

// contextReader ends a copy when ctx ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
