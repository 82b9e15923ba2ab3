package key

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

func keyEnable() *cobra.Command {
	return verb.Many(&cobra.Command{
		Use:     "enable KEY...",
		Short:   "let disabled keys be used again",
		Example: `  keyside key enable off-1 off-2`,
	}, verb.Bulk{Do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
		return c.EnableKey(ctx, id)
	}})
}

func keyDisable() *cobra.Command {
	return verb.Many(&cobra.Command{
		Use:   "disable KEY...",
		Short: "refuse all use of keys until they are enabled",
		Long: `Refuse all use of keys until they are enabled, for a time of danger. Their data cannot be read meanwhile, and they are not
rotated. At a terminal it asks first.`,
		Example: `  keyside key disable leaked`,
	}, verb.Bulk{
		Ask: func(keys []verb.Named) verb.Confirmation {
			return verb.Confirmation{Word: "yes", Text: fmt.Sprintf(`These keys will be disabled:
%sUntil they are enabled again nothing that they encrypted can be read, and whoever uses them gets errors.
keyside key enable takes it back.`, verb.Listed(keys))}
		},
		Do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
			return c.DisableKey(ctx, id)
		},
	})
}

func keyDelete() *cobra.Command {
	var days int
	var p verb.ProfileFlag
	cmd := &cobra.Command{
		Use:   "delete KEY... --days N",
		Short: "schedule keys for destruction after 7 to 1096 days",
		Long: `Schedule keys for destruction after 7 to 1096 days. They cannot be used from now on. Until the time is over
key cancel-deletion takes them back; after it nothing does, and what they encrypted is lost. Make sure before that nobody
uses them: the audit log knows. At a terminal it asks first; a script says --yes.`,
		Example: `  keyside key delete old-app --days 30 --yes`,
	}
	cmd.Flags().IntVar(&days, "days", 0, "how long they can be taken back, 7 to 1096, or to what the profile allows")
	p.Add(cmd)
	return verb.Many(cmd, verb.Bulk{
		Check: func() error {
			limits, err := p.Get()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("days") {
				return verb.Failf(verb.ExitUsage, "--days is missing: for how many days, %d to %d, can the keys be taken back?", limits.MinWait, limits.MaxWait)
			}
			return checkDays(days, limits.MinWait, limits.MaxWait)
		},
		Ask: func(keys []verb.Named) verb.Confirmation {
			return verb.Confirmation{Word: "DELETE", Always: true, Text: fmt.Sprintf(`These keys cannot be used from now on, and will be destroyed in %d days:
%sWhat they encrypted is lost then, for everybody and for ever. Until then keyside key cancel-deletion takes it back.`, days, verb.Listed(keys))}
		},
		Do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
			return c.ScheduleKeyDeletion(ctx, id, days)
		},
		After: func(k *client.Key, r *verb.Result) { r.When = verb.When(utc(k.Deletion)) },
	})
}

func keyCancelDeletion() *cobra.Command {
	return verb.Many(&cobra.Command{
		Use:   "cancel-deletion KEY...",
		Short: "take keys back that are scheduled for destruction",
		Long: `Take keys back that are scheduled for destruction. They are disabled then, until key enable; external ones without material
wait for their import.`,
		Example: `  keyside key cancel-deletion doomed`,
	}, verb.Bulk{Do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
		return c.CancelKeyDeletion(ctx, id)
	}})
}

// checkDays checks a number of days.
func checkDays(n, low, high int) error {
	if n < low || n > high {
		return verb.Failf(verb.ExitUsage, "%d days are not possible: give %d to %d", n, low, high)
	}
	return nil
}
