// Package verb has what the verbs share: the connection to a sidecar, exit codes, errors with advice, input and output,
// confirmation, completion.
package verb

import (
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

// The sockets to try if neither --socket nor $KEYSIDE_SOCKET is set: that of keyside up, and that of the systemd unit.
const (
	devSocket    = ".dev/kms.sock"
	systemSocket = "/run/keyside/kms.sock"
)

// requestTimeout and keyTimeout are defaults of --timeout. The second is for requests that may generate an RSA key: the
// sidecar returns an error after two minutes then.
const (
	requestTimeout = 30 * time.Second
	keyTimeout     = 150 * time.Second
)

// Session is one run of a verb that talks to a sidecar.
type Session struct {
	*client.Client
	Cmd   *cobra.Command
	JSON  bool // print JSON for programs
	Quiet bool // no notes and no bars on standard error
}

// Talks makes cmd a verb that talks to a sidecar.
func Talks(cmd *cobra.Command, run func(ctx context.Context, s *Session, args []string) error) *cobra.Command {
	var socket string
	var timeout time.Duration
	s := &Session{Cmd: cmd}
	f := cmd.Flags()
	f.StringVar(&socket, "socket", "", "the sidecar's socket (default $KEYSIDE_SOCKET, else "+devSocket+" if it exists, else "+systemSocket+")")
	f.DurationVar(&timeout, "timeout", requestTimeout, "time limit of each request")
	f.BoolVar(&s.JSON, "json", false, "print JSON for programs")
	f.BoolVarP(&s.Quiet, "quiet", "q", false, "no notes and no progress bar; errors and results only")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s.Client = client.New(socketPath(socket))
		s.Timeout = timeout
		defer s.Close()
		return Explain(run(cmd.Context(), s, args))
	}
	return cmd
}

// Group adds verbs to the command that groups them.
func Group(group *cobra.Command, verbs ...*cobra.Command) *cobra.Command {
	group.AddCommand(verbs...)
	return group
}

// GeneratesKeys gives a verb the time that small HSMs need to generate an RSA key.
func GeneratesKeys(cmd *cobra.Command) *cobra.Command {
	timeout := cmd.Flags().Lookup("timeout")
	timeout.DefValue = keyTimeout.String()
	if err := timeout.Value.Set(timeout.DefValue); err != nil {
		panic(err) // it is a duration
	}
	return cmd
}

// OnKey makes cmd a verb about the key that its first argument names.
func OnKey(cmd *cobra.Command, run func(ctx context.Context, s *Session, id string, args []string) error) *cobra.Command {
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = CompleteKeys(1)
	}
	return Talks(cmd, func(ctx context.Context, s *Session, args []string) error {
		id, err := s.Resolve(ctx, args[0])
		if err != nil {
			return err
		}
		return run(ctx, s, id, args)
	})
}

// Changes makes cmd a verb that changes one thing of the key that its first argument names. change returns what it did, for people;
// programs get the key's id.
func Changes(cmd *cobra.Command, change func(ctx context.Context, s *Session, id string, args []string) (did string, err error)) *cobra.Command {
	return OnKey(cmd, func(ctx context.Context, s *Session, id string, args []string) error {
		did, err := change(ctx, s, id, args)
		if err != nil {
			return err
		}
		return s.Done(map[string]string{"key_id": id}, "%s", did)
	})
}

// Out returns standard output.
func (s *Session) Out() io.Writer { return s.Cmd.OutOrStdout() }

// Note prints a line for people to standard error, unless --quiet is set.
func (s *Session) Note(format string, args ...any) {
	if !s.Quiet {
		s.Cmd.PrintErrf(format+"\n", args...)
	}
}

// Show prints a result: as JSON for programs, else as a table.
func (s *Session) Show(v any, rows [][]string) error {
	if s.JSON {
		return PrintJSON(s.Out(), v)
	}
	return Table(s.Out(), rows)
}

// ShowAll prints a list: as JSON for programs, else as a table under a heading. view returns both forms of an element.
func ShowAll[T, V any](s *Session, heading []string, all iter.Seq2[*T, error], view func(*T) (V, []string)) error {
	views, rows := []V{}, [][]string{heading}
	for element, err := range all {
		if err != nil {
			return err
		}
		v, row := view(element)
		views, rows = append(views, v), append(rows, row)
	}
	return s.Show(views, rows)
}

// Print prints a result: as JSON for programs, else as text with a line end.
func (s *Session) Print(v, text any) error {
	if s.JSON {
		return PrintJSON(s.Out(), v)
	}
	_, err := fmt.Fprintln(s.Out(), text)
	return err
}

// Done prints the result of a change: as JSON for programs, else as what was done, to standard error.
func (s *Session) Done(v any, did string, args ...any) error {
	if s.JSON {
		return PrintJSON(s.Out(), v)
	}
	s.Note(did, args...)
	return nil
}

func socketPath(flag string) string {
	if flag != "" {
		return flag
	}
	if env := os.Getenv("KEYSIDE_SOCKET"); env != "" {
		return env
	}
	if _, err := os.Stat(devSocket); err == nil {
		return devSocket
	}
	return systemSocket
}
