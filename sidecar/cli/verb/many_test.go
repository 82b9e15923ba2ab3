package verb

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

// TestEach checks that each key is reported, and that one failure makes the verb fail.
func TestEach(t *testing.T) {
	refused, missing := client.ErrKeyNotDisabled, client.ErrNotFound
	for _, c := range []struct {
		errs []error
		want int
	}{
		{[]error{nil, nil}, ExitOK},
		{[]error{refused}, ExitRefused},
		{[]error{nil, refused}, ExitRefused},
		{[]error{refused, nil, refused}, ExitRefused},
		{[]error{refused, missing}, ExitFailure},
	} {
		for _, asJSON := range []bool{false, true} {
			var keys []*client.Key
			var names []string
			for i := range c.errs {
				keys, names = append(keys, &client.Key{ID: "id"}), append(names, string(rune('a'+i)))
			}
			cmd := &cobra.Command{}
			var stdout, stderr strings.Builder
			cmd.SetOut(&stdout)
			cmd.SetErr(&stderr)
			i := 0
			err := (&Session{Cmd: cmd, JSON: asJSON}).each(keys, names, func(string) (*client.KeyStatus, error) {
				i++
				return &client.KeyStatus{State: client.Enabled}, c.errs[i-1]
			})
			if ExitCode(err) != c.want {
				t.Errorf("%v: %v", c.errs, err)
			}
			for j, e := range c.errs {
				said := strings.Contains(stderr.String(), names[j]+": ")
				if (e != nil && len(c.errs) > 1) != said {
					t.Errorf("%v: standard error is %q", c.errs, stderr.String())
				}
			}
			if asJSON && strings.Count(stdout.String(), `"key":`) != len(c.errs) {
				t.Errorf("%v: %s", c.errs, stdout.String())
			}
		}
	}
}
