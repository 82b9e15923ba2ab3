package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// fillWith makes a database of n keys and opens it anew.
func fillWith(b *testing.B, n int) (*Store, []kms.KeyID) {
	b.Helper()
	dir := b.TempDir()
	s := open(b, Options{Dir: dir, unsynced: true})
	ids := make([]kms.KeyID, n)
	for i := range ids {
		k := newKey(fmt.Sprint("key-", i))
		k.State = []kms.KeyState{kms.Enabled, kms.Disabled}[i%2]
		ids[i] = k.ID
		create(b, s, k)
	}
	s.Close()
	return open(b, Options{Dir: dir}), ids
}

// BenchmarkByNumberOfKeys shows what a page, a hot key and a cold key cost with few keys and with very many, how long
// the start takes, and how much memory the process then has. -benchtime 1x is enough for the last two.
func BenchmarkByNumberOfKeys(b *testing.B) {
	for _, n := range []int{1_000, 20_000, 100_000} {
		s, ids := fillWith(b, n)
		page := func(filter kms.KeyFilter, offset int) func(*testing.B) {
			return func(b *testing.B) {
				for b.Loop() {
					if _, _, err := s.ListKeys(ctx, filter, offset, 100); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
		b.Run(fmt.Sprintf("first-page/keys=%d", n), page(kms.KeyFilter{}, 0))
		b.Run(fmt.Sprintf("last-page/keys=%d", n), page(kms.KeyFilter{}, n-100))
		b.Run(fmt.Sprintf("filtered-page/keys=%d", n), page(kms.KeyFilter{State: kms.Disabled}, n/2-100))
		b.Run(fmt.Sprintf("hot-key/keys=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Key(ctx, ids[n/2]); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("random-key/keys=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Key(ctx, ids[rand.IntN(n)]); err != nil {
					b.Fatal(err)
				}
			}
			debug.FreeOSMemory()
			b.ReportMetric(anonMiB(b), "RssAnon-MiB")
		})
		s.Close()
		b.Run(fmt.Sprintf("open/keys=%d", n), func(b *testing.B) {
			for b.Loop() {
				if err := open(b, Options{Dir: s.opts.Dir}).Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCreateKey measures what a durable state change costs.
func BenchmarkCreateKey(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	for i := 0; b.Loop(); i++ {
		create(b, s, newKey(fmt.Sprint("key-", i)))
	}
}

func anonMiB(b *testing.B) float64 {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "RssAnon:")
	var kib float64
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatal(err)
	}
	return kib / 1024
}

// BenchmarkDestroyKeys destroys very many keys in one call and shows how long others waited meanwhile, and for how much
// memory it asked. -benchtime 1x is enough.
func BenchmarkDestroyKeys(b *testing.B) {
	asInSidecar(b)
	for _, c := range []struct{ keys, doomed int }{{1_000, 1}, {10_000, 1}, {10_000, 9_000}, {100_000, 1}, {100_000, 10_000}} {
		b.Run(fmt.Sprintf("keys=%d/doomed=%d", c.keys, c.doomed), func(b *testing.B) {
			s, ids := fillWith(b, c.keys)
			rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			doomed, others := ids[:c.doomed], ids[c.doomed:]
			debug.FreeOSMemory()
			before := anonMiB(b)
			done := make(chan struct{})
			var wg sync.WaitGroup
			var reads, writes, memory float64
			wg.Go(func() {
				reads = longest(done, func(i int) error { _, err := s.Key(ctx, others[i*7919%len(others)]); return err })
			})
			wg.Go(func() {
				writes = longest(done, func(i int) error {
					_, err := s.UpdateKey(ctx, others[i%len(others)], func(*kms.Key) error { return nil })
					return err
				})
			})
			wg.Go(func() {
				longest(done, func(int) error { time.Sleep(5 * time.Millisecond); memory = max(memory, anonMiB(b)); return nil })
			})
			b.ResetTimer()
			if gone, err := s.DestroyKeys(ctx, doomed, all); err != nil || len(gone) != c.doomed {
				b.Fatal(len(gone), err)
			}
			b.StopTimer()
			close(done)
			wg.Wait()
			b.ReportMetric(reads, "longest-read-ms")
			b.ReportMetric(writes, "longest-write-ms")
			b.ReportMetric(before, "RssAnon-before-MiB")
			b.ReportMetric(memory, "RssAnon-peak-MiB")
		})
	}
}

// asInSidecar sets the collector as a sidecar does by default.
func asInSidecar(b *testing.B) {
	percent, limit := debug.SetGCPercent(300), debug.SetMemoryLimit(64<<20)
	b.Cleanup(func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) })
}

// longest repeats an operation until done and returns the longest time that one took, in milliseconds.
func longest(done chan struct{}, operation func(i int) error) (ms float64) {
	for i := 0; ; i++ {
		select {
		case <-done:
			return ms
		default:
		}
		start := time.Now()
		if err := operation(i); err != nil {
			panic(err)
		}
		ms = max(ms, float64(time.Since(start).Microseconds())/1000)
	}
}
