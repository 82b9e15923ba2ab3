package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// key names a cell's combination.
type key struct {
	op, path    string
	concurrency int
}

// results gathers the cells of all rounds.
type results struct {
	order []key
	cells map[key][]Cell
}

func newResults() *results { return &results{cells: map[key][]Cell{}} }

func (r *results) add(op, path string, c Cell) {
	c.Op, c.Path = op, path
	k := key{op, path, c.Concurrency}
	if len(r.cells[k]) == 0 {
		r.order = append(r.order, k)
	}
	r.cells[k] = append(r.cells[k], c)
}

// summary returns one cell per combination: medians over rounds, the ratio taken round by round.
func (r *results) summary() []Cell {
	out := make([]Cell, 0, len(r.order))
	for _, k := range r.order {
		cells := r.cells[k]
		direct := r.cells[key{k.op, pathDirect, k.concurrency}]
		ratios := make([]float64, 0, len(cells))
		for i, c := range cells {
			if i < len(direct) && direct[i].OpsPerS > 0 {
				ratios = append(ratios, c.OpsPerS/direct[i].OpsPerS)
			}
		}
		out = append(out, Cell{
			Op: k.op, Path: k.path, Concurrency: k.concurrency,
			OpsPerS: medianOf(cells, func(c Cell) float64 { return c.OpsPerS }),
			P50:     medianOf(cells, func(c Cell) float64 { return c.P50 }),
			P99:     medianOf(cells, func(c Cell) float64 { return c.P99 }),
			CPU:     medianOf(cells, func(c Cell) float64 { return c.CPU }),
			Ratio:   median(ratios),
		})
	}
	return out
}

func medianOf(cells []Cell, field func(Cell) float64) float64 {
	v := make([]float64, len(cells))
	for i, c := range cells {
		v[i] = field(c)
	}
	return median(v)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

func writeTable(w io.Writer, cells []Cell) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "operation\tpath\tconcurrency\tops/s\tp50 µs\tp99 µs\tCPU µs/op\tof direct\t")
	for _, c := range cells {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f\t%.1f\t%.2f\t\n", c.Op, c.Path, c.Concurrency, c.OpsPerS, c.P50, c.P99, c.CPU, c.Ratio)
	}
	return tw.Flush()
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
