package key

import (
	"context"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// quotaNames are the quotas' names for people.
var quotaNames = map[string]string{"CMK": "keys", "grant_per_CMK": "grants of a key"}

func quotaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "quota",
		Short:   "how many keys there are, and how many there may be; default keys do not count",
		Example: `  keyside quota`,
		Args:    cobra.NoArgs,
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		quotas, err := verb.Once(ctx, s, c.Quotas)
		if err != nil {
			return err
		}
		type view struct {
			Kind  string `json:"type"`
			Used  int    `json:"used"`
			Limit int    `json:"limit"`
		}
		views := make([]view, 0, len(quotas))
		rows := [][]string{{"WHAT", "USED", "LIMIT"}}
		for _, q := range quotas {
			name := quotaNames[q.Kind]
			if name == "" {
				name = q.Kind
			}
			views = append(views, view{q.Kind, q.Used, q.Limit})
			rows = append(rows, []string{name, strconv.Itoa(q.Used), strconv.Itoa(q.Limit)})
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), views)
		}
		return verb.Table(cmd.OutOrStdout(), rows)
	})
}
