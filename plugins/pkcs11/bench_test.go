package pkcs11

import (
	"context"
	"crypto/sha256"
	"testing"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// BenchmarkExecute and BenchmarkDirect do the same work: through the driver, and with the bare C calls.
func BenchmarkExecute(b *testing.B) {
	d := tenanted(b, "bench", "")
	digest := sha256.Sum256([]byte("digest"))
	aesID, aesKey := newKey(b, d, "bench", driver.AES256)
	rsaID, rsaKey := newKey(b, d, "bench", driver.RSA2048)
	ecID, ecKey := newKey(b, d, "bench", driver.ECP256)
	ops := map[string]*driver.Op{
		"encrypt-32":    {Kind: driver.Encrypt, Key: aesID, Sealed: aesKey.Sealed, Data: make([]byte, 32)},
		"encrypt-4096":  {Kind: driver.Encrypt, Key: aesID, Sealed: aesKey.Sealed, Data: make([]byte, 4096)},
		"datakey-32":    {Kind: driver.DataKey, Key: aesID, Sealed: aesKey.Sealed, Length: 32},
		"random-32":     {Kind: driver.Random, Length: 32},
		"sign-rsa-2048": {Kind: driver.Sign, Key: rsaID, Sealed: rsaKey.Sealed, Algorithm: driver.PKCS1v15SHA256, Data: digest[:]},
		"sign-ec-p256":  {Kind: driver.Sign, Key: ecID, Sealed: ecKey.Sealed, Algorithm: driver.ECDSASHA256, Data: digest[:]},
		"tenant-mac":    {Kind: driver.TenantMAC, Data: digest[:]},
	}
	for name, op := range ops {
		b.Run(name, func(b *testing.B) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
			defer cancel()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Execute(ctx, "bench", op); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("encrypt-32-parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := d.Execute(context.Background(), "bench", ops["encrypt-32"]); err != nil {
					b.Error(err)
				}
			}
		})
	})
	b.Run("unseal-cold", func(b *testing.B) {
		for b.Loop() {
			d.live.forget("bench", aesKey.Sealed)
			if _, err := d.Execute(context.Background(), "bench", ops["encrypt-32"]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDirect(b *testing.B) {
	x, err := OpenDirect(settings(tokenMain, ""), []byte(testPIN))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = x.Close() })
	digest := sha256.Sum256([]byte("digest"))
	short, long := make([]byte, 32), make([]byte, 4096)
	ops := map[string]func() error{
		"encrypt-32":    func() error { _, _, err := x.Encrypt(0, short); return err },
		"encrypt-4096":  func() error { _, _, err := x.Encrypt(0, long); return err },
		"datakey-32":    func() error { _, _, _, err := x.DataKey(0, 32); return err },
		"random-32":     func() error { _, err := x.Random(0, 32); return err },
		"sign-rsa-2048": func() error { _, err := x.SignRSA(0, digest[:]); return err },
		"sign-ec-p256":  func() error { _, err := x.SignEC(0, digest[:]); return err },
	}
	for name, op := range ops {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := op(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkImport imports an AES key under RSA-2048, and beside it does the one C_UnwrapKey that this takes at least.
func BenchmarkImport(b *testing.B) {
	d := tenanted(b, "bench-import", "")
	i := newImporter(b, d, "bench-import", driver.RSA2048)
	for _, a := range []driver.Algorithm{driver.OAEPSHA1, driver.OAEPSHA256, driver.PKCS1v15} {
		req := i.request(driver.AES256, driver.EncryptDecrypt, a, i.block(a, make([]byte, 32)), nil)
		b.Run("import-"+a.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := i.do(req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("unwrap", func(b *testing.B) {
		block := i.block(driver.OAEPSHA1, make([]byte, 32))
		_, err := control(context.Background(), d, "bench-import", nil, func(s *session, k *tenantKeys) (handle, error) {
			wrapping, _, err := d.unsealWorking(s, k, "bench-import", i.wrapping, i.sealed)
			if err != nil {
				return 0, err
			}
			template := specOf(driver.AES256).template(uses{}, false, inSession())
			for b.Loop() {
				h, err := s.unwrap(rsaBlocks[driver.OAEPSHA1], wrapping, block, template)
				if err != nil {
					return 0, err
				}
				if err := s.destroy(h); err != nil {
					return 0, err
				}
			}
			return 0, s.destroy(wrapping)
		})
		if err != nil {
			b.Fatal(err)
		}
	})
}

// BenchmarkWrappingKey makes pairs for imports; a service makes them ahead.
func BenchmarkWrappingKey(b *testing.B) {
	d := tenanted(b, "bench-wrapping", "")
	for _, spec := range []driver.KeySpec{driver.RSA2048, driver.RSA3072, driver.RSA4096} {
		b.Run(spec.String(), func(b *testing.B) {
			for b.Loop() {
				newImporter(b, d, "bench-wrapping", spec)
			}
		})
	}
}
