package test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/store"
)

// A laboratory has the folder of a node that used everything, at three times, and damages copies of it. What a copy does when it is
// started, and what becomes of it by what it says then, is the outcome. See TestDamage.

type laboratory struct {
	*testing.T
	top    string // of all folders, accessible to the node's user
	binary string
	driver string
	texts  []encryptedText
	next   atomic.Int64

	old    image // as of an hour before the others: the backup
	closed image // stopped in order
	killed image // killed
}

// image is a folder with what the node in it acknowledged.
type image struct {
	name   string
	dir    string
	facts  facts
	sealed int    // number of the laboratory's texts that it encrypted
	change uint64 // number of the last change in its database
}

type encryptedText struct {
	text       string
	ciphertext []byte
}

// facts are what a node answers, by what it is about.
type facts map[string]string

// missing returns what is not among others, or differs there.
func (f facts) missing(others facts) (names []string) {
	for name, value := range f {
		if other, ok := others[name]; !ok || other != value {
			names = append(names, fmt.Sprintf("%s = %s (%s)", name, value, other))
		}
	}
	slices.Sort(names)
	return names
}

// folderName makes the names of all folders equally long, so that a path in a file can be replaced in its place.
func (l *laboratory) folderName(n int64) string { return filepath.Join(l.top, fmt.Sprintf("%06d", n)) }

func newLaboratory(t *testing.T, driver string) *laboratory {
	t.Helper()
	top, err := os.MkdirTemp("", "damage") // not t.TempDir, which others cannot enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	l := &laboratory{T: t, top: top, binary: filepath.Join(top, "keyside"), driver: driver}
	program, err := os.ReadFile(binary)
	if err = errors.Join(err, os.WriteFile(l.binary, program, 0o755), os.Chmod(top, 0o755)); err != nil {
		t.Fatal(err)
	}
	n := l.folder(0)
	if err := errors.Join(os.Mkdir(n.dir, 0o700), os.Chown(n.dir, ordinary, ordinary)); err != nil {
		t.Fatal(err)
	}
	if err := node.Edit(t.Context(), n.options(), func(config map[string]any) {
		config["socket_mode"] = "0666"
		config["audit"].(map[string]any)["file_size"] = 1
		config["principals"] = []map[string]any{{"name": "app", "uid": 64401}, {"name": "admin", "uid": os.Getuid(), "role": "administrator"}}
	}); err != nil {
		t.Fatal(err)
	}
	n.mustStart()
	n.populate("first", nil)
	n.mustStop()
	l.old = n.image("old")
	n.mustStart()
	n.populate("second", l.old.facts)
	n.fillAuditFile()
	n.mustStop()
	l.closed = n.image("closed")
	n.mustStart()
	n.populate("third", nil)
	n.kill()
	l.killed = n.image("killed")
	return l
}

// folder is one folder of a node.
type folder struct {
	*laboratory
	dir    string
	node   *node.Node
	client *client.Client
	facts  facts // as of the last populate
}

func (l *laboratory) folder(n int64) *folder { return &folder{laboratory: l, dir: l.folderName(n)} }

func (f *folder) options() node.Options {
	return node.Options{Binary: f.binary, Dir: f.dir, Driver: f.driver, UID: ordinary}
}

func (f *folder) start(ctx context.Context) (err error) {
	if f.node, err = node.Start(ctx, f.options()); err != nil {
		f.node = nil
		return err
	}
	f.client = client.New(f.node.Socket)
	return nil
}

func (f *folder) stop(ctx context.Context) error {
	f.client.Close()
	return f.node.Stop(ctx)
}

func (f *folder) mustStart() {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), deadline)
	defer cancel()
	if err := f.start(ctx); err != nil {
		f.Fatal(err)
	}
}

func (f *folder) mustStop() {
	f.Helper()
	if err := f.stop(f.Context()); err != nil {
		f.Fatal(err)
	}
}

// kill kills all processes at once.
func (f *folder) kill() {
	f.Helper()
	f.client.Close()
	processes := node.Descendants(f.node.PID())
	for _, pid := range processes {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	for _, pid := range processes {
		waitFor(f.T, "the end of all processes", func() bool { return dead(pid) == nil })
	}
	f.mustStop()
}

// image keeps the folder as it is.
func (f *folder) image(name string) image {
	f.Helper()
	kept := image{name: name, dir: filepath.Join(f.top, name), facts: f.facts, sealed: len(f.texts)}
	if err := copyTree(f.dir, kept.dir); err != nil {
		f.Fatal(err)
	}
	found, err := store.Inspect(filepath.Join(kept.dir, "db"))
	if err != nil {
		f.Fatal(err)
	}
	kept.change = found.Change
	return kept
}

// copyTree copies a folder with owners, modes and holes.
func copyTree(from, to string) error {
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}

// copyOf returns a copy of an image, whose files name the folder that they are in.
func (l *laboratory) copyOf(i *image) (*folder, error) {
	f := l.folder(l.next.Add(1))
	if err := copyTree(i.dir, f.dir); err != nil {
		return nil, err
	}
	return f, f.adapt(f.dir)
}

// adapt puts this folder's path into the configuration among files that were copied.
func (f *folder) adapt(copied string) error {
	return filepath.WalkDir(copied, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !slices.Contains([]string{".yaml", ".conf"}, filepath.Ext(path)) {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, bytes.ReplaceAll(text, []byte(f.folderName(0)), []byte(f.dir)), 0o600)
	})
}

// populate uses everything that leaves something in a file. It revokes and deletes what it finds of before.
func (f *folder) populate(name string, before facts) {
	f.Helper()
	ctx, c := f.Context(), f.client
	must := func(err error) {
		f.Helper()
		if err != nil {
			f.Fatal(err)
		}
	}
	key := func(suffix string, req client.CreateKeyRequest) string {
		req.Alias = name + suffix
		k, err := c.CreateKey(ctx, req)
		must(err)
		return k.ID
	}
	id := key("", client.CreateKeyRequest{Description: "of " + name})
	key("-ec", client.CreateKeyRequest{Spec: "EC_P256"})
	key("-external", client.CreateKeyRequest{Origin: client.OriginExternal})
	_, err1 := c.DisableKey(ctx, key("-disabled", client.CreateKeyRequest{}))
	_, err2 := c.ScheduleKeyDeletion(ctx, key("-deleted", client.CreateKeyRequest{}), 7)
	_, err3 := c.CreateAlias(ctx, id, name+"-further")
	_, err4 := c.CreateGrant(ctx, client.CreateGrantRequest{KeyID: id, Grantee: "app", Operations: []string{"encrypt"}})
	_, err5 := c.CreateCredential(ctx, name, "user")
	must(errors.Join(err1, err2, err3, err4, err5, c.TagKey(ctx, id, client.Tag{Key: "made", Value: name}), c.EnableKeyRotation(ctx, id, 30)))
	for fact := range before {
		what, rest, _ := strings.Cut(fact, " ")
		switch what {
		case "grant":
			key, grant, _ := strings.Cut(rest, " ")
			must(c.RevokeGrant(ctx, key, grant))
		case "credential":
			must(c.DeleteCredential(ctx, rest))
		}
	}
	for i := range 3 {
		text := fmt.Sprint(name, i)
		e, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: id, Plaintext: []byte(text)})
		must(err)
		f.texts = append(f.texts, encryptedText{text, e.Ciphertext})
	}
	var err error
	f.facts, err = f.read(ctx, len(f.texts))
	must(err)
}

// read asks a node for its facts, with the first of the texts decrypted.
func (f *folder) read(ctx context.Context, texts int) (facts, error) {
	c, found := f.client, facts{}
	keys, err := c.ListKeys(ctx, client.ListKeysRequest{Page: client.Page{Limit: 1000}})
	if err != nil {
		return nil, err
	}
	for _, k := range keys.Keys {
		found["key "+k.ID] = fmt.Sprint(k.Alias, k.Description, k.Spec, k.Origin, k.State, k.Created, k.Deletion, k.RotationEnabled)
		tags, err1 := c.ListKeyTags(ctx, k.ID)
		grants, err2 := c.ListGrants(ctx, client.ListGrantsRequest{KeyID: k.ID})
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		found["tags "+k.ID] = fmt.Sprint(tags)
		for _, g := range grants.Grants {
			found["grant "+k.ID+" "+g.ID] = fmt.Sprint(g.Grantee, g.Operations, g.Issuer, g.Created)
		}
	}
	aliases, err1 := c.ListAliases(ctx, client.ListAliasesRequest{Page: client.Page{Limit: 1000}})
	credentials, err2 := c.ListCredentials(ctx)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	for _, a := range aliases.Aliases {
		found["alias "+a.Name] = fmt.Sprint(a.KeyID, a.Created)
	}
	for _, k := range credentials {
		found["credential "+k.AccessKey] = fmt.Sprint(k.User, k.Role, k.Created)
	}
	for i, t := range f.texts[:texts] {
		d, err := c.Decrypt(ctx, client.DecryptRequest{Ciphertext: t.ciphertext})
		if err != nil {
			found[fmt.Sprint("text ", i)] = err.Error()
		} else {
			found[fmt.Sprint("text ", i)] = string(d.Plaintext)
		}
	}
	return found, nil
}

// fillAuditFile works until the audit log has begun another file.
func (f *folder) fillAuditFile() {
	f.Helper()
	next := filepath.Join(f.dir, "audit", "audit-00000002.jsonl")
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for {
				if _, err := os.Stat(next); err == nil {
					return
				}
				_, err := f.client.Encrypt(f.Context(), client.EncryptRequest{KeyID: "first-further", Plaintext: []byte("x")})
				if err != nil && !errors.Is(err, client.ErrBusy) { // on a busy machine
					f.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
}

// files lists the regular files of an image, from its folder.
func (i *image) files() (names []string, err error) {
	err = filepath.WalkDir(i.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			var name string
			name, err = filepath.Rel(i.dir, path)
			names = append(names, name)
		}
		return err
	})
	return names, err
}

// snapshot describes the files of a folder, without locks and sockets.
func (f *folder) snapshot() (facts, error) {
	found := facts{}
	return found, filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || filepath.Ext(path) == ".lock" {
			return err
		}
		info, err1 := d.Info()
		b, err2 := os.ReadFile(path)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		found[strings.TrimPrefix(path, f.dir+"/")] = fmt.Sprintf("%s %d %x", info.Mode(), len(b), sha256.Sum256(b))
		return nil
	})
}

// without returns the facts that are not about what a damaged node went on to create.
func (f facts) without(mark string) facts {
	kept := maps.Clone(f)
	gone := map[string]bool{}
	for name, value := range f {
		if strings.HasPrefix(name, "key ") && strings.HasPrefix(value, mark) {
			gone[strings.TrimPrefix(name, "key ")] = true
		}
	}
	maps.DeleteFunc(kept, func(name, _ string) bool {
		_, id, _ := strings.Cut(name, " ")
		return gone[id]
	})
	return kept
}
