package store

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/keyside/keyside/sidecar/kms"
)

// The test binary is also the process that is killed: the variable says so.
const childVariable = "KEYSIDE_STORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	child := changeUntilKilled
	if len(os.Args) > 3 {
		child = dieAtArrow
	}
	if err := child(os.Args[1], os.Args[2]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// changeUntilKilled makes keys, disables every second one and reserves messages for each, from several goroutines, and
// prints each change once it is acknowledged.
func changeUntilKilled(dir, round string) error {
	s, err := Open(Options{Create: true, Dir: dir, Tenant: "default"})
	if err != nil {
		return err
	}
	failed := make(chan error)
	for g := range 4 {
		go func() {
			for i := 0; ; i++ {
				if err := changeOnce(s, fmt.Sprintf("%s-%d-%d", round, g, i), i%2 == 1); err != nil {
					failed <- err
				}
			}
		}()
	}
	return <-failed
}

func changeOnce(s *Store, alias string, disable bool) error {
	say := func(format string, a ...any) { os.Stdout.WriteString(fmt.Sprintf(format, a...)) } // unbuffered
	k := newKey(alias)
	if err := s.CreateKey(ctx, k, 1<<30); err != nil {
		return err
	}
	say("created %s %s 0\n", k.ID, alias)
	if disable {
		if _, err := s.UpdateKey(ctx, k.ID, func(k *kms.Key) error { k.State = kms.Disabled; return nil }); err != nil {
			return err
		}
		say("disabled %s %s 0\n", k.ID, alias)
	}
	first, err := s.ReserveMessages(ctx, k.ID, 1, 100)
	if err != nil {
		return err
	}
	say("reserved %s %s %d\n", k.ID, alias, first+100)
	return nil
}

// acknowledged is what a killed process said of one key.
type acknowledged struct {
	alias    string
	disabled bool
	reserved uint64
}

// TestKilledWriter kills a writer in the midst of its work, again and again, and holds that every change that it
// acknowledged is there and every key is whole.
func TestKilledWriter(t *testing.T) {
	dir := t.TempDir()
	said := map[string]acknowledged{}
	for round := range 5 {
		killAfter(t, dir, round, 60+17*round, said)
		s := open(t, Options{Dir: dir})
		checkSaid(t, s, said)
		s.Close()
	}
}

func killAfter(t *testing.T, dir string, round, count int, said map[string]acknowledged) {
	t.Helper()
	cmd := exec.Command(os.Args[0], dir, fmt.Sprint("round", round))
	cmd.Env = append(os.Environ(), childVariable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	for n := 0; ; n++ {
		line, err := in.ReadString('\n')
		if err != nil {
			if err != io.EOF || n < count {
				t.Errorf("child ended after %d changes: %v", n, err)
			}
			break
		}
		var what, id, alias string
		var reserved uint64
		if _, err := fmt.Sscan(line, &what, &id, &alias, &reserved); err != nil || what == "error" {
			t.Fatalf("child said %q", line)
		}
		a := said[id]
		a.alias, a.disabled, a.reserved = alias, a.disabled || what == "disabled", max(a.reserved, reserved)
		said[id] = a
		if n == count {
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
}

// checkSaid compares the database with what was acknowledged. There may be more: a change that was made and not
// acknowledged before the kill, which must be whole too.
func checkSaid(t *testing.T, s *Store, said map[string]acknowledged) {
	t.Helper()
	keys, total, err := s.ListKeys(ctx, kms.KeyFilter{}, 0, 1<<30)
	if err != nil || len(keys) != total || total < len(said) {
		t.Fatalf("%d keys of %d (%v), %d were acknowledged", len(keys), total, err, len(said))
	}
	found := 0
	for _, k := range keys {
		if k, err = s.Key(ctx, k.ID); err != nil {
			t.Fatal(err)
		}
		want := newKey(k.Alias)
		want.ID, want.State = k.ID, k.State
		if !equal(k, want) {
			t.Errorf("key is not whole: %+v", k)
		}
		if err := s.CheckNew(ctx, k.Alias, 1<<30); codeOf(err) != kms.CodeAlreadyExists {
			t.Errorf("alias of %s is free (%v)", k.Alias, err)
		}
		a, ok := said[k.ID.String()]
		if !ok {
			continue
		}
		found++
		if a.alias != k.Alias || (a.disabled && k.State != kms.Disabled) {
			t.Errorf("key %+v was acknowledged as %+v", k, a)
		}
		if first, err := s.ReserveMessages(ctx, k.ID, 1, 0); err != nil || first < a.reserved {
			t.Errorf("%d messages are reserved (%v), %d were acknowledged", first, err, a.reserved)
		}
	}
	if found != len(said) {
		t.Errorf("%d acknowledged keys are gone", len(said)-found)
	}
}

// leftByKill copies the files of an open database as a kill would leave them: all of one moment, though badger works on.
func leftByKill(t testing.TB, s *Store) string {
	t.Helper()
	for range 100 {
		before := directory(s.opts.Dir)
		copied := t.TempDir()
		err := os.CopyFS(copied, os.DirFS(s.opts.Dir))
		if err == nil && before != "" && before == directory(s.opts.Dir) && before == directory(copied) {
			return copied
		}
	}
	t.Fatal("database does not come to rest")
	return ""
}

// directory returns the names of a database's files and the content of the one that lists the tables.
func directory(dir string) (all string) {
	entries, err := os.ReadDir(dir)
	manifest, manifestErr := os.ReadFile(filepath.Join(dir, "MANIFEST"))
	if err != nil || manifestErr != nil {
		return ""
	}
	for _, e := range entries {
		all += e.Name() + "\n"
	}
	return all + string(manifest)
}
