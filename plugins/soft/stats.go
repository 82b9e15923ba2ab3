package soft

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// stats counts operations by kind, without locks.
type stats struct {
	kinds [driver.LastOp + 1]driver.Histogram
	last  atomic.Int32 // code of the last error that the caller did not cause
}

func (s *stats) record(kind driver.OpKind, took time.Duration, err error) {
	if kind < 0 || int(kind) >= len(s.kinds) {
		kind = 0
	}
	s.kinds[kind].Add(took, err != nil)
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
	return driver.Latencies(s.kinds[:], func(kind int) string {
		return strings.ToLower(strings.ReplaceAll(driver.OpKind(kind).String(), "_", "-"))
	})
}
