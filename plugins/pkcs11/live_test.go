package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
)

// fakeHSM counts what liveKeys loads and destroys.
type fakeHSM struct {
	mu        sync.Mutex
	loads     map[string]int
	destroyed map[string]int
	fail      error
}

func fakeLive(limit int) (*liveKeys, *fakeHSM) {
	h := &fakeHSM{loads: map[string]int{}, destroyed: map[string]int{}}
	return newLiveKeys(limit, func(k *liveKey) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.loads[k.id.sealed]++
		return h.fail
	}, func(k *liveKey) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.destroyed[k.id.sealed]++
	}), h
}

var anyKey = &driver.KeyIdentity{KeyId: []byte("0123456789abcdef"), Version: 1, Spec: driver.AES256, Usage: driver.EncryptDecrypt}

func mustGet(t *testing.T, l *liveKeys, sealed string) *liveKey {
	t.Helper()
	k, err := l.get(context.Background(), "t", []byte(sealed), anyKey)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestLiveKeysEvictsTheOldest(t *testing.T) {
	l, h := fakeLive(2)
	for _, sealed := range []string{"a", "b", "a", "c"} {
		l.put(mustGet(t, l, sealed))
	}
	if h.destroyed["b"] != 1 || h.destroyed["a"] != 0 || l.count() != 2 {
		t.Errorf("destroyed %v, %d live; want b gone", h.destroyed, l.count())
	}
	l.put(mustGet(t, l, "a"))
	if h.loads["a"] != 1 {
		t.Errorf("a was loaded %d times", h.loads["a"])
	}
}

func TestLiveKeysKeepsWhatIsInUse(t *testing.T) {
	l, h := fakeLive(1)
	a := mustGet(t, l, "a")
	l.put(mustGet(t, l, "b"))
	if h.destroyed["a"] != 0 {
		t.Fatal("a key in use was destroyed")
	}
	l.put(a)
	if h.destroyed["a"] != 1 {
		t.Error("an evicted key stayed in the hsm after its last use")
	}
}

func TestLiveKeysForgets(t *testing.T) {
	l, h := fakeLive(4)
	l.put(mustGet(t, l, "a"))
	l.forget("t", []byte("a"))
	l.forget("t", []byte("a"))
	if h.destroyed["a"] != 1 || l.count() != 0 {
		t.Errorf("destroyed %v, %d live", h.destroyed, l.count())
	}
}

func TestLiveKeysDestroysNoVoidHandle(t *testing.T) {
	l, h := fakeLive(4)
	a := mustGet(t, l, "a")
	l.put(mustGet(t, l, "b"))
	l.lostAll() // another object may have these handles now
	l.put(a)
	if len(h.destroyed) != 0 || l.count() != 0 {
		t.Errorf("destroyed %v, %d live", h.destroyed, l.count())
	}
}

func TestLiveKeysLoadsOnce(t *testing.T) {
	l, h := fakeLive(4)
	inside, proceed := make(chan struct{}), make(chan struct{})
	load := l.load
	l.load = func(k *liveKey) error {
		close(inside)
		<-proceed
		return load(k)
	}
	var wg sync.WaitGroup
	var got atomic.Int32
	use := func() {
		if k, err := l.get(context.Background(), "t", []byte("a"), anyKey); err == nil {
			got.Add(1)
			l.put(k)
		}
	}
	wg.Go(use)
	<-inside
	for range 8 {
		wg.Go(use)
	}
	close(proceed)
	wg.Wait()
	if h.loads["a"] != 1 || got.Load() != 9 {
		t.Errorf("%d loads for %d users", h.loads["a"], got.Load())
	}
}

func TestLiveKeysFailedLoad(t *testing.T) {
	l, h := fakeLive(4)
	h.fail = errors.New("no")
	if _, err := l.get(context.Background(), "t", []byte("a"), anyKey); !errors.Is(err, h.fail) {
		t.Errorf("got %v", err)
	}
	h.fail = nil
	l.put(mustGet(t, l, "a"))
	if h.loads["a"] != 2 || len(h.destroyed) != 0 {
		t.Errorf("loads %v, destroyed %v", h.loads, h.destroyed)
	}
}

func TestLiveKeysChecksIdentityOfACachedKey(t *testing.T) {
	l, _ := fakeLive(4)
	l.put(mustGet(t, l, "a"))
	for name, id := range map[string]*driver.KeyIdentity{
		"id":      {KeyId: []byte("another key's id"), Version: 1, Spec: driver.AES256, Usage: driver.EncryptDecrypt},
		"version": {KeyId: anyKey.KeyId, Version: 2, Spec: driver.AES256, Usage: driver.EncryptDecrypt},
		"spec":    {KeyId: anyKey.KeyId, Version: 1, Spec: driver.AES128, Usage: driver.EncryptDecrypt},
		"usage":   {KeyId: anyKey.KeyId, Version: 1, Spec: driver.AES256, Usage: driver.Unwrap},
	} {
		if _, err := l.get(context.Background(), "t", []byte("a"), id); driver.CodeOf(err) != driver.SealInvalid {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestLiveKeysUnderLoad(t *testing.T) {
	l, h := fakeLive(3)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				if k, err := l.get(context.Background(), "t", fmt.Append(nil, (n*7+i)%10), anyKey); err == nil {
					if n%50 == 0 {
						l.makeRoom()
					}
					l.put(k)
				}
			}
		})
	}
	wg.Wait()
	loads, destroyed := 0, 0
	for s := range h.loads {
		loads += h.loads[s]
		destroyed += h.destroyed[s]
	}
	if loads-destroyed != l.count() || l.count() > 3 {
		t.Errorf("%d loads, %d destroyed, %d live", loads, destroyed, l.count())
	}
}
