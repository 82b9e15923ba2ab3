package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// powerCut copies a log's folder as a power cut may leave it: the last file with as little as was ever synced of it, or
// with zeros where content was not, and with the journal's last entry torn.
func powerCut(t *testing.T, l *Log, zeros, torn bool) string {
	t.Helper()
	cut := t.TempDir()
	if err := os.CopyFS(cut, os.DirFS(l.opts.Dir)); err != nil {
		t.Fatal(err)
	}
	if l.journal.at == 0 { // the file was synced just now
		return cut
	}
	numbers, err := list(cut)
	if err != nil {
		t.Fatal(err)
	}
	number := numbers[len(numbers)-1]
	path := filepath.Join(cut, journalName)
	journal, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lap uint32
	at := 0
	for {
		e, rest, ok := nextEntry(journal[at:])
		if !ok || lap != 0 && e.lap != lap {
			break
		}
		if lap == 0 && e.number == uint32(number) {
			lose(t, fileName(cut, number), int64(e.offset), zeros)
		}
		lap, at = e.lap, len(journal)-len(rest)
	}
	if torn {
		journal[at-3] ^= 1
		if err := os.WriteFile(path, journal, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cut
}

// lose cuts a file at a place, and with zeros fills it up again.
func lose(t *testing.T, path string, at int64, zeros bool) {
	t.Helper()
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, at)
	}
	if err == nil && zeros {
		err = os.Truncate(path, info.Size())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestPowerCut holds that every acknowledged record survives the loss of all that was not synced.
func TestPowerCut(t *testing.T) {
	for _, o := range []Options{
		{journalSize: 1 << 14}, {journalSize: 2000}, {journalSize: 100}, {MaxFileSize: 4096, journalSize: 1 << 14}, {MaxFileSize: 4096, journalSize: 1500},
	} {
		o.Dir, o.Sync = t.TempDir(), true
		l := open(t, o)
		for i := range 12 {
			if err := l.Record(context.Background(), sample(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
			for _, zeros := range []bool{false, true} {
				for _, torn := range []bool{false, true} {
					if torn && l.journal.at == 0 {
						continue // it holds nothing
					}
					want := i + 1
					if torn {
						want-- // as if the power had gone before it was synced
					}
					checkCut(t, fmt.Sprintf("journal %d, files %d, zeros %v, torn %v", o.journalSize, o.MaxFileSize, zeros, torn),
						powerCut(t, l, zeros, torn), want)
				}
			}
		}
	}
}

// checkCut opens what a power cut left and looks for the first records, as many as wanted.
func checkCut(t *testing.T, name, dir string, want int) {
	t.Helper()
	l := open(t, Options{Dir: dir})
	if err := l.Record(context.Background(), sample("end")); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range lines(t, dir) {
		if r.Operation != OpRepaired {
			ids = append(ids, r.RequestID)
		}
	}
	if len(ids) != want+1 || ids[want] != "end" || want > 0 && ids[want-1] != fmt.Sprint(want-1) {
		t.Fatalf("%s: records %v, want %d and the end", name, ids, want)
	}
	if _, err := os.Stat(filepath.Join(dir, journalName)); !os.IsNotExist(err) {
		t.Errorf("%s: there is a journal after a clean end: %v", name, err)
	}
}

// TestKernelForgets holds that what the kernel failed to write of the file is written again before the log goes on.
func TestKernelForgets(t *testing.T) {
	o := Options{Dir: t.TempDir(), Sync: true}
	l := open(t, o)
	for i := range 3 {
		if err := l.Record(context.Background(), sample(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	l.file.Close() // the next write fails
	if l.Record(context.Background(), sample("lost")) == nil {
		t.Fatal("a write to a closed file succeeds")
	}
	lose(t, l.path, 10, true)
	if err := l.Ready(context.Background()); err != nil {
		t.Fatal(err)
	}
	if records := lines(t, o.Dir); len(records) != 4 || records[2].RequestID != "2" || records[3].Operation != OpResumed {
		t.Errorf("records are %+v", records)
	}
}

// FuzzJournal reads any bytes as a journal.
func FuzzJournal(f *testing.F) {
	dir := f.TempDir()
	l := open(f, Options{Dir: dir, Sync: true, journalSize: 4096})
	for i := range 5 {
		if err := l.Record(context.Background(), sample(fmt.Sprint(i))); err != nil {
			f.Fatal(err)
		}
	}
	whole, err := os.ReadFile(filepath.Join(dir, journalName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:500])
	f.Fuzz(func(t *testing.T, b []byte) {
		for read := 0; ; {
			e, rest, ok := nextEntry(b)
			if !ok {
				return
			}
			if read += len(e.lines); len(e.lines) == 0 || len(rest) >= len(b) || !bytes.HasSuffix(b, rest) {
				t.Fatalf("entry of %d bytes leaves %d of %d", len(e.lines), len(rest), len(b))
			}
			b = rest
		}
	})
}
