package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

// Finding is the result of one check.
type Finding struct {
	Check  string `json:"check"`
	Status string `json:"status"` // ok, fail, or unknown if an earlier check must succeed first
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"` // what to do
}

// The statuses of a finding.
const (
	statusOK      = "ok"
	statusFail    = "fail"
	statusUnknown = "unknown"
)

// doctor finds the reason why Keyside does not work. It changes nothing.
type doctor struct {
	dir, config, hsmdConfig, socket string
	probe, json                     bool

	findings []Finding
	report   func(Finding)
	sidecar  *sidecar.Config
	hsmd     hsmd.Config // the zero value if it cannot be read
}

func doctorCommand() *cobra.Command {
	d := new(doctor)
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find setup problems and suggest fixes",
		Long: `Find setup problems and suggest fixes: check everything from the configuration to a real operation. It changes nothing, and also
works while Keyside is stopped. The exit code is 1 if a check fails. With --socket it also works without a configuration, as an
application beside the sidecar: it checks the socket, and who answers.`,
		Example: `  keyside doctor --dir .dev
  keyside doctor --socket .dev/kms.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	f := cmd.Flags()
	f.StringVar(&d.dir, "dir", "", "directory of keyside up (default: that of $KEYSIDE_SOCKET, else .dev, else /etc/keyside)")
	f.StringVar(&d.config, "config", "", "path of sidecar.yaml, if not in that directory")
	f.StringVar(&d.hsmdConfig, "hsmd-config", "", "path of hsmd.yaml, if not in the directory of sidecar.yaml")
	f.StringVar(&d.socket, "socket", "", "the sidecar's socket (default: as configured); its directory is that of the configuration, if it has one")
	f.BoolVar(&d.probe, "probe", false, "if Keyside is stopped: start the driver and log in to the token once")
	f.BoolVar(&d.json, "json", false, "print JSON for programs")
	return cmd
}

func (d *doctor) run(ctx context.Context, w io.Writer) error {
	d.report = func(Finding) {}
	if !d.json {
		d.report = func(f Finding) {
			fmt.Fprintf(w, "%-8s %-16s %s\n", f.Status, f.Check, f.Detail)
			if f.Fix != "" {
				fmt.Fprintf(w, "%25s -> %s\n", "", f.Fix)
			}
		}
	}
	d.examine(ctx)
	if d.json {
		if err := verb.PrintJSON(w, d.findings); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(d.findings, func(f Finding) bool { return f.Status == statusFail }) {
		return verb.Failf(verb.ExitFailure, "checks failed: fix the first line that says fail first")
	}
	return nil
}

// examine runs the checks. Later checks depend on earlier ones.
func (d *doctor) examine(ctx context.Context) {
	if d.socket != "" && !fileExists(d.configPath()) {
		if d.checkSocket(ctx, "kms socket", d.socket, -1, startSidecar) {
			d.checkHealth(ctx)
		}
		return
	}
	if !d.loadConfigs() {
		return
	}
	for _, driver := range d.drivers() {
		d.checkDriver(ctx, driver)
	}
	running := d.checkSidecar(ctx)
	d.checkDatabase(running)
	d.checkAudit(ctx, running)
	if running {
		d.checkHealth(ctx)
	} else {
		d.checkProbe(ctx)
	}
}

// add adds a finding and reports whether it is ok.
func (d *doctor) add(status, check, fix, format string, args []any) bool {
	f := Finding{Check: check, Status: status, Detail: fmt.Sprintf(format, args...), Fix: fix}
	d.findings = append(d.findings, f)
	d.report(f)
	return status == statusOK
}

// ok adds a finding and returns true.
func (d *doctor) ok(check, format string, args ...any) bool {
	return d.add(statusOK, check, "", format, args)
}

// fail adds a finding and returns false.
func (d *doctor) fail(check, fix, format string, args ...any) bool {
	return d.add(statusFail, check, fix, format, args)
}

// unknown adds a finding and returns false.
func (d *doctor) unknown(check, fix, format string, args ...any) bool {
	return d.add(statusUnknown, check, fix, format, args)
}

// folder returns the directory of the configuration.
func (d *doctor) folder() string {
	switch {
	case d.dir != "":
		return d.dir
	case d.socket != "" && fileExists(filepath.Join(filepath.Dir(d.socket), "sidecar.yaml")):
		return filepath.Dir(d.socket)
	case d.socket != "":
		return "/etc/keyside"
	case os.Getenv("KEYSIDE_SOCKET") != "":
		if dir := filepath.Dir(os.Getenv("KEYSIDE_SOCKET")); fileExists(filepath.Join(dir, "sidecar.yaml")) {
			return dir
		}
	case fileExists(".dev/sidecar.yaml"):
		return ".dev"
	}
	return "/etc/keyside"
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// configPath returns the path of sidecar.yaml.
func (d *doctor) configPath() string {
	return cmp.Or(d.config, filepath.Join(d.folder(), "sidecar.yaml"))
}

// loadConfigs reads the configuration files. It reports whether sidecar.yaml is valid, which all other checks need.
func (d *doctor) loadConfigs() bool {
	path := d.configPath()
	if !fileExists(path) {
		return d.fail("configuration", "create one with keyside up --dir DIR, or name yours with --dir or --config", "%s does not exist", path)
	}
	config, err := sidecar.LoadConfig(path)
	if err != nil {
		return d.fail("configuration", "correct the file; keyside check "+path+" checks it", "%s", oneLine(err))
	}
	d.sidecar = &config
	d.ok("configuration", "%s", path)
	if via := config.HSM.Via; via != nil {
		d.loadHSMD(cmp.Or(d.hsmdConfig, filepath.Join(filepath.Dir(path), "hsmd.yaml")), via.Socket)
	}
	return true
}

// loadHSMD reads hsmd's configuration, which another user may own.
func (d *doctor) loadHSMD(path, asked string) {
	const check = "hsmd config"
	if !fileExists(path) {
		d.unknown(check, "name hsmd's configuration with --hsmd-config to check its drivers", "%s does not exist", path)
		return
	}
	config, err := hsmd.LoadConfig(path)
	switch {
	case err != nil:
		d.fail(check, "correct the file; keyside check "+path+" checks it", "%s", oneLine(err))
	case config.Socket != asked:
		d.fail(check, "make socket in hsmd.yaml and hsm.via.socket in sidecar.yaml the same", "hsmd serves %s and the sidecar asks %s", config.Socket, asked)
	default:
		d.ok(check, "%s", path)
	}
	if err == nil {
		d.hsmd = config
	}
}

// drivers returns the drivers that the sidecar or hsmd loads.
func (d *doctor) drivers() []plugins.Config {
	if d.sidecar.HSM.Driver != nil {
		return []plugins.Config{*d.sidecar.HSM.Driver}
	}
	var all []plugins.Config
	for i := range d.hsmd.Drivers {
		all = append(all, d.hsmd.Drivers[i].Config)
	}
	return all
}

// oneLine returns the text of an error in one line.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}

// checkTimeout is the time limit of each check.
const checkTimeout = 10 * time.Second

func within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, checkTimeout)
}

// isMissing reports whether err says that a file does not exist.
func isMissing(err error) bool { return errors.Is(err, os.ErrNotExist) }
