package audit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/mod/sumdb/note"
)

// HeadStore stores the high-water mark of the log outside of its files: in the database. It stores two values of the log, each
// of less than 4 KiB.
type HeadStore interface {
	// AuditHead returns the values stored last; nil means that a value was never stored.
	AuditHead() (anchor, head []byte, err error)
	// SetAuditHead stores both values, only head if anchor is nil, or neither, and removes the records of the logged changes from
	// the outbox, all durably and atomically.
	SetAuditHead(ctx context.Context, anchor, head []byte, logged []uint64) error
	// AuditOutbox returns the lines of the records that were stored with changes, by change number.
	AuditOutbox() (map[uint64][]byte, error)
	// LastRecorded returns the number of the last change with a record, 0 for none.
	LastRecorded() uint64
	// SkipChanges makes recorded the number of the last change with a record, and numbers later changes above it and above after.
	SkipChanges(ctx context.Context, recorded, after uint64) error
}

// headFormat is the format of both values. An unknown member in them is an error.
const headFormat = 1

// anchor is the id of the log, the start of its last file, and the keys that signed it. It is stored when one of these changes.
type anchor struct {
	Format int      `json:"format"`
	ID     string   `json:"id"`             // of the log, made once
	File   int      `json:"file"`           // number of the last file
	Size   uint64   `json:"size"`           // records before that file
	Hashes [][]byte `json:"hashes"`         // the compact range of their tree
	Keys   []string `json:"keys,omitempty"` // verifier keys that signed checkpoints, oldest first
}

// head is the high-water mark: the records that were durable when it was stored.
type head struct {
	Format int    `json:"format"`
	Size   uint64 `json:"size"` // records
	Root   []byte `json:"root"` // of their tree
	File   int    `json:"file"`
	Offset int64  `json:"offset"`           // bytes of that file
	Signed uint64 `json:"signed,omitzero"`  // records that the last checkpoint covers
	Closed bool   `json:"closed,omitempty"` // the log ended here, so nothing follows
}

var errHead = errors.New("the database's record of the audit log is corrupt: restore the database from a backup")

func decodeAnchor(b []byte) (a anchor, err error) {
	if err := json.Unmarshal(b, &a, json.RejectUnknownMembers(true)); err != nil {
		return anchor{}, fmt.Errorf("%w: %w", errHead, err)
	}
	if _, err := treeOf(a.Size, a.Hashes); err != nil || a.Format != headFormat || a.File < 1 || !isLogID(a.ID) {
		return anchor{}, errHead
	}
	for _, text := range a.Keys {
		if _, err := ParseVerifier(text); err != nil {
			return anchor{}, fmt.Errorf("%w: %w", errHead, err)
		}
	}
	return a, nil
}

func decodeHead(b []byte) (h head, err error) {
	if err := json.Unmarshal(b, &h, json.RejectUnknownMembers(true)); err != nil {
		return head{}, fmt.Errorf("%w: %w", errHead, err)
	}
	if h.Format != headFormat || len(h.Root) != hashSize || h.File < 1 || h.Offset < 0 || h.Signed > h.Size {
		return head{}, errHead
	}
	return h, nil
}

// loadHead returns the anchor and the head of the log in the database, nil if it has none.
func loadHead(s HeadStore) (*anchor, *head, error) {
	if s == nil {
		return nil, nil, nil
	}
	rawAnchor, rawHead, err := s.AuditHead()
	if err != nil || rawAnchor == nil && rawHead == nil {
		return nil, nil, err
	}
	return decodeHeads(rawAnchor, rawHead)
}

func decodeHeads(rawAnchor, rawHead []byte) (*anchor, *head, error) {
	a, err := decodeAnchor(rawAnchor)
	if err != nil {
		return nil, nil, err
	}
	h, err := decodeHead(rawHead)
	if err != nil {
		return nil, nil, err
	}
	if h.Size < a.Size || h.File < a.File {
		return nil, nil, errHead
	}
	return &a, &h, nil
}

// present returns a copy of the log's anchor.
func (l *Log) present() *anchor {
	l.heads.Lock()
	defer l.heads.Unlock()
	a := l.anchor
	return &a
}

// verifiers returns the keys of the anchor.
func (a *anchor) verifiers() (list []note.Verifier) {
	for _, text := range a.Keys {
		if v, err := ParseVerifier(text); err == nil {
			list = append(list, v)
		}
	}
	return list
}

// headPause is the time between two writes of the head. Each is a sync of the database, which competes with the log for the
// disk. After a crash, the records beyond the head are read again at start.
const headPause = 50 * time.Millisecond

// keepHead stores the newest head whenever the log has grown, until stop is closed. No operation waits for it.
func (l *Log) keepHead(stop <-chan struct{}) {
	failing := false
	for {
		select {
		case <-l.grown:
		case <-stop:
			return
		}
		err := l.storeHead(false)
		if (err != nil) != failing {
			failing = err != nil
			if failing {
				l.opts.Logger.Warn("cannot store the audit log head in the database; retrying", "error", err)
			} else {
				l.opts.Logger.Info("the audit log head is stored in the database again")
			}
		}
		if failing {
			l.wakeHeads()
		}
		select {
		case <-time.After(headPause):
		case <-stop:
			return
		}
	}
}

// wakeHeads makes keepHead store the head.
func (l *Log) wakeHeads() {
	select {
	case l.grown <- struct{}{}:
	default:
	}
}

// storeHead stores the present head, with the anchor if that has changed.
func (l *Log) storeHead(closed bool) error {
	if l.opts.Heads == nil {
		return nil
	}
	l.heads.Lock()
	defer l.heads.Unlock()
	now := l.now.Load() // before the logged changes, so that what it includes is among them
	if !l.opts.Sync {
		if err := now.sync(l.opts.Dir); err != nil { // the database must not be ahead of the disk
			return err
		}
	}
	h := head{
		Format: headFormat, Size: now.tree.size(), Root: now.tree.root(), File: now.number, Offset: now.size,
		Signed: l.signed.Load(), Closed: closed,
	}
	rawHead, err := json.Marshal(&h)
	if err != nil {
		return err
	}
	a := l.anchor
	a.File, a.Size, a.Hashes = now.number, now.start.size(), now.start.hashes()
	var rawAnchor []byte
	if fresh := a.File != l.anchor.File || !l.anchored; fresh {
		if rawAnchor, err = json.Marshal(&a); err != nil {
			return err
		}
	}
	logged := l.loggedUpTo(now.tree.size())
	l.opts.failpoint("before the head is stored")
	for ; len(logged) > maxForgotten; logged = logged[maxForgotten:] {
		if err := l.opts.Heads.SetAuditHead(context.Background(), nil, nil, logged[:maxForgotten]); err != nil {
			return err
		}
		l.forget(maxForgotten)
	}
	if err := l.opts.Heads.SetAuditHead(context.Background(), rawAnchor, rawHead, logged); err != nil {
		return err
	}
	l.forget(len(logged))
	l.opts.failpoint("the head is stored")
	l.anchor, l.anchored = a, true
	return nil
}
