// Package bench implements `keyside bench`. It measures what the hops of Keyside cost beside direct calls of the module, and how
// fast one build is beside another.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// The paths that are compared.
const (
	pathDirect = "direct" // the module called by this process, one session per worker
	path2Hop   = "2-hop"  // client, sidecar, driver process
	path3Hop   = "3-hop"  // client, sidecar, hsmd, driver process
)

type kind int

const (
	kindEncrypt kind = iota
	kindDataKey
	kindRandom
	kindSignRSA
	kindSignEC
	kindDecrypt
	kindCreateKey
	kindDescribeKey
)

// operation is one thing that is measured.
type operation struct {
	name string
	kind kind
	size int // bytes of plaintext, data key or random data
}

// operations are measured beside direct calls of the module.
var operations = []operation{
	{"encrypt-32", kindEncrypt, 32},
	{"encrypt-4096", kindEncrypt, 4096},
	{"datakey-256", kindDataKey, 32},
	{"random-32", kindRandom, 32},
	{"sign-rsa-2048", kindSignRSA, 0},
	{"sign-ec-p256", kindSignEC, 0},
}

// comparedOperations are measured on two builds.
var comparedOperations = []operation{
	{"encrypt-32", kindEncrypt, 32},
	{"decrypt-32", kindDecrypt, 32},
	{"datakey-256", kindDataKey, 32},
	{"sign-rsa-2048", kindSignRSA, 0},
	{"sign-ec-p256", kindSignEC, 0},
	{"create-key", kindCreateKey, 0},
	{"describe-key", kindDescribeKey, 0},
}

// options are the flags.
type options struct {
	driver      string
	config      string
	against     string
	rounds      int
	pairs       int
	overload    float64
	impatient   bool
	duration    time.Duration
	concurrency []int
	hops        []int
	only        []string
	json        bool
}

// Command returns the bench verb.
func Command() *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Compare Keyside with direct calls of the PKCS#11 module, or with another build",
		Long: `Measure the same operations through direct calls of the module in one process and through Keyside with 2 hops (sidecar,
driver) and 3 hops (sidecar, hsmd, driver). All nodes run in a temporary folder with every check on and the audit log synced
to disk. Each round measures all paths, and the ratio is the median over rounds, because the speed of a machine drifts. The
default is a quick look; use --rounds 5 for reliable figures.

With --against it compares this build with another keyside binary. Each pair measures both builds, one after the other in
random order. All processes are restarted between pairs. The table shows the ratio of their rates (this build / the other
one) as the geometric mean over pairs. Its 95 % interval is Student's t interval of the logarithms of the pairs' ratios. A
ratio is significant if the interval does not contain 1; of 40 rows without a difference, about 2 are. The run takes at
least operations x hops x concurrencies x pairs x 2.4 x --duration. The exit code is 0 whatever the ratios are, unless a
request fails.

With --overload it finds the peak rate of a node and then offers it so many times that rate, from --concurrency clients with
a connection each, that wait as long as Retry-After says. It prints what was served, refused and starved. With --against it
does the same with the other build.

With --config it measures the first driver of an hsmd.yaml, such as your own HSM. It creates the three keys of a tenant
"keyside-bench" there and leaves them; it removes everything else when it ends.`,
		Example: `  keyside bench --rounds 5
  keyside bench --against /usr/bin/keyside --op encrypt-32,sign-ec-p256 --concurrency 8
  keyside bench --overload 3 --op sign-rsa-2048 --concurrency 4000 --duration 5s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.driver, "driver", "softhsm", "softhsm or soft")
	f.StringVar(&o.config, "config", "", "measure the first driver of this hsmd.yaml instead")
	f.StringVar(&o.against, "against", "", "keyside binary of another build to compare with")
	f.IntVar(&o.rounds, "rounds", 1, "how often everything is measured, without --against")
	f.IntVar(&o.pairs, "pairs", 20, "how often both builds are measured, with --against; at least 2")
	f.DurationVar(&o.duration, "duration", 400*time.Millisecond, "length of one measurement, without its warm-up")
	f.IntSliceVar(&o.concurrency, "concurrency", []int{1, 8, 32}, "numbers of clients")
	f.IntSliceVar(&o.hops, "hops", []int{2, 3}, "with --against: 2 (sidecar, driver), 3 (sidecar, hsmd, driver) or both")
	f.StringSliceVar(&o.only, "op", nil, "operations to measure (default all)")
	f.Float64Var(&o.overload, "overload", 0, "offer this many times the peak rate instead, such as 3")
	f.BoolVar(&o.impatient, "impatient", false, "with --overload: clients do not wait as long as Retry-After says")
	f.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	return cmd
}

// run measures everything in a temporary folder.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "keyside-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if o.overload > 0 {
		return compareOverload(ctx, o, dir, stdout, stderr)
	}
	if o.against != "" {
		return compareBuilds(ctx, o, dir, stdout, stderr)
	}
	return compareHops(ctx, o, dir, stdout, stderr)
}

// selectOperations returns those of all that have the names, or all if there are none.
func selectOperations(all []operation, names []string) ([]operation, error) {
	if len(names) == 0 {
		return all, nil
	}
	var selected []operation
	for _, name := range names {
		i := slices.IndexFunc(all, func(op operation) bool { return op.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--op %s: no such operation", name)
		}
		selected = append(selected, all[i])
	}
	return selected, nil
}

// section returns the driver's section that --config names, nil without it.
func (o *options) section() (map[string]any, error) {
	if o.config == "" {
		return nil, nil
	}
	o.driver = "soft" // for the first run, which only writes the configuration
	text, err := os.ReadFile(o.config)
	if err != nil {
		return nil, err
	}
	var config struct {
		Drivers []map[string]any `yaml:"drivers"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", o.config, err)
	}
	if len(config.Drivers) == 0 {
		return nil, fmt.Errorf("%s names no driver: --config needs an hsmd.yaml", o.config)
	}
	return config.Drivers[0], nil
}
