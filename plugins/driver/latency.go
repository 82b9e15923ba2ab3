package driver

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// buckets of a histogram: four per doubling of the duration, up to 2^40 ns.
const buckets = 160

// Histogram counts durations, for Status. Its quantiles are at most a quarter too high. It is safe for concurrent use and
// never blocks.
type Histogram struct {
	buckets [buckets]atomic.Uint64
	errors  atomic.Uint64
}

// Add counts one call.
func (h *Histogram) Add(d time.Duration, failed bool) {
	h.buckets[bucketOf(d)].Add(1)
	if failed {
		h.errors.Add(1)
	}
}

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 4))
	octave := bits.Len64(n) - 1
	return min(octave*4+int(n>>(octave-2)&3), buckets-1)
}

// bucketTop returns the upper bound of a bucket.
func bucketTop(i int) time.Duration {
	return time.Duration(uint64(4+i%4+1) << (i / 4) >> 2)
}

// Counts are the counts of one or several histograms at one moment.
type Counts struct {
	Calls, Errors uint64
	buckets       [buckets]uint64
}

// Add adds the counts of a histogram.
func (c *Counts) Add(h *Histogram) {
	for i := range h.buckets {
		n := h.buckets[i].Load()
		c.buckets[i] += n
		c.Calls += n
	}
	c.Errors += h.errors.Load()
}

// Quantile returns the duration that the part q of the calls did not exceed, 0 without calls.
func (c *Counts) Quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(c.Calls)), uint64(0)
	for i, n := range c.buckets {
		if seen += n; seen > rank {
			return bucketTop(i)
		}
	}
	return 0
}

// Latency returns the counts as Status reports them.
func (c *Counts) Latency(op string) *Latency {
	micros := func(q float64) uint32 { return uint32(min(c.Quantile(q).Microseconds(), 1<<32-1)) }
	return &Latency{Op: op, Count: c.Calls, Errors: c.Errors, P50Us: micros(0.5), P99Us: micros(0.99)}
}

// Latencies returns the counts of histograms as Status reports them, without those that have no calls. name names the i-th.
func Latencies(histograms []Histogram, name func(i int) string) (list []*Latency) {
	for i := range histograms {
		var counts Counts
		counts.Add(&histograms[i])
		if counts.Calls > 0 {
			list = append(list, counts.Latency(name(i)))
		}
	}
	return list
}
