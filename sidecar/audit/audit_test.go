package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

func sample(id string) *kms.AuditRecord {
	return &kms.AuditRecord{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678000, time.UTC), RequestID: id, Operation: policy.OpEncryptData, Dialect: "huawei",
		Tenant: "default", Principal: "owner", Caller: policy.Caller{UID: 1000, GID: 100, PID: 4242, Known: true},
		KeyID: "0d0466b0-e727-4d9c-b35d-f84bb474a37f", Version: 1, Decision: "allow", By: "administrator", Outcome: "ok",
		Latency: 123, Protect: kms.ProtectionHSM, AccessKey: "AKEXAMPLE", Target: "app",
		Trace: policy.OpEncryptData.Trace(), SourceKeyID: "7a1f3a02-5d2c-4f0a-9b1e-2f6d5b0c4e11", SourceVersion: 2, OpenedIn: kms.ProtectionDriver,
	}
}

// TestRecordIsTheStructsJSON holds the encoder written by hand to the struct's tags.
func TestRecordIsTheStructsJSON(t *testing.T) {
	negative := sample("r")
	negative.Caller.PID, negative.Latency = -1, -5
	process, unit := sample("r"), sample("r")
	process.Caller.Ended, process.Missing = true, policy.OpSign
	process.Caller.Process = &policy.Process{Exe: "/usr/bin/\"app\n", Unit: "a.service", Pod: "p", Container: "c", Groups: []uint32{0, 1<<32 - 1}}
	unit.Caller.Process = &policy.Process{Groups: []uint32{7}}
	for name, r := range map[string]*kms.AuditRecord{
		"process": process, "unit": unit, "bare": {Caller: policy.Caller{Process: &policy.Process{}}},
		"full":    sample("req-1"),
		"empty":   {},
		"warning": {Warning: "half of it", Version: 1 << 31},
		"change":  {Change: 1<<63 - 1, PreviousChange: 7},
		"hostile": {RequestID: "\"},{\n\r\t\x00\x7f\\ü😀<&>", Tenant: "\xff\xfe", Outcome: "\u007f"},
		"signed":  negative,
	} {
		var want bytes.Buffer
		e := json.NewEncoder(&want)
		e.SetEscapeHTML(false)
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
		got := appendRecord(nil, r)
		if bytes.Count(got, []byte("\n")) != 1 {
			t.Errorf("%s: not one line: %q", name, got)
		}
		// The same value under the same names in the same order; spellings of one character may differ.
		if g, w := normal(t, got), normal(t, want.Bytes()); g != w {
			t.Errorf("%s:\ngot  %s\nwant %s", name, g, w)
		}
	}
}

// normal writes a JSON value with one spelling for each character.
func normal(t *testing.T, line []byte) string {
	t.Helper()
	var b strings.Builder
	d := json.NewDecoder(bytes.NewReader(line))
	for d.More() {
		token, err := d.Token()
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		fmt.Fprintf(&b, "%T %v\n", token, token)
	}
	return b.String()
}

func open(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// lines reads all records of a log, in order, and fails on a line that is none.
func lines(t testing.TB, dir string) (records []kms.AuditRecord) {
	t.Helper()
	numbers, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		content, err := os.ReadFile(fileName(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			var r kms.AuditRecord
			if err := json.Unmarshal(line, &r); err != nil || line[len(line)-1] != '\n' {
				t.Fatalf("file %d has line %q (%v)", n, line, err)
			}
			records = append(records, r)
		}
	}
	return records
}

// TestEveryRecordOnce holds that each acknowledged record is there once, across groups, files and a second opening.
func TestEveryRecordOnce(t *testing.T) {
	for _, sync := range []bool{false, true} {
		dir := t.TempDir()
		for part := range 2 {
			l := open(t, Options{Dir: dir, Sync: sync, MaxFileSize: 4096})
			fill(t, l, part)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]int{}
		for _, r := range lines(t, dir) {
			seen[r.RequestID]++
		}
		for part := range 2 {
			for g := range 8 {
				for i := range 25 {
					if id := fmt.Sprintf("%d-%d-%d", part, g, i); seen[id] != 1 {
						t.Errorf("record %s is there %d times", id, seen[id])
					}
				}
			}
		}
		numbers, _ := list(dir)
		if len(numbers) < 10 || numbers[0] != 1 || numbers[len(numbers)-1] != len(numbers) {
			t.Errorf("files are numbered %v", numbers)
		}
		for _, n := range numbers {
			if info, _ := os.Stat(fileName(dir, n)); info.Size() > 4096 || info.Mode().Perm() != 0o600 {
				t.Errorf("file %d has %d bytes and mode %v", n, info.Size(), info.Mode())
			}
		}
	}
}

func fill(t *testing.T, l *Log, part int) {
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 25 {
				if err := l.Record(context.Background(), sample(fmt.Sprintf("%d-%d-%d", part, g, i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestTornLine holds that a last line that was cut off is moved away, said, and no other line is touched.
func TestTornLine(t *testing.T) {
	for name, torn := range map[string]string{"half": `{"time":"2026`, "long": strings.Repeat("x", 200<<10), "zeros": "\x00\x00\x00"} {
		dir := t.TempDir()
		l := open(t, Options{Dir: dir})
		for _, id := range []string{"a", "b"} {
			if err := l.Record(context.Background(), sample(id)); err != nil {
				t.Fatal(err)
			}
		}
		l.Close()
		f, err := os.OpenFile(fileName(dir, 1), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		f.WriteString(torn)
		f.Close()

		l = open(t, Options{Dir: dir, Tenant: "default"})
		if err := l.Record(context.Background(), sample("c")); err != nil {
			t.Fatal(err)
		}
		records := lines(t, dir)
		if len(records) != 4 || records[1].RequestID != "b" || records[2].Operation != OpRepaired || records[3].RequestID != "c" {
			t.Errorf("%s: records are %+v", name, records)
		}
		kept, _ := filepath.Glob(filepath.Join(dir, "*.torn"))
		if len(kept) != 1 || !strings.Contains(records[2].Warning, filepath.Base(kept[0])) {
			t.Fatalf("%s: fragments are in %v, the log says %q", name, kept, records[2].Warning)
		}
		if content, _ := os.ReadFile(kept[0]); string(content) != torn {
			t.Errorf("%s: %d bytes are kept of %d", name, len(content), len(torn))
		}
	}
}

// TestOneWriter holds that a directory has one writer, and that a closed log says so.
func TestOneWriter(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	if _, err := Open(Options{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("second opening: %v", err)
	}
	l.Close()
	if l.Record(context.Background(), sample("x")) == nil || l.Ready(context.Background()) == nil {
		t.Error("a closed log takes records")
	}
	open(t, Options{Dir: dir})
}

// TestSomebodyCutTheFile holds that a log that lost acknowledged records is not written on.
func TestSomebodyCutTheFile(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Options{Dir: dir})
	if err := l.Record(context.Background(), sample("a")); err != nil {
		t.Fatal(err)
	}
	l.file.Close() // the next write fails
	if err := os.Truncate(fileName(dir, 1), 0); err != nil {
		t.Fatal(err)
	}
	if l.Record(context.Background(), sample("b")) == nil {
		t.Error("a write to a closed file succeeds")
	}
	for range 2 {
		if err := l.Ready(context.Background()); err == nil || !strings.Contains(err.Error(), "it was truncated") {
			t.Errorf("the log is ready: %v", err)
		}
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	r, buf := sample("0d0466b0-e727-4d9c-b35d-f84bb474a37f"), []byte(nil)
	b.ReportAllocs()
	for b.Loop() {
		buf = appendRecord(buf[:0], r)
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, parallel := range []int{1, 32} {
			b.Run(fmt.Sprintf("sync=%t/parallel=%d", sync, parallel), func(b *testing.B) {
				l := open(b, Options{Dir: b.TempDir(), Sync: sync})
				r := sample("0d0466b0-e727-4d9c-b35d-f84bb474a37f")
				b.SetParallelism((parallel + 1) / 2)
				b.ReportAllocs()
				b.ResetTimer()
				if parallel == 1 {
					for b.Loop() {
						l.Record(context.Background(), r)
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						l.Record(context.Background(), r)
					}
				})
			})
		}
	}
}
