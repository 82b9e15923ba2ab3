package sidecar

import (
	"bytes"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
)

// BenchmarkEncrypt goes from the client through socket, dialect, core, audit, Mux and driver process and back. Everything
// but the driver is in this process, so a profile shows what the sidecar and its client cost.
func BenchmarkEncrypt(b *testing.B) {
	n := newNode(b)
	c, _ := n.run()
	key := must(c.CreateKey(b.Context(), client.CreateKeyRequest{Alias: "bench"})).ID
	for name, size := range map[string]int{"32": 32, "4096": 4096} {
		b.Run(name, func(b *testing.B) {
			req := client.EncryptRequest{KeyID: key, Plaintext: bytes.Repeat([]byte("a"), size)}
			b.SetParallelism(16)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := c.Encrypt(b.Context(), req); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
