package sidecar

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ConnectionsConfig bounds how many connections are open at once. Each listener has its own bound, so that whoever reaches the
// port takes nothing from the socket. Those over it wait in the kernel until one is closed.
type ConnectionsConfig struct {
	Socket int `yaml:"socket"`
	Listen int `yaml:"listen"`
}

// A connection takes a descriptor and about 10 KiB while it is idle.
const (
	defaultSocketConnections = 1000
	defaultPortConnections   = 200
	maxConnections           = 100_000
)

// bounded is a listener that accepts no more while it has so many connections. They end by [bounded.ended].
type bounded struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
	log    *slog.Logger
	told   atomic.Int64 // when the log was told last, in seconds
}

func bound(ln net.Listener, most int, log *slog.Logger) *bounded {
	return &bounded{Listener: ln, places: make(chan struct{}, most), closed: make(chan struct{}), log: log}
}

// Accept implements net.Listener. The connection is the one of the listener below, which knows whose it is.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.places <- struct{}{}:
	default:
		b.tell()
		select {
		case b.places <- struct{}{}:
		case <-b.closed:
			return nil, net.ErrClosed
		}
	}
	conn, err := b.Listener.Accept()
	if err != nil {
		b.ended()
	}
	return conn, err
}

// tell says at most once a minute that there are too many connections.
func (b *bounded) tell() {
	now := time.Now().Unix()
	if last := b.told.Load(); now-last >= 60 && b.told.CompareAndSwap(last, now) {
		b.log.Warn("no more connections are accepted until one ends: see connections in the configuration",
			slog.String("address", b.Addr().String()), slog.Int("connections", cap(b.places)))
	}
}

// ended gives the place of a connection back.
func (b *bounded) ended() { <-b.places }

// Close implements net.Listener.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.closed) })
	return b.Listener.Close()
}

// giveBack is the server's ConnState: it gives back the places of connections that end, each to its listener.
func giveBack(listeners []*bounded) func(net.Conn, http.ConnState) {
	by := map[string]*bounded{}
	for _, b := range listeners {
		by[b.Addr().Network()] = b
	}
	return func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			by[conn.LocalAddr().Network()].ended()
		}
	}
}
