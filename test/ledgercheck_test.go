package test

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// check holds a node against the ledger, and takes over what was not sure. now is the node's time.
func (l *ledger) check(t *testing.T, c *client.Client, now time.Time) {
	t.Helper()
	l.settle(t, c, now)
	keys := l.listed(t, c)
	var wg sync.WaitGroup
	for part := range slices.Chunk(l.slots, (len(l.slots)+3)/4) {
		wg.Go(func() {
			for _, s := range part {
				l.checkSlot(t, c, s, keys[s.alias], now)
			}
		})
	}
	wg.Wait()
}

// settle waits until every key is gone whose deletion is due.
func (l *ledger) settle(t *testing.T, c *client.Client, now time.Time) {
	t.Helper()
	for _, s := range l.slots {
		if s.id == "" || !l.mayBeGone(s) {
			continue
		}
		waitFor(t, "the deletion of "+s.alias, func() bool {
			k, err := c.DescribeKey(t.Context(), s.id)
			if err != nil || l.mustBeGone(s) {
				return errors.Is(err, client.ErrNotFound)
			}
			return k.State != client.PendingDeletion || k.Deletion.After(now.Add(deadline))
		})
	}
}

// listed returns all keys by alias. The lists, the counts and the quota must agree, and there may be no key that no worker
// asked for.
func (l *ledger) listed(t *testing.T, c *client.Client) map[string]*client.Key {
	t.Helper()
	keys := map[string]*client.Key{}
	total := 0
	for next := ""; ; {
		page, err := c.ListKeys(t.Context(), client.ListKeysRequest{Page: client.Page{Limit: 7, Marker: next}})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			keys[k.Alias] = &k
		}
		if total, next = page.Total, page.NextMarker; next == "" {
			break
		}
	}
	for _, alias := range slices.Sorted(maps.Keys(keys)) {
		if !slices.ContainsFunc(l.slots, func(s *slot) bool { return s.alias == alias }) {
			t.Errorf("key %s belongs to no worker", alias)
		}
	}
	count, err := c.CountKeys(t.Context())
	quotas, err2 := c.GetQuotas(t.Context())
	if err = errors.Join(err, err2); err != nil || count != len(keys) || total != len(keys) || quotas.Keys.Used != len(keys) {
		t.Errorf("%d keys are listed, the total is %d, %d are counted and %v in use (%v)", len(keys), total, count, quotas, err)
	}
	return keys
}

// checkSlot compares one key with what is known of it.
func (l *ledger) checkSlot(t *testing.T, c *client.Client, s *slot, k *client.Key, now time.Time) {
	switch {
	case k == nil && s.id == "":
		*s = slot{alias: s.alias}
		return
	case k == nil && l.mayBeGone(s):
		if _, err := c.DescribeKey(t.Context(), s.id); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("%s is not listed and still there: %v", s.alias, err)
		}
		*s = slot{alias: s.alias}
		return
	case k == nil:
		t.Errorf("key %s (%v) is lost", s.alias, s.state)
		return
	case s.id == "" && !s.unknown:
		t.Errorf("key %s was never asked for", s.alias)
		return
	case s.id == "":
		s.begin(k.ID, s.born) // it was created, and its answer was lost
	}
	rotation, err := c.GetKeyRotation(t.Context(), s.id)
	tags, err2 := c.ListKeyTags(t.Context(), s.id)
	if err := errors.Join(err, err2); err != nil {
		t.Errorf("%s: %v", s.alias, err)
		return
	}
	stage := ""
	for _, tag := range tags {
		stage += tag.Value
	}
	if k.ID != s.id || !slices.Contains(s.state, k.State) || !slices.Contains(s.rotates, rotation.Enabled) || !slices.Contains(s.stage, stage) {
		t.Errorf("%s is %s %s, rotates %v, stage %q; acknowledged was %+v", s.alias, k.ID, k.State, rotation.Enabled, stage, s)
	}
	if most := l.moved.Load() - s.born; int64(rotation.Count) > most {
		t.Errorf("%s was rotated %d times, and was due %d times at most", s.alias, rotation.Count, most)
	}
	s.state, s.rotates, s.stage = either[client.KeyState]{k.State}, either[bool]{rotation.Enabled}, either[string]{stage}
	if k.State == client.Enabled && rotation.Enabled && rotation.Interval == interval && l.moved.Load() > s.later {
		l.awaitRotation(t, c, s, now)
	}
	s.unknown = false
	l.checkTexts(t, c, s)
}

// awaitRotation waits until a key is rotated whose time came with the last move of the clock.
func (l *ledger) awaitRotation(t *testing.T, c *client.Client, s *slot, now time.Time) {
	waitFor(t, "the rotation of "+s.alias, func() bool {
		r, err := c.GetKeyRotation(t.Context(), s.id)
		return err == nil && now.Sub(r.Last) < leap/2
	})
}

// checkTexts decrypts what was ever encrypted under a key, by whatever version, as its state has it.
func (l *ledger) checkTexts(t *testing.T, c *client.Client, s *slot) {
	want := map[client.KeyState]string{client.Disabled: "KeyDisabled", client.PendingDeletion: "KeyPendingDeletion"}[s.state[0]]
	for _, text := range s.texts {
		opened, err := c.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: text.sealed})
		var refused *client.Error
		switch {
		case want != "" && (!errors.As(err, &refused) || refused.Code != want):
			t.Errorf("decryption under %s (%s): %v, want %s", s.alias, s.state[0], err, want)
		case want == "" && err != nil:
			t.Errorf("decryption under %s: %v", s.alias, err)
		case want == "" && string(opened.Plaintext) != text.plain:
			t.Errorf("%s: decrypted %q, want %q", s.alias, opened.Plaintext, text.plain)
		}
	}
}

// enableAll makes every key usable that is still there.
func (l *ledger) enableAll(t *testing.T, c *client.Client) {
	t.Helper()
	for _, s := range l.slots {
		if s.state.is(client.PendingDeletion) {
			l.cancel(t.Context(), t, c, s)
		}
		if s.state.is(client.Disabled) {
			l.enable(t.Context(), t, c, s)
		}
	}
}
