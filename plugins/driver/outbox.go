package driver

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// outboxLimit is how many unsent bytes a connection may owe before it counts as stalled.
const outboxLimit = 8 << 20

// outbox sends frames on a connection without ever blocking whoever adds them. Whoever adds becomes the sender if
// nobody is sending, and goes on until nothing is left; so frames combine under load and none waits for a timer.
// What the socket does not take at once is left to a goroutine.
type outbox struct {
	conn net.Conn
	raw  syscall.RawConn // nil where the connection is not a socket: then the goroutine sends everything
	fail func(error)     // called when sending fails or the peer does not read, perhaps for both

	mu      sync.Mutex
	buf     []byte
	spare   []byte
	sending bool
	failed  bool
}

func newOutbox(conn net.Conn, fail func(error)) *outbox {
	o := &outbox{conn: conn, fail: fail}
	if sc, ok := conn.(syscall.Conn); ok {
		o.raw, _ = sc.SyscallConn()
	}
	return o
}

var errStalled = errors.New("peer does not read its stream")

// add appends what fn appends, at most size bytes, and sends: now, or with batch at the batch's end. It reports whether it
// called fn: not after a failure.
func (o *outbox) add(batch *Batch, size int, fn func([]byte) []byte) bool {
	o.mu.Lock()
	if o.failed {
		o.mu.Unlock()
		return false
	}
	o.buf = fn(reserve(o.buf, size))
	stalled := len(o.buf) > outboxLimit
	if stalled {
		o.failed = true
	}
	sending := o.sending
	o.mu.Unlock()
	switch {
	case stalled:
		o.fail(errStalled)
	case sending:
	case batch != nil:
		// Also where another batch owes this connection a flush: its holder may be inside a long operation by now.
		batch.owe(o)
	default:
		o.send()
	}
	return true
}

// reserve returns b with room for n more bytes. It clears a buffer that it replaces: frames carry plaintext.
func reserve(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	grown := make([]byte, len(b), max(2*cap(b), len(b)+n))
	copy(grown, b)
	clear(b)
	return grown
}

func (o *outbox) send() {
	o.mu.Lock()
	if o.sending {
		o.mu.Unlock()
		return
	}
	o.sending = true
	for len(o.buf) > 0 && !o.failed {
		out := o.buf
		o.buf, o.spare = o.spare[:0], nil
		o.mu.Unlock()
		n, err := o.writeNow(out)
		if err == nil && n < len(out) {
			go o.sendSlowly(out, n)
			return
		}
		o.mu.Lock()
		o.recycle(out)
		if err != nil {
			o.giveUp(err)
			return
		}
	}
	o.sending = false
	o.mu.Unlock()
}

// sendSlowly goes on as the sender in a goroutine of its own, which may block.
func (o *outbox) sendSlowly(out []byte, from int) {
	for {
		_, err := o.conn.Write(out[from:])
		o.mu.Lock()
		o.recycle(out)
		if err != nil {
			o.giveUp(err)
			return
		}
		if len(o.buf) == 0 || o.failed {
			o.sending = false
			o.mu.Unlock()
			return
		}
		out, from = o.buf, 0
		o.buf, o.spare = o.spare[:0], nil
		o.mu.Unlock()
	}
}

// giveUp ends the outbox; it is called with the lock held and releases it.
func (o *outbox) giveUp(err error) {
	clear(o.buf)
	o.failed, o.sending, o.buf = true, false, nil
	o.mu.Unlock()
	o.fail(err)
}

func (o *outbox) recycle(b []byte) {
	clear(b) // frames carry plaintext
	if cap(b) <= 256<<10 {
		o.spare = b[:0]
	}
}

// writeNow writes what the socket takes without waiting.
func (o *outbox) writeNow(b []byte) (n int, err error) {
	if o.raw == nil {
		return 0, nil
	}
	ctlErr := o.raw.Write(func(fd uintptr) bool {
		for {
			n, err = syscall.Write(int(fd), b)
			if err != syscall.EINTR {
				return true
			}
		}
	})
	if ctlErr != nil {
		return 0, ctlErr
	}
	if err == syscall.EAGAIN {
		return 0, nil
	}
	return max(n, 0), err
}

// Batch gathers the connections that got frames while one read was worked through, so that each is written to once.
type Batch struct {
	dirty []*outbox

	// Answers of Workers that are held back.
	held   int
	lane   *lane     // that they belong to
	oldest time.Time // when the first of them was there
}

// owe notes a connection. A batch sees one or two, so looking through them beats a map.
func (b *Batch) owe(o *outbox) {
	if !slices.Contains(b.dirty, o) {
		b.dirty = append(b.dirty, o)
	}
}

func (b *Batch) flush() {
	for i, o := range b.dirty {
		o.send()
		b.dirty[i] = nil
	}
	b.dirty = b.dirty[:0]
	if b.held > 0 {
		b.lane.answered(b.held)
		b.held = 0
	}
}
