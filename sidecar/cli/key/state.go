package key

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func enable() *cobra.Command {
	return verb.Many(&cobra.Command{
		Use:     "enable KEY...",
		Short:   "Enable disabled keys",
		Example: `  keyside key enable off-1 off-2`,
	}, verb.Bulk{Do: (*client.Client).EnableKey})
}

func disable() *cobra.Command {
	return verb.Many(&cobra.Command{
		Use:   "disable KEY...",
		Short: "Disable keys: refuse all their use until they are enabled",
		Long: `Disable keys: refuse all their use until they are enabled, for example after a leak. Meanwhile their data cannot be read and
they are not rotated. The command asks for confirmation; scripts pass --yes.`,
		Example: `  keyside key disable leaked --yes`,
	}, verb.Bulk{
		Ask: func(keys []*client.Key) verb.Confirmation {
			return verb.Confirmation{Word: "yes", Text: fmt.Sprintf(`These keys will be disabled:
%sUntil they are enabled again, their data cannot be read and their users get errors.
keyside key enable enables them again.`, verb.Listed(keys))}
		},
		Do: (*client.Client).DisableKey,
	})
}

func deleteKeys() *cobra.Command {
	var days int
	var p verb.ProfileFlag
	cmd := &cobra.Command{
		Use:   "delete KEY... --days N",
		Short: "Schedule the deletion of keys in 7 to 1096 days",
		Long: `Schedule the deletion of keys in 7 to 1096 days. They stop working at once. Until the deletion date, key cancel-deletion
restores them as disabled; afterwards they and all data encrypted under them are lost. First search the audit log for their
users. The command asks for confirmation; scripts pass --yes.`,
		Example: `  keyside key delete old-app --days 30 --yes`,
	}
	cmd.Flags().IntVar(&days, "days", 0, "days until the deletion, 7 to 1096, or up to the limit of the profile (required)")
	p.Add(cmd)
	return verb.Many(cmd, verb.Bulk{
		Check: func() error {
			limits, err := p.Get()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("days") {
				return verb.Failf(verb.ExitUsage, "--days is missing: give the days until the deletion, %d to %d", limits.MinWait, limits.MaxWait)
			}
			return checkDays(days, limits.MinWait, limits.MaxWait)
		},
		Ask: func(keys []*client.Key) verb.Confirmation {
			return verb.Confirmation{Word: "DELETE", Text: fmt.Sprintf(`These keys stop working now and will be destroyed in %d days:
%sAll data encrypted under them is lost then, for all users. Until then keyside key cancel-deletion restores them.`, days, verb.Listed(keys))}
		},
		Do: func(c *client.Client, ctx context.Context, id string) (*client.KeyStatus, error) {
			return c.ScheduleKeyDeletion(ctx, id, days)
		},
	})
}

func protect() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:     "protect KEY...",
		Short:   "Protect keys against deletion",
		Long:    "Protect keys against deletion: key delete refuses them until key unprotect ends the protection.",
		Example: `  keyside key protect app --for "production database"`,
	}
	cmd.Flags().StringVar(&why, "for", "", "why they are protected, at most 255 characters; key describe shows it")
	return verb.Many(cmd, verb.Bulk{Do: func(c *client.Client, ctx context.Context, id string) (*client.KeyStatus, error) {
		return c.SetDeletionProtection(ctx, client.SetDeletionProtectionRequest{KeyID: id, Protected: true, ProtectedFor: why})
	}})
}

func unprotect() *cobra.Command {
	return verb.Many(&cobra.Command{
		Use:     "unprotect KEY...",
		Short:   "End the protection of keys against deletion",
		Example: `  keyside key unprotect app`,
	}, verb.Bulk{Do: func(c *client.Client, ctx context.Context, id string) (*client.KeyStatus, error) {
		return c.SetDeletionProtection(ctx, client.SetDeletionProtectionRequest{KeyID: id})
	}})
}

func cancelDeletion() *cobra.Command {
	return verb.Many(&cobra.Command{
		Use:   "cancel-deletion KEY...",
		Short: "Cancel the scheduled deletion of keys",
		Long: `Cancel the scheduled deletion of keys. They are disabled then, until key enable enables them. External keys without material
wait for their import again.`,
		Example: `  keyside key cancel-deletion doomed`,
	}, verb.Bulk{Do: (*client.Client).CancelKeyDeletion})
}

func confirmDeletions() *cobra.Command {
	var yes verb.YesFlag
	cmd := &cobra.Command{
		Use:   "confirm-deletions",
		Short: "Confirm the node's clock after a jump, so that deletions that wait happen at their dates",
		Long: `Confirm the node's clock after a jump, so that deletions that wait happen at their dates. When the clock jumps by more than an
hour, or the node was off for more than a day, keys and imported material that were to be destroyed wait for what was left of
their period, in running time. First compare the node's time with another clock. If it is wrong, correct it and do not confirm.
Deletions whose dates are past then happen at once, and nothing restores those keys. Only administrators may confirm.`,
		Example: `  keyside key confirm-deletions --yes`,
		Args:    cobra.NoArgs,
	}
	yes.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		health, err := s.Health(ctx)
		if err != nil {
			return err
		}
		if health.Clock.Waiting > 0 {
			if err := yes.Confirm(cmd, verb.Confirmation{Word: "CONFIRM", Text: fmt.Sprintf(`The clock of this node jumped by %s. It now says %s.
If you confirm it, the waiting keys (%d) or their material are destroyed at their dates: at once where these are past. Nothing
restores them.`, time.Duration(health.Clock.Jumped)*time.Second, verb.When(time.Now()), health.Clock.Waiting)}); err != nil {
				return err
			}
		}
		was, err := s.ConfirmDeletions(ctx)
		if err != nil {
			return err
		}
		return s.Print(was, fmt.Sprintf("confirmed; keys that waited: %d", was.Waiting))
	})
}

// checkDays checks a number of days.
func checkDays(n, low, high int) error {
	if n < low || n > high {
		return verb.Failf(verb.ExitUsage, "%d days are not possible: give %d to %d", n, low, high)
	}
	return nil
}
