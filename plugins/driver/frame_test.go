package driver

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func drawRequest(t *rapid.T, now time.Time) *Request {
	return &Request{
		Kind:     OpKind(rapid.IntRange(0, 255).Draw(t, "kind")),
		Tenant:   rapid.StringMatching(`[a-z0-9-]{0,64}`).Draw(t, "tenant"),
		Deadline: now.Add(time.Duration(rapid.Int64Range(0, 1<<32-1).Draw(t, "left")) * time.Microsecond),
		Trace:    rapid.SliceOfN(rapid.Byte(), 0, maxTrace).Draw(t, "trace"),
		Body:     rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "body"),
	}
}

func TestRequestFrameRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Now()
		want, id := drawRequest(t, now), rapid.Uint64().Draw(t, "id")
		rest := rapid.SliceOf(rapid.Byte()).Draw(t, "rest")
		payload, size, err := nextFrame(append(appendRequest(nil, id, want, now), rest...))
		if err != nil || size != 4+len(payload) {
			t.Fatalf("next frame: %d bytes, %v", size, err)
		}
		gotID, got, err := parseRequest(payload, now)
		if err != nil {
			t.Fatal(err)
		}
		if gotID != id || got.Kind != want.Kind || got.Tenant != want.Tenant || !got.Deadline.Equal(want.Deadline) ||
			!bytes.Equal(got.Trace, want.Trace) || !bytes.Equal(got.Body, want.Body) {
			t.Fatalf("got %d %+v, want %d %+v", gotID, got, id, want)
		}
	})
}

func TestResponseFrameRoundTrip(t *testing.T) {
	micros := rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(rapid.Int64Range(0, 1<<32-1).Draw(t, "us")) * time.Microsecond
	})
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.Uint64().Draw(t, "id")
		want := &Response{
			Code:    Code(rapid.IntRange(0, 255).Draw(t, "code")),
			Timings: Timings{Queue: micros.Draw(t, "queue"), Session: micros.Draw(t, "session"), HSM: micros.Draw(t, "hsm")},
			Body:    rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "body"),
		}
		payload, _, err := nextFrame(appendResponse(nil, id, want))
		if err != nil {
			t.Fatal(err)
		}
		gotID, got, err := parseResponse(payload)
		if err != nil || gotID != id || got.Code != want.Code || got.Timings != want.Timings || !bytes.Equal(got.Body, want.Body) {
			t.Fatalf("got %d %+v %v, want %d %+v", gotID, got, err, id, want)
		}
	})
}

// A frame that arrives in pieces is incomplete until its last byte.
func TestFramesComeInPieces(t *testing.T) {
	whole := appendRequest(nil, 7, &Request{Kind: Encrypt, Tenant: "t", Body: []byte("body")}, time.Now())
	for n := range whole {
		if _, size, err := nextFrame(whole[:n]); size != 0 || err != nil {
			t.Fatalf("%d of %d bytes: size %d, %v", n, len(whole), size, err)
		}
	}
	if _, size, err := nextFrame(whole); size != len(whole) || err != nil {
		t.Fatalf("whole frame: size %d, %v", size, err)
	}
}

// TestReadFramesAreCleared checks that no buffer of a reader keeps a frame, also one that outgrew the first buffer.
func TestReadFramesAreCleared(t *testing.T) {
	client, server := net.Pipe()
	go func() {
		small, large := []byte("secret"), bytes.Repeat([]byte("secret"), readBuffer/4)
		stream := appendResponse(appendResponse(nil, 1, &Response{Body: small}), 2, &Response{Body: large})
		_, _ = server.Write(stream[:100])
		_, _ = server.Write(append(stream[100:], 0, 0, 1)) // ends within a frame
		_ = server.Close()
	}()
	var frames [][]byte
	if err := readFrames(client, func(p []byte) error { frames = append(frames, p); return nil }, func() {}); err != io.EOF || len(frames) != 2 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	for _, p := range frames {
		if len(bytes.Trim(p, "\x00")) > 0 {
			t.Errorf("a buffer holds %.60q", p)
		}
	}
}

func TestTimeLeftIsClamped(t *testing.T) {
	now := time.Now()
	for _, c := range []struct{ left, want time.Duration }{
		{-time.Hour, 0}, {0, 0}, {1500 * time.Nanosecond, time.Microsecond}, {48 * time.Hour, (1<<32 - 1) * time.Microsecond},
	} {
		payload, _, err := nextFrame(appendRequest(nil, 1, &Request{Deadline: now.Add(c.left)}, now))
		if err != nil {
			t.Fatal(err)
		}
		_, got, err := parseRequest(payload, now)
		if err != nil || got.Deadline.Sub(now) != c.want {
			t.Errorf("%s left became %s, %v", c.left, got.Deadline.Sub(now), err)
		}
	}
}

func TestRequestThatNoFrameCarries(t *testing.T) {
	for what, req := range map[string]*Request{
		"tenant": {Tenant: strings.Repeat("a", maxTenant+1)},
		"trace":  {Trace: make([]byte, maxTrace+1)},
		"body":   {Body: make([]byte, maxFrame)},
	} {
		if err := req.fits(); CodeOf(err) != InvalidArgument {
			t.Errorf("%s too long: %v", what, err)
		}
	}
	largest := &Request{Tenant: "t", Body: make([]byte, maxFrame-requestHeader-2-1)}
	if err := largest.fits(); err != nil {
		t.Errorf("largest request: %v", err)
	}
	if _, size, err := nextFrame(appendRequest(nil, 1, largest, time.Now())); size == 0 || err != nil {
		t.Errorf("largest request: %d bytes, %v", size, err)
	}
}

// FuzzFrame reads arbitrary bytes as either end would: nothing crashes, and what is accepted means the same when it is
// written again.
func FuzzFrame(f *testing.F) {
	now := time.Unix(1e9, 0)
	f.Add(appendRequest(nil, 1, &Request{Kind: Encrypt, Tenant: "t", Deadline: now.Add(time.Second), Trace: []byte("00-ab"), Body: []byte("b")}, now))
	f.Add(appendResponse(nil, 1, &Response{Timings: Timings{Queue: time.Millisecond}, Body: []byte("b")}))
	f.Add(appendResponse(nil, 1, ErrorResponse(Errorf(Busy, "queue full"))))
	f.Add([]byte{0, 0, 0, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		payload, size, err := nextFrame(b)
		if err != nil || size == 0 {
			return
		}
		if id, req, err := parseRequest(payload, now); err == nil {
			if again := appendRequest(nil, id, &req, now); !bytes.Equal(again, b[:size]) {
				t.Errorf("request %x became %x", b[:size], again)
			}
		}
		if id, r, err := parseResponse(payload); err == nil {
			if again := appendResponse(nil, id, &r); !bytes.Equal(again, b[:size]) {
				t.Errorf("response %x became %x", b[:size], again)
			}
			if err := r.Err(); r.Code != 0 && CodeOf(err) == 0 {
				t.Errorf("code %d gives no error", r.Code)
			}
		}
	})
}
