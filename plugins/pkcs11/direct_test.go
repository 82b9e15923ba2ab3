package pkcs11

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"testing"
)

func TestDirect(t *testing.T) {
	x, err := OpenDirect(settings(tokenMain, ""), []byte(testPIN))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}()
	digest := sha256.Sum256([]byte("digest"))
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for range 20 {
				plain, iv, sealed, err := x.DataKey(worker, 32)
				if err != nil {
					t.Error(err)
					return
				}
				opened, err := x.sessions[worker].open(x.aes, iv, nil, sealed)
				if err != nil || !bytes.Equal(opened, plain) || bytes.Equal(plain, make([]byte, 32)) {
					t.Errorf("data key %x opens as %x, %v", plain, opened, err)
				}
				if _, _, err := x.Encrypt(worker, plain); err != nil {
					t.Error(err)
				}
				if _, err := x.Random(worker, 32); err != nil {
					t.Error(err)
				}
				if _, err := x.SignEC(worker, digest[:]); err != nil {
					t.Error(err)
				}
			}
			if _, err := x.SignRSA(worker, digest[:]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
