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
	var create bool
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
			cfg.Create, cfg.Version = create, cmd.Root().Version
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			return Run(ctx, cfg, log)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration `file` (required)")
	cmd.Flags().StringVar(&socket, "socket", "", "Unix socket to serve instead of the configured `path`")
	cmd.Flags().StringVar(&listen, "listen", "", "loopback `address` and port to serve instead of the configured one")
	cmd.Flags().BoolVar(&create, "create", false, "create the database if there is none; without it, a missing database stops the start")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is defined above
	}
	cmd.AddCommand(createCommand())
	return cmd
}

// createCommand is `keyside sidecar create`, for services whose start must never create a database.
func createCommand() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:     "create --config FILE",
		Short:   "Create the empty database of a new sidecar and exit; run it as the sidecar's user",
		Example: `  keyside sidecar create --config /etc/keyside/sidecar.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := LoadConfig(path)
			if err != nil {
				return err
			}
			cfg.Create = true
			p := newProcess(cfg, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
			if err := p.openStore(cmd.Context()); err != nil {
				return err
			}
			return p.close(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "configuration `file` (required)")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}
