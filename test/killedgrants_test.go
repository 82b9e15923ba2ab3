package test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// The grants that are made: to these users, each with one of these operations.
var (
	grantees       = []string{"anna", "bert", "cleo"}
	grantedActions = []string{"describe-key", "encrypt", "decrypt", "generate-data-key", "decrypt-data-key", "generate-mac"}
)

// granter is a client that makes and takes away grants, and what it was told of them.
type granter struct {
	name    string
	n       int
	alive   map[string]client.Grant // by name: acknowledged, and nothing since
	making  *client.Grant           // asked for, and no answer came
	ending  *client.Grant           // its end was asked for, and no answer came
	changes *atomic.Int64
}

// work makes and takes away grants until ctx ends or an answer is missing.
func (g *granter) work(ctx context.Context, t *testing.T, c *client.Client, keys []string) {
	for ctx.Err() == nil && g.making == nil && g.ending == nil {
		if len(g.alive) < 4 || len(g.alive) < 10 && rand.IntN(2) == 0 {
			g.make(ctx, t, c, keys[rand.IntN(len(keys))])
			continue
		}
		names := slices.Collect(maps.Keys(g.alive))
		g.end(ctx, t, c, g.alive[names[rand.IntN(len(names))]])
	}
}

func (g *granter) make(ctx context.Context, t *testing.T, c *client.Client, key string) {
	g.n++
	grant := client.Grant{
		KeyID: key, Name: fmt.Sprintf("%s-%d", g.name, g.n), Grantee: grantees[rand.IntN(len(grantees))],
		Operations: []string{grantedActions[rand.IntN(len(grantedActions))]},
	}
	made, err := c.CreateGrant(ctx, client.CreateGrantRequest{
		KeyID: grant.KeyID, Name: grant.Name, Grantee: grant.Grantee, Operations: grant.Operations,
	})
	switch {
	case err == nil:
		grant.ID = made.ID
		g.alive[grant.Name] = grant
		g.changes.Add(1)
	case unanswered(err):
		g.making = &grant
	default:
		t.Errorf("create grant %s: %v", grant.Name, err)
	}
}

// end revokes a grant or, as its issuer, retires it.
func (g *granter) end(ctx context.Context, t *testing.T, c *client.Client, grant client.Grant) {
	end := c.RevokeGrant
	if rand.IntN(2) == 0 {
		end = c.RetireGrant
	}
	err := end(ctx, grant.KeyID, grant.ID)
	switch {
	case err == nil:
		g.changes.Add(1)
	case unanswered(err):
		g.ending = &grant
	default:
		t.Errorf("end grant %s: %v", grant.Name, err)
	}
	delete(g.alive, grant.Name)
}

// settle takes what there is of the granter's out of stored, which must be what it was told, and where it was told nothing
// one of two.
func (g *granter) settle(t *testing.T, stored map[string]client.Grant) {
	t.Helper()
	for name, want := range g.alive {
		if got, ok := stored[name]; !ok || got.ID != want.ID || got.KeyID != want.KeyID || got.Grantee != want.Grantee || !slices.Equal(got.Operations, want.Operations) {
			t.Errorf("grant %s was acknowledged as %+v and is %+v", name, want, got)
		}
		delete(stored, name)
	}
	for _, unsure := range []*client.Grant{g.making, g.ending} {
		if unsure == nil {
			continue
		}
		if got, ok := stored[unsure.Name]; ok {
			g.alive[unsure.Name] = got
			delete(stored, unsure.Name)
		}
	}
	g.making, g.ending = nil, nil
}

// TestKilledInGrants kills -9 the sidecar while grants are made, revoked and retired under load: what was acknowledged is
// there, and decides; what was taken away does not come back.
func TestKilledInGrants(t *testing.T) {
	dir := t.TempDir()
	o := node.Options{Binary: binary, Dir: dir, Driver: "soft", Mode: "direct"}
	var principals []map[string]any
	for i, name := range grantees {
		principals = append(principals, map[string]any{"name": name, "uid": 64200 + i})
	}
	if err := node.Edit(t.Context(), o, func(config map[string]any) { config["principals"] = principals }); err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop(context.Background()) })
	c := client.New(n.Socket)
	defer c.Close()
	var keys []string
	for i := range 3 {
		key, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: fmt.Sprintf("granted-%d", i)})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key.ID)
	}
	var changes atomic.Int64
	granters := make([]*granter, workers)
	for i := range granters {
		granters[i] = &granter{name: fmt.Sprintf("granter-%d", i), alive: map[string]client.Grant{}, changes: &changes}
	}
	unsure := 0
	for range grantKills {
		var wg sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		for _, g := range granters {
			wg.Go(func() { g.work(ctx, t, c, keys) })
		}
		wg.Go(func() {
			for ctx.Err() == nil && roundTrip(ctx, c, keys[0], "load") == nil {
			}
		})
		until := changes.Load() + 20 + rand.Int64N(150)
		waitFor(t, "changes", func() bool { return t.Failed() || changes.Load() >= until })
		killOne(t, n.PID(), "sidecar")
		stop()
		wg.Wait()
		if err := n.WaitHealthy(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, g := range granters {
			if g.making != nil || g.ending != nil {
				unsure++
			}
		}
		checkGrants(t, c, keys, granters)
		if t.Failed() {
			t.FailNow()
		}
	}
	if unsure == 0 {
		t.Error("no kill met a change that was under way")
	}
	t.Logf("%d changes of grants, %d kills, %d changes without an answer", changes.Load(), grantKills, unsure)
}

// checkGrants holds what is stored, and what is decided by it, against what the granters were told.
func checkGrants(t *testing.T, c *client.Client, keys []string, granters []*granter) {
	t.Helper()
	stored := map[string]client.Grant{}
	may := map[string]bool{}
	for _, key := range keys {
		for marker := ""; ; {
			page, err := c.ListGrants(t.Context(), client.ListGrantsRequest{KeyID: key, Page: client.Page{Marker: marker}})
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range page.Grants {
				stored[g.Name] = g
				may[key+g.Grantee+g.Operations[0]] = true
			}
			if marker = page.NextMarker; marker == "" {
				break
			}
		}
	}
	for _, g := range granters {
		g.settle(t, stored)
	}
	for name, g := range stored {
		t.Errorf("grant %s was taken away, or never asked for, and is there: %+v", name, g)
	}
	for _, key := range keys {
		for _, who := range grantees {
			for _, action := range grantedActions {
				d, err := c.CanI(t.Context(), client.CanIRequest{Operation: action, Key: key, As: who})
				if err != nil || d.Allowed != may[key+who+action] {
					t.Errorf("%s may %s: %+v (%v), want %t", who, action, d, err, may[key+who+action])
				}
			}
		}
	}
}
