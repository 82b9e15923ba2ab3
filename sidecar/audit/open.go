package audit

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// open locks the folder, scans the log and compares it with the head in the database. Only then does it change files: a log
// that lost records is not changed.
func (l *Log) open() error {
	if err := os.MkdirAll(l.opts.Dir, 0o700); err != nil {
		return err
	}
	dir, err := os.Open(l.opts.Dir)
	if err != nil {
		return err
	}
	l.lock = dir
	if err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return errors.New("another process writes it: stop that process, or give this one a directory of its own")
	}
	a, h, err := loadHead(l.opts.Heads)
	if err != nil {
		return err
	}
	numbers, err := list(l.opts.Dir)
	if err != nil {
		return err
	}
	if len(numbers) == 0 && h == nil {
		if err := l.create(1); err != nil {
			return err
		}
		return errors.Join(l.startJournal(), l.begin(""))
	}
	return l.carryOn(numbers, a, h)
}

// carryOn opens a log that has files or a head in the database.
func (l *Log) carryOn(numbers []int, a *anchor, h *head) error {
	s := scan{dir: l.opts.Dir, numbers: numbers, flush: a == nil, accept: l.opts.accepted != nil}
	var outbox map[uint64][]byte
	if l.opts.Heads != nil {
		var err error
		if outbox, err = l.opts.Heads.AuditOutbox(); err != nil {
			return err
		}
	}
	s.missing = linesOf(outbox)
	end, err := l.findEnd(numbers)
	if err == nil {
		if a == nil {
			if h, err = s.trustCheckpoint(); err != nil {
				return err
			}
		}
		err = s.take(a, h)
	}
	if err == nil && a != nil && s.excusedByRecord && !s.accept {
		err = l.checkExcuse()
	}
	if err != nil {
		return l.explain(err)
	}
	if unsigned, err := s.unsigned(a); err != nil {
		l.opts.Logger.Warn("cannot sign checkpoints of earlier audit log files: run keyside audit verify", "error", err)
	} else {
		s.rotated = append(unsigned, s.rotated...)
	}
	if err := s.keepLeaves(); err != nil {
		return err
	}
	l.tree, l.start, l.rotated = s.tree, s.start, s.rotated
	var kept string
	if a != nil && l.number < a.File { // the loss of that file is accepted
		if err := errors.Join(l.create(a.File), l.startJournal()); err != nil {
			return err
		}
	} else {
		if kept, err = l.reopen(end); err != nil {
			return err
		}
		if err := errors.Join(l.openLeaves(), l.startJournal()); err != nil {
			return err
		}
	}
	if err := l.writeMissing(outbox, s.missing); err != nil {
		return err
	}
	if err := l.goOnFrom(a, h); err != nil || kept == "" {
		return err
	}
	l.opts.Logger.Warn("a crash truncated the last record of the audit log", "file", l.path, "kept", kept)
	return l.recordEvent(OpRepaired, "a crash cut the last record off; its fragment is in "+filepath.Base(kept), "")
}

// Check returns the error, mostly a LossError, with which Open would refuse the log of a database that has stored anchor and head. It
// changes nothing.
func Check(dir string, anchor, head []byte, recorded uint64, outbox []uint64) error {
	a, h, err := decodeHeads(anchor, head)
	if err != nil {
		return err
	}
	numbers, err := list(dir)
	if err != nil {
		return err
	}
	err = (&scan{dir: dir, numbers: numbers}).take(a, h)
	return explain(err, func() (Source, error) {
		return Source{Dir: dir, Anchor: anchor, Head: head, Recorded: recorded, Outbox: outbox}, nil
	})
}

// findEnd completes the last file from the journal after a crash, and returns how many bytes of it are whole lines.
func (l *Log) findEnd(numbers []int) (int64, error) {
	if len(numbers) == 0 {
		return 0, nil
	}
	l.number = numbers[len(numbers)-1]
	l.path = fileName(l.opts.Dir, l.number)
	var loss *LossError
	if err := replay(l.opts.Dir, l.path, l.number); err != nil && (l.opts.accepted == nil || !errors.As(err, &loss)) {
		return 0, err
	}
	return endOfLines(l.path)
}

// checkExcuse verifies the whole log before it accepts a record that the database does not have and that would explain a
// loss. Such a record exists if retention was killed, or if an attacker added it.
func (l *Log) checkExcuse() error {
	r, err := l.verifyStopped()
	if err == nil && !r.OK() {
		err = &LossError{Dir: l.opts.Dir, Problem: "a record at the end would explain this, but the database does not have it"}
	}
	return err
}

// verifyStopped verifies the log before it is opened.
func (l *Log) verifyStopped() (*Report, error) {
	src, err := databaseSource(l.opts.Dir, l.opts.Heads)
	if err != nil {
		return nil, err
	}
	return Verify(context.Background(), src)
}

// explain adds the findings of Verify to a LossError.
func (l *Log) explain(err error) error {
	if l.opts.Heads == nil {
		return err
	}
	return explain(err, func() (Source, error) { return databaseSource(l.opts.Dir, l.opts.Heads) })
}

func explain(err error, source func() (Source, error)) error {
	var loss *LossError
	if !errors.As(err, &loss) {
		return err
	}
	if src, srcErr := source(); srcErr == nil {
		if r, verifyErr := Verify(context.Background(), src); verifyErr == nil {
			loss.Findings = r.Findings
		}
	}
	return err
}

// goOnFrom stores the head before the log continues.
func (l *Log) goOnFrom(a *anchor, h *head) error {
	if a == nil {
		warning := fmt.Sprintf("the database knew nothing of the %d records before", l.tree.size())
		if h != nil {
			l.signed.Store(h.Signed)
		}
		return l.begin(warning)
	}
	l.anchor, l.anchored = *a, true
	l.signed.Store(h.Signed)
	if l.opts.accepted != nil {
		if err := l.recordAcceptance(); err != nil {
			return err
		}
	}
	l.publish()
	return l.storeHead(false) // the stored head no longer says that the log is closed
}

// begin records OpBegun and stores the first head in the database. A log that has a checkpoint keeps its id.
func (l *Log) begin(warning string) error {
	l.publish()
	if l.opts.Heads == nil {
		return nil
	}
	var raw [8]byte
	_, _ = rand.Read(raw[:]) // never fails
	id := hex.EncodeToString(raw[:])
	if c, err := readUnverified(l.opts.Dir, checkpointName); err == nil {
		if was, ok := strings.CutPrefix(c.origin, originOf(l.opts.Tenant, "")); ok && isLogID(was) {
			id = was
		}
	}
	l.anchor = anchor{Format: headFormat, ID: id}
	if err := l.recordEvent(OpBegun, warning, l.anchor.ID); err != nil {
		return err
	}
	return l.storeHead(false)
}

// recordEvent writes a record about the log itself.
func (l *Log) recordEvent(op policy.Operation, warning, target string) error {
	return l.recordEventBy(policy.Caller{}, op, warning, target)
}

// recordEventBy writes a record about a change of the log on behalf of a caller.
func (l *Log) recordEventBy(by policy.Caller, op policy.Operation, warning, target string) error {
	return l.append(appendRecord(nil, &kms.AuditRecord{
		Time: l.opts.Clock.Now(), Operation: op, Trace: op.Trace(), Tenant: l.opts.Tenant, Caller: by, Decision: "allow", By: "audit", Outcome: "ok",
		Warning: warning, Target: target,
	}), nil, true)
}
