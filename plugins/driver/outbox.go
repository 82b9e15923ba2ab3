package driver

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"
)

// outboxLimit is the number of unsent bytes at which a connection counts as stalled.
const outboxLimit = 8 << 20

// outbox sends frames on a connection without blocking the goroutines that add them. A goroutine that adds a frame becomes the sender
// if there is none, and sends until the outbox is empty, so that frames combine under load without a timer. If the socket's buffer
// is full, another goroutine sends the rest.
type outbox struct {
	conn net.Conn
	raw  syscall.RawConn // nil if the connection is not a socket: then the goroutine sends everything
	fail func(error)     // called when sending fails or the peer does not read, possibly twice

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

// sendSlowly continues as the sender in a goroutine of its own, which may block.
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

// giveUp closes the outbox. It is called with the lock held and releases it.
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

// writeNow writes as much as the socket accepts without blocking.
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

// Batch collects the connections that got frames during one read, so that each is written once.
type Batch struct {
	dirty []*outbox

	// Answers of Workers that are held back.
	held   int
	lane   *lane     // that they belong to
	oldest time.Time // when the first of them was there
}

// owe adds a connection. A batch has one or two, so a linear search is faster than a map.
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
