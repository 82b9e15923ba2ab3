package driver

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// BenchmarkHop is one hop over a socket pair, both ends in this process, with a driver that does nothing: what a hop costs.
func BenchmarkHop(b *testing.B) {
	for _, concurrency := range []int{1, 8, 32} {
		b.Run(fmt.Sprint("c=", concurrency), func(b *testing.B) {
			s, _ := hop(b, echo)
			op := &Op{
				Kind: Encrypt, Key: &KeyIdentity{KeyId: make([]byte, KeyIDSize), Version: 1, Spec: AES256, Usage: EncryptDecrypt},
				Sealed: make([]byte, 140), Data: make([]byte, 32), Aad: make([]byte, 64),
			}
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range concurrency {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := Do(b.Context(), s, "tenant", op); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
