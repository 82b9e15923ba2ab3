//go:build soak

package test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestSoakBackup backs up 100,000 keys while clients encrypt: the slowest hundredth of their requests takes at most 1.5 times as long as
// without, and the sidecar needs no more memory than for other work.
func TestSoakBackup(t *testing.T) {
	const keys = 100_000
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm", Mode: "via-hsmd"}
	if err := node.Edit(t.Context(), o, func(config map[string]any) { config["limits"] = map[string]any{"keys": 2 * keys} }); err != nil {
		t.Fatal(err)
	}
	s := openStore(t, o.Dir)
	fill(t, s, 0, keys, func(int, *kms.Key) {})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Stop(context.WithoutCancel(t.Context())) }()
	c := client.New(n.Socket)
	defer c.Close()
	hot, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "hot"})
	if err != nil {
		t.Fatal(err)
	}
	const clients, during = 4, 10 * time.Second
	loaded(t, c, hot.ID, clients, during) // warm
	b := &backupLoop{t: t, c: c, n: n}
	var ratios []float64
	for range 3 { // pairs, against what else the machine does
		_, quiet, _ := loaded(t, c, hot.ID, clients, during)
		stop := b.start()
		_, busy, rate := loaded(t, c, hot.ID, clients, during)
		stop()
		ratios = append(ratios, float64(busy)/float64(quiet))
		t.Logf("encrypt, %d clients: p99 quiet %v, during backups %v (%.2f times), %.0f/s", clients, quiet, busy, ratios[len(ratios)-1], rate)
	}
	slices.Sort(ratios)
	t.Logf("%d backups of %d MiB in %v each; RssAnon of the sidecar %d MiB before, %d MiB at most", b.done.Load(), b.size.Load()>>20,
		(time.Duration(b.took.Load()) / time.Duration(max(1, b.done.Load()))).Round(time.Millisecond), b.before>>20, b.most.Load()>>20)
	if ratios[1] > 1.5 {
		t.Errorf("p99 during a backup is %.2f times that without", ratios[1])
	}
	if grown := b.most.Load() - b.before; grown > 32<<20 {
		t.Errorf("the sidecar needs %d MiB more during a backup", grown>>20)
	}
}

// backupLoop makes backups one after the other, and watches the sidecar's memory.
type backupLoop struct {
	t                      *testing.T
	c                      *client.Client
	n                      *node.Node
	before                 int64
	most, done, size, took atomic.Int64
}

// start begins to make backups. The returned function ends the one in progress.
func (b *backupLoop) start() (stop func()) {
	b.before = max(b.before, rss(b.n, "sidecar"))
	ctx, cancel := context.WithCancel(b.t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		for ctx.Err() == nil {
			began := time.Now()
			var size int64
			err := b.c.CreateBackup(ctx, func(r io.Reader) (err error) { size, err = io.Copy(io.Discard, r); return err })
			if errors.Is(err, context.Canceled) {
				return
			}
			if err != nil {
				b.t.Error(err)
				return
			}
			b.done.Add(1)
			b.took.Add(int64(time.Since(began)))
			b.size.Store(size)
		}
	})
	work.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				b.most.Store(max(b.most.Load(), rss(b.n, "sidecar")))
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		work.Wait()
	}
}
