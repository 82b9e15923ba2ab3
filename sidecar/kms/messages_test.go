package kms_test

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

func number(ciphertext []byte) uint64 { return binary.BigEndian.Uint64(ciphertext[28:36]) }

// TestMessageNumbers holds that no two messages of a key have one number, not even after a restart that lost count.
func TestMessageNumbers(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	seen := make(map[uint64]bool)
	var mu sync.Mutex
	for restart := range uint64(3) {
		s := w.restart(t, kms.Limits{})
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					out, err := s.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
					if err != nil {
						t.Error(err)
						return
					}
					n := number(out.Ciphertext)
					mu.Lock()
					if seen[n] || n>>20 != restart {
						t.Errorf("number %d comes twice, or outside of block %d", n, restart)
					}
					seen[n] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	if n := w.store.reserved(t, key.ID, 1); n != 3<<20 {
		t.Errorf("%d numbers are reserved, want three blocks", n)
	}
}

// TestKeyExhausted holds that a key stops encrypting well before 2^32 messages, warns at half, and still decrypts.
func TestKeyExhausted(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	encrypt := func(s *kms.Service) ([]byte, error) {
		out, err := s.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
		if err != nil {
			return nil, err
		}
		return out.Ciphertext, nil
	}
	_, err := encrypt(w.Service)
	wantCode(t, err, "ok")
	if rec := w.audit.last(t); rec.Warning != "" {
		t.Errorf("warns at the first message: %q", rec.Warning)
	}
	if _, err := w.store.Store.ReserveMessages(admin, key.ID, 1, 1<<32-1<<28-1<<20-w.store.reserved(t, key.ID, 1)); err != nil {
		t.Fatal(err)
	}
	last := w.restart(t, kms.Limits{})
	c, err := encrypt(last)
	wantCode(t, err, "ok")
	if rec := w.audit.last(t); rec.Warning == "" {
		t.Error("does not warn in the last block")
	}
	exhausted := w.restart(t, kms.Limits{})
	for range 2 {
		_, err = encrypt(exhausted)
		wantCode(t, err, kms.CodeKeyExhausted)
	}
	_, err = exhausted.GenerateDataKey(admin, kms.DataKeyInput{KeyID: key.ID, Bytes: 16})
	wantCode(t, err, kms.CodeKeyExhausted)
	_, err = exhausted.Decrypt(admin, kms.DecryptInput{Ciphertext: c})
	wantCode(t, err, "ok")
	if got := w.store.reserved(t, key.ID, 1); got > 1<<32-1<<28+1<<20 {
		t.Errorf("refusals go on reserving: %d", got)
	}
}

// TestCleanEndWastesNoNumbers holds that a service that was closed leaves no gap, and that one which goes on after it was
// closed still gives no number twice.
func TestCleanEndWastesNoNumbers(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	encrypt := func(s *kms.Service) uint64 {
		out, err := s.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
		wantCode(t, err, "ok")
		return number(out.Ciphertext)
	}
	for want := range uint64(3) {
		s := w.restart(t, kms.Limits{})
		if n := encrypt(s); n != want {
			t.Errorf("message has number %d, want %d", n, want)
		}
		if err := s.Close(admin); err != nil {
			t.Fatal(err)
		}
	}
	closed, next := w.restart(t, kms.Limits{}), w.restart(t, kms.Limits{})
	encrypt(closed)
	if err := closed.Close(admin); err != nil {
		t.Fatal(err)
	}
	if a, b := encrypt(next), encrypt(closed); a == b {
		t.Errorf("a service that was closed and the next one both use number %d", a)
	}
	early, late := w.restart(t, kms.Limits{}), w.restart(t, kms.Limits{})
	seen := map[uint64]bool{}
	for _, s := range []*kms.Service{early, late, early} {
		n := encrypt(s)
		if seen[n] {
			t.Errorf("number %d comes twice", n)
		}
		seen[n] = true
	}
	if err := early.Close(admin); err != nil { // its block is not the last one
		t.Fatal(err)
	}
	for _, s := range []*kms.Service{early, late} {
		n := encrypt(s)
		if seen[n] {
			t.Errorf("number %d comes twice", n)
		}
		seen[n] = true
	}
}

// TestNoReservationNoMessage holds that nothing is encrypted where its number cannot be made durable.
func TestNoReservationNoMessage(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	asked := false
	w.hsm.hook = func(*answer) { asked = true }
	w.store.noReserve = errors.New("down")
	_, err := w.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
	wantCode(t, err, kms.CodeInternal)
	if asked {
		t.Error("the HSM was asked to encrypt")
	}
}

// slowStore reserves message numbers when it is let.
type slowStore struct {
	kms.Store
	asked, let chan struct{}
}

func (s *slowStore) ReserveMessages(ctx context.Context, id kms.KeyID, version uint32, n uint64) (uint64, error) {
	s.asked <- struct{}{}
	<-s.let
	return s.Store.ReserveMessages(ctx, id, version, n)
}

// TestReservationKeepsNobody holds that waiting for the reservation of another call ends with the context.
func TestReservationKeepsNobody(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	slow := &slowStore{w.store, make(chan struct{}), make(chan struct{})}
	s, err := kms.New(kms.Config{Store: slow, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	encrypt := func(ctx context.Context) error {
		_, err := s.Encrypt(ctx, kms.EncryptInput{KeyID: id, Plaintext: []byte("x")})
		return err
	}
	first := make(chan error)
	go func() { first <- encrypt(admin) }()
	<-slow.asked
	ctx, cancel := context.WithTimeout(admin, 10*time.Millisecond)
	defer cancel()
	wantCode(t, encrypt(ctx), kms.CodeDeadlineExceeded)
	close(slow.let)
	wantCode(t, <-first, "ok")
	wantCode(t, encrypt(admin), "ok")
}
