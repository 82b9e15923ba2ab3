package cli

import (
	"context"
	"errors"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

// Sockets that are tried when neither --socket nor $KEYSIDE_SOCKET names one: the folder of `make up`, and the unit's.
const (
	devSocket    = ".dev/kms.sock"
	systemSocket = "/run/keyside/kms.sock"
)

// session is what every verb that talks to a sidecar shares.
type session struct {
	socket  string
	timeout time.Duration
	json    bool
}

// talks makes cmd a verb that talks to a sidecar. run gets a client whose calls end with the verb's timeout.
func talks(cmd *cobra.Command, run func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, args []string) error) *cobra.Command {
	s := new(session)
	f := cmd.Flags()
	f.StringVar(&s.socket, "socket", "", "the sidecar's socket (default $KEYSIDE_SOCKET, else "+devSocket+" if it is there, else "+systemSocket+")")
	f.DurationVar(&s.timeout, "timeout", 30*time.Second, "of each request")
	f.BoolVar(&s.json, "json", false, "print JSON for programs")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c := client.New(socketPath(s.socket))
		defer c.Close()
		return explain(run(cmd.Context(), c, s, cmd, args))
	}
	return cmd
}

// request returns the context of one request.
func (s *session) request(ctx context.Context) (context.Context, context.CancelFunc) {
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

// codes maps the sidecar's answers to exit codes; the HTTP status decides the rest.
var codes = map[string]int{
	client.ErrInvalidCiphertext.Code: ExitBadData,
	client.ErrAliasExists.Code:       ExitExists,
	client.ErrQuota.Code:             ExitExists,
	client.ErrKeyDisabled.Code:       ExitRefused,
	"KMS.0210":                       ExitRefused, // pending deletion
	"KMS.0320":                       ExitRefused, // used up
	"KMS.1201":                       ExitRefused, // enable: not disabled
	"KMS.1301":                       ExitRefused, // disable: not enabled
}

var statuses = map[int]int{
	http.StatusUnauthorized: ExitRefused, http.StatusForbidden: ExitRefused, http.StatusNotFound: ExitNotFound,
	http.StatusServiceUnavailable: ExitUnavailable, http.StatusGatewayTimeout: ExitUnavailable, http.StatusTooManyRequests: ExitUnavailable,
	http.StatusBadRequest: ExitUsage,
}

// explain gives an error of a verb its exit code, and says what to do where nothing answers.
func explain(err error) error {
	var own *Error
	var answered *client.Error
	var silent *client.ConnectError
	switch {
	case err == nil || errors.As(err, &own):
		return err
	case errors.As(err, &answered):
		if code, ok := codes[answered.Code]; ok {
			return &Error{code, err}
		}
		if code, ok := statuses[answered.Status]; ok {
			return &Error{code, err}
		}
	case errors.As(err, &silent):
		return failf(ExitUnavailable, "%w; start it with keyside up, name its socket with --socket, or ask keyside doctor", err)
	case errors.Is(err, context.DeadlineExceeded):
		return failf(ExitUnavailable, "no answer in time: %w; keyside hsm status may say why, --timeout gives it longer", err)
	case errors.Is(err, os.ErrNotExist):
		return &Error{ExitNotFound, err}
	}
	return err
}

// keyID is the form of a key's id.
var keyID = regexp.MustCompile(`^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$`)

// resolve returns the id of a key that is named by its id or by its alias.
func (s *session) resolve(ctx context.Context, c *client.Client, name string) (string, error) {
	if name == "" {
		return "", failf(ExitUsage, "--key is missing: give a key's id or alias (keyside key list shows them)")
	}
	if keyID.MatchString(name) {
		return name, nil
	}
	for key, err := range s.keys(ctx, c, client.ListKeysRequest{}) {
		if err != nil {
			return "", err
		}
		if key.Alias == name {
			return key.ID, nil
		}
	}
	return "", failf(ExitNotFound, "no key with the alias %q (keyside key list shows them)", name)
}

// keys yields all keys of a listing, page by page.
func (s *session) keys(ctx context.Context, c *client.Client, req client.ListKeysRequest) func(func(*client.Key, error) bool) {
	return func(yield func(*client.Key, error) bool) {
		for {
			callCtx, cancel := s.request(ctx)
			page, err := c.ListKeys(callCtx, req)
			cancel()
			if err != nil {
				yield(nil, err)
				return
			}
			for i := range page.Keys {
				if !yield(&page.Keys[i], nil) {
					return
				}
			}
			if page.Next == "" {
				return
			}
			req.Marker = page.Next
		}
	}
}
