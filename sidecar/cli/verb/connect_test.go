package verb

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestTimeout checks that --timeout ends a request to a sidecar that does not answer.
func TestTimeout(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "kms.sock")
	l, err := net.Listen("unix", socket) // accepts in its backlog and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for name, ask := range map[string]func(context.Context, *Session) error{
		"operation": func(ctx context.Context, s *Session) error { _, err := s.DescribeKey(ctx, "k"); return err },
		"health":    func(ctx context.Context, s *Session) error { _, err := s.Health(ctx); return err },
	} {
		cmd := Talks(&cobra.Command{Use: name, SilenceErrors: true, SilenceUsage: true}, func(ctx context.Context, s *Session, _ []string) error {
			return ask(ctx, s)
		})
		cmd.SetArgs([]string{"--socket", socket, "--timeout", "10ms"})
		if err := cmd.ExecuteContext(t.Context()); ExitCode(err) != ExitUnavailable || !strings.Contains(err.Error(), "--timeout waits longer") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
