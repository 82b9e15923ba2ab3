package edge

import (
	"bytes"
	"net"
	"strings"
	"sync/atomic"
)

// Tencent Cloud's command line, given --endpoint http://HOST:PORT, sends that URL as Host header, and signs it. net/http answers
// it with 400 before any handler. So the first head of a connection to the port, if its Host is a URL, is changed before net/http
// reads it: the Host becomes that of the URL, and the connection is closed after the answer, so that no later head has to be
// found between bodies. Handlers learn what was sent for the check of the signature; see [dialect.SentHost].

// hostListener is a listener without TLS whose connections have their Host corrected.
type hostListener struct{ net.Listener }

// Accept implements net.Listener.
func (l hostListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hostConn{Conn: conn}, nil
}

// hostConn is a connection of such a listener. Only the goroutine that serves the connection reads it.
type hostConn struct {
	net.Conn
	sent  atomic.Pointer[string] // the Host header that was corrected
	begun bool                   // the first head was read
	left  []byte                 // of it, and what came with it
	err   error                  // after left
}

// CloseWrite lets net/http end an answer before it has read the whole request.
func (c *hostConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (c *hostConn) sentHost() string {
	if sent := c.sent.Load(); sent != nil {
		return *sent
	}
	return ""
}

// Read implements net.Conn.
func (c *hostConn) Read(p []byte) (int, error) {
	if !c.begun {
		c.begun = true
		n, err := c.Conn.Read(p)
		if n == 0 || p[0] < 'A' || p[0] > 'Z' || ends(p[:n]) && !bytes.Contains(p[:n], urlMark) { // as nearly always
			return n, err
		}
		c.left, c.err = c.readHead(append([]byte(nil), p[:n]...), err)
	}
	if len(c.left) > 0 {
		n := copy(p, c.left)
		clear(c.left[:n]) // a body may have come with the head
		c.left = c.left[n:]
		return n, nil
	}
	if err := c.err; err != nil {
		c.err = nil
		return 0, err
	}
	return c.Conn.Read(p)
}

var (
	headEnd = []byte("\r\n\r\n")
	urlMark = []byte("://")
)

// ends reports whether a head ends, be it with line ends that net/http takes as well.
func ends(head []byte) bool {
	return bytes.Contains(head, []byte("\n\r\n")) || bytes.Contains(head, []byte("\n\n"))
}

// readHead reads on until the head of the request ends, and returns it with its Host corrected.
func (c *hostConn) readHead(head []byte, err error) ([]byte, error) {
	buffer := make([]byte, 4096)
	for err == nil && len(head) < maxHeader && !ends(head) {
		var n int
		n, err = c.Conn.Read(buffer)
		head = append(head, buffer[:n]...)
	}
	clear(buffer)
	end := bytes.Index(head, headEnd)
	if end < 0 {
		return head, err
	}
	lines, found := strings.Split(string(head[:end]), "\r\n"), false
	for i, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		scheme, host, isURL := strings.Cut(value, "://")
		if strings.EqualFold(name, "Host") && isURL && (scheme == "http" || scheme == "https") && !found {
			found, lines[i+1] = true, "Host: "+strings.TrimSuffix(host, "/")
			c.sent.Store(&value)
		}
	}
	if !found {
		return head, err
	}
	changed := []byte(strings.Join(append(lines, "Connection: close"), "\r\n"))
	return append(changed, head[end:]...), err
}
