package edge

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// ConnectionsConfig limits how many connections are open at once. Each listener has its own limit, so that clients of the
// port cannot exhaust the socket's. Further connections wait in the kernel until one closes.
type ConnectionsConfig struct {
	Socket int `yaml:"socket"`
	Listen int `yaml:"listen"`
}

// DefaultConnections are the limits of an empty configuration. An idle connection takes a descriptor and about 10 KiB.
var DefaultConnections = ConnectionsConfig{Socket: 1000, Listen: 200}

// MaxConnections is the highest limit that can be configured.
const MaxConnections = 100_000

// limited is a listener with a limit on open connections. [limited.release] ends the count of one.
type limited struct {
	net.Listener
	open   chan struct{} // one element per open connection
	closed chan struct{}
	once   sync.Once
	log    *slog.Logger
	warned atomic.Int64 // time of the last warning, seconds since 1970
}

func limit(ln net.Listener, most int, log *slog.Logger) *limited {
	return &limited{Listener: ln, open: make(chan struct{}, most), closed: make(chan struct{}), log: log}
}

// Accept implements net.Listener. It returns the inner listener's connection, which knows its caller.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.open <- struct{}{}:
	default:
		l.warn()
		select {
		case l.open <- struct{}{}:
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		l.release()
	}
	return conn, err
}

// warn logs at most once a minute that the limit is reached.
func (l *limited) warn() {
	now := time.Now().Unix()
	if last := l.warned.Load(); now-last >= 60 && l.warned.CompareAndSwap(last, now) {
		l.log.Warn("connection limit reached: further connections wait until one closes, see connections in the configuration",
			slog.String("address", l.Addr().String()), slog.Int("connections", cap(l.open)))
	}
}

// release uncounts a connection.
func (l *limited) release() { <-l.open }

// Close implements net.Listener.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// releaseClosed is the server's ConnState: it uncounts each connection that closes at its listener.
func releaseClosed(listeners []*limited) func(net.Conn, http.ConnState) {
	by := map[string]*limited{}
	for _, l := range listeners {
		by[l.Addr().Network()] = l
	}
	return func(conn net.Conn, state http.ConnState) {
		if state == http.StateClosed || state == http.StateHijacked {
			by[conn.LocalAddr().Network()].release()
		}
	}
}
