// Package bench is `keyside bench`: what Keyside's hops cost beside the module called directly, measured in one run.
package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/sidecar/bench/node"
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
)

// operation is one thing that is measured on every path.
type operation struct {
	name string
	kind kind
	size int // bytes of plaintext, data key or random data
}

var operations = []operation{
	{"encrypt-32", kindEncrypt, 32},
	{"encrypt-4096", kindEncrypt, 4096},
	{"datakey-256", kindDataKey, 32},
	{"random-32", kindRandom, 32},
	{"sign-rsa-2048", kindSignRSA, 0},
	{"sign-ec-p256", kindSignEC, 0},
}

// options are the flags.
type options struct {
	driver      string
	config      string
	rounds      int
	duration    time.Duration
	concurrency []int
	only        []string
	json        bool
}

// Command returns the bench verb.
func Command() *cobra.Command {
	o := options{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "measure what the hops cost beside the module called directly",
		Long: `Measure the same operations against the module called directly by one process and through Keyside with 2 hops
(sidecar, driver) and 3 hops (sidecar, hsmd, driver). Everything runs on nodes of its own in a temporary folder, all
checks on, the audit log synced to disk. Rounds interleave the paths, and the ratio is the median over rounds, so that a
machine whose speed drifts does not decide it. The default is a quick look; use --rounds 5 for figures to rely on.

With --config it measures the first driver of an hsmd.yaml, such as your own HSM. It makes the three keys of a tenant
"keyside-bench" there and leaves them; all else that it makes is gone when it ends.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return run(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.driver, "driver", "softhsm", "softhsm or soft")
	f.StringVar(&o.config, "config", "", "measure the first driver of this hsmd.yaml instead")
	f.IntVar(&o.rounds, "rounds", 1, "how often everything is measured")
	f.DurationVar(&o.duration, "duration", 400*time.Millisecond, "length of one measurement")
	f.IntSliceVar(&o.concurrency, "concurrency", []int{1, 8, 32}, "numbers of clients")
	f.StringSliceVar(&o.only, "op", nil, "operations to measure (default all)")
	f.BoolVar(&o.json, "json", false, "print a JSON list instead of a table")
	return cmd
}

// run measures everything and prints it: cells to stdout, the figures beside them to stderr.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	ops, err := selectOperations(o.only)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "keyside-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bench{options: o, dir: dir, results: newResults()}
	defer b.stop()
	if err := b.start(ctx); err != nil {
		return err
	}
	for range o.rounds {
		for _, op := range ops {
			for _, c := range o.concurrency {
				if err := b.cell(ctx, op, c); err != nil {
					return err
				}
			}
		}
		if err := b.overheadRound(ctx); err != nil {
			return err
		}
	}
	if o.json {
		err = writeJSON(stdout, b.results.summary())
	} else {
		err = writeTable(stdout, b.results.summary())
	}
	if err != nil {
		return err
	}
	return b.writeFooter(stderr)
}

func selectOperations(names []string) ([]operation, error) {
	if len(names) == 0 {
		return operations, nil
	}
	var out []operation
	for _, name := range names {
		found := false
		for _, op := range operations {
			if op.name == name {
				out, found = append(out, op), true
			}
		}
		if !found {
			return nil, fmt.Errorf("--op %s: no such operation", name)
		}
	}
	return out, nil
}

// bench is one run: the module opened directly and three nodes.
type bench struct {
	options
	dir      string
	direct   *direct
	two      *stack
	three    *stack
	unsynced *stack // as three, but the audit log is not synced
	results  *results
	overhead overhead
}

// overhead gathers, per round, p50 at concurrency 1 of encrypt-32, in microseconds, and the time of one fdatasync; and
// what syncing the audit log leaves of the throughput at concurrency loaded.
type overhead struct {
	direct, synced, unsynced, sync, share []float64
}

const loaded = 32

func (b *bench) start(ctx context.Context) error {
	connections := loaded
	for _, c := range b.concurrency {
		connections = max(connections, c)
	}
	node := func(name, mode string) node.Options {
		return node.Options{Dir: filepath.Join(b.dir, name), Driver: b.driver, Mode: mode}
	}
	section, err := b.section()
	if err != nil {
		return err
	}
	if b.two, err = startStack(ctx, node("two", "direct"), section, true, connections); err != nil {
		return err
	}
	if b.three, err = startStack(ctx, node("three", "via-hsmd"), section, true, connections); err != nil {
		return err
	}
	if b.unsynced, err = startStack(ctx, node("unsynced", "via-hsmd"), section, false, connections); err != nil {
		return err
	}
	b.direct, err = openDirect(ctx, filepath.Join(b.dir, "two"))
	return err
}

// section returns the driver's section that --config names, nil without it.
func (b *bench) section() (map[string]any, error) {
	if b.config == "" {
		return nil, nil
	}
	b.driver = "soft" // of the first run, which only writes the configuration
	text, err := os.ReadFile(b.config)
	if err != nil {
		return nil, err
	}
	var config struct {
		Drivers []map[string]any `yaml:"drivers"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("%s: %w", b.config, err)
	}
	if len(config.Drivers) == 0 {
		return nil, fmt.Errorf("%s names no driver: --config wants an hsmd.yaml", b.config)
	}
	return config.Drivers[0], nil
}

func (b *bench) stop() {
	for _, s := range []*stack{b.two, b.three, b.unsynced} {
		if s != nil {
			s.stop()
		}
	}
	if b.direct != nil {
		_ = b.direct.close()
	}
}

// cell measures one operation at one concurrency on every path, direct first.
func (b *bench) cell(ctx context.Context, op operation, concurrency int) error {
	none := func() []int { return nil }
	for _, p := range []struct {
		name   string
		target target
		pids   func() []int
	}{
		{pathDirect, b.direct.target(op), none},
		{path2Hop, b.two.target(op), b.two.pids},
		{path3Hop, b.three.target(op), b.three.pids},
	} {
		c, err := measure(ctx, p.target, concurrency, b.duration, p.pids)
		if err != nil {
			return fmt.Errorf("%s, %s, concurrency %d: %w", op.name, p.name, concurrency, err)
		}
		b.results.add(op.name, p.name, c)
	}
	return nil
}

// overheadRound measures what three hops add at concurrency 1, with and without the audit log's sync.
func (b *bench) overheadRound(ctx context.Context) error {
	none := func() []int { return nil }
	for _, p := range []struct {
		target target
		p50s   *[]float64
	}{
		{b.direct.target(operations[0]), &b.overhead.direct},
		{b.three.target(operations[0]), &b.overhead.synced},
		{b.unsynced.target(operations[0]), &b.overhead.unsynced},
	} {
		c, err := measure(ctx, p.target, 1, b.duration, none)
		if err != nil {
			return err
		}
		*p.p50s = append(*p.p50s, c.P50)
	}
	synced, err := measure(ctx, b.three.target(operations[0]), loaded, b.duration, none)
	if err != nil {
		return err
	}
	unsynced, err := measure(ctx, b.unsynced.target(operations[0]), loaded, b.duration, none)
	if err != nil {
		return err
	}
	b.overhead.share = append(b.overhead.share, synced.OpsPerS/unsynced.OpsPerS)
	took, err := syncTime(b.dir)
	b.overhead.sync = append(b.overhead.sync, micros(took))
	return err
}

func (b *bench) writeFooter(w io.Writer) error {
	direct, sync := median(b.overhead.direct), median(b.overhead.sync)
	_, err := fmt.Fprintf(w, `
encrypt-32 at concurrency 1, p50 that 3 hops add: %.0f µs with the audit log unsynced, %.0f µs with it synced (one fdatasync: %.0f µs)
encrypt-32 at concurrency %d, 3 hops: %.0f %% of the throughput that there is with the audit log unsynced
memory that is the process's own (RssAnon): sidecar %.0f MiB, hsmd %.0f MiB
`, median(b.overhead.unsynced)-direct, median(b.overhead.synced)-direct, sync,
		loaded, 100*median(b.overhead.share), b.mib("sidecar"), b.mib("hsmd"))
	return err
}

// mib returns the RssAnon of the three-hop node's process in that role.
func (b *bench) mib(role string) float64 {
	var total int64
	for _, pid := range b.three.node.Processes(role) {
		total += node.RSSAnon(pid)
	}
	return float64(total) / (1 << 20)
}
