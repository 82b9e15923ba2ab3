package dialect

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// ErrTooLong says that a body is longer than its route allows.
var ErrTooLong = errors.New("body too long")

// keep bounds the buffers that go back to the pool, in bytes.
const keep = 64 << 10

// Exchange is one request and its answer. Its buffers are pooled, and cleared when it ends, because they hold
// plaintext: nothing that Object returned may be used after End.
type Exchange struct {
	// Values are the fields of the request after ReadFields.
	Values
	// Object holds the members of the request's body after Decode.
	Object Object
	// Route is that of the request; nil if it asks for no operation.
	Route *Route
	// RequestID names the exchange in the answer, the audit record and the log: 32 hexadecimal digits.
	RequestID string
	// Out is the answer's body, which handlers append to.
	Out []byte
	// Stream writes a response that is too large to buffer or has no fixed end. It runs after the operation is audited. If it
	// fails, the connection is aborted, so that the client detects the truncation.
	Stream func(ctx context.Context, w io.Writer) error
	// Media is the content type of the answer; empty: application/json, and of Stream application/octet-stream.
	Media string

	body     []byte
	complete bool   // body is all of the request's
	flat     []byte // the object that DecodeParameters made
	parsed   bool   // parameters are the request's
	strict   bool   // members that the route does not list are refused
	path     []Var  // the variables of the path, which Table.Find sets
	// parameters are those of the query and of a form.
	parameters []Pair
	unlisted   string // the first field that was read and that the route does not list
	cancel     context.CancelFunc
}

var exchanges = sync.Pool{New: func() any { return new(Exchange) }}

// Begin starts an Exchange.
func Begin() *Exchange {
	x := exchanges.Get().(*Exchange)
	x.exchange, x.Object.exchange = x, x
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	x.RequestID = hex.EncodeToString(id[:])
	return x
}

// End clears the Exchange and gives its buffers back.
func (x *Exchange) End() {
	x.Values.wipe()
	x.Object.wipe()
	x.body, x.complete, x.strict, x.unlisted, x.cancel = wiped(x.body), false, false, "", nil
	x.flat, x.parsed, x.parameters = wiped(x.flat), false, nil
	clear(x.path)
	x.path = x.path[:0]
	x.Out, x.Stream, x.Media, x.Route = wiped(x.Out), nil, "", nil
	exchanges.Put(x)
}

// misread notes that a handler read a field that its route does not list, and ends the operation's context.
func (x *Exchange) misread(field string) {
	if x.unlisted == "" {
		x.unlisted = field
	}
	if x.cancel != nil {
		x.cancel()
	}
}

// Restart drops what has been appended to Out.
func (x *Exchange) Restart() { x.Out = wiped(x.Out) }

// wiped clears what a buffer holds; one too large to keep is let go.
func wiped(b []byte) []byte {
	clear(b)
	if cap(b) > keep {
		return nil
	}
	return b[:0]
}

// Decode reads a request's body, if that was not done yet, and finds its members. Its errors are those of Body and
// ErrNotObject.
func (x *Exchange) Decode(r *http.Request, limit int64) error {
	body, err := x.Body(r, limit)
	if err != nil {
		return err
	}
	return x.Object.parse(body)
}

// Body returns a request's body of at most limit bytes, as it came. It reads it once; the errors are ErrTooLong and those
// of the connection.
func (x *Exchange) Body(r *http.Request, limit int64) ([]byte, error) {
	if !x.complete {
		if err := x.read(r, limit); err != nil {
			return nil, err
		}
		x.complete = true
	}
	return x.body, nil
}

// read reads the body into a buffer that is cleared whenever it has to grow.
func (x *Exchange) read(r *http.Request, limit int64) error {
	if r.ContentLength > limit {
		return ErrTooLong
	}
	x.body = moved(x.body, int(max(r.ContentLength, 511))+1) // one more, to see the end without another read into a full buffer
	for {
		n, err := r.Body.Read(x.body[len(x.body):cap(x.body)])
		x.body = x.body[:len(x.body)+n]
		switch {
		case int64(len(x.body)) > limit:
			return ErrTooLong
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case len(x.body) == cap(x.body):
			x.body = moved(x.body, 2*cap(x.body))
		}
	}
}

// moved returns a buffer with room for size bytes. If it is another buffer, the old one is cleared.
func moved(b []byte, size int) []byte {
	if size <= cap(b) {
		return b
	}
	defer clear(b)
	return append(make([]byte, 0, size), b...)
}

// FieldsRead reports whether the request's fields were read, be it up to a wrong one.
func (x *Exchange) FieldsRead() bool { return x.fields != nil }

// Grow makes room for n more bytes of answer, so that appending moves no plaintext to another buffer.
func (x *Exchange) Grow(n int) { x.Out = moved(x.Out, len(x.Out)+n) }

var jsonType = []string{"application/json"}

// Send writes the answer: Out under a status. With 204, which has no body (RFC 9110, 15.3.5), Out must be empty.
func (x *Exchange) Send(w http.ResponseWriter, status int) {
	h := w.Header()
	h["X-Request-Id"] = []string{x.RequestID}
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	h["Content-Type"] = jsonType
	if x.Media != "" {
		h["Content-Type"] = []string{x.Media}
	}
	h["Content-Length"] = []string{strconv.Itoa(len(x.Out))}
	w.WriteHeader(status)
	_, _ = w.Write(x.Out) // a client that has gone away needs no answer
}

// streamTime is how long the other end of a stream may take to read what it gets.
const streamTime = 30 * time.Second

// SendStream answers with what Stream writes.
func (x *Exchange) SendStream(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Request-Id"] = []string{x.RequestID}
	h["Content-Type"] = []string{cmp.Or(x.Media, "application/octet-stream")}
	w.WriteHeader(http.StatusOK)
	out := &stream{w, http.NewResponseController(w)}
	_, err := out.Write(nil) // the headers, for who waits for records that are yet to come
	if err == nil {
		err = x.Stream(r.Context(), out)
	}
	if err != nil {
		panic(http.ErrAbortHandler)
	}
}

// stream sends what is written at once, and gives up on a reader that reads nothing.
type stream struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (s *stream) Write(b []byte) (int, error) {
	_ = s.control.SetWriteDeadline(time.Now().Add(streamTime)) // what has none needs none
	n, err := s.ResponseWriter.Write(b)
	if err == nil {
		err = s.control.Flush()
	}
	return n, err
}
