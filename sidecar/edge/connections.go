package edge

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// ConnectionsConfig limits how many connections are open at once. Each listener has its own limits, so that clients of the
// port cannot exhaust the socket's. A connection over a limit is refused in its dialect's words; see [limited].
type ConnectionsConfig struct {
	Socket int `yaml:"socket"` // 0: DefaultSocket, or fewer if the process may have too few descriptors
	Listen int `yaml:"listen"`
	Share  int `yaml:"share"` // percent of each limit that one user of the socket or one address at the port may hold
}

// DefaultConnections are the limits of an empty configuration.
var DefaultConnections = ConnectionsConfig{Listen: 400, Share: 50}

const (
	// DefaultSocket is the limit of an empty configuration for the socket.
	DefaultSocket = 8192
	// MaxConnections is the highest limit that can be configured.
	MaxConnections = 100_000
	// ConnectionBytes is the memory of an open connection: stacks and buffers.
	ConnectionBytes = 24 << 10
	// spares is how many connections over the limits a listener holds at once, until they are answered.
	spares = 64
	// socketFDs is the descriptors of a connection to the socket: its own and that of the process that connected.
	socketFDs = 2
	// reserveFDs is the descriptors that the database, the audit log, the HSM and telemetry may need.
	reserveFDs = 256
)

// Fit returns the limits with their defaults. It returns an error if a process that may have so many descriptors could not
// open all connections and still have enough for everything else. port says whether there is a port.
func (c ConnectionsConfig) Fit(descriptors int, port bool) (ConnectionsConfig, error) {
	taken := reserveFDs + socketFDs*spares
	if port {
		taken += c.Listen + spares
	}
	most := max(0, (descriptors-taken)/socketFDs)
	if c.Socket == 0 {
		c.Socket = min(DefaultSocket, max(most, 1))
	}
	if c.Socket > most {
		return c, fmt.Errorf("the process may have %d file descriptors and needs %d: %d for connections.socket (%d), %d for the others; "+
			"configure connections.socket or connections.listen lower, or raise the limit (LimitNOFILE= of the unit, ulimit -Hn)",
			descriptors, taken+socketFDs*c.Socket, socketFDs*c.Socket, c.Socket, taken)
	}
	return c, nil
}

// limited is a listener that limits open connections, in all and of each holder: a user of the socket, an address at the
// port. It accepts further ones as spares. A spare is answered once, with the state of health that it asks for, or else
// an error about too many connections. So a holder of all connections cannot keep probes and other users out. If there are
// too many spares, the oldest is closed: it has had time to send its request.
type limited struct {
	net.Listener
	most, each int
	log        *slog.Logger

	mu     sync.Mutex
	open   int
	by     map[string]int // open connections of each holder
	spare  []*held        // oldest first
	warned time.Time

	refused uint64 // spares since the start
}

func limit(ln net.Listener, most, share int, log *slog.Logger) *limited {
	return &limited{Listener: ln, most: most, each: max(1, most*share/100), log: log, by: map[string]int{}}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	h := &held{Conn: conn, listener: l, holder: holder(conn)}
	if oldest := l.enter(h); oldest != nil {
		_ = oldest.Close()
	}
	return h, nil
}

// holder names who counts as the holder of a connection: the user, or the address that it comes from.
func holder(conn net.Conn) string {
	if p, ok := conn.(*peer.Conn); ok {
		caller, _ := peer.Creds(p.UnixConn) // an unknown caller counts as root, whom the kernel would report
		return "uid " + strconv.FormatUint(uint64(caller.UID), 10)
	}
	host, _, _ := net.SplitHostPort(conn.RemoteAddr().String())
	return host
}

// enter counts a connection, or makes it a spare if there are too many. It returns the spare to close, if any.
func (l *limited) enter(h *held) (oldest *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open < l.most && l.by[h.holder] < l.each {
		l.open++
		l.by[h.holder]++
		return nil
	}
	h.spare = true
	l.refused++
	if len(l.spare) >= spares {
		oldest = l.spare[0]
		l.spare = l.spare[1:]
	}
	l.spare = append(l.spare, h)
	if now := time.Now(); now.Sub(l.warned) >= time.Minute {
		l.warned = now
		l.log.Warn("connection limit reached: further connections are refused, see connections in the configuration",
			slog.String("address", l.Addr().String()), slog.Int("connections", l.open), slog.String("holder", h.holder),
			slog.Int("of_holder", l.by[h.holder]))
	}
	return oldest
}

// leave ends the count of a connection.
func (l *limited) leave(h *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h.spare {
		for i, s := range l.spare {
			if s == h {
				l.spare = append(l.spare[:i], l.spare[i+1:]...)
				break
			}
		}
		return
	}
	l.open--
	if l.by[h.holder]--; l.by[h.holder] == 0 {
		delete(l.by, h.holder)
	}
}

// held is a connection that counts at its listener until it is closed.
type held struct {
	net.Conn
	listener *limited
	holder   string
	spare    bool
	once     sync.Once
}

// Close implements net.Conn.
func (h *held) Close() error {
	h.once.Do(func() { h.listener.leave(h) })
	return h.Conn.Close()
}

// CloseWrite lets net/http end an answer before it has read the whole request.
func (h *held) CloseWrite() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return nil
}

// connContext adds to the context of a connection the process that connected to the socket, as the kernel reports it (for
// the port it reports none), and that a spare one is to be refused.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	switch outer := conn.(type) {
	case *tls.Conn:
		conn = outer.NetConn()
	case *hostConn:
		ctx = dialect.WithSentHost(ctx, outer.sentHost)
		conn = outer.Conn
	}
	h, ok := conn.(*held)
	if !ok {
		return ctx
	}
	if p, ok := h.Conn.(*peer.Conn); ok {
		ctx = kms.WithCallerNow(ctx, p.Caller)
	}
	if h.spare {
		ctx = dialect.WithRefusal(ctx, dialect.TooManyConnections)
	}
	return ctx
}
