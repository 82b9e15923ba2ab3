package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeDriver runs operations with a function; it has nothing else.
type fakeDriver struct {
	Driver
	execute func(ctx context.Context, tenant string, op *Op) (*Result, error)
}

func (f fakeDriver) Execute(ctx context.Context, tenant string, op *Op) (*Result, error) {
	return f.execute(ctx, tenant, op)
}

// echo answers with what came in.
func echo(_ context.Context, tenant string, op *Op) (*Result, error) {
	return &Result{Data: op.GetData(), Iv: []byte(tenant)}, nil
}

// socketPair returns the two ends of a Unix stream socket.
func socketPair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conns := make([]net.Conn, 2)
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		if conns[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		t.Cleanup(func() { _ = conns[i].Close() })
	}
	return conns[0], conns[1]
}

// serve runs a server of s on conn and returns where its end is reported.
func serve(conn net.Conn, s Submitter, admit func(*Request) error) <-chan error {
	ended := make(chan error, 1)
	go func() {
		if _, err := AcceptStream(conn, 0); err != nil {
			ended <- err
			return
		}
		ended <- ServeStream(conn, s, admit)
	}()
	return ended
}

// hop connects a Stream to workers on execute.
func hop(t testing.TB, execute func(context.Context, string, *Op) (*Result, error)) (*Stream, *Workers) {
	t.Helper()
	client, server := socketPair(t)
	w := NewWorkers(fakeDriver{execute: execute}, 2, 2)
	serve(server, w, nil)
	s, err := DialStream(client, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.Close()
		if err := w.Drain(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s, w
}

// eventually waits for what must become true soon.
func eventually(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !fn(); {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
		select {
		case <-time.After(time.Millisecond):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
	}
}

func TestStreamConcurrency(t *testing.T) {
	s, _ := hop(t, func(ctx context.Context, tenant string, op *Op) (*Result, error) {
		TimingsFrom(ctx).HSM = 5 * time.Millisecond
		if op.GetLength()%7 == 3 {
			return nil, Errorf(BadCiphertext, "number %d", op.GetLength())
		}
		return echo(ctx, tenant, op)
	})
	var wg sync.WaitGroup
	for g := range 32 {
		wg.Go(func() {
			for i := range 100 {
				n := g*100 + i
				var times Timings
				kind := []OpKind{Encrypt, Sign}[n%2]
				data := bytes.Repeat([]byte{byte(n)}, 1+n*37%40_000)
				res, err := Do(WithTimings(t.Context(), &times), s, fmt.Sprint("t", n), &Op{Kind: kind, Data: data, Length: uint32(n)})
				if n%7 == 3 {
					if CodeOf(err) != BadCiphertext || err.Error() != fmt.Sprint("number ", n) {
						t.Errorf("%d: %v", n, err)
					}
				} else if err != nil || !bytes.Equal(res.GetData(), data) || string(res.GetIv()) != fmt.Sprint("t", n) {
					t.Errorf("%d: another's answer, or %v", n, err)
				}
				if times.HSM != 5*time.Millisecond {
					t.Errorf("%d: hsm time %s", n, times.HSM)
				}
			}
		})
	}
	wg.Wait()
	if n := s.InFlight(); n != 0 {
		t.Errorf("%d still in flight", n)
	}
}

func TestStreamEndLosesWhatIsInFlight(t *testing.T) {
	for what, end := range map[string]func(s *Stream, server net.Conn) error{
		"closed here":  func(s *Stream, _ net.Conn) error { return s.Close() },
		"closed there": func(_ *Stream, server net.Conn) error { return server.Close() },
	} {
		t.Run(what, func(t *testing.T) {
			client, server := socketPair(t)
			stuck := make(submitterFunc, 16)
			serve(server, stuck, nil)
			s, err := DialStream(client, "")
			if err != nil {
				t.Fatal(err)
			}
			codes := make(chan Code, 3)
			for range 3 {
				s.Submit(&Request{Kind: Encrypt, Deadline: time.Now().Add(time.Minute)}, func(r *Response) { codes <- CodeOf(r.Err()) })
			}
			for range 3 {
				<-stuck
			}
			if err := end(s, server); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if got := <-codes; got != Lost {
					t.Errorf("in flight: %s", got)
				}
			}
			<-s.Done()
			if _, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt}); CodeOf(err) != Lost {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// submitterFunc passes requests to a channel and answers none.
type submitterFunc chan *Request

func (c submitterFunc) Submit(req *Request, _ func(*Response)) { c <- req }

// A peer that sends and never reads must not grow this side's memory without end, nor block it.
func TestServerEndsAStalledReader(t *testing.T) {
	client, server := socketPair(t)
	w := NewWorkers(fakeDriver{execute: func(context.Context, string, *Op) (*Result, error) {
		return &Result{Data: make([]byte, 32<<10)}, nil
	}}, 2, 1)
	ended := serve(server, w, nil)
	if err := clientHandshake(client, ""); err != nil {
		t.Fatal(err)
	}
	body := []byte{8, byte(Random)} // Op{kind: RANDOM}
	go func() {
		for id := uint64(1); ; id++ {
			frame := appendRequest(nil, id, &Request{Kind: Random, Tenant: "t", Deadline: time.Now().Add(time.Minute), Body: body}, time.Now())
			if _, err := client.Write(frame); err != nil {
				return
			}
		}
	}()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("server keeps a peer that does not read")
	}
	if err := w.Drain(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestClientEndsAStalledServer(t *testing.T) {
	client, server := socketPair(t)
	accepted := make(chan error, 1)
	go func() {
		_, err := AcceptStream(server, 0)
		_, werr := server.Write([]byte(StreamPreface))
		accepted <- errors.Join(err, werr)
	}()
	s, err := DialStream(client, "")
	if err := errors.Join(err, <-accepted); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 512<<10)
	lost := make(chan Code, 1000)
	n := 0
	for ; n < 1000; n++ {
		select {
		case <-s.Done():
		default:
			s.Submit(&Request{Kind: Encrypt, Body: body, Deadline: time.Now().Add(time.Minute)}, func(r *Response) { lost <- CodeOf(r.Err()) })
			continue
		}
		break
	}
	if n == 1000 {
		t.Fatal("500 MB went to a peer that does not read")
	}
	for range n {
		if got := <-lost; got != Lost {
			t.Fatalf("answered %s", got)
		}
	}
}

// One caller's oversized request must not end the stream that it shares with others.
func TestOversizeRequestHurtsNobodyElse(t *testing.T) {
	s, _ := hop(t, echo)
	for what, req := range map[string]*Request{
		"tenant": {Kind: Encrypt, Tenant: strings.Repeat("x", 300), Deadline: time.Now().Add(time.Minute)},
		"body":   {Kind: Encrypt, Tenant: "t", Body: make([]byte, 2<<20), Deadline: time.Now().Add(time.Minute)},
		"trace":  {Kind: Encrypt, Tenant: "t", Trace: make([]byte, 256), Deadline: time.Now().Add(time.Minute)},
	} {
		answer := make(chan Code, 1)
		s.Submit(req, func(r *Response) { answer <- CodeOf(r.Err()) })
		if got := <-answer; got != InvalidArgument {
			t.Errorf("%s: %s", what, got)
		}
	}
	if _, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestOversizeAnswerHurtsNobodyElse(t *testing.T) {
	s, _ := hop(t, func(ctx context.Context, tenant string, op *Op) (*Result, error) {
		if op.GetLength() > 0 {
			return &Result{Data: make([]byte, op.GetLength())}, nil
		}
		return echo(ctx, tenant, op)
	})
	if _, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt, Length: 2 << 20}); CodeOf(err) != Internal {
		t.Errorf("2 MiB of answer: %v", err)
	}
	if _, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt}); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestHostileServer(t *testing.T) {
	valid := func(r *Response) []byte { return appendResponse(nil, 1, r) }
	for what, c := range map[string]struct {
		answer []byte
		want   Code
	}{
		"an answer to no call":      {appendResponse(nil, 99, &Response{}), Lost},
		"a frame too long":          {[]byte{0xff, 0xff, 0xff, 0xff}, Lost},
		"a request":                 {appendRequest(nil, 1, &Request{}, time.Now()), Lost},
		"no protobuf":               {valid(&Response{Body: []byte{0xff, 0xff}}), Internal},
		"a good code with an error": {valid(&Response{Body: ErrorResponse(Errorf(Device, "no")).Body}), Internal},
		"an unknown code":           {valid(&Response{Code: 200}), Internal},
	} {
		t.Run(what, func(t *testing.T) {
			client, server := socketPair(t)
			go func() {
				_, _ = AcceptStream(server, 0)
				_, _ = server.Write([]byte(StreamPreface))
				_, _ = server.Read(make([]byte, 1<<10))
				_, _ = server.Write(c.answer)
			}()
			s, err := DialStream(client, "")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			if _, err := Do(t.Context(), s, "t", &Op{Kind: Encrypt}); CodeOf(err) != c.want {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestAnswersBeforeTheirRequests has a server answer before it has read anything: whoever clears a request when it is answered
// changes nothing that is still to be sent.
func TestAnswersBeforeTheirRequests(t *testing.T) {
	data := bytes.Repeat([]byte{'x'}, 200_000)
	for range 100 {
		client, server := socketPair(t)
		received := make(chan []byte, 1)
		go func() {
			_, _ = AcceptStream(server, 0)
			_, _ = server.Write(appendResponse([]byte(StreamPreface), 1, &Response{}))
			all, _ := io.ReadAll(server)
			received <- all
		}()
		s, err := DialStream(client, "")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = Do(t.Context(), s, "t", &Op{Kind: Encrypt, Data: data})
		_ = s.Close()
		all := <-received // the header may contain a single x
		if start := bytes.Index(all, data[:16]); start >= 0 && len(bytes.Trim(all[start:], "x")) > 0 {
			t.Fatal("a cleared request was sent")
		}
	}
}

func TestHostileClient(t *testing.T) {
	for what, frame := range map[string][]byte{
		"a response":           appendResponse(nil, 1, &Response{}),
		"a frame too long":     {0, 0x20, 0, 0},
		"a frame too short":    {0, 0, 0, 1, 1},
		"a header cut off":     {0, 0, 0, 3, 1, 1, 1},
		"a trace past its end": append([]byte{0, 0, 0, 17, 1, 1}, append(make([]byte, 12), 200, 0, 0)...),
	} {
		client, server := socketPair(t)
		ended := serve(server, NewWorkers(fakeDriver{execute: echo}, 1, 1), nil)
		if err := clientHandshake(client, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Write(frame); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; CodeOf(err) != InvalidArgument {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOpening(t *testing.T) {
	for what, hello := range map[string]string{
		"another protocol":  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"another version":   "KSEXEC2\n\x00",
		"a name cut off":    StreamPreface + "\x05abc",
		"nothing":           "",
		"half of a preface": "KSEX",
	} {
		client, server := socketPair(t)
		if _, err := client.Write([]byte(hello)); err != nil {
			t.Fatal(err)
		}
		_ = client.Close()
		if name, err := AcceptStream(server, 0); err == nil {
			t.Errorf("%s: accepted for driver %q", what, name)
		}
	}
	client, server := socketPair(t)
	if _, err := client.Write([]byte(StreamPreface + "\x07softhsm")); err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 3)
	if _, err := server.Read(first); err != nil {
		t.Fatal(err)
	}
	if name, err := AcceptStream(server, len(first)); name != "softhsm" || err != nil {
		t.Errorf("after 3 bytes were read: %q, %v", name, err)
	}
	if _, err := DialStream(client, strings.Repeat("n", 256)); err == nil {
		t.Error("a name of 256 bytes was sent")
	}
}

func TestAdmission(t *testing.T) {
	client, server := socketPair(t)
	w := NewWorkers(fakeDriver{execute: echo}, 1, 1)
	serve(server, w, func(req *Request) error {
		if req.Tenant != "" {
			return Errorf(TenantUnknown, "not this caller's")
		}
		req.Tenant = "mine"
		return nil
	})
	s, err := DialStream(client, "")
	if err != nil {
		t.Fatal(err)
	}
	if res, err := Do(t.Context(), s, "", &Op{Kind: Encrypt}); err != nil || string(res.GetIv()) != "mine" {
		t.Errorf("admitted: %s, %v", res.GetIv(), err)
	}
	if _, err := Do(t.Context(), s, "theirs", &Op{Kind: Encrypt}); CodeOf(err) != TenantUnknown {
		t.Errorf("refused: %v", err)
	}
	if err := errors.Join(s.Close(), w.Drain(t.Context())); err != nil {
		t.Error(err)
	}
}
