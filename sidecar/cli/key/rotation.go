package key

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// Days between two rotations (the user guide, 2.7.2).
const (
	minInterval     = 30
	maxInterval     = 365
	defaultInterval = 365
)

func keyRotation() *cobra.Command {
	group := &cobra.Command{
		Use:   "rotation",
		Short: "new material for a key, again and again",
		Long: `New material for a key, again and again. The key's id, aliases and grants stay. New data is encrypted with the newest material,
old data stays readable, and nothing is encrypted anew. Only keys that the HSM made and that encrypt are rotated; disabled
keys and those that wait for their deletion are rotated when they are back.`,
	}
	group.AddCommand(rotationOn(), rotationOff(), rotationInterval(), rotationShow())
	return group
}

func rotationOn() *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use:               "on KEY",
		Short:             "rotate a key from now on",
		Example:           `  keyside key rotation on app --days 90`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	cmd.Flags().IntVar(&days, "days", defaultInterval, "how often, every 30 to 365 days")
	return verb.Changes(cmd, func(ctx context.Context, c *client.Client, id string, _ []string) error {
		if err := checkDays(days, minInterval, maxInterval); err != nil {
			return err
		}
		if err := c.EnableKeyRotation(ctx, id); err != nil || days == defaultInterval {
			return err
		}
		if err := c.UpdateKeyRotationInterval(ctx, id, days); err != nil {
			return fmt.Errorf("rotation is on, but every %d days: %w; set it with keyside key rotation interval", defaultInterval, err)
		}
		return nil
	})
}

func rotationOff() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "off KEY",
		Short:             "rotate a key no longer; its old material stays",
		Example:           `  keyside key rotation off rotating`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Changes(cmd, func(ctx context.Context, c *client.Client, id string, _ []string) error {
		return c.DisableKeyRotation(ctx, id)
	})
}

func rotationInterval() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "interval KEY DAYS",
		Short:             "rotate a key every 30 to 365 days, counted from now",
		Example:           `  keyside key rotation interval rotating 30`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Changes(cmd, func(ctx context.Context, c *client.Client, id string, args []string) error {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return verb.Failf(verb.ExitUsage, "%q is not a number of days", args[1])
		}
		if err := checkDays(n, minInterval, maxInterval); err != nil {
			return err
		}
		return c.UpdateKeyRotationInterval(ctx, id, n)
	})
}

// rotationView is a key's rotation as --json shows it.
type rotationView struct {
	Enabled  bool      `json:"enabled"`
	Interval int       `json:"interval_days,omitempty"`
	Last     time.Time `json:"last,omitzero"`
	Count    int       `json:"count"`
}

func rotationOf(r *client.Rotation) *rotationView {
	return &rotationView{r.Enabled, r.Interval, utc(r.Last), r.Count}
}

func (r *rotationView) rows() [][]string {
	plan := "off"
	if r.Enabled {
		plan = fmt.Sprintf("every %d days", r.Interval)
	}
	return [][]string{{"rotation", plan}, {"last rotation", verb.When(r.Last)}, {"rotations", strconv.Itoa(r.Count)}}
}

func rotationShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "show KEY",
		Short:             "how often a key is rotated, when it last was and how many times",
		Example:           `  keyside key rotation show rotating`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		id, err := s.Resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		status, err := verb.Once(ctx, s, func(ctx context.Context) (*client.Rotation, error) { return c.RotationStatus(ctx, id) })
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), rotationOf(status))
		}
		return verb.Table(cmd.OutOrStdout(), rotationOf(status).rows())
	})
}
