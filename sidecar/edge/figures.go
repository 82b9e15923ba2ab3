package edge

import (
	"sync/atomic"
	"time"
)

// Figures gets what there is to count while Serve serves. The zero Figures has nothing. It is safe for concurrent use.
type Figures struct {
	serving atomic.Pointer[served]
}

// served is what Serve has opened.
type served struct {
	listeners    map[string]*limited
	certificates *certificates // nil without TLS
}

// Connections are the connections of one listener.
type Connections struct {
	Open, Limit int
	Refused     uint64 // over the limit or a holder's share, since the start
}

// Connections returns the connections of each listener: "socket" and, if there is one, "port".
func (f *Figures) Connections() map[string]Connections {
	found := map[string]Connections{}
	if s := f.serving.Load(); s != nil {
		for name, l := range s.listeners {
			found[name] = l.figures()
		}
	}
	return found
}

// CertificateEnd returns when the port's certificate expires; ok is false without TLS.
func (f *Figures) CertificateEnd() (end time.Time, ok bool) {
	s := f.serving.Load()
	if s == nil || s.certificates == nil {
		return end, false
	}
	return s.certificates.get().Leaf.NotAfter, true
}

func (l *limited) figures() Connections {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Connections{Open: l.open, Limit: l.most, Refused: l.refused}
}
