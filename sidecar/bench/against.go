package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// manyKeys is a limit of keys that create-key does not reach.
const manyKeys = 100_000_000

// row is one compared combination. The first of two values is this build's, the second that of the other.
type row struct {
	Op          string     `json:"op"`
	Hops        int        `json:"hops"`
	Concurrency int        `json:"concurrency"`
	interval               // of the rates: this build / the other
	OpsPerS     [2]float64 `json:"ops_per_s"`     // medians
	CPU         [2]float64 `json:"cpu_us_per_op"` // over all pairs; microseconds of processor time, the client included

	operation operation
	cells     [2][]Cell // one of each pair
	logs      []float64 // logarithm of each pair's ratio
}

// comparison is a run with --against.
type comparison struct {
	options
	stacks map[int]*[2]*stack // by hops: this build's and the other's
	rows   []*row
}

// compareBuilds measures this build and another in pairs, and prints the rows to stdout.
func compareBuilds(ctx context.Context, o options, dir string, stdout, stderr io.Writer) error {
	c := &comparison{options: o, stacks: map[int]*[2]*stack{}}
	if err := c.check(); err != nil {
		return err
	}
	defer c.stop()
	if err := c.start(ctx, dir); err != nil {
		return err
	}
	bar := progressbar.DefaultSilent(int64(o.pairs * len(c.rows)))
	if f, ok := stderr.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		bar = progressbar.Default(int64(o.pairs * len(c.rows)))
	}
	for pair := range o.pairs {
		if pair > 0 {
			if err := c.restart(ctx); err != nil {
				return err
			}
		}
		for _, i := range rand.Perm(len(c.rows)) {
			if err := c.pair(ctx, c.rows[i]); err != nil {
				return err
			}
			_ = bar.Add(1)
		}
	}
	return c.write(stdout)
}

// check fills the rows from the flags.
func (c *comparison) check() error {
	ops, err := selectOperations(comparedOperations, c.only)
	switch {
	case err != nil:
		return err
	case c.pairs < 2:
		return errors.New("--pairs must be at least 2: one pair has no interval")
	}
	for _, op := range ops {
		for _, hops := range c.hops {
			if hops != 2 && hops != 3 {
				return fmt.Errorf("--hops %d: there are paths with 2 and 3 hops", hops)
			}
			for _, clients := range c.concurrency {
				c.rows = append(c.rows, &row{Op: op.name, Hops: hops, Concurrency: clients, operation: op})
			}
		}
	}
	return nil
}

// start starts a stack of each build for each number of hops.
func (c *comparison) start(ctx context.Context, dir string) error {
	section, err := c.section()
	if err != nil {
		return err
	}
	for _, hops := range c.hops {
		stacks := new([2]*stack)
		c.stacks[hops] = stacks
		for i, binary := range []string{"", c.against} { // empty: this program
			o := node.Options{Binary: binary, Dir: filepath.Join(dir, fmt.Sprint(hops, i)), Driver: c.driver, Mode: "via-hsmd"}
			if hops == 2 {
				o.Mode = "direct"
			}
			stacks[i], err = startStack(ctx, o, section, func(config map[string]any) {
				config["limits"] = map[string]any{"keys": manyKeys}
				config["import"] = map[string]any{"pool": map[string]any{"RSA_2048": 0}} // nothing runs beside the operations
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// restart starts all processes anew: two processes of one binary may differ in speed for as long as they live, and pairs are to be
// independent.
func (c *comparison) restart(ctx context.Context) error {
	for _, stacks := range c.stacks {
		for _, s := range stacks {
			if err := s.restart(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *comparison) stop() {
	for _, stacks := range c.stacks {
		for _, s := range stacks {
			if s != nil {
				s.stop()
			}
		}
	}
}

// pair measures both builds once, in random order.
func (c *comparison) pair(ctx context.Context, r *row) error {
	var rates [2]float64
	for _, i := range rand.Perm(2) {
		cell, err := measure(ctx, c.stacks[r.Hops][i], r.operation, r.Concurrency, c.duration)
		if err != nil {
			return fmt.Errorf("%s, %d hops: %w", []string{"this build", c.against}[i], r.Hops, err)
		}
		r.cells[i] = append(r.cells[i], cell)
		rates[i] = cell.OpsPerS
	}
	r.logs = append(r.logs, math.Log(rates[0]/rates[1]))
	return nil
}

// write prints the rows and the geometric mean of their ratios.
func (c *comparison) write(w io.Writer) error {
	overall := make([]float64, c.pairs) // mean over rows of each pair's logarithms
	for _, r := range c.rows {
		r.interval = ratioInterval(r.logs)
		for i, cells := range r.cells {
			r.OpsPerS[i] = medianOf(cells, func(c Cell) float64 { return c.OpsPerS })
			r.CPU[i] = cpuPerOperation(cells)
		}
		for i, l := range r.logs {
			overall[i] += l / float64(len(c.rows))
		}
	}
	all := ratioInterval(overall)
	if c.json {
		return writeJSON(w, map[string]any{"rows": c.rows, "geometric_mean": all})
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "operation\thops\tconcurrency\tratio\t95 % interval\tops/s\tother\tCPU µs/op\tother\t")
	for _, r := range c.rows {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%.3f\t%.3f to %.3f\t%.0f\t%.0f\t%.1f\t%.1f\t\n", r.Op, r.Hops, r.Concurrency, r.Ratio, r.Low, r.High,
			r.OpsPerS[0], r.OpsPerS[1], r.CPU[0], r.CPU[1])
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\ngeometric mean of all ratios: %.3f (%.3f to %.3f)\n", all.Ratio, all.Low, all.High)
	return err
}
