package bench

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// compareHops measures Keyside beside the module called directly. It prints cells to stdout and the figures beside them to
// stderr.
func compareHops(ctx context.Context, o options, dir string, stdout, stderr io.Writer) error {
	ops, err := selectOperations(operations, o.only)
	if err != nil {
		return err
	}
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
	section, err := b.section()
	if err != nil {
		return err
	}
	unsync := func(config map[string]any) { config["audit"].(map[string]any)["sync"] = false }
	for _, n := range []struct {
		stack      **stack
		name, mode string
		change     func(map[string]any)
	}{{&b.two, "two", "direct", nil}, {&b.three, "three", "via-hsmd", nil}, {&b.unsynced, "unsynced", "via-hsmd", unsync}} {
		o := node.Options{Dir: filepath.Join(b.dir, n.name), Driver: b.driver, Mode: n.mode}
		if *n.stack, err = startStack(ctx, o, section, n.change); err != nil {
			return err
		}
	}
	b.direct, err = openDirect(ctx, filepath.Join(b.dir, "two"))
	return err
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
	for _, p := range []struct {
		name string
		path path
	}{{pathDirect, b.direct}, {path2Hop, b.two}, {path3Hop, b.three}} {
		c, err := measure(ctx, p.path, op, concurrency, b.duration)
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.results.add(op.name, p.name, c)
	}
	return nil
}

// overheadRound measures what three hops add at concurrency 1, with and without the audit log's sync.
func (b *bench) overheadRound(ctx context.Context) error {
	encrypt := operations[0]
	for _, p := range []struct {
		path path
		p50s *[]float64
	}{{b.direct, &b.overhead.direct}, {b.three, &b.overhead.synced}, {b.unsynced, &b.overhead.unsynced}} {
		c, err := measure(ctx, p.path, encrypt, 1, b.duration)
		if err != nil {
			return err
		}
		*p.p50s = append(*p.p50s, c.P50)
	}
	synced, err := measure(ctx, b.three, encrypt, loaded, b.duration)
	if err != nil {
		return err
	}
	unsynced, err := measure(ctx, b.unsynced, encrypt, loaded, b.duration)
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
encrypt-32 at concurrency %d, 3 hops: %.0f %% of the throughput with the audit log unsynced
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
