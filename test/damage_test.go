package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	bigendian "encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// ordinary is a uid without any rights of its own, as which a node runs here: to root no file is read-only.
const ordinary = 64400

// damaged is a node whose files a test damages, with a key and a grant on it.
type damaged struct {
	*testing.T
	*client.Client
	options node.Options
	node    *node.Node
	key     string
	grant   string
}

// startDamaged starts a node as a user, 0 for this one, whose administrator is this process, with "app" as whom grants are to.
func startDamaged(t *testing.T, uid uint32) *damaged {
	t.Helper()
	dir, err := os.MkdirTemp("", "damaged") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &damaged{T: t, options: node.Options{Binary: filepath.Join(dir, "keyside"), Dir: filepath.Join(dir, "data"), Driver: "soft", Mode: "direct", UID: uid}}
	program, err := os.ReadFile(binary)
	err = errors.Join(err, os.WriteFile(n.options.Binary, program, 0o755), os.Mkdir(n.options.Dir, 0o700),
		os.Chmod(dir, 0o755))
	if uid != 0 {
		err = errors.Join(err, os.Chown(n.options.Dir, int(uid), int(uid)))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Edit(t.Context(), n.options, func(config map[string]any) {
		config["socket_mode"] = "0666"
		principals := []map[string]any{{"name": "app", "uid": 64401}}
		if uid != 0 {
			principals = append(principals, map[string]any{"name": "admin", "uid": os.Getuid(), "role": "administrator"})
		}
		config["principals"] = principals
		config["hsm"].(map[string]any)["canary"] = "1s"
	}); err != nil {
		t.Fatal(err)
	}
	n.start()
	key, err := n.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "key"})
	if err != nil {
		t.Fatal(err)
	}
	n.key = key.ID
	grant, err := n.CreateGrant(t.Context(), client.CreateGrantRequest{KeyID: n.key, Grantee: "app", Operations: []string{"describe-key"}})
	if err != nil {
		t.Fatal(err)
	}
	n.grant = grant.ID
	return n
}

func (n *damaged) start() {
	n.Helper()
	var err error
	if n.node, err = node.Start(n.Context(), n.options); err != nil {
		n.Fatal(err)
	}
	n.Cleanup(n.stop)
	n.Client = client.New(n.node.Socket)
	n.Cleanup(n.Client.Close)
}

func (n *damaged) stop() {
	n.Helper()
	if n.node == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if err := n.node.Stop(ctx); err != nil {
		n.Error(err)
	}
	n.node = nil
}

// path is that of something in the node's folder.
func (n *damaged) path(parts ...string) string {
	return filepath.Join(append([]string{n.options.Dir}, parts...)...)
}

// chmod changes the modes of a directory and of the files in it.
func (n *damaged) chmod(name string, directory, files os.FileMode) {
	n.Helper()
	entries, err := os.ReadDir(n.path(name))
	if err == nil {
		err = os.Chmod(n.path(name), directory)
	}
	for _, e := range entries {
		err = errors.Join(err, os.Chmod(n.path(name, e.Name()), files))
	}
	if err != nil {
		n.Fatal(err)
	}
}

// refusesToStart starts the node, which must end and say all of the words.
func (n *damaged) refusesToStart(what string, words ...string) {
	n.Helper()
	n.stop()
	ctx, cancel := context.WithTimeout(n.Context(), deadline)
	defer cancel()
	running, err := node.Start(ctx, n.options)
	if err == nil {
		_ = running.Stop(ctx)
		n.Errorf("%s: it starts", what)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			n.Errorf("%s: it does not say %q: %v", what, word, err)
		}
	}
	if strings.Contains(err.Error(), "goroutine ") {
		n.Errorf("%s: it crashed: %v", what, err)
	}
}

// may reports whether app may do an operation with the key, as it would be decided.
func (n *damaged) may(operation string) bool {
	n.Helper()
	d, err := n.CanI(n.Context(), client.CanIRequest{Operation: operation, Key: n.key, As: "app"})
	if err != nil {
		n.Fatal(err)
	}
	return d.Allowed
}

// tryToGrant asks for a grant that must be refused for what is wrong with the node, and returns the request's id.
func (n *damaged) tryToGrant(what, operation string) (request string) {
	n.Helper()
	_, err := n.CreateGrant(n.Context(), client.CreateGrantRequest{KeyID: n.key, Grantee: "app", Operations: []string{operation}})
	refused := new(client.Error)
	if !errors.As(err, &refused) || refused.Status != http.StatusInternalServerError || refused.Code != "Internal" {
		n.Fatalf("%s: a grant is answered with %v", what, err)
	}
	return refused.RequestID
}

// unhealthy waits until /healthz says so of a part.
func (n *damaged) unhealthy(part string) {
	n.Helper()
	waitFor(n.T, part+" is unavailable", func() bool {
		h, err := n.Health(n.Context())
		return err == nil && !h.OK() && h.Checks[part] == "unavailable"
	})
}

// goesOn makes and revokes a grant: all is well again.
func (n *damaged) goesOn() {
	n.Helper()
	waitFor(n.T, "healthy", func() bool { h, err := n.Health(n.Context()); return err == nil && h.OK() })
	grant, err := n.CreateGrant(n.Context(), client.CreateGrantRequest{KeyID: n.key, Grantee: "app", Operations: []string{"sign"}})
	if err != nil || !n.may("sign") {
		n.Errorf("a grant after all is well again: %v", err)
	}
	if err := n.RevokeGrant(n.Context(), n.key, grant.ID); err != nil || n.may("sign") {
		n.Errorf("its revocation: %v", err)
	}
	if !n.may("describe-key") {
		n.Error("the grant from before is lost")
	}
}

// outcome returns what the audit log says of a request, "" where it is on no record.
func (n *damaged) outcome(request string) string {
	n.Helper()
	files, err := filepath.Glob(n.path("audit", "*.jsonl"))
	if err != nil {
		n.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			n.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var r struct {
				ID      string `json:"request_id"`
				Outcome string `json:"outcome"`
			}
			if json.Unmarshal(line, &r) == nil && r.ID == request {
				return r.Outcome
			}
		}
	}
	return ""
}

// TestReadOnlyDatabase makes the database read-only, while the node does not run and while it does: it says so, grants
// nothing, and goes on when it may write again.
func TestReadOnlyDatabase(t *testing.T) {
	n := startDamaged(t, ordinary)
	n.stop()
	for _, c := range []struct {
		what, folder     string
		directory, files os.FileMode
	}{{"directory", "db", 0o500, 0o600}, {"files", "db", 0o700, 0o400}, {"audit log", "audit", 0o500, 0o400}} {
		n.chmod(c.folder, c.directory, c.files)
		n.refusesToStart(c.what+" is read-only", n.path(c.folder), "permission denied")
		n.chmod(c.folder, 0o700, 0o600)
	}
	n.start()
	n.goesOn()

	n.chmod("db", 0o500, 0o400)
	refused := n.tryToGrant("read-only", "encrypt-data")
	n.unhealthy("store")
	if got := n.outcome(refused); got != "Internal" {
		t.Errorf("the refused grant is on record as %q", got)
	}
	if !strings.Contains(n.node.Output(), fmt.Sprintf("cannot be written by uid %d", ordinary)) {
		t.Errorf("the log does not say what is wrong:\n%s", n.node.Output())
	}
	n.chmod("db", 0o700, 0o600)
	n.goesOn()
	if n.may("encrypt-data") {
		t.Error("what was refused is granted")
	}
	n.stop()
	n.start()
	n.goesOn()
}

// limitFiles sets how long files may become that the sidecar writes: it stands for a full disk.
func (n *damaged) limitFiles(bytes uint64) {
	n.Helper()
	for _, pid := range n.node.Processes("sidecar") {
		if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: bytes, Max: unix.RLIM_INFINITY}, nil); err != nil {
			n.Fatal(err)
		}
	}
}

// size is that of the longest file of a folder whose name matches.
func (n *damaged) size(pattern string) (most uint64) {
	n.Helper()
	files, err := filepath.Glob(n.path(pattern))
	if err != nil || len(files) == 0 {
		n.Fatalf("no file is %s: %v", pattern, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			most = max(most, uint64(info.Size()))
		}
	}
	return most
}

// recordedGrants counts the records of grants that were created.
func (n *damaged) recordedGrants() (count int) {
	n.Helper()
	files, err := filepath.Glob(n.path("audit/*.jsonl"))
	if err != nil {
		n.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			n.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if strings.Contains(line, `"operation":"create-grant"`) && strings.Contains(line, `"outcome":"ok"`) {
				count++
			}
		}
	}
	return count
}

// TestFullDisk leaves no room for the audit log, and then for the database. A change that was committed before its record could be
// written is answered as done and recorded later; further ones are refused, and it continues when there is room. A database with a
// commit of unknown outcome ends the process, which is started again.
func TestFullDisk(t *testing.T) {
	n := startDamaged(t, 0)
	recorded := n.recordedGrants()
	n.limitFiles(n.size("audit/*.jsonl") + 20)
	_, err := n.CreateGrant(t.Context(), client.CreateGrantRequest{KeyID: n.key, Grantee: "app", Operations: []string{"encrypt"}})
	if err != nil {
		t.Fatalf("a change that took effect is answered with %v", err)
	}
	refused := n.tryToGrant("audit log is full", "decrypt")
	n.unhealthy("audit")
	n.limitFiles(unix.RLIM_INFINITY)
	n.goesOn()
	if !n.may("encrypt-data") || n.may("decrypt-data") {
		t.Error("what was answered is not what was done")
	}
	if got := n.recordedGrants() - recorded; got != 2 { // the one before the log failed, and the one afterwards
		t.Errorf("%d grants are on record, want 2", got)
	}
	if got := n.outcome(refused); got == "ok" {
		t.Errorf("what was refused is on record as %q", got)
	}

	n.limitFiles(4 << 20) // less than the next log of the database will have, more than the audit log
	made := map[string]bool{n.grant: true}
	var last string // name of the grant that was asked for last, or id of the one whose revocation was
	for i := 0; ; i++ {
		last = fmt.Sprint(i)
		var grant *client.Grant
		grant, err = n.CreateGrant(t.Context(), client.CreateGrantRequest{
			KeyID: n.key, Name: last, Grantee: "app", Operations: []string{"encrypt-data"},
			Constraints: client.Constraints{Context: map[string]string{"pad": strings.Repeat("x", 8000)}, ContextExact: true},
		})
		if err != nil {
			break
		}
		if made[grant.ID] = true; i%2 == 1 {
			last = grant.ID
			if err = n.RevokeGrant(t.Context(), n.key, last); err != nil {
				break
			}
			delete(made, grant.ID)
		}
		if i > 1000 {
			t.Fatal("the database needs no room")
		}
		if len(made) > 90 {
			for id := range made {
				if id != n.grant && n.RevokeGrant(t.Context(), n.key, id) == nil {
					delete(made, id)
				}
			}
		}
	}
	failed := new(client.Error)
	if !errors.As(err, &failed) || failed.Status != http.StatusInternalServerError || failed.Code != "Internal" {
		t.Errorf("a change whose commit fails is answered with %v", err)
	}
	waitFor(t, "the sidecar ends and is started again", func() bool {
		return strings.Count(n.node.Output(), `msg="process started" process=sidecar`) > 1
	})
	n.goesOn()
	n.stop()
	n.start()
	n.goesOn()
	grants, byName := n.grants()
	for id := range made {
		if !grants[id] && id != last {
			t.Errorf("grant %s was acknowledged and is lost", id)
		}
	}
	// Whether the failed change took effect was not known when it was answered. Now the log agrees with the database.
	effect := byName[last] // a grant that was asked for
	if made[last] {
		effect = !grants[last] // a revocation
	}
	if got := n.outcome(failed.RequestID); effect != (got == "ok") {
		t.Errorf("the change that failed took effect: %t, and is on record as %q", effect, got)
	}
}

// grants returns the ids and the names of all grants of the key.
func (n *damaged) grants() (ids, names map[string]bool) {
	n.Helper()
	ids, names = map[string]bool{}, map[string]bool{}
	for marker := ""; ; {
		page, err := n.ListGrants(n.Context(), client.ListGrantsRequest{KeyID: n.key, Page: client.Page{Marker: marker}})
		if err != nil {
			n.Fatal(err)
		}
		for _, g := range page.Grants {
			ids[g.ID], names[g.Name] = true, true
		}
		if marker = page.NextMarker; marker == "" {
			return ids, names
		}
	}
}

// TestCorruptedValues changes one bit of what is stored: of a grant, of a key, of the count that the index is held to, in the
// database's values, in its tables and in the log that a kill leaves. No node starts, each says what to do, and with the
// backup it goes on.
func TestCorruptedValues(t *testing.T) {
	n := startDamaged(t, 0)
	grant := []byte(`"grantee":"app"`)
	n.stop()
	backup := filepath.Join(t.TempDir(), "db")
	if err := os.CopyFS(backup, os.DirFS(n.path("db"))); err != nil {
		t.Fatal(err)
	}
	anchor, err := os.ReadFile(n.path("audit/database.anchor"))
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		t.Helper()
		if err := errors.Join(
			os.RemoveAll(n.path("db")), os.CopyFS(n.path("db"), os.DirFS(backup)), os.WriteFile(n.path("audit/database.anchor"), anchor, 0o600),
		); err != nil {
			t.Fatal(err)
		}
	}
	n.flip("a table", "*.sst", grant)
	n.refusesToStart("a table", "restore the database from a backup", ".sst")
	restore()
	for _, c := range []struct {
		prefix byte
		what   string
		words  []string
	}{
		{'g', "a grant", []string{"grant " + n.grant, strings.ReplaceAll(n.key, "-", ""), "restore the database from a backup"}},
		{'r', "a key", []string{n.key, "backup"}},
		{'n', "the index", []string{"damaged", "backup"}},
	} {
		n.tamper(c.prefix)
		n.refusesToStart(c.what, c.words...)
		restore()
	}
	n.forge()
	n.refusesToStart("a forged grant", "grant "+n.grant, "was not made by this tenant", "restore the database from a backup")
	restore()
	n.start()
	n.goesOn()
	sidecar := n.node.Processes("sidecar")
	for _, pid := range append(sidecar, n.node.PID()) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	waitFor(t, "its end", func() bool { return dead(n.node.PID()) == nil && dead(sidecar[0]) == nil })
	n.stop()
	n.flip("a log", "*.mem", []byte(`"grantee":"app","operations":["sign"]`))
	n.refusesToStart("a log", ".mem", "restore the database from a backup")
}

// flip changes a bit of a text in one of the database's files.
func (n *damaged) flip(what, pattern string, text []byte) {
	n.Helper()
	files, err := filepath.Glob(n.path("db", pattern))
	if err != nil {
		n.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			n.Fatal(err)
		}
		if at := bytes.Index(content, text); at >= 0 {
			content[at+len(text)-2] ^= 1
			if err := os.WriteFile(file, content, 0o600); err != nil {
				n.Fatal(err)
			}
			return
		}
	}
	n.Fatalf("%s: no file %s has %s", what, pattern, text)
}

// tamper changes a bit of the first value under a prefix, in a database that is sound otherwise.
func (n *damaged) tamper(prefix byte) {
	n.Helper()
	n.rewrite(prefix, func(_, value []byte) []byte {
		value[len(value)/2] ^= 1
		return value
	})
}

// forge makes a grant another user's, with the matching checksum, as an attacker does who can write the database.
func (n *damaged) forge() {
	n.Helper()
	n.rewrite('g', func(key, value []byte) []byte {
		forged := bytes.Replace(value[:len(value)-crc32.Size], []byte(`"grantee":"app"`), []byte(`"grantee":"owner"`), 1)
		table := crc32.MakeTable(crc32.Castagnoli)
		return bigendian.BigEndian.AppendUint32(forged, crc32.Update(crc32.Checksum(key, table), table, forged))
	})
}

// restate makes the state record (sidecar/store/state.go) that of a changed entry: the digest of all entries stands before its checksum.
func restate(txn *badger.Txn, key, before, after []byte) error {
	item, err := txn.Get([]byte("y"))
	if err != nil {
		return err
	}
	record, err := item.ValueCopy(nil)
	if err != nil {
		return err
	}
	body := record[:len(record)-crc32.Size]
	digest := body[len(body)-sha256.Size:]
	for _, value := range [][]byte{before, after} {
		entry := append(bigendian.BigEndian.AppendUint32(nil, uint32(len(key))), append(bytes.Clone(key), value...)...)
		for i, b := range sha256.Sum256(entry) {
			digest[i] ^= b
		}
	}
	table := crc32.MakeTable(crc32.Castagnoli)
	return txn.Set([]byte("y"), bigendian.BigEndian.AppendUint32(body, crc32.Update(crc32.Checksum([]byte("y"), table), table, body)))
}

// rewrite changes the first value under a prefix.
func (n *damaged) rewrite(prefix byte, change func(key, value []byte) []byte) {
	n.Helper()
	db, err := badger.Open(badger.DefaultOptions(n.path("db")).WithLogger(nil).WithCompression(options.None))
	if err != nil {
		n.Fatal(err)
	}
	err = db.Update(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{prefix}})
		defer it.Close()
		if it.Rewind(); !it.Valid() {
			return io.ErrUnexpectedEOF
		}
		value, err := it.Item().ValueCopy(nil)
		if err != nil {
			return err
		}
		key := it.Item().KeyCopy(nil)
		changed := change(key, bytes.Clone(value))
		return errors.Join(txn.Set(key, changed), restate(txn, key, value, changed))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		n.Fatal(err)
	}
}
