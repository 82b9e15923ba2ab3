package bench

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// Cell is one measured combination, as --json prints it.
type Cell struct {
	Op          string  `json:"op"`
	Path        string  `json:"path"`
	Concurrency int     `json:"concurrency"`
	OpsPerS     float64 `json:"ops_per_s"`
	P50         float64 `json:"p50_us"`        // microseconds
	P99         float64 `json:"p99_us"`        // microseconds
	CPU         float64 `json:"cpu_us_per_op"` // microseconds of processor time, all processes together, the client included
	Ratio       float64 `json:"ratio"`         // operations per second against direct: the median over rounds
}

// path is a way to the module.
type path interface {
	target(op operation, clients int) (target, error)
	pids() []int // processes beside this one that work on the path
}

// target is one operation on one path.
type target struct {
	do   func(ctx context.Context, worker int) error
	done func() // releases what do needs and ends calls of it
}

// measure runs an operation in so many closed loops for about d, after a warm-up of a fifth of d.
func measure(ctx context.Context, p path, op operation, clients int, d time.Duration) (c Cell, err error) {
	t, err := p.target(op, clients)
	if err != nil {
		return Cell{}, err
	}
	defer t.done()
	defer context.AfterFunc(ctx, t.done)() // an answer may never come
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s, concurrency %d: %w", op.name, clients, err)
		}
	}()
	if _, err := closedLoop(ctx, t, clients, d/5); err != nil {
		return Cell{}, err
	}
	pids := p.pids()
	cpuBefore, start := cpuTime(pids), time.Now()
	latencies, err := closedLoop(ctx, t, clients, d)
	elapsed := time.Since(start)
	if err != nil {
		return Cell{}, err
	}
	cpu := cpuTime(pids) - cpuBefore
	slices.Sort(latencies)
	n := len(latencies)
	return Cell{
		Concurrency: clients,
		OpsPerS:     float64(n) / elapsed.Seconds(),
		P50:         micros(latencies[n/2]),
		P99:         micros(latencies[min(n*99/100, n-1)]),
		CPU:         micros(cpu) / float64(n),
	}, nil
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }

// closedLoop lets each worker do one operation after the other, at least one, until d has passed. It returns every latency.
func closedLoop(ctx context.Context, t target, concurrency int, d time.Duration) ([]time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	perWorker := make([][]time.Duration, concurrency)
	var wg sync.WaitGroup
	end := time.Now().Add(d)
	for w := range concurrency {
		wg.Go(func() {
			latencies := make([]time.Duration, 0, 1<<14)
			for at := time.Now(); len(latencies) == 0 || at.Before(end); {
				if err := t.do(ctx, w); err != nil {
					cancel(err)
					return
				}
				now := time.Now()
				latencies = append(latencies, now.Sub(at))
				at = now
			}
			perWorker[w] = latencies
		})
	}
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return slices.Concat(perWorker...), nil
}

// cpuTime returns the processor time that this process and pids have used.
func cpuTime(pids []int) time.Duration {
	var self unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &self)
	total := time.Duration(self.Utime.Nano() + self.Stime.Nano())
	for _, pid := range pids {
		total += processTime(pid)
	}
	return total
}

// userHZ is the unit of the times in /proc/PID/stat, per second; Linux fixes it for user space.
const userHZ = 100

func processTime(pid int) time.Duration {
	fields := node.Stat(pid)
	if len(fields) < 13 {
		return 0
	}
	utime, _ := strconv.ParseInt(fields[11], 10, 64)
	stime, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(utime+stime) * time.Second / userHZ
}

// syncTime returns the median time of a 300-byte append with fdatasync in dir.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "fdatasync")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(f.Name()); _ = f.Close() }()
	line := make([]byte, 300)
	times := make([]time.Duration, 101)
	for i := range times {
		start := time.Now()
		if _, err := f.Write(line); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
