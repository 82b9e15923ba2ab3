//go:build soak

package test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// TestSoakManyKeys makes 20,000 keys and reports, as their number grows, what describe, encrypt with a hot key and
// encrypt with a cold key cost, and what memory the daemons hold.
func TestSoakManyKeys(t *testing.T) {
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm"}
	ctx := t.Context()
	if err := node.Edit(ctx, o, func(config map[string]any) { config["limits"] = map[string]any{"keys": 30000} }); err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Stop(context.WithoutCancel(ctx)) }()
	c := client.New(n.Socket)
	defer c.Close()
	var table strings.Builder
	fmt.Fprintf(&table, "%8s %14s %14s %14s %14s %12s\n", "keys", "describe µs", "hot enc µs", "cold enc µs", "sidecar MiB", "hsmd MiB")
	var keys []string
	first := map[string]time.Duration{}
	for _, total := range []int{100, 1000, 5000, 10000, 20000} {
		keys = append(keys, makeKeys(t, c, len(keys), total)...)
		hot := keys[0]
		row := map[string]time.Duration{
			"describe": p50(t, 500, func(i int) error { _, err := c.DescribeKey(ctx, hot); return err }),
			"hot":      p50(t, 500, func(i int) error { return encrypt(ctx, c, hot) }),
			"cold":     p50(t, min(500, total), func(i int) error { return encrypt(ctx, c, keys[i*(total/min(500, total))]) }),
		}
		if total == 10000 {
			load(t, c, keys, 100_000)
		}
		sidecar, hsmd := rss(n, "sidecar"), rss(n, "hsmd")
		fmt.Fprintf(&table, "%8d %14d %14d %14d %14d %12d\n", total, row["describe"].Microseconds(), row["hot"].Microseconds(),
			row["cold"].Microseconds(), sidecar>>20, hsmd>>20)
		if sidecar > 80<<20 || hsmd > 40<<20 {
			t.Errorf("at %d keys: RssAnon sidecar %d MiB, hsmd %d MiB; the bounds are 80 and 40", total, sidecar>>20, hsmd>>20)
		}
		for what, took := range row {
			if total == 1000 {
				first[what] = took
			} else if f := first[what]; f > 0 && took > 3*f {
				t.Errorf("%s: %v at %d keys, %v at 1000: grows with the number of keys", what, took, total, f)
			}
		}
	}
	t.Logf("\n%s", table.String())
}

func makeKeys(t *testing.T, c *client.Client, from, to int) []string {
	keys := make([]string, to-from)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < len(keys); i += 8 {
				key, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: fmt.Sprintf("soak-%d", from+i)})
				if err != nil {
					t.Errorf("key %d: %v", from+i, err)
					return
				}
				keys[i] = key.ID
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return keys
}

func load(t *testing.T, c *client.Client, keys []string, operations int) {
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < operations; i += 16 {
				if err := encrypt(t.Context(), c, keys[i%len(keys)]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func encrypt(ctx context.Context, c *client.Client, key string) error {
	_, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: key, Plaintext: []byte("thirty-two bytes of plain text..")})
	return err
}

func p50(t *testing.T, n int, op func(i int) error) time.Duration {
	took := make([]time.Duration, n)
	for i := range took {
		start := time.Now()
		if err := op(i); err != nil {
			t.Fatal(err)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took[n/2]
}

func rss(n *node.Node, role string) (total int64) {
	for _, pid := range n.Processes(role) {
		total += node.RSSAnon(pid)
	}
	return total
}
