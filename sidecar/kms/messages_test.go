package kms_test

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
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
					if seen[n] || n>>10 != restart {
						t.Errorf("number %d comes twice, or outside of block %d", n, restart)
					}
					seen[n] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	if n := w.store.reserved(t, key.ID, 1); n != 3<<10 {
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
	if _, err := w.store.Store.ReserveMessages(admin, key.ID, 1, 1<<32-1<<28-1<<10-w.store.reserved(t, key.ID, 1)); err != nil {
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
	if got := w.store.reserved(t, key.ID, 1); got > 1<<32-1<<28+1<<10 {
		t.Errorf("refusals go on reserving: %d", got)
	}
}

// TestCrashesWasteFewNumbers holds that 4,000 crashes, each after a few messages, leave a key nearly all of its messages, and that no
// number comes twice.
func TestCrashesWasteFewNumbers(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{})
	seen := map[uint64]bool{}
	for range 4000 {
		s := w.restart(t, kms.Limits{}) // the one before is not closed
		for range 3 {
			out, err := s.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")})
			if wantCode(t, err, "ok"); seen[number(out.Ciphertext)] {
				t.Fatalf("number %d comes twice", number(out.Ciphertext))
			}
			seen[number(out.Ciphertext)] = true
		}
	}
	if n := w.store.reserved(t, key.ID, 1); n > 4000<<10 {
		t.Errorf("%d numbers are gone", n)
	}
}

// TestBlocksGrow holds that a process reserves twice as many numbers each time, up to a limit, and begins small again.
func TestBlocksGrow(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	counted := &countingStore{Store: w.store}
	key := w.create(t, kms.CreateKeyInput{})
	for _, want := range [][]uint64{{1 << 10, 1 << 11, 1 << 12, 1 << 13}, {1 << 10}} {
		s, err := kms.New(kms.Config{Store: counted, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Clock: w.clock})
		if err != nil {
			t.Fatal(err)
		}
		counted.blocks = nil
		for range want[len(want)-1] {
			if _, err := s.Encrypt(admin, kms.EncryptInput{KeyID: key.ID, Plaintext: []byte("x")}); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(counted.blocks, want) {
			t.Errorf("blocks of %d, want %d", counted.blocks, want)
		}
	}
}

// countingStore keeps the sizes of the blocks that are reserved.
type countingStore struct {
	kms.Store
	blocks []uint64
}

func (c *countingStore) ReserveMessages(ctx context.Context, id kms.KeyID, version uint32, n uint64) (uint64, error) {
	c.blocks = append(c.blocks, n)
	return c.Store.ReserveMessages(ctx, id, version, n)
}

// TestMessagesLeft holds what is said of the messages that keys can still encrypt: of each, and of the one with the fewest.
func TestMessagesLeft(t *testing.T) {
	const most = 1<<32 - 1<<28
	w := newWorld(t, kms.Limits{})
	left := func(key *kms.Key) uint64 {
		t.Helper()
		f, err := w.KeyFacts(admin, w.stored(t, key.ID))
		if err != nil || f.MessagesLeft == nil {
			t.Fatalf("%+v (%v)", f, err)
		}
		return *f.MessagesLeft
	}
	fewest := func() uint64 {
		t.Helper()
		n, err := w.FewestMessagesLeft(admin)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	key, other := w.create(t, kms.CreateKeyInput{Alias: "key"}), w.create(t, kms.CreateKeyInput{Alias: "other"})
	if left(key) != most || fewest() != most {
		t.Errorf("unused: %d and %d left", left(key), fewest())
	}
	w.encrypt(t, key.ID)
	w.encrypt(t, key.ID)
	if left(key) != most-2 || left(other) != most || fewest() != most-2 {
		t.Errorf("after two messages: %d, %d and %d left", left(key), left(other), fewest())
	}
	w.Service = w.restart(t, kms.Limits{}) // which loses the rest of the block
	if left(key) != most-1<<10 {
		t.Errorf("after a crash: %d left", left(key))
	}
	if _, err := w.store.Store.ReserveMessages(admin, other.ID, 1, most+1); err != nil {
		t.Fatal(err)
	}
	if left(other) != 0 || fewest() != 0 {
		t.Errorf("exhausted: %d and %d left", left(other), fewest())
	}
	w.set(other.ID, func(k *kms.Key) { // a new version begins anew
		k.Versions = append(slices.Clone(k.Versions), kms.KeyVersion{Number: 2, Sealed: []byte("x"), Protection: kms.ProtectionHSM})
	})
	if left(other) != most || fewest() != most-1<<10 {
		t.Errorf("rotated: %d and %d left", left(other), fewest())
	}
	if f, err := w.KeyFacts(admin, w.create(t, kms.CreateKeyInput{Spec: kms.ECP256})); err != nil || f.MessagesLeft != nil {
		t.Errorf("a key that signs has %v messages left (%v)", f.MessagesLeft, err)
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
