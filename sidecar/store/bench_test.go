package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// fillWith makes a database of n keys, tagged in ways that lists select by, and opens it anew.
func fillWith(b *testing.B, n int) (*Store, []kms.KeyID) {
	b.Helper()
	dir := b.TempDir()
	s, err := Open(Options{Dir: dir, Create: true, Tenant: "default", unsynced: true})
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]kms.KeyID, n)
	for i := range ids {
		k := newKey(fmt.Sprint("Key-", i))
		k.State = []kms.KeyState{kms.Enabled, kms.Disabled}[i%2]
		k.Rotation = kms.Rotation{Enabled: true, Interval: 30, Next: k.CreatedAt.Add(time.Duration(i*7919%n) * time.Second)}
		k.Tags = []kms.Tag{
			{Key: "env", Value: []string{"dev", "prod", "test"}[i%3]}, {Key: "owner", Value: fmt.Sprint("team-", i%50)},
			{Key: "ticket", Value: fmt.Sprint("T-", i)},
		}
		ids[i] = k.ID
		create(b, s, k)
	}
	s.Close()
	s, err = Open(Options{Dir: dir, Tenant: "default"}) // not to be kept in memory until all benchmarks end
	if err != nil {
		b.Fatal(err)
	}
	return s, ids
}

// BenchmarkPages shows what a page costs with few keys and with very many: 10 keys and 1000, of all keys and by filters, at
// the beginning and at the end.
func BenchmarkPages(b *testing.B) {
	tag := func(key string, values ...string) kms.TagValues { return kms.TagValues{Key: key, Values: values} }
	filters := []struct {
		name   string
		filter kms.KeyFilter
	}{
		{"all", kms.KeyFilter{}},
		{"state", kms.KeyFilter{State: kms.Disabled}},
		{"spec-and-state", kms.KeyFilter{Spec: kms.AES256, State: kms.Disabled}},
		{"tag", kms.KeyFilter{Tags: []kms.TagValues{tag("env", "prod")}}},
		{"tag-any-value", kms.KeyFilter{Tags: []kms.TagValues{tag("ticket")}}},
		{"tag-or", kms.KeyFilter{Tags: []kms.TagValues{tag("env", "prod", "test")}}},
		{"tags-and", kms.KeyFilter{Tags: []kms.TagValues{tag("env", "prod", "test"), tag("owner"), tag("ticket")}, State: kms.Enabled}},
		{"one-key", kms.KeyFilter{Tags: []kms.TagValues{tag("ticket", "T-77")}}},
		{"name", kms.KeyFilter{Name: "key-"}},
		{"name-and-tag", kms.KeyFilter{Name: "KEY-1", Tags: []kms.TagValues{tag("env", "prod")}}},
	}
	for _, n := range []int{1_000, 10_000, 100_000} {
		s, _ := fillWith(b, n)
		for _, f := range filters {
			_, total, err := s.ListKeys(ctx, f.filter, 0, 1)
			if err != nil || total == 0 {
				b.Fatalf("%s: %d keys (%v)", f.name, total, err)
			}
			for _, limit := range []int{10, 1000} {
				for place, offset := range map[string]int{"first": 0, "last": max(0, total-limit)} {
					b.Run(fmt.Sprintf("%s/%s/limit=%d/keys=%d", f.name, place, limit, n), func(b *testing.B) {
						for b.Loop() {
							if _, _, err := s.ListKeys(ctx, f.filter, offset, limit); err != nil {
								b.Fatal(err)
							}
						}
					})
				}
			}
		}
		s.Close()
	}
}

// BenchmarkByNumberOfKeys shows what a hot key and a cold key cost with few keys and with very many, how long the start
// takes, and how much memory the process then has. -benchtime 1x is enough for the last two.
func BenchmarkByNumberOfKeys(b *testing.B) {
	asInSidecar(b)
	for _, n := range []int{1_000, 10_000, 100_000} {
		s, ids := fillWith(b, n)
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
		})
		b.Run(fmt.Sprintf("due/keys=%d", n), func(b *testing.B) {
			for b.Loop() {
				if due, _, err := s.DueKeys(ctx, time.Now(), 100); err != nil || len(due) != 100 {
					b.Fatal(len(due), err)
				}
			}
		})
		b.Run(fmt.Sprintf("tags/keys=%d", n), func(b *testing.B) {
			for b.Loop() {
				if tags, err := s.ListTags(ctx); err != nil || len(tags) != 3 {
					b.Fatal(len(tags), err)
				}
			}
		})
		b.Run(fmt.Sprintf("update/keys=%d", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				_, err := s.UpdateKey(ctx, ids[rand.IntN(n)], func(k *kms.Key) error {
					k.Tags = []kms.Tag{{Key: "env", Value: fmt.Sprint(i % 3)}}
					k.Rotation.Next = k.Rotation.Next.Add(time.Hour)
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
		s.Close()
		dir := s.opts.Dir
		s, ids = nil, nil
		b.Run(fmt.Sprintf("open/keys=%d", n), func(b *testing.B) { benchmarkOpen(b, dir) })
	}
}

// benchmarkOpen opens a database and closes it, and shows for how much memory an open one asks, at once and in the end.
func benchmarkOpen(b *testing.B, dir string) {
	for b.Loop() {
		b.StopTimer()
		debug.FreeOSMemory()
		before := anonMiB(b)
		b.StartTimer()
		s, err := Open(Options{Dir: dir, Tenant: "default"})
		b.StopTimer()
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(anonMiB(b)-before, "RssAnon-MiB")
		debug.FreeOSMemory()
		b.ReportMetric(anonMiB(b)-before, "RssAnon-settled-MiB")
		s.Close()
		b.StartTimer()
	}
}

// BenchmarkCreateKey measures what a durable state change costs.
func BenchmarkCreateKey(b *testing.B) {
	s := open(b, Options{Dir: b.TempDir()})
	for i := 0; b.Loop(); i++ {
		create(b, s, newKey(fmt.Sprint("key-", i)))
	}
}

// BenchmarkDestroyKeys destroys very many keys in one call, and shows how long one reader and one writer wait meanwhile and
// how long when nothing is destroyed, and how much memory the process has. -benchtime 1x is enough.
func BenchmarkDestroyKeys(b *testing.B) {
	asInSidecar(b)
	for _, c := range []struct{ keys, doomed int }{{1_000, 1}, {10_000, 1}, {10_000, 9_000}, {100_000, 1}, {100_000, 10_000}} {
		b.Run(fmt.Sprintf("keys=%d/doomed=%d", c.keys, c.doomed), func(b *testing.B) {
			s, ids := fillWith(b, c.keys)
			defer s.Close()
			rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			doomed, others := ids[:c.doomed], ids[c.doomed:]
			debug.FreeOSMemory()
			before := anonMiB(b)
			meanwhile := func(name string, act func()) {
				done := make(chan struct{})
				var wg sync.WaitGroup
				var reads, writes []time.Duration
				wg.Go(func() {
					reads = repeat(done, func(i int) error { _, err := s.Key(ctx, others[i*7919%len(others)]); return err })
				})
				wg.Go(func() {
					writes = repeat(done, func(i int) error {
						_, err := s.UpdateKey(ctx, others[i%len(others)], func(*kms.Key) error { return nil })
						return err
					})
				})
				act()
				close(done)
				wg.Wait()
				for what, times := range map[string][]time.Duration{"read": reads, "write": writes} {
					b.ReportMetric(times[len(times)*99/100].Seconds()*1000, name+"-"+what+"-p99-ms")
					b.ReportMetric(times[len(times)-1].Seconds()*1000, name+"-"+what+"-max-ms")
				}
			}
			b.ResetTimer()
			b.StopTimer()
			meanwhile("idle", func() { time.Sleep(2 * time.Second) })
			meanwhile("busy", func() {
				b.StartTimer()
				gone, err := s.DestroyKeys(ctx, doomed, all)
				b.StopTimer()
				if err != nil || len(gone) != c.doomed {
					b.Error(len(gone), err)
				}
			})
			b.ReportMetric(before, "RssAnon-before-MiB")
			b.ReportMetric(anonMiB(b), "RssAnon-after-MiB")
		})
	}
}

// repeat does an operation again and again until done and returns how long each took, the shortest first.
func repeat(done chan struct{}, operation func(i int) error) (took []time.Duration) {
	for i := 0; ; i++ {
		select {
		case <-done:
			slices.Sort(took)
			return took
		default:
		}
		start := time.Now()
		if err := operation(i); err != nil {
			panic(err)
		}
		took = append(took, time.Since(start))
		time.Sleep(time.Millisecond / 2) // it shall not take all of a processor
	}
}

// asInSidecar sets the collector as a sidecar does by default.
func asInSidecar(b *testing.B) {
	percent, limit := debug.SetGCPercent(300), debug.SetMemoryLimit(64<<20)
	b.Cleanup(func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) })
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
