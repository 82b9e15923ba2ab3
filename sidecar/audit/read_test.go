package audit

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// mixedLog is an open log over several files, whose records differ in what queries look at.
func mixedLog(t testing.TB) (*world, *Log) {
	t.Helper()
	w := newWorld(t, 2500)
	l := w.open(t)
	for i := range 40 {
		r := sample(fmt.Sprint("r", i))
		r.Time = r.Time.AddDate(0, 0, i)
		if i%4 == 1 {
			r.Principal, r.Decision, r.Outcome, r.KeyID = "app", "deny", "Denied", ""
		}
		if i%5 == 2 {
			r.Operation, r.Trace = policy.OpSign, policy.OpSign.Trace()
		}
		if err := l.Record(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	return w, l
}

// ids reads what a query selects, and holds each entry to its place in the files.
func ids(t testing.TB, l *Log, q Query) (out []string) {
	t.Helper()
	if err := l.Read(t.Context(), q, func(e Entry) error {
		var r kms.AuditRecord
		if err := json.Unmarshal(e.JSON, &r); err != nil {
			return err
		}
		out = append(out, r.RequestID)
		b, err := os.ReadFile(filepath.Join(l.opts.Dir, e.File))
		if err != nil {
			return err
		}
		if line := bytes.Split(b, []byte("\n"))[e.Line-1]; !bytes.Equal(line, e.JSON) {
			t.Errorf("%s:%d is %s", e.File, e.Line, line)
		}
		var n int
		if _, err := fmt.Sscanf(r.RequestID, "r%d", &n); err == nil && e.Record != uint64(n)+2 { // the log's own first
			t.Errorf("%s has the number %d", r.RequestID, e.Record)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestQuery holds what each condition selects.
func TestQuery(t *testing.T) {
	_, l := mixedLog(t)
	day := sample("").Time
	for name, c := range map[string]struct {
		q    Query
		want func(i int) bool
	}{
		"principal": {Query{Principal: "app"}, func(i int) bool { return i%4 == 1 }},
		"key":       {Query{Key: sample("").KeyID}, func(i int) bool { return i%4 != 1 }},
		"source":    {Query{Key: sample("").SourceKeyID}, func(i int) bool { return true }},
		"operation": {Query{Operation: "sign"}, func(i int) bool { return i%5 == 2 }},
		"trace":     {Query{Operation: "encryptData"}, func(i int) bool { return i%5 != 2 }},
		"neutral":   {Query{Operation: "encrypt"}, func(i int) bool { return i%5 != 2 }},
		"decision":  {Query{Decision: "deny"}, func(i int) bool { return i%4 == 1 }},
		"an alias":  {Query{Operation: "kms:Encrypt"}, func(i int) bool { return i%5 != 2 }},
		"undecided": {Query{Decision: "undecided"}, func(i int) bool { return false }},
		"outcome":   {Query{Outcome: "Denied", Operation: "sign"}, func(i int) bool { return i%4 == 1 && i%5 == 2 }},
		"request":   {Query{RequestID: "r17"}, func(i int) bool { return i == 17 }},
		"since":     {Query{Since: day.AddDate(0, 0, 30), Principal: "owner"}, func(i int) bool { return i >= 30 && i%4 != 1 }},
		"until":     {Query{Until: day.AddDate(0, 0, 3)}, func(i int) bool { return i < 3 }},
		"between":   {Query{Since: day.AddDate(0, 0, 7), Until: day.AddDate(0, 0, 9)}, func(i int) bool { return i == 7 || i == 8 }},
		"last":      {Query{Last: 3, Principal: "owner"}, func(i int) bool { return i == 36 || i == 38 || i == 39 }},
		"last many": {Query{Last: 1000, Principal: "owner"}, func(i int) bool { return i%4 != 1 }},
		"nothing":   {Query{Outcome: "x"}, func(i int) bool { return false }},
	} {
		var want []string
		for i := range 40 {
			if c.want(i) {
				want = append(want, fmt.Sprint("r", i))
			}
		}
		if got := ids(t, l, c.q); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := ids(t, l, Query{}); len(got) != 41 || got[0] != "" {
		t.Errorf("all are %v", got)
	}
}

// TestFormerCodes holds that a query for a code finds the records that have its former names, and the other way round.
func TestFormerCodes(t *testing.T) {
	for _, c := range []struct {
		asked, recorded string
		found           bool
	}{
		{"KeyPendingDeletion", "KeyPendingDelete", true}, {"KeyPendingDelete", "KeyPendingDeletion", true},
		{"KeyPendingDeletion", "AlreadyPending", true}, {"KeyPendingDelete", "AlreadyPending", false},
		{"KeyPendingDelete", "KeyPendingDelete", true}, {"KeyPendingDeletion", "KeyPendingDeletion", true},
		{"Denied", "Denied", true}, {"Denied", "ok", false}, {"ok", "Deadline", false}, {"x", "ok", false},
	} {
		q := Query{Outcome: c.asked}
		if got := q.accepts(fmt.Appendf(nil, `{"outcome":%q}`, c.recorded)); got != c.found {
			t.Errorf("a query for %s finds %s: %t", c.asked, c.recorded, got)
		}
	}
	for former, code := range formerCodes {
		if slices.Contains(kms.Codes, kms.Code(former)) || !slices.Contains(kms.Codes, code) {
			t.Errorf("%s is listed as a former name of %s", former, code)
		}
	}
}

// TestDecisions tells refusals for lack of a right from those of malformed requests and of too many.
func TestDecisions(t *testing.T) {
	for outcome, want := range map[string]string{"Denied": "deny", "Unauthenticated": "deny", "TokenExpired": "deny",
		"InvalidRequest": "undecided", "DataTooLong": "undecided", "NotFound": "undecided", "Busy": "undecided"} {
		for _, asked := range []string{"allow", "deny", "undecided"} {
			q := Query{Decision: asked}
			if got := q.accepts(fmt.Appendf(nil, `{"decision":"deny","outcome":%q}`, outcome)); got != (asked == want) {
				t.Errorf("a query for %s finds %s: %t", asked, outcome, got)
			}
		}
	}
	if !(&Query{Decision: "allow"}).accepts([]byte(`{"decision":"allow","outcome":"KeyDisabled"}`)) {
		t.Error("what was allowed and failed is not found")
	}
}

// TestFollow holds that a follower gets every record once and in order, across files, until its context ends.
func TestFollow(t *testing.T) {
	w, l := mixedLog(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var mu sync.Mutex
	var seen []uint64
	done := make(chan error, 1)
	go func() {
		done <- l.Read(ctx, Query{Last: 2, Follow: true, Principal: "owner"}, func(e Entry) error {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, e.Record)
			return nil
		})
	}()
	count := func() int { mu.Lock(); defer mu.Unlock(); return len(seen) }
	until(t, func() bool { return count() == 2 })
	fill(t, l, 0)
	until(t, func() bool { return count() == 202 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for i, n := range seen {
		if n != uint64(40+i) {
			t.Fatalf("records %v", seen)
		}
	}
	if numbers, _ := list(w.Dir); len(numbers) < 20 {
		t.Errorf("%d files", len(numbers))
	}
	stop := errors.New("stop")
	if err := l.Read(t.Context(), Query{Follow: true}, func(Entry) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("an error of the reader's is %v", err)
	}
}

// export unpacks an export into a folder.
func export(t testing.TB, l *Log) (dir string, left uint64) {
	t.Helper()
	var b bytes.Buffer
	left, err := l.Export(t.Context(), &b)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			return dir, left
		}
		content, readErr := io.ReadAll(r)
		if err = errors.Join(err, readErr); err != nil {
			t.Fatal(err)
		}
		put(t, dir, h.Name, content)
	}
}

// TestExport holds that what is exported from a log that is written verifies without the database, as far as the HSM signs.
func TestExport(t *testing.T) {
	w, l := mixedLog(t)
	for range 5 {
		begun, done := make(chan struct{}), make(chan struct{})
		go func() { // so many that the export of all of them takes no longer than their writing
			defer close(done)
			for i := range 100 {
				_ = l.Record(context.Background(), sample("x"))
				if i == 0 {
					close(begun)
				}
			}
		}()
		<-begun
		dir, _ := export(t, l)
		keys, err := os.ReadFile(filepath.Join(dir, KeysName))
		if err != nil {
			t.Fatal(err)
		}
		v, err := ParseVerifier(strings.TrimSpace(string(keys)))
		if err != nil {
			t.Fatal(err)
		}
		r := wantClean(t, Source{Dir: dir, Keys: (&anchor{Keys: []string{v.(*verifier).String()}}).verifiers()})
		if r.Signed != r.Records || r.Records < 41 || len(r.Notes) > 0 {
			t.Errorf("%+v", r)
		}
		<-done
	}
	w.key.away(errors.New("unplugged"))
	before, _ := export(t, l)
	for range 7 {
		if err := l.Record(t.Context(), sample("unsigned")); err != nil {
			t.Fatal(err)
		}
	}
	after, left := export(t, l)
	if left < 7 || contentOf(t, before) != contentOf(t, after) {
		t.Errorf("without the HSM %d records are left out", left)
	}
}
