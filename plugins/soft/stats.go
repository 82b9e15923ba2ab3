package soft

import (
	"math/bits"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/driverv1"
)

// stats counts operations by kind. Nothing in it locks.
type stats struct {
	kinds [16]histogram
	last  atomic.Int32 // code of the last error that was not the caller's fault
}

// histogram has four buckets per doubling of the duration, so a percentile is right within a quarter. It ends at 4 s.
type histogram struct {
	errors  atomic.Uint64
	buckets [128]atomic.Uint64
}

func bucketOf(d time.Duration) int {
	ns := uint64(max(d, 4))
	top := bits.Len64(ns) - 1
	return min(4*top+int(ns>>(top-2)&3), 127)
}

// upper returns the largest duration of a bucket.
func upper(bucket int) time.Duration {
	top := bucket / 4
	return time.Duration(uint64(5+bucket%4)<<max(top-2, 0) - 1)
}

func (s *stats) record(kind driver.OpKind, took time.Duration, err error) {
	if kind < 0 || int(kind) >= len(s.kinds) {
		kind = 0
	}
	h := &s.kinds[kind]
	h.buckets[bucketOf(took)].Add(1)
	if err == nil {
		return
	}
	h.errors.Add(1)
	switch code := driver.CodeOf(err); code {
	case driver.KeyUnavailable, driver.Device, driver.Internal:
		s.last.Store(int32(code))
	}
}

func (s *stats) lastError() string {
	if code := driver.Code(s.last.Load()); code != 0 {
		return code.String()
	}
	return ""
}

func (s *stats) latencies() []*driver.Latency {
	var list []*driver.Latency
	for kind := range s.kinds {
		h := &s.kinds[kind]
		var counts [128]uint64
		var total uint64
		for i := range counts {
			counts[i] = h.buckets[i].Load()
			total += counts[i]
		}
		if total == 0 {
			continue
		}
		list = append(list, &driver.Latency{
			Op:    strings.ToLower(strings.ReplaceAll(driverv1.OpKind(kind).String(), "_", "-")),
			Count: total, Errors: h.errors.Load(),
			P50Us: percentile(&counts, total, 50), P99Us: percentile(&counts, total, 99),
		})
	}
	return list
}

func percentile(counts *[128]uint64, total, percent uint64) uint32 {
	var seen uint64
	for i, n := range counts {
		if seen += n; seen*100 >= total*percent {
			return uint32(min((upper(i)+time.Microsecond-1)/time.Microsecond, 1<<32-1))
		}
	}
	return 0
}
