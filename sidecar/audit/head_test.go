package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"

	"github.com/keyside/keyside/sidecar/kms"
)

// fileHeads is a database of nothing but heads, in a file. It survives kills, like the real one.
type fileHeads struct {
	path string
	mu   sync.Mutex
	fail error // of the next writes
}

type storedHeads struct {
	Anchor, Head []byte
	Outbox       map[uint64][]byte
	Recorded     uint64
}

func (f *fileHeads) load() (s storedHeads, err error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// change stores what one transaction changes.
func (f *fileHeads) change(do func(*storedHeads)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	s, err := f.load()
	if err != nil {
		return err
	}
	if s.Outbox == nil {
		s.Outbox = map[uint64][]byte{}
	}
	do(&s)
	b, _ := json.Marshal(s)
	return errors.Join(os.WriteFile(f.path+".new", b, 0o600), os.Rename(f.path+".new", f.path))
}

func (f *fileHeads) AuditHead() (anchor, head []byte, err error) {
	s, err := f.load()
	return s.Anchor, s.Head, err
}

func (f *fileHeads) SetAuditHead(_ context.Context, anchor, head []byte, logged []uint64) error {
	return f.change(func(s *storedHeads) {
		if anchor != nil {
			s.Anchor = anchor
		}
		if head != nil {
			s.Head = head
		}
		for _, change := range logged {
			delete(s.Outbox, change)
		}
	})
}

func (f *fileHeads) AuditOutbox() (map[uint64][]byte, error) {
	s, err := f.load()
	return s.Outbox, err
}

func (f *fileHeads) LastRecorded() uint64 {
	s, _ := f.load()
	return s.Recorded
}

func (f *fileHeads) SkipChanges(_ context.Context, recorded, after uint64) error {
	return f.change(func(s *storedHeads) { s.Recorded = max(recorded, after) })
}

// commit makes a change that a record is of, and returns the record.
func (f *fileHeads) commit(t testing.TB, id string) *kms.AuditRecord {
	t.Helper()
	r := sample(id)
	if err := f.change(func(s *storedHeads) {
		r.Change, r.PreviousChange = s.Recorded+2, s.Recorded
		s.Outbox[r.Change], s.Recorded = appendRecord(nil, r), r.Change
	}); err != nil {
		t.Fatal(err)
	}
	return r
}

// head returns what is stored.
func (f *fileHeads) head(t testing.TB) (*anchor, *head) {
	t.Helper()
	a, h, err := loadHead(f)
	if err != nil {
		t.Fatal(err)
	}
	return a, h
}

// auditKey is an HSM that can be away.
type auditKey struct {
	key *ecdsa.PrivateKey
	mu  sync.Mutex
	err error
	n   int // signatures made
}

func newAuditKey(t testing.TB) *auditKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &auditKey{key: key}
}

func (k *auditKey) public(t testing.TB) []byte {
	der, err := x509.MarshalPKIXPublicKey(&k.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (k *auditKey) sign(_ context.Context, digest []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.err != nil {
		return nil, k.err
	}
	k.n++
	return ecdsa.SignASN1(rand.Reader, k.key, digest)
}

func (k *auditKey) away(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.err = err
}

// world is a folder with a log and its database.
type world struct {
	Options
	heads *fileHeads
	key   *auditKey
}

// newWorld returns a log of small files, each with some records, that is not open.
func newWorld(t testing.TB, maxFile int64) *world {
	t.Helper()
	top := t.TempDir()
	heads := &fileHeads{path: filepath.Join(top, "heads")}
	return &world{Options{
		Dir: filepath.Join(top, "audit"), Sync: true, MaxFileSize: maxFile, Tenant: "default", Heads: heads, journalSize: 1 << 14,
		watchEvery: time.Hour, // these tests damage the log's files
	}, heads, newAuditKey(t)}
}

// open opens it, and signs its checkpoints.
func (w *world) open(t testing.TB) *Log {
	t.Helper()
	l := open(t, w.Options)
	if err := l.SignCheckpoints(w.key.public(t), w.key.sign); err != nil {
		t.Fatal(err)
	}
	return l
}

// write opens it, records something and closes it in order.
func (w *world) write(t testing.TB, n int) {
	t.Helper()
	l := w.open(t)
	for i := range n {
		if err := l.Record(t.Context(), sample(fmt.Sprintf("%d-%d", n, i))); err != nil {
			t.Fatal(err)
		}
	}
	l.EndCheckpoints(t.Context())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// copy returns a copy of the folder.
func (w *world) copy(t testing.TB) *world {
	t.Helper()
	top := t.TempDir()
	if err := os.CopyFS(top, os.DirFS(filepath.Dir(w.Dir))); err != nil {
		t.Fatal(err)
	}
	c := *w
	c.heads = &fileHeads{path: filepath.Join(top, "heads")}
	c.Dir, c.Heads = filepath.Join(top, "audit"), c.heads
	return &c
}

// rootOf returns the root of all lines of a log, as RFC 6962 defines it.
func rootOf(t testing.TB, dir string) (root []byte, n uint64) {
	t.Helper()
	numbers, err := list(dir)
	if err != nil {
		t.Fatal(err)
	}
	var leaves [][]byte
	for _, number := range numbers {
		content, err := os.ReadFile(fileName(dir, number))
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(content) {
			leaves = append(leaves, rfc6962.DefaultHasher.HashLeaf(bytes.TrimSuffix(line, []byte("\n"))))
		}
	}
	return mth(leaves), uint64(len(leaves))
}

// mth is MTH of RFC 6962, 2.1.
func mth(d [][]byte) []byte {
	switch len(d) {
	case 0:
		return rfc6962.DefaultHasher.EmptyRoot()
	case 1:
		return d[0]
	}
	k := 1
	for 2*k < len(d) {
		k *= 2
	}
	return rfc6962.DefaultHasher.HashChildren(mth(d[:k]), mth(d[k:]))
}

// TestHeadIsTheLog holds that after every clean stop database and checkpoint have the root of all lines of all files, that
// the log carries on from there, and that every file that ended has a checkpoint.
func TestHeadIsTheLog(t *testing.T) {
	w := newWorld(t, 2000)
	for n := range 12 {
		w.write(t, n)
		root, size := rootOf(t, w.Dir)
		a, h := w.heads.head(t)
		if !bytes.Equal(h.Root, root) || h.Size != size || !h.Closed || h.Signed != size {
			t.Fatalf("round %d: head %+v, want %d records with root %x", n, h, size, root)
		}
		v, err := ParseVerifier(a.Keys[0])
		if err != nil || len(a.Keys) != 1 {
			t.Fatal(err)
		}
		numbers, _ := list(w.Dir)
		for _, number := range append(numbers[:len(numbers)-1:len(numbers)-1], 0) {
			name := fmt.Sprintf(checkpointOfFile, number)
			if number == 0 {
				name = checkpointName
			}
			b, err := os.ReadFile(filepath.Join(w.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			c, err := openCheckpoint(b, []note.Verifier{v})
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if number == 0 && (!bytes.Equal(c.tree.root(), root) || c.tree.size() != size || c.offset != h.Offset) {
				t.Errorf("%s has %d records with root %x", name, c.tree.size(), c.tree.root())
			}
		}
	}
	if numbers, _ := list(w.Dir); len(numbers) < 5 {
		t.Errorf("there are %d files", len(numbers))
	}
}

// TestStartRefusesLoss holds that a log which is not what was acknowledged is neither opened nor changed, and that the error
// says what is missing.
func TestStartRefusesLoss(t *testing.T) {
	w := newWorld(t, 3000)
	w.write(t, 20)
	numbers, _ := list(w.Dir)
	last := fmt.Sprintf(namePattern, numbers[len(numbers)-1])
	edit := func(name string, change func([]byte) []byte) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			path := filepath.Join(w.Dir, name)
			b, err := os.ReadFile(path)
			if err == nil {
				err = os.WriteFile(path, change(b), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	lastLine := func(b []byte) int { return bytes.LastIndexByte(b[:len(b)-1], '\n') + 1 }
	for name, c := range map[string]struct {
		damage func(*testing.T, *world)
		want   string
	}{
		"last record":  {edit(last, func(b []byte) []byte { return b[:lastLine(b)] }), "1 record is missing at the end: the log ends after record 20 of 21"},
		"last newline": {edit(last, func(b []byte) []byte { return b[:len(b)-1] }), "1 record is missing at the end"},
		"a bit":        {edit(last, func(b []byte) []byte { b[30] ^= 1; return b }), "were changed"},
		"added":        {edit(last, func(b []byte) []byte { return append(b, b[lastLine(b):]...) }), "1 record was added after the log was closed at record 21"},
		"last file":    {func(t *testing.T, w *world) { os.Remove(filepath.Join(w.Dir, last)) }, last + " is missing"},
		"all files": {func(t *testing.T, w *world) {
			for _, n := range numbers {
				os.Remove(fileName(w.Dir, n))
			}
		}, last + " is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.copy(t)
			c.damage(t, w)
			before := contentOf(t, w.Dir)
			_, err := Open(w.Options)
			var loss *LossError
			if !errors.As(err, &loss) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("it says %v, which lacks %q", err, c.want)
			}
			if after := contentOf(t, w.Dir); after != before {
				t.Errorf("the folder was changed")
			}
		})
	}
}

// contentOf is all that a folder has.
func contentOf(t testing.TB, dir string) string {
	t.Helper()
	var b strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s %q\n", e.Name(), content)
	}
	return b.String()
}

// TestOlderLogBecomesOne holds that a log from before there were heads is taken in whole, and says so.
func TestOlderLogBecomesOne(t *testing.T) {
	w := newWorld(t, 2000)
	old := w.Options
	old.Heads = nil
	l := open(t, old)
	for i := range 20 {
		if err := l.Record(t.Context(), sample(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	w.write(t, 3)
	records := lines(t, w.Dir)
	if r := records[20]; r.Operation != OpBegun || !strings.Contains(r.Warning, "20 records before") {
		t.Errorf("record 21 is %+v", r)
	}
	root, size := rootOf(t, w.Dir)
	if _, h := w.heads.head(t); !bytes.Equal(root, h.Root) || size != h.Size || h.Signed != size {
		t.Errorf("head %+v of %d records", h, size)
	}
	numbers, _ := list(w.Dir)
	for _, n := range numbers[:len(numbers)-1] {
		if _, err := os.Stat(filepath.Join(w.Dir, fmt.Sprintf(checkpointOfFile, n))); err != nil {
			t.Error(err)
		}
	}
}

// TestHSMThatCannotSign holds that records are written as ever while checkpoints cannot be signed, that this is said once, and
// that a later checkpoint covers them.
func TestHSMThatCannotSign(t *testing.T) {
	w := newWorld(t, 2000)
	var log bytes.Buffer
	w.Logger = textLogger(&log)
	w.key.away(errors.New("unplugged"))
	for range 2 {
		w.write(t, 12)
	}
	if _, h := w.heads.head(t); h.Signed != 0 || w.key.n != 0 {
		t.Errorf("head %+v", h)
	}
	if n := strings.Count(log.String(), "cannot sign a checkpoint of the audit log"); n != 2 {
		t.Errorf("it is said %d times in two runs:\n%s", n, log.String())
	}
	w.key.away(nil)
	w.write(t, 0)
	root, size := rootOf(t, w.Dir)
	if _, h := w.heads.head(t); h.Signed != size || !bytes.Equal(h.Root, root) {
		t.Errorf("head %+v of %d records", h, size)
	}
	numbers, _ := list(w.Dir)
	if n := w.key.n; n != len(numbers) {
		t.Errorf("%d checkpoints for %d files", n, len(numbers))
	}
}

// TestCheckpointInTheBackground holds that checkpoints are signed in the background.
func TestCheckpointInTheBackground(t *testing.T) {
	w := newWorld(t, 1500)
	l := w.open(t)
	for i := range 10 {
		if err := l.Record(t.Context(), sample(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	until(t, func() bool { return l.Unsigned() == 0 })
}

func until(t testing.TB, works func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !works(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not in time")
		}
	}
}

// TestHeadFollows holds that a database that fails from time to time delays no operation, and has the newest head in the end.
func TestHeadFollows(t *testing.T) {
	w := newWorld(t, 0)
	l := w.open(t)
	w.heads.mu.Lock()
	w.heads.fail = errors.New("full")
	w.heads.mu.Unlock()
	for i := range 10 {
		if err := l.Record(t.Context(), sample(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	w.heads.mu.Lock()
	w.heads.fail = nil
	w.heads.mu.Unlock()
	until(t, func() bool { _, h := w.heads.head(t); return h.Size == 11 })
}

// TestAuditKeyChanges holds that another key of the tenant's is on record and that the old one stays known.
func TestAuditKeyChanges(t *testing.T) {
	w := newWorld(t, 0)
	w.write(t, 1)
	w.key = newAuditKey(t)
	w.write(t, 1)
	a, _ := w.heads.head(t)
	records := lines(t, w.Dir)
	if r := records[2]; len(a.Keys) != 2 || r.Operation != OpKeyChanged || r.Target != a.Keys[1] {
		t.Errorf("keys %q, record %+v", a.Keys, r)
	}
}

// FuzzHead reads any bytes as what the database has of a log.
func FuzzHead(f *testing.F) {
	w := newWorld(f, 1000)
	w.write(f, 9)
	a, h, err := w.heads.AuditHead()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a, h)
	f.Fuzz(func(t *testing.T, a, h []byte) {
		anchor, head, err := decodeHeads(a, h)
		if err != nil {
			return
		}
		if start, err := treeOf(anchor.Size, anchor.Hashes); err != nil || start.size() > head.Size || len(head.Root) != hashSize {
			t.Errorf("it takes %s and %s", a, h)
		}
	})
}

// FuzzCheckpoint reads any bytes as a checkpoint: what it takes has one form only, and is signed.
func FuzzCheckpoint(f *testing.F) {
	w := newWorld(f, 1000)
	w.write(f, 9)
	anchor, _ := w.heads.head(f)
	for _, name := range []string{checkpointName, fmt.Sprintf(checkpointOfFile, 1)} {
		b, err := os.ReadFile(filepath.Join(w.Dir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseCheckpoint(string(b)); err == nil && c.text() != string(b) {
			t.Errorf("another form of %q", c.text())
		}
		if c, err := openCheckpoint(b, anchor.verifiers()); err == nil && !bytes.HasPrefix(b, []byte(c.text())) {
			t.Errorf("it takes %q", b)
		}
	})
}

// TestCheckpointBits holds that no bit of a checkpoint can be another.
func TestCheckpointBits(t *testing.T) {
	w := newWorld(t, 0)
	w.write(t, 5)
	a, _ := w.heads.head(t)
	b, err := os.ReadFile(filepath.Join(w.Dir, checkpointName))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openCheckpoint(b, a.verifiers()); err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if _, err := openCheckpoint(b, a.verifiers()); err == nil {
			t.Errorf("bit %d of %q", i, b)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

func textLogger(w *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
