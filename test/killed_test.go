package test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// workers is how many clients change keys at once, each those of its own slots.
const (
	workers = 8
	slots   = 6 * workers
)

// round lets the workers change keys, calls kill once so many changes are acknowledged, and returns when no worker works
// any more.
func (l *ledger) round(t *testing.T, c *client.Client, changes int64, kill func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() { l.work(ctx, t, c, worker, workers) })
	}
	l.await(t, changes)
	kill()
	stop()
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// await waits for so many more acknowledged changes.
func (l *ledger) await(t *testing.T, changes int64) {
	t.Helper()
	until := l.acknowledged.Load() + changes
	waitFor(t, fmt.Sprintf("%d changes", changes), func() bool { return t.Failed() || l.acknowledged.Load() >= until })
}

// TestKilledInChanges kills -9 each of the processes below `keyside up` while keys are made and changed: what was
// acknowledged is there, and nothing is half made.
func TestKilledInChanges(t *testing.T) {
	n := startNode(t, "softhsm", "via-hsmd")
	c := client.New(n.Socket)
	defer c.Close()
	l := newLedger(slots)
	for i := range kills {
		role := []string{"sidecar", "hsmd", "driver", "sidecar"}[i%4]
		l.round(t, c, 20+rand.Int64N(200), func() { killOne(t, n.PID(), role) })
		if err := n.WaitHealthy(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.check(t, c, time.Now())
	}
	l.enableAll(t, c)
	l.check(t, c, time.Now())
	t.Logf("%d changes, %d kills", l.acknowledged.Load(), kills)
}

// TestKilledWhenDue kills -9 the sidecar, hsmd and the driver while keys are rotated and destroyed because their time has
// come, under load: each is done once and wholly, and every ciphertext of every version opens.
func TestKilledWhenDue(t *testing.T) {
	n := startClocked(t, stoppedNode(t))
	l := newLedger(slots)
	sealed := map[string][]byte{} // material that there was half-way
	for i := range 2 * kills {
		if i == kills {
			n.stop()
			for _, k := range storedKeys(t, n.dir) {
				for _, v := range k.Versions {
					sealed[fmt.Sprint(k.ID, "/", v.Number)] = v.Sealed
				}
			}
			n.start()
		}
		role := []string{"sidecar", "driver", "sidecar", "hsmd"}[i%4]
		l.round(t, n.Client, 20+rand.Int64N(200), func() {
			l.moving.Add(1)
			n.move(leap)
			l.moved.Add(1)
			// What is due takes the scheduler a second or so.
			l.await(t, rand.Int64N(300))
			n.kill(role)
		})
		l.check(t, n.Client, time.Now().Add(n.ahead))
	}
	l.enableAll(t, n.Client)
	l.check(t, n.Client, time.Now().Add(n.ahead))
	n.stop()
	rotated := checkVersions(t, storedKeys(t, n.dir), sealed)
	for version, file := range findSealed(t, n.dir, sealed) {
		t.Errorf("version %s was destroyed and is in %s", version, file)
	}
	t.Logf("%d changes, %d kills, %d versions of rotated keys, %d destroyed", l.acknowledged.Load(), 2*kills, rotated, len(sealed))
}

// stoppedNode makes the folder of a node in the mode via-hsmd and leaves it stopped.
func stoppedNode(t *testing.T, args ...string) (dir string) {
	t.Helper()
	n := startNode(t, "softhsm", "via-hsmd", args...)
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return n.Dir
}

// checkVersions holds that each key has a version for each rotation that was counted, takes those versions out of sealed,
// and returns how many versions rotated keys have.
func checkVersions(t *testing.T, keys []*kms.Key, sealed map[string][]byte) (rotated int) {
	t.Helper()
	for _, k := range keys {
		if len(k.Versions) != k.Rotation.Count+1 || int(k.Current().Number) != len(k.Versions) {
			t.Errorf("%s has %d versions, the last is %d, after %d rotations", k.Alias, len(k.Versions), k.Current().Number, k.Rotation.Count)
		}
		for _, v := range k.Versions {
			delete(sealed, fmt.Sprint(k.ID, "/", v.Number))
		}
		if k.Rotation.Count > 0 {
			rotated += len(k.Versions)
		}
	}
	if rotated == 0 || len(sealed) == 0 {
		t.Errorf("rotated keys have %d versions, and %d were destroyed: nothing was tested", rotated, len(sealed))
	}
	return rotated
}

// storedKeys reads the database of a stopped node, sealed bytes and all.
func storedKeys(t *testing.T, dir string) []*kms.Key {
	t.Helper()
	s := openStore(t, dir)
	defer func() { _ = s.Close() }()
	listed, _, err := s.ListKeys(t.Context(), kms.KeyFilter{}, 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]*kms.Key, len(listed))
	for i, k := range listed {
		if keys[i], err = s.Key(t.Context(), k.ID); err != nil { // lists come without sealed bytes
			t.Fatal(err)
		}
	}
	return keys
}

func openStore(t *testing.T, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(store.Options{Dir: filepath.Join(dir, "db"), Tenant: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
