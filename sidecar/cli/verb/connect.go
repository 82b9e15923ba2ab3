// Package verb has what the verbs share: the connection to a sidecar, exit codes, errors with advice, input and output,
// confirmation, completion.
package verb

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// Sockets that are tried when neither --socket nor $KEYSIDE_SOCKET names one: the folder of `make up`, and the unit's.
const (
	devSocket    = ".dev/kms.sock"
	systemSocket = "/run/keyside/kms.sock"
)

// Session is what every verb that talks to a sidecar shares.
type Session struct {
	socket  string
	timeout time.Duration
	JSON    bool
}

// Talks makes cmd a verb that talks to a sidecar. run gets a client whose calls end with the verb's timeout.
func Talks(cmd *cobra.Command, run func(ctx context.Context, c *client.Client, s *Session, cmd *cobra.Command, args []string) error) *cobra.Command {
	s := new(Session)
	f := cmd.Flags()
	f.StringVar(&s.socket, "socket", "", "the sidecar's socket (default $KEYSIDE_SOCKET, else "+devSocket+" if it is there, else "+systemSocket+")")
	f.DurationVar(&s.timeout, "timeout", requestTimeout, "of each request")
	f.BoolVar(&s.JSON, "json", false, "print JSON for programs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := client.New(socketPath(s.socket))
		defer c.Close()
		return Explain(run(cmd.Context(), c, s, cmd, args))
	}
	return cmd
}

// A request ends after requestTimeout, and after keyTimeout where it may have an RSA key made: the sidecar itself gives up after
// two minutes then, and says why. Both are defaults of --timeout.
const (
	requestTimeout = 30 * time.Second
	keyTimeout     = 150 * time.Second
)

// MakesKeys gives a verb the time that small HSMs take for an RSA key.
func MakesKeys(cmd *cobra.Command) *cobra.Command {
	timeout := cmd.Flags().Lookup("timeout")
	timeout.DefValue = keyTimeout.String()
	if err := timeout.Value.Set(timeout.DefValue); err != nil {
		panic(err) // it is a duration
	}
	return cmd
}

// Request returns the context of one request.
func (s *Session) Request(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.timeout)
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
