package hsmd

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

// instant answers every operation in Submit.
type instant struct{ body []byte }

func (s *instant) Submit(_ *driver.Request, done func(*driver.Response)) {
	done(&driver.Response{Body: s.body})
}

// socketPair returns the two ends of a stream.
func socketPair(b *testing.B) (net.Conn, net.Conn) {
	b.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "pair")
		if ends[i], err = net.FileConn(f); err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
	return ends[0], ends[1]
}

// streamTo serves s on one end of a socket pair and returns a stream on the other.
func streamTo(b *testing.B, s driver.Submitter) *driver.Stream {
	b.Helper()
	ours, theirs := socketPair(b)
	go func() {
		if _, err := driver.AcceptStream(theirs, 0); err == nil {
			_ = driver.ServeStream(theirs, s, nil)
		}
	}()
	stream, err := driver.DialStream(ours, "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = stream.Close() })
	return stream
}

// streamBackend is a Backend that is only a stream.
type streamBackend struct {
	echo
	*driver.Stream
}

func (s streamBackend) PID() int                    { return 0 }
func (s streamBackend) Close(context.Context) error { return s.Stream.Close() }

// BenchmarkRelay measures what hsmd adds: client, stream, [Mux, stream,] driver that answers at once, all in this process;
// the relay's cost is the difference of cpu-µs/op between mux and direct.
func BenchmarkRelay(b *testing.B) {
	op, _ := proto.Marshal(&driver.Op{Kind: driver.Encrypt, Sealed: make([]byte, 160), Data: make([]byte, 32)})
	result, _ := proto.Marshal(&driver.Result{Data: make([]byte, 48), Iv: make([]byte, 12)})
	for _, path := range []string{"direct", "mux"} {
		for _, c := range []int{1, 8, 32} {
			b.Run(fmt.Sprintf("%s/c=%d", path, c), func(b *testing.B) {
				end := driver.Submitter(streamTo(b, &instant{result}))
				if path == "mux" {
					inner := end
					x := newMuxOf(b, streamBackend{Stream: inner.(*driver.Stream)})
					end = streamTo(b, x)
				}
				load(b, end, op, c)
			})
		}
	}
}

func newMuxOf(b *testing.B, backend Backend) *Mux {
	b.Helper()
	x, err := NewMux(MuxConfig{Name: "m", Members: []MemberConfig{{Name: "a", Start: func(context.Context) (Backend, error) { return backend, nil }}}})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := x.Describe(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = x.Close(ctx)
	})
	return x
}

// load keeps c requests in flight until b.N are answered, submitting the next from each answer.
func load(b *testing.B, s driver.Submitter, op []byte, c int) {
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	var open atomic.Int64
	open.Store(int64(c))
	var next func(batch *driver.Batch)
	next = func(batch *driver.Batch) {
		if left.Add(-1) < 0 {
			if open.Add(-1) == 0 {
				close(done)
			}
			return
		}
		s.Submit(&driver.Request{Kind: driver.Encrypt, Tenant: "t", Deadline: time.Now().Add(10 * time.Second), Body: op, Batch: batch}, func(r *driver.Response) {
			if r.Code != 0 {
				b.Errorf("answer: %v", r.Err())
			}
			next(r.Batch)
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu()
	for range c {
		next(nil)
	}
	<-done
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
