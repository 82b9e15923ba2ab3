package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// Days that a key waits for its deletion (the user guide, 2.4.4).
const (
	minWait = 7
	maxWait = 1096
)

// bulk is a change of all keys that a verb's arguments name.
type bulk struct {
	check func() error                    // of the flags, before anything else; may be nil
	ask   func(keys []named) confirmation // may be nil
	do    func(ctx context.Context, c *client.Client, id string) (client.KeyState, error)
	after func(*client.Key, *keyResult) // gets the changed key where it can be had; may be nil
}

func keyEnable() *cobra.Command {
	return many(&cobra.Command{
		Use:     "enable KEY...",
		Short:   "let disabled keys be used again",
		Example: `  keyside key enable off-1 off-2`,
	}, bulk{do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
		return c.EnableKey(ctx, id)
	}})
}

func keyDisable() *cobra.Command {
	return many(&cobra.Command{
		Use:   "disable KEY...",
		Short: "refuse all use of keys until they are enabled",
		Long: `Refuse all use of keys until they are enabled, for a time of danger. Their data cannot be read meanwhile, and they are not
rotated. At a terminal it asks first.`,
		Example: `  keyside key disable leaked`,
	}, bulk{
		ask: func(keys []named) confirmation {
			return confirmation{word: "yes", text: fmt.Sprintf(`These keys will be disabled:
%sUntil they are enabled again nothing that they encrypted can be read, and whoever uses them gets errors.
keyside key enable takes it back.`, listed(keys))}
		},
		do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
			return c.DisableKey(ctx, id)
		},
	})
}

func keyDelete() *cobra.Command {
	var days int
	var p profileFlag
	cmd := &cobra.Command{
		Use:   "delete KEY... --days N",
		Short: "schedule keys for destruction after 7 to 1096 days",
		Long: `Schedule keys for destruction after 7 to 1096 days. They cannot be used from now on. Until the time is over
key cancel-deletion takes them back; after it nothing does, and what they encrypted is lost. Make sure before that nobody
uses them: the audit log knows. At a terminal it asks first; a script says --yes.`,
		Example: `  keyside key delete old-app --days 30 --yes`,
	}
	cmd.Flags().IntVar(&days, "days", 0, "how long they can be taken back, 7 to 1096, or to what the profile allows")
	p.add(cmd)
	return many(cmd, bulk{
		check: func() error {
			limits, err := p.get()
			if err != nil {
				return err
			}
			if !cmd.Flags().Changed("days") {
				return failf(ExitUsage, "--days is missing: for how many days, %d to %d, can the keys be taken back?", limits.minWait, limits.maxWait)
			}
			return checkDays(days, limits.minWait, limits.maxWait)
		},
		ask: func(keys []named) confirmation {
			return confirmation{word: "DELETE", always: true, text: fmt.Sprintf(`These keys cannot be used from now on, and will be destroyed in %d days:
%sWhat they encrypted is lost then, for everybody and for ever. Until then keyside key cancel-deletion takes it back.`, days, listed(keys))}
		},
		do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
			return c.ScheduleKeyDeletion(ctx, id, days)
		},
		after: func(k *client.Key, r *keyResult) { r.When = when(utc(k.Deletion)) },
	})
}

func keyCancelDeletion() *cobra.Command {
	return many(&cobra.Command{
		Use:   "cancel-deletion KEY...",
		Short: "take keys back that are scheduled for destruction",
		Long: `Take keys back that are scheduled for destruction. They are disabled then, until key enable; external ones without material
wait for their import.`,
		Example: `  keyside key cancel-deletion doomed`,
	}, bulk{do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
		return c.CancelKeyDeletion(ctx, id)
	}})
}

// many makes cmd a verb that changes all keys that its arguments name.
func many(cmd *cobra.Command, b bulk) *cobra.Command {
	var yes yesFlag
	cmd.Args, cmd.ValidArgsFunction = cobra.MinimumNArgs(1), completeKeys(0)
	if b.ask != nil {
		yes.add(cmd)
	}
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, args []string) error {
		if b.check != nil {
			if err := b.check(); err != nil {
				return err
			}
		}
		keys, err := s.lookupAll(ctx, c, cmd, args)
		if err != nil {
			return err
		}
		if b.ask != nil {
			if err := yes.confirm(cmd, b.ask(keys)); err != nil {
				return err
			}
		}
		return s.each(cmd, keys, func(k named, r *keyResult) error { return s.change(ctx, c, b, k, r) })
	})
}

// change changes one key.
func (s *session) change(ctx context.Context, c *client.Client, b bulk, k named, r *keyResult) error {
	state, err := once(ctx, s, func(ctx context.Context) (client.KeyState, error) { return b.do(ctx, c, k.ID) })
	if err != nil {
		return err
	}
	r.State = state.String()
	if b.after != nil {
		key, err := once(ctx, s, func(ctx context.Context) (*client.Key, error) { return c.DescribeKey(ctx, k.ID) })
		if err == nil { // changed it is, whatever becomes of the question
			b.after(key, r)
		}
	}
	return nil
}

// checkDays checks a number of days.
func checkDays(n, low, high int) error {
	if n < low || n > high {
		return failf(ExitUsage, "%d days are not possible: give %d to %d", n, low, high)
	}
	return nil
}
