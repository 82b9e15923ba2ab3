package verb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// TestExitCodes holds the table of the README.
func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.New("anything"), 1},
		{Failf(ExitUsage, "flag"), 2},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.0205"}, 2},
		{&client.Error{Status: http.StatusForbidden, Code: "KMS.0307"}, 3},
		{&client.Error{Status: http.StatusUnauthorized, Code: "APIGW.0301"}, 3},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.0209"}, 3},
		{&client.Error{Status: http.StatusNotFound, Code: "KMS.0207"}, 4},
		{os.ErrNotExist, 4},
		{&client.Error{Status: http.StatusServiceUnavailable, Code: "KMS.0104"}, 5},
		{&client.Error{Status: http.StatusGatewayTimeout, Code: "KMS.0101"}, 5},
		{&client.ConnectError{Socket: "/s"}, 5}, {fmt.Errorf("%w (request r)", client.ErrCutOff), 5},
		{fmt.Errorf("call: %w", context.DeadlineExceeded), 5},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.2201"}, 6},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.1104"}, 7},
		{&client.Error{Status: http.StatusBadRequest, Code: "KMS.1105"}, 7},
		{&client.Error{Status: http.StatusInternalServerError, Code: "KMS.0103"}, 1},
	} {
		if got := ExitCode(Explain(c.err)); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
		if c.err != nil && !errors.Is(Explain(c.err), c.err) {
			t.Errorf("%v: explained away", c.err)
		}
	}
}
