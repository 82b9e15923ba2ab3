// Package node has the verbs that set up, run and diagnose a node.
package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/procattr"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// Commands returns the verbs about a node. check validates the settings of built-in drivers. The driver command also gets the
// hidden commands that driver processes run.
func Commands(check SettingsChecks, processes []*cobra.Command) []*cobra.Command {
	return []*cobra.Command{upCommand(), backupCommand(), rootCommand(), hsmCommand(), checkCommand(check), doctorCommand(), driverCommand(processes)}
}

// startTimeout is the time limit for the start of a process. A token on a slow disk takes seconds to open.
const startTimeout = 60 * time.Second

// upOptions are the flags of up.
type upOptions struct {
	dir, driver, mode, listen, module string
	listenSet, modeSet                bool
}

func upCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up --dir DIR",
		Short: "Run hsmd and a sidecar in the foreground, with all state in one directory",
		Long: `Run hsmd and a sidecar in the foreground, as separate processes with all state in one directory. The first run creates it: a
token (or the soft driver's key file), a random PIN and two configuration files, which you may edit afterwards. Later runs use
the same keys. Processes that exit are restarted; SIGTERM drains them.`,
		Example: `  keyside up --dir .dev --driver soft`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.listenSet, o.modeSet = cmd.Flags().Changed("listen"), cmd.Flags().Changed("mode")
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGHUP) // the terminal is closed
			defer stop()
			return procattr.AdviseAccess(up(ctx, o, cmd.OutOrStdout(), cmd.ErrOrStderr()))
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.dir, "dir", ".dev", "directory with all state")
	f.StringVar(&o.driver, "driver", driverSoft, "soft (no HSM needed) or softhsm")
	f.StringVar(&o.mode, "mode", modeViaHSMD, "via-hsmd: hsmd runs the driver; direct: the sidecar runs it")
	f.StringVar(&o.listen, "listen", "", "also serve on this loopback address, HOST:PORT")
	f.StringVar(&o.module, "module", "", "path of SoftHSM's module (default: that of the distribution)")
	return cmd
}

func (o *upOptions) check() (err error) {
	if !slices.Contains([]string{driverSoft, driverSoftHSM}, o.driver) {
		return verb.Failf(verb.ExitUsage, "--driver %q is neither soft nor softhsm", o.driver)
	}
	if !slices.Contains([]string{modeViaHSMD, modeDirect}, o.mode) {
		return verb.Failf(verb.ExitUsage, "--mode %q is neither via-hsmd nor direct", o.mode)
	}
	if err := o.checkListen(); err != nil {
		return err
	}
	if o.driver == driverSoftHSM {
		o.module, err = findModule(o.module)
	}
	return err
}

// checkListen checks that the address of --listen is valid and free before it is written into the configuration, where later starts find it.
func (o *upOptions) checkListen() error {
	if o.listen == "" {
		return nil
	}
	if err := sidecar.CheckListen(o.listen); err != nil {
		return verb.Failf(verb.ExitUsage, "--listen %q: %w", o.listen, err)
	}
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return verb.Failf(verb.ExitUsage, "--listen %s: %w: stop what uses it, or choose another port", o.listen, err)
	}
	return l.Close()
}

// up prepares the directory, runs the processes until ctx ends, and drains them: first the sidecar, then hsmd.
func up(ctx context.Context, o upOptions, stdout, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	procattr.PrivateFiles() // those of SoftHSM's token
	dir, err := openUpDir(o.dir)
	if err != nil {
		return err
	}
	lock, err := dir.lock()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	config, err := dir.prepare(ctx, o)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	ready := make(chan struct{})
	var children []*child // lowest first
	var stops []context.CancelFunc
	launch := func(name string, flags ...string) *child {
		args := append([]string{name, "--config", dir.path(name + ".yaml")}, flags...)
		c := &child{name: name, args: args, stderr: stderr, log: log, ready: ready}
		childCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		c.start(childCtx)
		children, stops = append(children, c), append(stops, stop)
		return c
	}
	defer func() {
		for i := len(children) - 1; i >= 0; i-- {
			stops[i]()
			<-children[i].done
		}
	}()
	if config.HSM.Via != nil {
		if err := await(ctx, launch("hsmd"), func() error { return driverReady(ctx, dir.path("hsmd.sock")) }); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	server := launch("sidecar", dir.createFlag()...)
	c := client.New(config.Socket)
	defer c.Close()
	if err := await(ctx, server, func() error { return healthy(ctx, c) }); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return nil
	}
	close(ready)
	if err := dir.remember(); err != nil {
		return err
	}
	if err := printExamples(ctx, stdout, config, c); err != nil {
		return err
	}
	select {
	case <-server.done:
		return verb.Failf(verb.ExitUnavailable, "%w", server.err)
	case <-ctx.Done():
	}
	log.Info("draining")
	return nil
}

// errHopeless is a failure that waiting cannot fix.
var errHopeless = errors.New("the driver does not start")

// await polls until the child works. It returns nil when ctx ends, because then up was asked to stop.
func await(ctx context.Context, c *child, works func() error) error {
	deadline := time.After(startTimeout)
	for {
		err := works()
		if err == nil {
			return nil
		}
		if errors.Is(err, errHopeless) {
			return verb.Failf(verb.ExitUnavailable, "%w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.done:
			return verb.Failf(verb.ExitUnavailable, "%w", c.err)
		case <-deadline:
			return verb.Failf(verb.ExitUnavailable, "%s is not ready after %s: %w", c.name, startTimeout, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// driverReady asks hsmd whether its driver works. The error of a driver with a wrong PIN or wrong settings is errHopeless.
func driverReady(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_, err = driver.NewClient(conn, nil).Describe(ctx)
	if err == nil {
		return nil
	}
	if e := driver.AsError(err); e.Code != driver.Deadline && e.RetryClass() == driver.RetryNever {
		return fmt.Errorf("%w: %w; keyside doctor suggests a fix", errHopeless, err)
	}
	return err
}

// healthy asks the sidecar whether it can serve.
func healthy(ctx context.Context, c *client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	health, err := c.Health(ctx)
	if err == nil && !health.OK() {
		err = fmt.Errorf("the sidecar is %s: %v", health.Status, health.Checks)
	}
	return err
}

// printExamples prints the addresses of the service and three commands that run unchanged in any directory.
func printExamples(ctx context.Context, w io.Writer, config *upSidecar, c *client.Client) error {
	health, err := c.Health(ctx)
	if err != nil {
		return err
	}
	exe := "keyside"
	if strings.Contains(os.Args[0], "/") {
		exe, _ = filepath.Abs(os.Args[0])
	}
	socket, key := verb.ShellQuote(config.Socket), "demo-"+randomPIN()[:6]
	command := func(name string) string { return verb.ShellQuote(exe) + " " + name + " --socket " + socket }
	file := verb.ShellQuote(filepath.Join(filepath.Dir(config.Socket), "example"))
	fmt.Fprintf(w, "\nkeyside is up: socket %s\n", config.Socket)
	if config.Listen != "" {
		scheme := "http"
		if config.TLS != nil {
			scheme = "https"
		}
		fmt.Fprintf(w, "and on %s://%s, for requests with a signature (keyside credential create) or a token\n", scheme, config.Listen)
	}
	fmt.Fprintf(w, `
Create a key with curl:

  curl --unix-socket %s -H 'content-type: application/json' -d '{"key_alias":"%s"}' http://localhost/v1.0/%s/kms/create-key

Encrypt with it and decrypt again:

  echo 'attack at dawn' | %s --key %s | %s

Encrypt a file of any size and decrypt it again:

  %s --force --key %s /etc/os-release %s.keyside && %s --force %s.keyside %s.txt && cmp /etc/os-release %s.txt && echo same

Stop with Ctrl-C or SIGTERM. The same command with the same directory uses the same keys again.
`, socket, key, health.Huawei.ProjectID, command("encrypt"), key, command("decrypt"),
		command("file encrypt"), key, file, command("file decrypt"), file, file, file)
	return nil
}
