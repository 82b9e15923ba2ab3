package driver

import (
	"encoding/binary"
	"time"
)

// The format of the execute stream. FRAMES.md specifies it and must be changed with it.
const (
	// StreamPreface opens the stream in both directions.
	StreamPreface = "KSEXEC1\n"

	maxFrame       = 1 << 20 // of a frame's length field, bytes
	maxTrace       = 255     // bytes
	frameRequest   = 1
	frameResponse  = 2
	requestHeader  = 1 + 1 + 8 + 4 // kind, op, id, timeout
	responseHeader = 1 + 1 + 8 + 4 + 4 + 4
)

// Timings is the time of an operation by cause. Each process adds to Queue; only a driver sets Session and HSM.
type Timings struct {
	Queue   time.Duration // waiting for a worker, summed over all processes
	Session time.Duration // waiting for a session or loading the key
	HSM     time.Duration // inside the device
}

// fits returns InvalidArgument for a request that does not fit into a frame. Sending it would end the stream for all requests.
func (r *Request) fits() error {
	if len(r.Trace) > maxTrace || len(r.Tenant) > maxTenant {
		return Errorf(InvalidArgument, "tenant name or trace context too long")
	}
	if r.frameSize()-4 > maxFrame {
		return Errorf(InvalidArgument, "operation longer than a frame")
	}
	return nil
}

// frameSize is the length of the request's frame with its length field, in bytes.
func (r *Request) frameSize() int {
	return 4 + requestHeader + 2 + len(r.Trace) + len(r.Tenant) + len(r.Body)
}

// frameSize is the length of the response's frame with its length field, in bytes.
func (r *Response) frameSize() int { return 4 + responseHeader + len(r.Body) }

func appendRequest(b []byte, id uint64, req *Request, now time.Time) []byte {
	timeout := req.Deadline.Sub(now)
	timeout = min(max(timeout, 0), time.Duration(1<<32-1)*time.Microsecond)
	b = binary.BigEndian.AppendUint32(b, uint32(req.frameSize()-4))
	b = append(b, frameRequest, byte(req.Kind))
	b = binary.BigEndian.AppendUint64(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(timeout/time.Microsecond))
	b = append(b, byte(len(req.Trace)))
	b = append(b, req.Trace...)
	b = append(b, byte(len(req.Tenant)))
	b = append(b, req.Tenant...)
	return append(b, req.Body...)
}

func appendResponse(b []byte, id uint64, r *Response) []byte {
	if r.frameSize()-4 > maxFrame {
		r = ErrorResponse(Errorf(Internal, "the answer is longer than a frame"))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(r.frameSize()-4))
	b = append(b, frameResponse, byte(r.Code))
	b = binary.BigEndian.AppendUint64(b, id)
	b = appendMicros(b, r.Timings.Queue)
	b = appendMicros(b, r.Timings.Session)
	b = appendMicros(b, r.Timings.HSM)
	return append(b, r.Body...)
}

func appendMicros(b []byte, d time.Duration) []byte {
	us := min(max(int64(d/time.Microsecond), 0), 1<<32-1)
	return binary.BigEndian.AppendUint32(b, uint32(us))
}

// nextFrame returns the payload of the first frame of b and the size of the frame. size 0 means that b has no complete frame.
func nextFrame(b []byte) (payload []byte, size int, err error) {
	if len(b) < 4 {
		return nil, 0, nil
	}
	n := binary.BigEndian.Uint32(b)
	if n > maxFrame || n < 2 {
		return nil, 0, Errorf(InvalidArgument, "frame of %d bytes", n)
	}
	if len(b) < 4+int(n) {
		return nil, 0, nil
	}
	return b[4 : 4+n], 4 + int(n), nil
}

// parseRequest reads a request frame. Trace and Body alias p.
func parseRequest(p []byte, now time.Time) (id uint64, req Request, err error) {
	if len(p) < requestHeader+2 || p[0] != frameRequest {
		return 0, req, errMalformedRequest
	}
	req.Kind = OpKind(p[1])
	id = binary.BigEndian.Uint64(p[2:])
	req.Deadline = now.Add(time.Duration(binary.BigEndian.Uint32(p[10:])) * time.Microsecond)
	rest := p[requestHeader:]
	n := int(rest[0])
	if len(rest) < 1+n+1 {
		return 0, req, errMalformedRequest
	}
	req.Trace, rest = rest[1:1+n], rest[1+n:]
	n = int(rest[0])
	if len(rest) < 1+n || n > maxTenant {
		return 0, req, errMalformedRequest
	}
	req.Tenant, req.Body = string(rest[1:1+n]), rest[1+n:]
	return id, req, nil
}

var errMalformedRequest = Errorf(InvalidArgument, "malformed request frame")

// parseResponse reads a response frame. Body aliases p.
func parseResponse(p []byte) (id uint64, r Response, err error) {
	if len(p) < responseHeader || p[0] != frameResponse {
		return 0, r, Errorf(InvalidArgument, "malformed response frame")
	}
	micros := func(at int) time.Duration {
		return time.Duration(binary.BigEndian.Uint32(p[at:])) * time.Microsecond
	}
	r.Code = Code(p[1])
	id = binary.BigEndian.Uint64(p[2:])
	r.Timings = Timings{Queue: micros(10), Session: micros(14), HSM: micros(18)}
	r.Body = p[responseHeader:]
	return id, r, nil
}
