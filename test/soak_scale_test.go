//go:build soak

package test

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// fill puts keys into the database of a stopped node. Their sealed bytes open nothing, which lists do not notice.
func fill(t *testing.T, s *store.Store, from, to int, change func(i int, k *kms.Key)) {
	t.Helper()
	var wg sync.WaitGroup
	var next atomic.Int64
	next.Store(int64(from))
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < to; i = int(next.Add(1)) - 1 {
				sealed := make([]byte, 300)
				rand.Read(sealed)
				now := time.Now().UTC().Truncate(time.Millisecond)
				k := &kms.Key{
					ID: uuid.New(), Alias: fmt.Sprintf("filled-%06d", i), Spec: kms.AES256, Usage: kms.EncryptDecrypt, Origin: kms.OriginKMS,
					State: kms.Enabled, CreatedAt: now,
					Versions: []kms.KeyVersion{{Number: 1, CreatedAt: now, Sealed: sealed, Root: 1, Protection: kms.ProtectionHSM}},
				}
				change(i, k)
				if err := s.CreateKey(t.Context(), k, 1<<30); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// TestSoakPages reports what a page of list-keys and of a search by tag cost as the number of keys grows to 100,000. Neither
// may grow with it, wherever the page is.
func TestSoakPages(t *testing.T) {
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm", Mode: "via-hsmd"}
	err := node.Edit(t.Context(), o, func(config map[string]any) { config["limits"] = map[string]any{"keys": 200_000} })
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%8s", "keys")
	for _, p := range listPages {
		fmt.Fprintf(&table, " %22s", p.name)
	}
	fmt.Fprintf(&table, " %12s %12s\n", "start ms", "sidecar MiB")
	first := map[string]time.Duration{}
	for from, to := 0, 1000; to <= 100_000; from, to = to, 10*to {
		s := openStore(t, o.Dir)
		fill(t, s, from, to, func(i int, k *kms.Key) {
			k.Tags = []kms.Tag{{Key: "decade", Value: fmt.Sprint(i % 10)}, {Key: "hundred", Value: fmt.Sprint(i / 100)}}
		})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		n, err := node.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		started := time.Since(start)
		c := client.New(n.Socket)
		fmt.Fprintf(&table, "%8d", to)
		for _, p := range listPages {
			took := p50(t, 300, func(i int) error { return p.get(t.Context(), c, to, i) })
			fmt.Fprintf(&table, " %19d µs", took.Microseconds())
			if to == 1000 {
				first[p.name] = took
			} else if f := first[p.name]; took > 2*f+200*time.Microsecond {
				t.Errorf("%s: %v with %d keys, %v with 1000", p.name, took, to, f)
			}
		}
		fmt.Fprintf(&table, " %12d %12d\n", started.Milliseconds(), rss(n, "sidecar")>>20)
		c.Close()
		if err := n.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("\n%s", table.String())
}

// listPages are the lists that are measured, each at several places of the list in turn.
var listPages = []struct {
	name string
	get  func(ctx context.Context, c *client.Client, total, i int) error
}{
	{"list 100 first", func(ctx context.Context, c *client.Client, total, i int) error { return listAt(ctx, c, "", 0) }},
	{"list 100 anywhere", func(ctx context.Context, c *client.Client, total, i int) error {
		return listAt(ctx, c, "", (total-100)*(i%10)/9)
	}},
	{"list 100 one spec", func(ctx context.Context, c *client.Client, total, i int) error {
		return listAt(ctx, c, "AES_256", (total-100)*(i%10)/9)
	}},
	{"search 1 in 10", func(ctx context.Context, c *client.Client, total, i int) error {
		return search(ctx, c, (total/10-10)*(i%10)/9, client.TagValues{Key: "decade", Values: []string{"7"}})
	}},
	{"search 2 tags", func(ctx context.Context, c *client.Client, total, i int) error {
		return search(ctx, c, 0, client.TagValues{Key: "decade", Values: []string{"7"}}, client.TagValues{Key: "hundred", Values: []string{"3"}})
	}},
	{"search any value", func(ctx context.Context, c *client.Client, total, i int) error {
		return search(ctx, c, (total-10)*(i%10)/9, client.TagValues{Key: "hundred"})
	}},
}

func listAt(ctx context.Context, c *client.Client, spec string, offset int) error {
	page, err := c.ListKeys(ctx, client.ListKeysRequest{Spec: spec, Page: client.Page{Limit: 100, Marker: fmt.Sprint(offset)}})
	if err == nil && len(page.Keys) != 100 {
		err = fmt.Errorf("page of %d keys", len(page.Keys))
	}
	return err
}

func search(ctx context.Context, c *client.Client, offset int, tags ...client.TagValues) error {
	found, err := c.FindKeys(ctx, client.FindKeysRequest{Tags: tags, Page: client.Page{Limit: 10, Marker: fmt.Sprint(offset)}})
	if err == nil && len(found.Keys) != 10 {
		err = fmt.Errorf("page of %d keys", len(found.Keys))
	}
	return err
}

// TestSoakDueKeys makes 10,000 keys due at once, half to be rotated and half to be destroyed, while clients encrypt: the
// slowest hundredth of their requests takes at most 1.5 times as long as before.
func TestSoakDueKeys(t *testing.T) {
	const due = 10_000
	dir := stoppedNode(t)
	err := node.Edit(t.Context(), node.Options{Binary: binary, Dir: dir, Driver: "softhsm"}, func(config map[string]any) {
		config["limits"] = map[string]any{"keys": 2 * due}
	})
	if err != nil {
		t.Fatal(err)
	}
	s := openStore(t, dir)
	var mu sync.Mutex
	var turning []string
	at := time.Now().Add(24 * time.Hour).UTC().Truncate(time.Millisecond)
	fill(t, s, 0, due, func(i int, k *kms.Key) {
		if i%2 == 0 {
			k.State, k.DeletionAt = kms.PendingDeletion, at
		} else {
			k.Rotation = kms.Rotation{Enabled: true, Interval: 365, Next: at}
			mu.Lock()
			turning = append(turning, k.ID.String())
			mu.Unlock()
		}
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n := startClocked(t, dir)
	hot, err := n.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "hot"})
	if err != nil {
		t.Fatal(err)
	}
	measure := func() (p50, p99 time.Duration, rate float64) { return loaded(t, n.Client, hot.ID, 4, 15*time.Second) }
	measure() // warm
	idle50, idle99, idleRate := measure()
	start := time.Now()
	n.move(25 * time.Hour)
	busy50, busy99, busyRate := measure()
	left := pending(t, n.Client)
	waitForLong(t, func() bool { return pending(t, n.Client) == 0 })
	for _, id := range turning {
		waitForLong(t, func() bool {
			r, err := n.GetKeyRotation(t.Context(), id)
			return err == nil && r.Count == 1
		})
	}
	t.Logf("encrypt-data, 4 clients: idle p50 %v p99 %v %.0f/s, %d keys due p50 %v p99 %v %.0f/s (%.2f times); after 15 s %d deletions "+
		"were left, all were done in %v", idle50, idle99, idleRate, due, busy50, busy99, busyRate, float64(busy99)/float64(idle99), left, time.Since(start))
	if busy99 > idle99*3/2 {
		t.Errorf("p99 is %v with due keys and %v without", busy99, idle99)
	}
}

// loaded has clients encrypt for a while and returns their latencies and how many requests a second were answered.
func loaded(t *testing.T, c *client.Client, key string, clients int, during time.Duration) (p50, p99 time.Duration, rate float64) {
	t.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var wg sync.WaitGroup
	end := time.Now().Add(during)
	for range clients {
		wg.Go(func() {
			var took []time.Duration
			for time.Now().Before(end) {
				start := time.Now()
				if err := encrypt(t.Context(), c, key); err != nil {
					t.Error(err)
					return
				}
				took = append(took, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100], float64(len(all)) / during.Seconds()
}

// pending counts the keys that wait for their deletion.
func pending(t *testing.T, c *client.Client) int {
	t.Helper()
	page, err := c.ListKeys(t.Context(), client.ListKeysRequest{State: client.PendingDeletion, Page: client.Page{Limit: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return page.Total
}

// waitForLong polls for up to half an hour.
func waitForLong(t *testing.T, is func() bool) {
	t.Helper()
	end := time.Now().Add(30 * time.Minute)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for !is() {
		if time.Now().After(end) {
			t.Fatal("not within half an hour")
		}
		<-tick.C
	}
}
