package audit

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also the child processes of these tests: the variable says which.
const childVariable = "KEYSIDE_AUDIT_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "":
		os.Exit(m.Run())
	case "write":
		writeUntilKilled(os.Args[1])
	case "failpoint":
		var last int64
		_, err := fmt.Sscan(os.Args[3], &last)
		if err == nil {
			err = dieAtArrow(os.Args[1], os.Args[2], last)
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	case "change":
		var last int64
		_, err := fmt.Sscan(os.Args[2], &last)
		if err == nil {
			err = dieChanging(os.Args[1], last)
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	case "full":
		if err := fillDisk(os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// writeUntilKilled records from many goroutines and prints the id of each record that was acknowledged.
func writeUntilKilled(dir string) {
	l, err := Open(killedOptions(dir))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	var next atomic.Int64
	for range 8 {
		go func() {
			for {
				id := fmt.Sprint(next.Add(1))
				if l.Record(context.Background(), sample(id)) == nil {
					os.Stdout.WriteString(id + "\n") // one write, unbuffered
				}
			}
		}()
	}
	select {}
}

// killedOptions are those of a log whose head is beside its folder.
func killedOptions(dir string) Options {
	return Options{Dir: dir, Sync: true, MaxFileSize: 64 << 10, Tenant: "default", Heads: &fileHeads{path: dir + ".heads"}}
}

// TestKilledWriter kills a writer in the midst of its work, looks for every record that it acknowledged, and verifies the log as
// it lies there and after the next start.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	acknowledged := map[string]bool{}
	for round := 1; round <= 5; round++ {
		for id := range runUntil(t, dir, 200*round) {
			acknowledged[fmt.Sprintf("%d-%s", round, id)] = true
		}
		o := killedOptions(dir)
		verified := func() {
			t.Helper()
			a, h, err := o.Heads.AuditHead()
			if err != nil {
				t.Fatal(err)
			}
			wantClean(t, Source{Dir: dir, Anchor: a, Head: h})
		}
		verified()
		l := open(t, o)
		if err := l.Record(context.Background(), sample("end")); err != nil {
			t.Fatal(err)
		}
		l.Close()
		verified()
	}
	round := 1
	for _, r := range lines(t, dir) {
		if r.RequestID == "end" {
			round++
		}
		delete(acknowledged, fmt.Sprintf("%d-%s", round, r.RequestID))
	}
	if len(acknowledged) > 0 {
		t.Errorf("%d acknowledged records are gone", len(acknowledged))
	}
}

// runUntil runs a writing child until it has acknowledged so many records, kills it, and returns all that it
// acknowledged.
func runUntil(t *testing.T, dir string, count int) map[string]bool {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), childVariable+"=write")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			if err != io.EOF || len(ids) < count {
				t.Errorf("child ended after %d records: %v %s", len(ids), err, line)
			}
			break
		}
		ids[strings.TrimSpace(line)] = true
		if len(ids) == count {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	return ids
}

// fillDisk runs in a process of its own, because the limit on the size of files, which stands for a full disk here, is
// the whole process's.
func fillDisk(dir string) error {
	l, err := Open(Options{Dir: dir, Sync: true})
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := limit(10_000); err != nil {
		return err
	}
	written := 0
	for ; l.Record(ctx, sample(fmt.Sprint("before-", written))) == nil; written++ {
		if written > 100 {
			return fmt.Errorf("the limit does nothing")
		}
	}
	var wg sync.WaitGroup
	var passed atomic.Int64
	for range 10 {
		wg.Go(func() {
			if l.Record(ctx, sample("lost")) == nil || l.Ready(ctx) == nil {
				passed.Add(1)
			}
		})
	}
	wg.Wait()
	if n := passed.Load(); n > 0 {
		return fmt.Errorf("%d of 10 records were acknowledged by a full disk", n)
	}
	if err := limit(unix.RLIM_INFINITY); err != nil {
		return err
	}
	if err := l.Ready(ctx); err != nil {
		return fmt.Errorf("not ready after there was room again: %w", err)
	}
	if err := l.Record(ctx, sample("after")); err != nil {
		return err
	}
	fmt.Println(written)
	return l.Close()
}

func limit(bytes uint64) error {
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY})
}

// TestFullDisk holds that nothing is acknowledged while the disk is full, that what was acknowledged before is whole,
// and that the log goes on by itself and says what it lost.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], dir)
	cmd.Env = append(os.Environ(), childVariable+"=full")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var written int
	if _, err := fmt.Sscan(string(out), &written); err != nil || written < 10 {
		t.Fatalf("child printed %q", out)
	}
	records := lines(t, dir)
	if len(records) != written+2 {
		t.Fatalf("%d records are there, want %d, a marker and one", len(records), written)
	}
	for i, r := range records[:written] {
		if r.RequestID != fmt.Sprint("before-", i) {
			t.Errorf("record %d is %s", i, r.RequestID)
		}
	}
	if marker := records[written]; marker.Operation != OpResumed || !strings.HasPrefix(marker.Warning, "11 records could not be written") {
		t.Errorf("marker is %+v", marker)
	}
}
