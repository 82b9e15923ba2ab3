package pkcs11

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// kind names a C call, or a fixed sequence of two, for latencies and for the watchdog.
type kind uint32

const (
	callEncrypt kind = iota
	callDecrypt
	callDataKey
	callSign
	callMAC
	callRandom
	callUnwrap
	callWrap
	callDecryptRSA
	callDerive
	callGenerate
	callObject // create, copy, destroy, read and write attributes
	callFind
	callSession // open and close
	callLogin
	callInfo
	kinds
)

var kindNames = [kinds]string{"encrypt", "decrypt", "datakey", "sign", "mac", "random", "unwrap", "wrap", "decrypt-rsa",
	"derive", "generate", "object", "find", "session", "login", "info"}

// sizeClasses split each kind: the time of a call depends on how much it works on. For data that is a power of 64
// bytes; for signatures the key's bits come in as its bytes.
const sizeClasses = 4

func sizeClass(size int) int {
	return min(max(bits.Len(uint(size))-7, 0)/3, sizeClasses-1) // up to 127, 1023, 8191 bytes, more
}

// histogram counts durations in four buckets per octave. Its quantiles are at most a quarter too high.
type histogram struct {
	buckets [160]atomic.Uint64 // up to 2^40 ns
	errors  atomic.Uint64
}

func (h *histogram) add(d time.Duration, failed bool) {
	h.buckets[bucketOf(d)].Add(1)
	if failed {
		h.errors.Add(1)
	}
}

func bucketOf(d time.Duration) int {
	n := uint64(max(d, 4))
	octave := bits.Len64(n) - 1
	return min(octave*4+int(n>>(octave-2)&3), len(histogram{}.buckets)-1)
}

// bucketTop is the upper bound of a bucket.
func bucketTop(i int) time.Duration {
	return time.Duration(uint64(4+i%4+1) << (i / 4) >> 2)
}

// snapshot is a histogram's counts at one moment; several add up.
type snapshot struct {
	buckets       [160]uint64
	count, errors uint64
}

func (s *snapshot) add(h *histogram) {
	for i := range h.buckets {
		n := h.buckets[i].Load()
		s.buckets[i] += n
		s.count += n
	}
	s.errors += h.errors.Load()
}

// quantile returns the duration that q of the calls did not exceed, 0 without calls.
func (s *snapshot) quantile(q float64) time.Duration {
	rank, seen := uint64(q*float64(s.count)), uint64(0)
	for i, n := range s.buckets {
		if seen += n; seen > rank {
			return bucketTop(i)
		}
	}
	return 0
}

// meter holds the latencies of all C calls of a driver.
type meter struct {
	calls [kinds][sizeClasses]histogram
}

func (m *meter) latencies() []*driver.Latency {
	var out []*driver.Latency
	for k := range kinds {
		var s snapshot
		for c := range sizeClasses {
			s.add(&m.calls[k][c])
		}
		if s.count == 0 {
			continue
		}
		out = append(out, &driver.Latency{Op: kindNames[k], Count: s.count, Errors: s.errors,
			P50Us: micros(s.quantile(0.5)), P99Us: micros(s.quantile(0.99))})
	}
	return out
}

func micros(d time.Duration) uint32 { return uint32(min(d.Microseconds(), 1<<32-1)) }

// tracker is where one caller at a time records the C call that it is in. The watchdog reads it.
type tracker struct {
	meter *meter
	began atomic.Int64  // nanoseconds since epoch; 0 outside a call
	what  atomic.Uint32 // kind*sizeClasses + size class
	spent time.Duration // in calls since the owner last set it to 0; the owner's alone
}

var epoch = time.Now()

func (t *tracker) begin(k kind, size int) {
	t.what.Store(uint32(k)*sizeClasses + uint32(sizeClass(size)))
	t.began.Store(int64(time.Since(epoch)) | 1)
}

func (t *tracker) end(err error) {
	d := time.Since(epoch) - time.Duration(t.began.Load())
	t.began.Store(0)
	what := t.what.Load()
	t.meter.calls[what/sizeClasses][what%sizeClasses].add(d, err != nil)
	t.spent += d
}
