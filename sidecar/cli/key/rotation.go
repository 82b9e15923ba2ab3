package key

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// Days between two rotations (Huawei KMS user guide, 2.7.2).
const (
	minInterval     = 30
	maxInterval     = 365
	defaultInterval = 365
)

func rotation() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use:   "rotation",
		Short: "Give a key new material regularly",
		Long: `Give a key new material regularly. The key's id, aliases and grants stay. New data is encrypted under the newest material, old
data stays readable, and nothing is re-encrypted. Only keys for encryption whose material the HSM generated are rotated. A key
that is disabled or pending deletion is rotated once it is enabled again. No command rotates a key at once: create a new key and
move a further alias to it (key alias move).`,
	}, rotationOn(), rotationOff(), rotationInterval(), rotationShow())
}

func rotationOn() *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use:     "on KEY",
		Short:   "Enable the rotation of a key",
		Example: `  keyside key rotation on app --days 90`,
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().IntVar(&days, "days", defaultInterval, "interval in days, 30 to 365")
	return verb.Changes(cmd, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		if err := checkDays(days, minInterval, maxInterval); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s is rotated every %d days", args[0], days), s.EnableKeyRotation(ctx, id, days)
	})
}

func rotationOff() *cobra.Command {
	return verb.Changes(&cobra.Command{
		Use:     "off KEY",
		Short:   "Disable the rotation of a key; its old material stays",
		Example: `  keyside key rotation off rotating`,
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		return args[0] + " is no longer rotated", s.DisableKeyRotation(ctx, id)
	})
}

func rotationInterval() *cobra.Command {
	return verb.Changes(&cobra.Command{
		Use:     "interval KEY DAYS",
		Short:   "Change the rotation interval, 30 to 365 days from now",
		Example: `  keyside key rotation interval rotating 30`,
		Args:    cobra.ExactArgs(2),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return "", verb.Failf(verb.ExitUsage, "%q is not a number of days", args[1])
		}
		if err := checkDays(n, minInterval, maxInterval); err != nil {
			return "", err
		}
		return fmt.Sprintf("%s is rotated every %d days", args[0], n), s.SetKeyRotationInterval(ctx, id, n)
	})
}

// rotationView is the rotation of a key as --json shows it.
type rotationView struct {
	Enabled  bool      `json:"enabled"`
	Interval int       `json:"interval_days,omitempty"`
	Last     time.Time `json:"last,omitzero"`
	Count    int       `json:"count"`
}

func rotationOf(r *client.Rotation) *rotationView {
	return &rotationView{r.Enabled, r.Interval, r.Last.UTC(), r.Count}
}

func (r *rotationView) rows() [][]string {
	plan := "off"
	if r.Enabled {
		plan = fmt.Sprintf("every %d days", r.Interval)
	}
	return [][]string{{"rotation", plan}, {"last rotation", verb.When(r.Last)}, {"rotations", strconv.Itoa(r.Count)}}
}

func rotationShow() *cobra.Command {
	return verb.OnKey(&cobra.Command{
		Use:     "show KEY",
		Short:   "Show a key's rotation interval, last rotation and number of rotations",
		Example: `  keyside key rotation show rotating`,
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, s *verb.Session, id string, _ []string) error {
		status, err := s.GetKeyRotation(ctx, id)
		if err != nil {
			return err
		}
		v := rotationOf(status)
		return s.Show(v, v.rows())
	})
}
