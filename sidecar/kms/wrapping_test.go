package kms_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestBadMaterial holds that whatever is wrong with material is one answer, that nothing is bound by it, and that a key is
// tried only so often.
func TestBadMaterial(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.AES256)
	p := w.parameters(t, id, kms.WrapOAEPSHA256)
	good := in(p, ours)
	sha1 := *p
	sha1.Algorithm = kms.WrapOAEPSHA1
	pkcs1 := *p
	pkcs1.Algorithm = kms.WrapPKCS1
	flipped := bytes.Clone(good.Material)
	flipped[100] ^= 1
	words := map[string]bool{}
	for name, block := range map[string][]byte{
		"none": nil, "short": good.Material[1:], "long": append(bytes.Clone(good.Material), 0), "flipped": flipped, "zero": make([]byte, 256),
		"hash": wrap(&sha1, ours), "padding": wrap(&pkcs1, ours), "31 bytes": wrap(p, ours[1:]), "33 bytes": wrap(p, append(ours, 0)),
	} {
		bad := good
		bad.Material = block
		_, err := w.ImportKeyMaterial(admin, bad)
		if !is(err, badMaterial) {
			t.Errorf("%s: %v", name, err)
		}
		words[err.Error()] = true
	}
	if len(words) != 1 {
		t.Errorf("the answers differ: %v", words)
	}
	if key := w.stored(t, id); key.State != kms.PendingImport || key.CheckValue != nil {
		t.Errorf("the key is %+v", key)
	}
	bad := good
	bad.Material = flipped
	var err error
	for n := 0; ; n++ { // after the six that the HSM has seen
		if _, err = w.ImportKeyMaterial(admin, bad); !is(err, badMaterial) {
			if n != 4 {
				t.Errorf("%d more failed", n)
			}
			break
		}
	}
	wantCode(t, err, kms.CodeBusy)
	if wait := kms.AsError(err).RetryAfter; wait <= 0 || wait > 6*time.Second {
		t.Errorf("to be tried again in %s", wait)
	}
	asked := w.hsm.imported
	_, err = w.ImportKeyMaterial(admin, good)
	wantCode(t, err, kms.CodeBusy)
	other := w.external(t, "other", kms.AES256)
	wantCode(t, w.imports(t, other, ours, time.Time{}), "ok") // which is no other key's affair
	if w.hsm.imported != asked+1 {
		t.Error("the HSM was asked though the key was out of tries")
	}
	w.clock.advance(kms.AsError(err).RetryAfter)
	_, err = w.ImportKeyMaterial(admin, good)
	wantCode(t, err, "ok")
}

// TestPool holds that wrapping keys are made ahead, 2048 bits first, and that requests take them.
func TestPool(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.external(t, "key", kms.AES256)
	var err error
	w.Service, err = kms.New(kms.Config{
		Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Clock: w.clock, Pool: map[kms.KeySpec]int{kms.RSA2048: 2},
	})
	wantCode(t, err, "ok")
	rsaKey() // so that it is not made in the time that is measured
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { w.FillPool(ctx); close(ended) }()
	made := func() []kms.KeyRef {
		w.hsm.mu.Lock()
		defer w.hsm.mu.Unlock()
		return slices.Clone(w.hsm.made)
	}
	waitFor(t, func() bool { return len(made()) == 2 })
	waitFor(t, func() bool { // put, too
		before := w.audit.outcomes(policy.OpGetImportParameters)
		w.parameters(t, id, kms.WrapOAEPSHA256)
		rec := w.audit.last(t)
		return len(before) >= 0 && slices.ContainsFunc(made()[:2], func(ref kms.KeyRef) bool { return ref.ID.String() == rec.Target })
	})
	waitFor(t, func() bool { return len(made()) >= 3 }) // and the pool is filled up
	for _, ref := range made() {
		if ref.Usage != kms.Unwrap || ref.Spec != kms.RSA2048 || ref.ID == uuid.Nil || ref.Version != 1 {
			t.Errorf("the HSM was asked for %+v", ref)
		}
	}
	cancel()
	<-ended
}

// TestPoolOfLargeKeys holds that what takes long is made only while a key waits for its material.
func TestPoolOfLargeKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{hsm: newHSM(), store: newStore(t), audit: new(fakeAudit), clock: newClock()}
		var err error
		w.Service, err = kms.New(kms.Config{
			Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test", Clock: w.clock, Pool: map[kms.KeySpec]int{kms.RSA4096: 1},
		})
		wantCode(t, err, "ok")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.FillPool(ctx)
		w.create(t, kms.CreateKeyInput{})
		synctest.Wait()
		if len(w.hsm.made) != 1 {
			t.Errorf("with no key that waits, the HSM was asked for %+v", w.hsm.made)
		}
		w.external(t, "external", kms.AES256)
		synctest.Wait()
		if n := len(w.hsm.made); n != 2 || w.hsm.made[1].Spec != kms.RSA4096 {
			t.Errorf("with a key that waits, the HSM was asked for %+v", w.hsm.made)
		}
	})
}

// waitFor polls until something has come.
func waitFor(t *testing.T, come func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !come(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come")
		}
	}
}
