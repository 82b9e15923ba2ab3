package driver

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// readBuffer is the size of a stream's read buffer in bytes. It grows for a larger frame and shrinks afterwards.
const readBuffer = 64 << 10

// handshakeTimeout limits the exchange of prefaces.
const handshakeTimeout = 5 * time.Second

// Stream is the client's end of an execute stream. It implements Submitter; after its end, every request returns Lost.
type Stream struct {
	conn net.Conn
	out  *outbox
	done chan struct{}

	mu      sync.Mutex
	next    uint64
	pending map[uint64]func(*Response)
	err     error
}

// DialStream opens the client's end of a stream on conn for the named driver ("" on a socket pair). It takes ownership of conn, also
// if it fails.
func DialStream(conn net.Conn, name string) (*Stream, error) {
	if err := clientHandshake(conn, name); err != nil {
		return nil, errors.Join(Errorf(Lost, "open execute stream: %w", err), conn.Close())
	}
	s := &Stream{conn: conn, done: make(chan struct{}), pending: map[uint64]func(*Response){}}
	s.out = newOutbox(conn, s.fail)
	go s.read()
	return s, nil
}

func clientHandshake(conn net.Conn, name string) error {
	if len(name) > 255 {
		return errors.New("driver name too long")
	}
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	hello := append([]byte(StreamPreface), byte(len(name)))
	if _, err := conn.Write(append(hello, name...)); err != nil {
		return err
	}
	answer := make([]byte, len(StreamPreface))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if string(answer) != StreamPreface {
		return errors.New("peer speaks another protocol")
	}
	return conn.SetDeadline(time.Time{})
}

// Submit implements Submitter.
func (s *Stream) Submit(req *Request, done func(*Response)) {
	if err := req.fits(); err != nil {
		done(ErrorResponse(err))
		return
	}
	now, ended := time.Now(), false
	added := s.out.add(req.Batch, req.frameSize(), func(b []byte) []byte {
		// Registered with its frame, so that whoever calls done finds the request read.
		s.mu.Lock()
		defer s.mu.Unlock()
		if ended = s.err != nil; ended {
			return b
		}
		s.next++
		s.pending[s.next] = done
		return appendRequest(b, s.next, req, now)
	})
	if ended || !added {
		done(ErrorResponse(Errorf(Lost, "execute stream ended")))
	}
}

func (s *Stream) read() {
	var batch Batch
	err := readFrames(s.conn, func(p []byte) error {
		id, r, err := parseResponse(p)
		if err != nil {
			return err
		}
		s.mu.Lock()
		done := s.pending[id]
		delete(s.pending, id)
		s.mu.Unlock()
		if done == nil {
			return Errorf(InvalidArgument, "response to no request")
		}
		r.Batch = &batch
		done(&r)
		return nil
	}, batch.flush)
	s.fail(err)
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = err
	lost := s.pending
	s.pending = nil
	s.mu.Unlock()
	_ = s.conn.Close()
	close(s.done)
	for _, done := range lost {
		done(ErrorResponse(Errorf(Lost, "execute stream ended with the request in flight")))
	}
}

// Close closes the stream.
func (s *Stream) Close() error {
	s.fail(net.ErrClosed)
	return nil
}

// Done is closed when the stream has ended.
func (s *Stream) Done() <-chan struct{} { return s.done }

// InFlight returns the number of requests without an answer.
func (s *Stream) InFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.pending)
}

// AcceptStream reads the client's handshake on conn and returns the name of the requested driver. preface is the number of bytes of
// StreamPreface that the caller has already read.
func AcceptStream(conn net.Conn, preface int) (name string, err error) {
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return "", err
	}
	hello := make([]byte, len(StreamPreface)-preface+1)
	if _, err := io.ReadFull(conn, hello); err != nil {
		return "", err
	}
	if !bytes.HasPrefix(hello, []byte(StreamPreface[preface:])) {
		return "", errors.New("peer speaks another protocol")
	}
	b := make([]byte, hello[len(hello)-1])
	if _, err := io.ReadFull(conn, b); err != nil {
		return "", err
	}
	return string(b), conn.SetDeadline(time.Time{})
}

// ServeStream completes the handshake of AcceptStream and serves requests with s until the stream ends. admit, if not nil, is called
// first for each request and may set its tenant or refuse it.
func ServeStream(conn net.Conn, s Submitter, admit func(*Request) error) error {
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte(StreamPreface)); err != nil {
		return err
	}
	out := newOutbox(conn, func(error) { _ = conn.Close() })
	var batch Batch
	err := readFrames(conn, func(p []byte) error {
		id, req, err := parseRequest(p, time.Now())
		if err != nil {
			return err
		}
		done := func(r *Response) {
			out.add(r.Batch, r.frameSize(), func(b []byte) []byte { return appendResponse(b, id, r) })
			if !r.Early {
				clear(req.Body)
			}
		}
		if admit != nil {
			if err := admit(&req); err != nil {
				done(ErrorResponse(err))
				return nil
			}
		}
		req.Trace, req.Body = bytes.Clone(req.Trace), bytes.Clone(req.Body)
		req.Batch = &batch
		s.Submit(&req, done)
		return nil
	}, batch.flush)
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// readFrames calls fn for each frame of conn, and drained after the frames of one read. It returns the error that ended the stream,
// io.EOF for a clean end.
func readFrames(conn net.Conn, fn func([]byte) error, drained func()) error {
	buf := make([]byte, readBuffer)
	defer func() { clear(buf) }() // frames carry plaintext, and so is every part that was read
	have := 0
	for {
		n, err := conn.Read(buf[have:])
		have += n
		at := 0
		for {
			p, size, ferr := nextFrame(buf[at:have])
			if ferr == nil && size > 0 {
				ferr = fn(p)
			}
			if ferr != nil {
				drained()
				return ferr
			}
			if size == 0 {
				break
			}
			at += size
		}
		drained()
		if err != nil {
			return err
		}
		copy(buf, buf[at:have])
		clear(buf[have-at : have])
		have -= at
		switch {
		case have == len(buf):
			buf = reserve(buf, len(buf))[:2*len(buf)]
		case have == 0 && len(buf) > readBuffer:
			buf = make([]byte, readBuffer)
		}
	}
}
