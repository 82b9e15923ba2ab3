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

// When checkpoints are signed: soon after there is something new, but no more often than the HSM and a person who reads them
// can do with.
const (
	checkpointLook    = time.Second      // between two looks whether one is due
	checkpointAge     = 10 * time.Second // of the oldest record that is not covered
	checkpointRecords = 10_000           // that are not covered
	signTime          = 5 * time.Second  // that one signature may take
	signRest          = 30 * time.Second // at most, between two tries that fail
)

// SignCheckpoints begins to sign checkpoints in the background with the tenant's audit key, whose public half (DER
// SubjectPublicKeyInfo) is given. Nothing waits for a signature: while the HSM cannot sign, records are written as ever, and
// a later checkpoint covers them.
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
	l.checkpoints.work.Go(func() { l.checkpoints.run(ctx) })
	return nil
}

// trust makes a verifier key one of the log's. A key that is not the one before is on record.
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
		l.opts.Logger.Warn("the tenant's audit key is another than before", "key", key)
		l.writing.Lock()
		err := l.recordEvent(OpKeyChanged, "the tenant's audit key is another than before; checkpoints are signed with it from here on", key)
		l.writing.Unlock()
		if err != nil {
			return err
		}
	}
	return l.storeHead(false)
}

// EndCheckpoints signs a last checkpoint, if the HSM can, and ends signing. Records that are written later are covered by the
// next checkpoint after the next start.
func (l *Log) EndCheckpoints(ctx context.Context) {
	c := l.checkpoints
	if c == nil {
		return
	}
	c.cancel()
	c.work.Wait()
	_ = c.signNow(ctx) // which says itself what is wrong
}

// Unsigned returns how many records no checkpoint covers yet.
func (l *Log) Unsigned() uint64 {
	signed := l.signed.Load() // first: the log grows
	return l.now.Load().tree.size() - signed
}

// checkpoints signs them.
type checkpoints struct {
	log    *Log
	key    *verifier
	sign   SignFunc
	cancel context.CancelFunc
	work   sync.WaitGroup

	signing sync.Mutex // one at a time; guards what follows
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
				c.log.opts.Logger.Warn("retention of the audit log failed; it is tried again", "error", err)
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

// due reports whether there is something to sign, and it is time to.
func (c *checkpoints) due() bool {
	n, age := c.log.Unsigned(), c.log.opts.Clock.Now().Sub(c.at)
	return c.log.firstRotated() != nil || n >= checkpointRecords || n > 0 && (age >= checkpointAge || age < 0) // a clock may be set back
}

// report says when signing begins to fail, and when it works again.
func (c *checkpoints) report(err error) {
	log := c.log.opts.Logger
	switch {
	case errors.Is(err, context.Canceled):
	case err == nil && c.failed > 0:
		log.Info("checkpoints of the audit log are signed again")
		c.failed = 0
	case err != nil:
		if c.failed++; c.failed == 1 {
			log.Warn("a checkpoint of the audit log cannot be signed; it is tried again, and records are written as ever", "error", err,
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

// signAll signs the ends of files that ended since, the oldest first, and then the log as it is now. c.signing is held.
func (c *checkpoints) signAll(ctx context.Context) error {
	for next := c.log.firstRotated(); next != nil; next = c.log.firstRotated() {
		if err := c.signOne(ctx, next, fmt.Sprintf(checkpointOfFile, next.number)); err != nil {
			return err
		}
		c.log.rotating.Lock()
		c.log.rotated = c.log.rotated[1:]
		c.log.rotating.Unlock()
	}
	now := c.log.now.Load()
	if now.tree.size() == c.log.signed.Load() {
		return nil
	}
	if err := c.signOne(ctx, now, checkpointName); err != nil {
		return err
	}
	c.at = c.log.opts.Clock.Now()
	c.log.signed.Store(now.tree.size())
	c.log.wakeHeads()
	return nil
}

// signOne signs a checkpoint and makes it durable in a file.
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

// writeDurably puts a file in the place of another of that name.
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
