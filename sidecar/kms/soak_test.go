//go:build soak

package kms_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// TestSoakScheduler holds that 10,000 keys that are due at once, half to be destroyed and half to be rotated, do not
// delay requests: their 99th percentile stays within 1.5 times of what it is without. The scheduler runs every other
// two seconds, so that whatever else the machine does falls on both. Store and audit log are the real ones, on disk.
func TestSoakScheduler(t *testing.T) {
	const due, clients, pause, turn = 10_000, 8, 5 * time.Millisecond, 2 * time.Second
	log := slog.New(slog.DiscardHandler)
	db, err := store.Open(store.Options{Dir: t.TempDir(), Create: true, Tenant: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	records, err := audit.Open(audit.Options{Dir: t.TempDir(), Sync: true, Tenant: "test", Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	hsm := newHSM()
	s, err := kms.New(kms.Config{
		Store: db, HSM: hsm, Auditor: records, Tenant: "test", Limits: kms.Limits{Keys: due + 1}, Logger: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	hot, err := s.CreateKey(admin, kms.CreateKeyInput{Alias: "hot"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range due {
		makeDue(t, hsm, db, i)
	}
	var mu sync.Mutex
	var busy bool
	latencies := map[bool][]time.Duration{}
	ctx, cancel := context.WithCancel(admin)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for ctx.Err() == nil {
				start := time.Now()
				if _, err := s.Encrypt(admin, kms.EncryptInput{KeyID: hot.ID, Plaintext: []byte("secret")}); err != nil {
					t.Error(err)
					return
				}
				took := time.Since(start)
				mu.Lock()
				latencies[busy] = append(latencies[busy], took)
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	phase := func(now bool, do func()) {
		mu.Lock()
		busy = now
		mu.Unlock()
		do()
	}
	start, left := time.Now(), due
	var working time.Duration
	for left > 0 && time.Since(start) < 20*time.Minute {
		phase(false, func() { time.Sleep(turn) })
		phase(true, func() {
			until, stop := context.WithTimeout(admin, turn)
			defer stop()
			s.Schedule(until)
		})
		working += turn
		ids, _, err := db.DueKeys(admin, time.Now(), due)
		if err != nil {
			t.Fatal(err)
		}
		left = len(ids)
	}
	cancel()
	wg.Wait()
	if left > 0 {
		t.Errorf("%d keys are still due", left)
	}
	idle, under := percentiles(latencies[false]), percentiles(latencies[true])
	t.Logf("%d keys in %s; requests without the scheduler %v, with it %v (median, 99%%, 99.9%%)", due, working, idle, under)
	if under[1] > idle[1]*3/2 {
		t.Errorf("the 99th percentile goes from %s to %s", idle[1], under[1])
	}
}

// makeDue makes a key that is due now, in one transaction.
func makeDue(t *testing.T, hsm *fakeHSM, db *store.Store, i int) {
	t.Helper()
	past := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	key := &kms.Key{
		ID: uuid.New(), Alias: fmt.Sprint("due-", i), Spec: kms.AES256, Usage: kms.EncryptDecrypt, Origin: kms.OriginKMS,
		State: kms.Enabled, CreatedAt: past, Rotation: kms.Rotation{Enabled: true, Interval: 30, Next: past},
	}
	if i%2 == 0 {
		key.State, key.DeletionAt, key.Rotation = kms.PendingDeletion, past, kms.Rotation{}
	}
	made, err := hsm.MakeKey(admin, kms.KeyRef{ID: key.ID, Version: 1, Spec: key.Spec, Usage: key.Usage})
	if err != nil {
		t.Fatal(err)
	}
	key.Versions = []kms.KeyVersion{{Number: 1, CreatedAt: past, Sealed: made.Sealed, Root: 1, Protection: made.Protection}}
	if err := db.CreateKey(admin, key, 1<<30); err != nil {
		t.Fatal(err)
	}
}

// percentiles returns the median, the 99th and the 99.9th percentile.
func percentiles(d []time.Duration) [3]time.Duration {
	slices.Sort(d)
	at := func(share float64) time.Duration { return d[int(share*float64(len(d)-1))].Round(10 * time.Microsecond) }
	return [3]time.Duration{at(0.5), at(0.99), at(0.999)}
}
