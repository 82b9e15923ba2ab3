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

// sizeClasses is how many size classes each kind has, because the time of a call depends on its input: the length of data in
// bytes, or a signing key's length in bits.
const sizeClasses = 4

func sizeClass(size int) int {
	return min(max(bits.Len(uint(size))-7, 0)/3, sizeClasses-1) // up to 127, 1023, 8191 bytes, more
}

// meter counts the latencies of all C calls of a driver.
type meter struct {
	calls [kinds][sizeClasses]driver.Histogram
}

func (m *meter) latencies() []*driver.Latency {
	var out []*driver.Latency
	for k := range kinds {
		var counts driver.Counts
		for c := range sizeClasses {
			counts.Add(&m.calls[k][c])
		}
		if counts.Calls > 0 {
			out = append(out, counts.Latency(kindNames[k]))
		}
	}
	return out
}

// tracker records the C call that a session is in. One goroutine at a time writes it; the watchdog reads it.
type tracker struct {
	meter *meter
	began atomic.Int64  // nanoseconds since epoch; 0 outside a call
	what  atomic.Uint32 // kind*sizeClasses + size class
	spent time.Duration // in calls since the session's user set it to 0; not read by the watchdog
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
	t.meter.calls[what/sizeClasses][what%sizeClasses].Add(d, err != nil)
	t.spent += d
}
