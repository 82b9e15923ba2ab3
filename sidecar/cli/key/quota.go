package key

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// quotaView is a quota as --json shows it.
type quotaView struct {
	Kind string `json:"type"`
	client.Quota
}

func quotaCommand() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use:     "quota",
		Short:   "Show key and grant usage against their limits",
		Long:    `Show key and grant usage against their limits. Default keys of services do not count.`,
		Example: `  keyside quota`,
	}, func(ctx context.Context, s *verb.Session, _ []string) error {
		q, err := s.GetQuotas(ctx)
		if err != nil {
			return err
		}
		row := func(name string, q client.Quota) []string {
			return []string{name, strconv.Itoa(q.Used), strconv.Itoa(q.Limit)}
		}
		return s.Show([]quotaView{{"keys", q.Keys}, {"grants_per_key", q.GrantsPerKey}},
			[][]string{{"WHAT", "USED", "LIMIT"}, row("keys", q.Keys), row("grants of a key", q.GrantsPerKey)})
	})
}
