package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// leftLog returns a database as a kill leaves it, with grants that were made and revoked in its log, and that log.
func leftLog(t *testing.T) (dir, path string, log []byte) {
	t.Helper()
	s := open(t, Options{Dir: t.TempDir()})
	k := newKey("a")
	create(t, s, k)
	setGrants(t, s, k, newGrant(k, 1), newGrant(k, 2))
	setGrants(t, s, k, newGrant(k, 2))
	setGrants(t, s, k)
	dir = leftByKill(t, s)
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil || len(logs) != 1 {
		t.Fatalf("logs %v: %v", logs, err)
	}
	if log, err = os.ReadFile(logs[0]); err != nil {
		t.Fatal(err)
	}
	log = bytes.TrimRight(log, "\x00")
	if _, intact := logEntry(log[bytes.LastIndex(log, endKey)-endHeader:]); !intact { // one of 256 checksums ends with a zero
		return leftLog(t)
	}
	return dir, logs[0], log
}

// TestDamagedLog holds that a bit that flips in a log is found before badger takes what follows for never written: no
// revoked grant comes back by it.
func TestDamagedLog(t *testing.T) {
	dir, path, log := leftLog(t)
	last := bytes.LastIndex(log, endKey) - endHeader
	room := append(log, make([]byte, 4096)...)
	missed := 0
	for at := logHeader; at < len(log); at++ {
		for bit := range 8 {
			damaged := bytes.Clone(room)
			damaged[at] ^= 1 << bit
			switch found := damageIn(damaged); {
			case found > at, found < 0 && at < last:
				t.Fatalf("bit %d of byte %d was flipped, and damage is found at %d", bit, at, found)
			case found < 0:
				missed++ // in the end of the last transaction, where a length says that it was not written whole
			}
		}
	}
	if missed > 8*endHeader {
		t.Errorf("%d flipped bits of the last entry are not found", missed)
	}
	damaged := bytes.Clone(log)
	damaged[bytes.LastIndex(log, []byte(`"grantee"`))] ^= 1
	if err := os.WriteFile(path, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Options{Dir: dir, Tenant: "default"})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "restore the database from a backup") || !strings.Contains(err.Error(), filepath.Base(path)) {
		t.Errorf("opened with %v", err)
	}
}

// TestUnfinishedLog holds that no log is refused for what a crash may leave of its last transaction: a beginning of any
// length, or sectors without others.
func TestUnfinishedLog(t *testing.T) {
	_, _, log := leftLog(t)
	room := append(bytes.Clone(log), make([]byte, 4096)...)
	ends := bytes.Split(log, endKey)
	begin := len(log) - len(ends[len(ends)-1]) - len(endKey) - len(ends[len(ends)-2]) // behind the end of the one before, nearly
	if at := damageIn(room); at >= 0 {
		t.Errorf("a whole log is damaged at %d", at)
	}
	for cut := begin + 40; cut <= len(log); cut++ {
		if at := damageIn(append(bytes.Clone(log[:cut]), make([]byte, len(room)-cut)...)); at >= 0 {
			t.Errorf("a log that was written up to %d of %d is damaged at %d", cut, len(log), at)
		}
	}
	for sector := (begin/sectorSize + 1) * sectorSize; sector < len(log); sector += sectorSize {
		torn := bytes.Clone(room)
		clear(torn[sector : sector+sectorSize])
		if at := damageIn(torn); at >= 0 {
			t.Errorf("a log without the sector at %d is damaged at %d", sector, at)
		}
	}
	for size := range logHeader + 2 {
		if at := damageIn(make([]byte, size)); at >= 0 {
			t.Errorf("a log of %d zeros is damaged at %d", size, at)
		}
	}
}

// TestBrokenIsNotReady holds that health tells of a database that takes no more changes.
func TestBrokenIsNotReady(t *testing.T) {
	free := uint64(minFree)
	s := open(t, Options{Dir: t.TempDir(), freeBytes: func(string) (uint64, error) { return free, nil }})
	if err := s.Ready(ctx); err != nil {
		t.Error(err)
	}
	free--
	if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("with a full disk: %v", err)
	}
	free++
	s.broken = errors.New("commit: torn")
	if err := s.Ready(ctx); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("broken: %v", err)
	}
}
