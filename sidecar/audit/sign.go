package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A checkpoint is signed soon after new records, but at intervals that do not load the HSM.
const (
	checkpointLook    = time.Second      // between two checks whether one is due
	checkpointAge     = 10 * time.Second // after the last one, if any record is not covered
	checkpointRecords = 10_000           // records without a checkpoint that make one due at once
	signTime          = 5 * time.Second  // timeout of one signature
	signRest          = 30 * time.Second // longest pause after a failure
)

// SignCheckpoints starts to sign checkpoints in the background with the tenant's audit key; public is its public half, DER
// SubjectPublicKeyInfo. No operation waits for a signature: while the HSM cannot sign, records are still written, and a later
// checkpoint covers them.
func (l *Log) SignCheckpoints(public []byte, sign SignFunc) error {
	if l.opts.Heads == nil {
		return errors.New("checkpoints need a store of heads")
	}
	v, err := newVerifier(originOf(l.opts.Tenant, l.present().ID), public)
	if err != nil {
		return err
	}
	if err := l.trust(v.String()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.checkpoints = &checkpoints{log: l, key: v, sign: sign, cancel: cancel, at: l.opts.Clock.Now()}
	l.figures.checkpoint.Store(l.checkpoints.at.UnixNano())
	l.checkpoints.work.Go(func() { l.checkpoints.run(ctx) })
	return nil
}

// trust adds a verifier key to the anchor. A change of the key is recorded.
func (l *Log) trust(key string) error {
	l.heads.Lock()
	known, first := slices.Contains(l.anchor.Keys, key), len(l.anchor.Keys) == 0
	if !known {
		l.anchor.Keys, l.anchored = append(slices.Clone(l.anchor.Keys), key), false
	}
	l.heads.Unlock()
	if known {
		return nil
	}
	if !first {
		l.opts.Logger.Warn("the audit key of the tenant has changed", "key", key)
		l.writing.Lock()
		err := l.recordEvent(OpKeyChanged, "the tenant's audit key is another than before; checkpoints are signed with it from here on", key)
		l.writing.Unlock()
		if err != nil {
			return err
		}
	}
	return l.storeHead(false)
}

// EndCheckpoints signs a last checkpoint, if the HSM can, and ends signing. The first checkpoint after the next start covers
// later records.
func (l *Log) EndCheckpoints(ctx context.Context) {
	c := l.checkpoints
	if c == nil {
		return
	}
	c.cancel()
	c.work.Wait()
	_ = c.signNow(ctx) // it logs its errors
}

// Unsigned returns how many records no checkpoint covers yet.
func (l *Log) Unsigned() uint64 {
	signed := l.signed.Load() // before now, which may grow
	return l.now.Load().tree.size() - signed
}

// checkpoints signs the checkpoints of a log.
type checkpoints struct {
	log    *Log
	key    *verifier
	sign   SignFunc
	cancel context.CancelFunc
	work   sync.WaitGroup

	signing sync.Mutex // held while checkpoints are signed; guards what follows
	at      time.Time  // of the last one, or of the start
	failed  int        // tries since the last success
}

// run signs checkpoints and applies retention when they are due; it checks every checkpointLook.
func (c *checkpoints) run(ctx context.Context) {
	tick := time.NewTicker(checkpointLook)
	defer tick.Stop()
	var rest, look time.Duration
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if rest -= checkpointLook; rest <= 0 {
			c.signing.Lock()
			if c.due() {
				c.report(c.signAll(ctx))
			}
			rest = min(time.Duration(c.failed)*checkpointLook, signRest)
			c.signing.Unlock()
		}
		if look -= checkpointLook; look <= 0 {
			look = retainPause
			if err := c.log.retain(); err != nil {
				c.log.opts.Logger.Warn("retention of the audit log failed; retrying", "error", err)
			}
		}
	}
}

// firstRotated returns the oldest end of a file that no checkpoint covers, nil if there is none.
func (l *Log) firstRotated() *snapshot {
	l.rotating.Lock()
	defer l.rotating.Unlock()
	if len(l.rotated) == 0 {
		return nil
	}
	return l.rotated[0]
}

// due reports whether a checkpoint is due.
func (c *checkpoints) due() bool {
	n, age := c.log.Unsigned(), c.log.opts.Clock.Now().Sub(c.at)
	return c.log.firstRotated() != nil || n >= checkpointRecords || n > 0 && (age >= checkpointAge || age < 0) // a clock may be set back
}

// report logs when signing starts to fail, and when it works again.
func (c *checkpoints) report(err error) {
	log := c.log.opts.Logger
	switch {
	case errors.Is(err, context.Canceled):
	case err == nil && c.failed > 0:
		log.Info("checkpoints of the audit log are signed again")
		c.failed = 0
	case err != nil:
		if c.failed++; c.failed == 1 {
			log.Warn("cannot sign a checkpoint of the audit log; retrying, and records are still written", "error", err,
				"unsigned", c.log.Unsigned())
		}
	}
}

// signNow signs a checkpoint of the log as it is.
func (c *checkpoints) signNow(ctx context.Context) error {
	c.signing.Lock()
	defer c.signing.Unlock()
	err := c.signAll(ctx)
	c.report(err)
	return err
}

// signAll signs the ends of files that no checkpoint covers, the oldest first, and then the end as it was when signAll began: the
// log may grow faster than the HSM signs. c.signing is held.
func (c *checkpoints) signAll(ctx context.Context) error {
	now := c.log.now.Load()
	for next := c.log.firstRotated(); next != nil && next.number < now.number; next = c.log.firstRotated() {
		if err := c.signOne(ctx, next, fmt.Sprintf(checkpointOfFile, next.number)); err != nil {
			return err
		}
		c.log.rotating.Lock()
		c.log.rotated = c.log.rotated[1:]
		c.log.rotating.Unlock()
	}
	if now.tree.size() == c.log.signed.Load() {
		return nil
	}
	if err := c.signOne(ctx, now, checkpointName); err != nil {
		return err
	}
	c.at = c.log.opts.Clock.Now()
	c.log.figures.checkpoint.Store(c.at.UnixNano())
	c.log.signed.Store(now.tree.size())
	c.log.wakeHeads()
	return nil
}

// signOne signs a checkpoint and stores it durably.
func (c *checkpoints) signOne(ctx context.Context, s *snapshot, name string) error {
	if !c.log.opts.Sync {
		if err := s.sync(c.log.opts.Dir); err != nil { // a checkpoint must not be ahead of the disk
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, signTime)
	defer cancel()
	cp := checkpoint{origin: c.key.name, tree: s.tree, file: s.number, offset: s.size, time: c.log.opts.Clock.Now()}
	b, err := note.Sign(&note.Note{Text: cp.text()}, &signer{verifier: c.key, ctx: ctx, sign: c.sign})
	if err != nil {
		return err
	}
	c.log.opts.failpoint("a checkpoint is signed")
	return writeDurably(c.log.opts.Dir, name, b)
}

// writeDurably creates or replaces a file durably and atomically.
func writeDurably(dir, name string, content []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
