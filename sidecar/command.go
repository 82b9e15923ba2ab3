package sidecar

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Command is `keyside sidecar`.
func Command() *cobra.Command {
	var path, socket, listen string
	cmd := &cobra.Command{
		Use:   "sidecar --config FILE",
		Short: "Run the KMS server from a configuration file",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := LoadConfig(path)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("socket") {
				cfg.Socket = socket
			}
			if cmd.Flags().Changed("listen") {
				cfg.Listen = listen
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			return Run(ctx, cfg, log)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration `file` (required)")
	cmd.Flags().StringVar(&socket, "socket", "", "Unix socket to serve instead of the configured `path`")
	cmd.Flags().StringVar(&listen, "listen", "", "loopback `address` and port to serve instead of the configured one")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}
