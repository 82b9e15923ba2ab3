package verb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
)

// TestExitCodes checks the table of docs/cli.md.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{Failf(ExitUsage, "flag"), 2},
		{&client.Error{Code: "InvalidRequest", Field: "key_id", Reason: "malformed"}, 2},
		{client.ErrDenied, 3},
		{client.ErrUnauthenticated, 3},
		{client.ErrKeyDisabled, 3},
		{client.ErrNotFound, 4},
		{os.ErrNotExist, 4},
		{client.ErrBusy, 5},
		{client.ErrDeadlineExceeded, 5},
		{&client.ConnectError{Socket: "/s"}, 5}, {fmt.Errorf("%w (request r)", client.ErrCutOff), 5},
		{fmt.Errorf("call: %w", context.DeadlineExceeded), 5},
		{client.ErrInvalidCiphertext, 6},
		{client.ErrAlreadyExists, 7},
		{client.ErrQuotaExceeded, 7},
		{client.ErrInternal, 1},
		{&client.Error{Status: http.StatusNotFound, Code: "HTTP 404"}, 1},
	} {
		if got := ExitCode(Explain(c.err)); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
		if c.err != nil && !errors.Is(Explain(c.err), c.err) {
			t.Errorf("%v: Explain lost the error", c.err)
		}
	}
}
