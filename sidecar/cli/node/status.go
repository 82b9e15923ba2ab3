package node

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func hsmCommand() *cobra.Command {
	const short = "Show slots, sessions, queues and latencies"
	return verb.Group(&cobra.Command{Use: "hsm", Short: short}, verb.Talks(&cobra.Command{
		Use: "status", Short: short, Example: `  keyside hsm status`,
	}, func(ctx context.Context, s *verb.Session, _ []string) error {
		status, err := s.GetHSMStatus(ctx)
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(s.Out(), status)
		}
		return printStatus(s.Out(), status)
	}))
}

// printStatus prints a table of the members of each layer, and one of the latencies at the lowest layer that answers.
func printStatus(w io.Writer, status *client.HSMStatus) error {
	fmt.Fprintf(w, "driver %s", status.Driver)
	if status.Vendor != "" {
		fmt.Fprintf(w, " (%s)", status.Vendor)
	}
	if status.Via != "" {
		fmt.Fprintf(w, " through hsmd at %s", status.Via)
	}
	fmt.Fprint(w, "\n\n")
	rows := [][]string{{"LAYER", "MEMBER", "STATE", "PID", "TOKEN", "SLOT", "SESSIONS", "BUSY", "QUEUE", "IN FLIGHT", "LIVE KEYS", "RESTARTS", "LAST ERROR"}}
	var latencies [][]string
	for _, layer := range status.Layers {
		if layer.Error != "" {
			rows = append(rows, []string{layer.Layer, "-", layer.Error})
		}
		if len(layer.Members) > 0 {
			latencies = [][]string{{"MEMBER", "OPERATION", "COUNT", "ERRORS", "P50 US", "P99 US"}}
		}
		for _, m := range layer.Members {
			rows = append(rows, []string{
				layer.Layer, m.Name, m.State, fmt.Sprint(m.PID), verb.Dash(m.Token), fmt.Sprintf("%#x", m.Slot),
				ofLimit(m.SessionsOpen, m.SessionsLimit), fmt.Sprint(m.SessionsBusy), ofLimit(m.QueueLength, m.QueueLimit),
				fmt.Sprint(m.InFlight), ofLimit(m.LiveKeys, m.LiveKeysLimit), fmt.Sprint(m.Restarts), verb.Dash(m.LastError),
			})
			for _, l := range m.Latencies {
				latencies = append(latencies, []string{m.Name, l.Operation, fmt.Sprint(l.Count), fmt.Sprint(l.Errors), fmt.Sprint(l.P50), fmt.Sprint(l.P99)})
			}
		}
	}
	if err := verb.Table(w, rows); err != nil {
		return err
	}
	if len(latencies) < 2 {
		return nil
	}
	fmt.Fprintln(w)
	return verb.Table(w, latencies)
}

// ofLimit returns a number and its limit, if it has one.
func ofLimit(n, limit uint32) string {
	if limit == 0 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d/%d", n, limit)
}
