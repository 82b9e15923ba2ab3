package store

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strings"
	"testing"

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
