package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// source is what there is of a world for Verify.
func (w *world) source(t testing.TB) Source {
	t.Helper()
	a, h, err := w.heads.AuditHead()
	if err != nil {
		t.Fatal(err)
	}
	return Source{Dir: w.Dir, Anchor: a, Head: h}
}

func verify(t testing.TB, src Source) *Report {
	t.Helper()
	r, err := Verify(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// wantClean verifies a log in which all is well.
func wantClean(t testing.TB, src Source) *Report {
	t.Helper()
	r := verify(t, src)
	if len(r.Findings) > 0 {
		t.Errorf("findings in a good log: %v", r.Findings)
	}
	return r
}

// files are those of a log's folder, by name.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = b
	}
	return out
}

func put(t testing.TB, dir, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// smallLog is a log of a few files, closed in order.
func smallLog(t testing.TB) *world {
	w := newWorld(t, 1500)
	w.write(t, 4)
	w.write(t, 5)
	if r := wantClean(t, w.source(t)); r.Records != 10 || r.Signed != 10 || r.First != 1 || len(r.Notes) > 0 {
		t.Fatalf("report %+v", r)
	}
	return w
}

// TestEveryBit flips a bit of every byte of every file of a log, and holds that Verify names the file, and of a record its line
// and number, without changing anything; with the database and without.
func TestEveryBit(t *testing.T) {
	w := smallLog(t)
	all := files(t, w.Dir)
	src := w.source(t)
	auditor := Source{Dir: src.Dir}
	a, _ := w.heads.head(t)
	auditor.Keys = a.verifiers()
	records := map[string]uint64{} // before each file
	n := uint64(0)
	for _, name := range slices.Sorted(keysOf(all)) {
		if strings.HasSuffix(name, ".jsonl") {
			records[name] = n
			n += uint64(bytes.Count(all[name], []byte("\n")))
		}
	}
	for name, good := range all {
		for at := range good {
			bad := bytes.Clone(good)
			bad[at] ^= 1 << (at % 8)
			put(t, w.Dir, name, bad)
			s := src
			if at%2 == 1 {
				s = auditor
			}
			line := bytes.Count(good[:at], []byte("\n")) + 1
			r := verify(t, s)
			found := slices.ContainsFunc(r.Findings, func(f Finding) bool {
				if f.File != name {
					return false
				}
				return !strings.HasSuffix(name, ".jsonl") || f.Line == line && f.Record == records[name]+uint64(line)
			})
			if !found || r.OK() {
				t.Errorf("byte %d of %s, line %d: %v", at, name, line, r.Findings)
			}
		}
		put(t, w.Dir, name, good)
	}
	wantClean(t, src)
	wantClean(t, auditor)
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestEveryTruncation cuts the last file of a log, and one in its midst, after each byte.
func TestEveryTruncation(t *testing.T) {
	w := smallLog(t)
	all := files(t, w.Dir)
	numbers, _ := list(w.Dir)
	for _, number := range []int{1, numbers[len(numbers)-1]} {
		name := nameOf(number)
		good := all[name]
		before := 0
		for _, n := range numbers[:slices.Index(numbers, number)] {
			before += bytes.Count(all[nameOf(n)], []byte("\n"))
		}
		for at := range good {
			put(t, w.Dir, name, good[:at])
			whole := before + bytes.Count(good[:at], []byte("\n"))
			r := verify(t, w.source(t))
			want := fmt.Sprintf("it ends after record %d of %d", whole, before+bytes.Count(good, []byte("\n")))
			if len(r.Findings) != 1 || r.Findings[0].Kind != Truncated || r.Findings[0].File != name || !strings.Contains(r.Findings[0].Detail, want) {
				t.Errorf("%s cut at %d, want %q: %v", name, at, want, r.Findings)
			}
		}
		put(t, w.Dir, name, good)
	}
}

// damage is a change of a log's files, and what Verify reports.
type damage struct {
	name   string
	files  map[string][]byte // nil: removed
	kind   Kind
	file   string
	record uint64
	line   int
	only   bool // it is the one finding
	mended bool // when the log goes on
}

// do does it, and returns what undoes it.
func (d *damage) do(t testing.TB, dir string) (undo func()) {
	t.Helper()
	all := files(t, dir)
	for name, content := range d.files {
		put(t, dir, name, content)
		if content == nil {
			os.Remove(filepath.Join(dir, name))
		}
	}
	return func() {
		for name := range d.files {
			if good, was := all[name]; was {
				put(t, dir, name, good)
			} else {
				os.Remove(filepath.Join(dir, name))
			}
		}
	}
}

// damages returns a log and what can be done to it.
func damages(t testing.TB) (*world, []damage) {
	w := newWorld(t, 2600) // five records in a file
	w.write(t, 12)
	w.write(t, 13)
	all := files(t, w.Dir)
	numbers, _ := list(w.Dir)
	last := numbers[len(numbers)-1]
	lines := bytes.SplitAfter(all[nameOf(2)], []byte("\n"))
	lines = lines[:len(lines)-1]
	first := uint64(bytes.Count(all[nameOf(1)], []byte("\n"))) // record before file 2
	edit := func(order ...int) []byte {
		var out []byte
		for _, i := range order {
			out = append(out, lines[i]...)
		}
		return out
	}
	checkpoint := func(n int) string { return fmt.Sprintf(checkpointOfFile, n) }
	leaves := func(n int) string { return fmt.Sprintf(leavesOfFile, n) }
	lastRecords := bytes.SplitAfter(all[nameOf(last)], []byte("\n"))
	forged := bytes.Replace(lastRecords[0], []byte(`"owner"`), []byte(`"other"`), 1)
	return w, []damage{
		{"a record deleted in the midst", map[string][]byte{nameOf(2): edit(0, 1, 3, 4)}, Missing, nameOf(2), first + 3, 3, true, false},
		{"the first record deleted", map[string][]byte{nameOf(2): edit(1, 2, 3, 4)}, Missing, nameOf(2), first + 1, 1, true, false},
		{"two records swapped", map[string][]byte{nameOf(2): edit(0, 3, 2, 1, 4)}, Swapped, nameOf(2), first + 2, 2, true, false},
		{"neighbors swapped", map[string][]byte{nameOf(2): edit(0, 2, 1, 3, 4)}, Swapped, nameOf(2), first + 2, 2, true, false},
		{"a record twice", map[string][]byte{nameOf(2): edit(0, 1, 2, 2, 3, 4)}, Added, nameOf(2), first + 4, 4, true, false},
		{"a record of another file", map[string][]byte{nameOf(2): append(edit(0, 1), append(bytes.Clone(forged), edit(2, 3, 4)...)...)}, Added, nameOf(2), first + 3, 3, true, false},
		{"two files swapped", map[string][]byte{nameOf(1): all[nameOf(2)], nameOf(2): all[nameOf(1)]}, FileSwapped, nameOf(2), first + 1, 0, false, false},
		{"two files swapped, with their leaves", map[string][]byte{nameOf(1): all[nameOf(2)], nameOf(2): all[nameOf(1)],
			leaves(1): all[leaves(2)], leaves(2): all[leaves(1)]}, FileSwapped, nameOf(1), 1, 0, false, false},
		{"a file removed", map[string][]byte{nameOf(2): nil}, FileMissing, nameOf(2), first + 1, 0, true, false},
		{"a file removed with all beside it", map[string][]byte{nameOf(2): nil, leaves(2): nil, checkpoint(2): nil}, FileMissing, nameOf(2), first + 1, 0, false, false},
		{"the last file removed", map[string][]byte{nameOf(last): nil}, FileMissing, nameOf(last), 0, 0, true, true},
		{"the first file removed", map[string][]byte{nameOf(1): nil}, FileMissing, nameOf(1), 1, 0, true, false},
		{"a checkpoint removed", map[string][]byte{checkpoint(2): nil}, Checkpoint, checkpoint(2), 0, 0, true, true},
		{"the newest checkpoint removed", map[string][]byte{checkpointName: nil}, Checkpoint, checkpointName, 0, 0, true, true},
		{"an older checkpoint as the newest", map[string][]byte{checkpointName: all[checkpoint(2)]}, Checkpoint, checkpointName, 0, 0, true, false},
		{"a checkpoint of another file", map[string][]byte{checkpoint(2): all[checkpoint(1)]}, Checkpoint, checkpoint(2), 0, 0, false, false},
		{"the leaves removed", map[string][]byte{leaves(2): nil}, Leaves, leaves(2), 0, 0, true, false},
		{"a forged record at the end", map[string][]byte{nameOf(last): append(bytes.Clone(all[nameOf(last)]), forged...)}, Added, nameOf(last), 0, 0, false, false},
		{"a forged record at the end, with its leaf", map[string][]byte{nameOf(last): append(bytes.Clone(all[nameOf(last)]), forged...),
			leaves(last): append(bytes.Clone(all[leaves(last)]), leafHash(bytes.TrimSpace(forged))...)}, Added, nameOf(last), 0, 0, true, false},
		{"a forged file at the end", map[string][]byte{nameOf(last + 1): forged}, Added, nameOf(last + 1), 0, 0, false, false},
		{"a forged file far off", map[string][]byte{nameOf(last + 2): forged}, FileMissing, nameOf(last + 1), 0, 0, false, false},
		{"half a record at the end", map[string][]byte{nameOf(last): append(bytes.Clone(all[nameOf(last)]), "{"...)}, Added, nameOf(last), 0, 0, true, false},
		{"a record changed, with its leaf", map[string][]byte{nameOf(2): append(bytes.Clone(forged), edit(1, 2, 3, 4)...),
			leaves(2): append(leafHash(bytes.TrimSpace(forged)), all[leaves(2)][hashSize:]...)}, Changed, nameOf(2), first + 1, 1, true, false},
		{"the last record deleted, with its leaf", map[string][]byte{nameOf(last): bytes.Join(lastRecords[:len(lastRecords)-2], nil),
			leaves(last): all[leaves(last)][:len(all[leaves(last)])-hashSize]}, Truncated, nameOf(last), 0, 0, true, false},
	}
}

// TestDamage changes the files of a log in many ways, and holds that Verify says what and where, without changing anything.
func TestDamage(t *testing.T) {
	w, all := damages(t)
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			defer c.do(t, w.Dir)()
			before := contentOf(t, w.Dir)
			r := verify(t, w.source(t))
			if contentOf(t, w.Dir) != before {
				t.Error("Verify changed the folder")
			}
			if r.OK() || !slices.ContainsFunc(r.Findings, func(f Finding) bool {
				return f.Kind == c.kind && f.File == c.file && (c.record == 0 || f.Record == c.record) && (c.line == 0 || f.Line == c.line)
			}) || c.only && len(r.Findings) != 1 {
				t.Errorf("want %s in %s, record %d, line %d; it finds %v", c.kind, c.file, c.record, c.line, r.Findings)
			}
		})
	}
	wantClean(t, w.source(t))
}

// TestAcceptLoss has a log go on after each of these, and holds that it then is whole but for what is on record as accepted, and
// that what is done to it later is found again.
func TestAcceptLoss(t *testing.T) {
	good, all := damages(t)
	if r, err := AcceptLoss(t.Context(), good.Options, 0, 0, policy.Caller{}); err != nil || len(r.Findings) > 0 {
		t.Fatalf("%v, %v", r, err)
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			w := good.copy(t)
			c.do(t, w.Dir)
			r, err := AcceptLoss(t.Context(), w.Options, 0, 0, policy.Caller{UID: 7, Known: true})
			if err != nil || r.OK() {
				t.Fatalf("%v, %v", r, err)
			}
			for _, n := range []int{0, 3} {
				w.write(t, n)
				after := verify(t, w.source(t))
				if !after.OK() || after.Signed != after.Records {
					t.Errorf("after it: %+v", after)
				}
			}
			attested := 0
			for _, r := range lines(t, w.Dir) {
				if r.Operation == OpLossAccepted && r.Caller.UID == 7 && r.Warning != "" {
					attested++
				}
			}
			if attested != 1 {
				t.Errorf("%d records of it", attested)
			}
			if again, err := AcceptLoss(t.Context(), w.Options, 0, 0, policy.Caller{}); err != nil || !again.OK() {
				t.Errorf("a second time: %v, %v", again, err)
			}
			again := w.copy(t)
			c.do(t, again.Dir)
			if r := verify(t, again.source(t)); c.mended && r.OK() {
				t.Error("the same, done again, is not found")
			}
			numbers, _ := list(w.Dir)
			name := nameOf(numbers[len(numbers)-1])
			b := files(t, w.Dir)[name]
			b[40] ^= 1
			put(t, w.Dir, name, b)
			if r := verify(t, w.source(t)); r.OK() {
				t.Error("a later change is not found")
			}
		})
	}
}

// TestRolledBackFolder puts an older folder of the log in the place of a newer one: the database knows better.
func TestRolledBackFolder(t *testing.T) {
	w := newWorld(t, 2000)
	w.write(t, 7)
	old := w.copy(t)
	w.write(t, 8)
	old.heads = w.heads
	r := verify(t, old.source(t))
	if r.OK() {
		t.Errorf("it finds nothing")
	}
	t.Log(r.Findings)
	old.Heads = w.heads
	if _, err := Open(old.Options); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("it opens: %v", err)
	}
}

// TestKeys holds that a signature counts only under a key that is trusted.
func TestKeys(t *testing.T) {
	w, other := smallLog(t), smallLog(t)
	src := w.source(t)
	a, _ := other.heads.head(t)
	src.Keys = a.verifiers()
	r := verify(t, src)
	signatures := 0
	for _, f := range r.Findings {
		if f.Kind == Signature {
			signatures++
		}
	}
	if numbers, _ := list(w.Dir); signatures != len(numbers) || r.Signed != 0 {
		t.Errorf("under another key: %v", r.Findings)
	}
	if _, err := Verify(t.Context(), Source{Dir: w.Dir}); err == nil {
		t.Error("it verifies under no key")
	}
	bare := newWorld(t, 0)
	bare.key.away(errors.New("unplugged"))
	bare.write(t, 2)
	if r := wantClean(t, bare.source(t)); len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "3 records are not signed yet, the first of 2") {
		t.Errorf("without signatures: %+v", r)
	}
	src = bare.source(t)
	src.Keys = (&anchor{Keys: bareKeys(t, bare)}).verifiers()
	if r := verify(t, src); len(r.Findings) != 1 || r.Findings[0].Kind != Uncovered {
		t.Errorf("without signatures, under a key that is given: %v", r.Findings)
	}
	for _, text := range []string{"", "a", "a+b+c", strings.Replace(a.Keys[0], "keyside", "keyside2", 1) + "x", a.Keys[0] + "\n", a.Keys[0][:60]} {
		if _, err := ParseVerifier(text); err == nil {
			t.Errorf("%q is a key", text)
		}
	}
}

func bareKeys(t testing.TB, w *world) []string {
	a, _ := w.heads.head(t)
	return a.Keys
}

// TestVerifyWhileWriting verifies a log again and again while it grows and rotates.
func TestVerifyWhileWriting(t *testing.T) {
	w := newWorld(t, 4000)
	l := w.open(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			if err := l.Record(context.Background(), sample(fmt.Sprint(i))); err != nil {
				t.Error(err)
			}
		}
	}()
	for seen := uint64(0); seen < 300; {
		r, err := l.Verify(ctx, nil)
		if err != nil || !r.OK() || r.Records < seen {
			t.Fatalf("%v, %+v after %d", err, r, seen)
		}
		seen = r.Records
	}
	cancel()
	<-done
}

// TestJournalCounts holds that a log is verified with what a killed process left in the journal, and after its next start.
func TestJournalCounts(t *testing.T) {
	w := newWorld(t, 3000)
	l := w.open(t)
	for i := range 30 {
		if err := l.Record(t.Context(), sample(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { _, h := w.heads.head(t); return h.Size == 31 })
	for _, zeros := range []bool{false, true} {
		cut := powerCut(t, l, zeros, false)
		src := w.source(t)
		src.Dir = cut
		if r := wantClean(t, src); r.Records != 31 {
			t.Errorf("%d records", r.Records)
		}
		after := w.copy(t)
		after.Dir = cut
		after.Options.Heads, after.Options.Dir = after.heads, cut
		after.write(t, 1)
		if r := wantClean(t, after.source(t)); r.Records != 32 || r.Signed != 32 {
			t.Errorf("%+v", r)
		}
	}
}

// killed is a log of several files whose process was killed: the database has all of it, and not that it was closed.
func killed(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1500)
	l := w.open(t)
	for range 14 {
		if err := l.Record(t.Context(), sample("")); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(l.checkpoints.signNow(t.Context()), l.storeHead(false)); err != nil {
		t.Fatal(err)
	}
	c := w.copy(t)
	wantClean(t, c.source(t))
	return c
}

// TestForgedExcuses holds that a record which is added to the log of a stopped node, to explain a loss, is
// detected by Verify and by the next start.
func TestForgedExcuses(t *testing.T) {
	for name, forge := range map[string]func(t *testing.T, w *world) (op policy.Operation, target string){
		"files are removed": func(t *testing.T, w *world) (policy.Operation, string) {
			if err := errors.Join(os.Remove(fileName(w.Dir, 1)), os.Remove(leavesPath(w.Dir, 1))); err != nil {
				t.Fatal(err)
			}
			return OpRemoved, "1"
		},
		"a file is changed": func(t *testing.T, w *world) (policy.Operation, string) {
			b := files(t, w.Dir)[nameOf(1)]
			b[60] ^= 1
			put(t, w.Dir, nameOf(1), b)
			content, err := stateOf(w.Dir, nameOf(1))
			if err != nil {
				t.Fatal(err)
			}
			return OpLossAccepted, content
		},
		"nothing is done yet": func(*testing.T, *world) (policy.Operation, string) { return OpLossAccepted, nameOf(1) + "@missing" },
	} {
		t.Run(name, func(t *testing.T) {
			w := killed(t)
			op, target := forge(t, w)
			numbers, _ := list(w.Dir)
			last := nameOf(numbers[len(numbers)-1])
			put(t, w.Dir, last, appendRecord(files(t, w.Dir)[last], &kms.AuditRecord{
				Operation: op, Tenant: "default", Decision: "allow", By: "audit", Outcome: "ok", Target: target,
			}))
			if r := verify(t, w.source(t)); r.OK() {
				t.Errorf("it verifies: %+v", r)
			}
			var loss *LossError
			if _, err := Open(w.Options); !errors.As(err, &loss) || len(loss.Findings) == 0 {
				t.Errorf("it opens: %v", err)
			}
			if r, err := AcceptLoss(t.Context(), w.Options, 0, 0, policy.Caller{UID: 7, Known: true}); err != nil || r.OK() {
				t.Fatalf("%v, %v", r, err)
			}
			w.write(t, 2)
			if r := verify(t, w.source(t)); !r.OK() {
				t.Errorf("after it: %+v", r)
			}
		})
	}
}
