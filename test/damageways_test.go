package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// harm is one way to damage a file.
type harm struct {
	name string // of a column of the table
	part int    // of the file, in eighths, for the ways that have a place in it
}

// harms lists the ways to damage a file of an image.
func (l *laboratory) harms(i *image, name string) ([]harm, error) {
	b, err := os.ReadFile(filepath.Join(i.dir, name))
	if err != nil {
		return nil, err
	}
	ways := []harm{{name: "deleted"}, {name: "unreadable"}}
	if len(b) > 0 {
		ways = append(ways, harm{name: "emptied"}, harm{name: "tail zeroed"})
	}
	for n := range min(8, len(used(b))) {
		ways = append(ways, harm{"cut", n}, harm{"bit flipped", n})
	}
	before, err := os.ReadFile(filepath.Join(l.old.dir, name))
	if err == nil && !bytes.Equal(b, before) {
		ways = append(ways, harm{name: "old copy"})
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return ways, err
}

// used returns what a file contains: badger's logs are preallocated.
func used(b []byte) []byte { return bytes.TrimRight(b, "\x00") }

// apply damages a file within its used bytes. old is its copy of an hour ago.
func (h harm) apply(path, old string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	size := len(used(b))
	at := size * h.part / 8
	switch h.name {
	case "deleted":
		return os.Remove(path)
	case "unreadable":
		return os.Chmod(path, 0)
	case "emptied":
		return os.Truncate(path, 0)
	case "cut":
		return os.Truncate(path, int64(at))
	case "tail zeroed":
		tail := min(size/50+1, size)
		return writeAt(path, size-tail, make([]byte, tail))
	case "bit flipped":
		if size == 0 {
			return nil
		}
		return writeAt(path, at, []byte{b[at] ^ 1<<h.part})
	case "old copy":
		before, err := os.ReadFile(old)
		return errors.Join(err, os.Remove(path), os.WriteFile(path, before, 0o600), os.Chown(path, ordinary, ordinary))
	}
	return fmt.Errorf("unknown way %s", h.name)
}

func writeAt(path string, at int, b []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, int64(at))
	return errors.Join(err, f.Close())
}

// operator follows what refusals say, with the old image as backup.
type operator struct {
	*folder
	harmed    string // the file
	permitted bool   // access to it
	restored  []string
	accepted  bool // a loss
	back      bool // the database may be as of the backup or later
}

var (
	letAccess = regexp.MustCompile(`let uid \d+ read and write ([^\s"';,]+)|(\S+) cannot be written by uid`)
	fromOld   = regexp.MustCompile(`(?i)restore[^.;]* from a backup`)
	ownFile   = regexp.MustCompile(`restore the file from a backup|restore it from a backup|restore whichever|whichever changed|correct the file`)
)

var (
	newerCopy = regexp.MustCompile(`(?i)restore a newer copy`)
	endsAt    = regexp.MustCompile(`ends at change (\d+)`)
)

// isNewer reports whether the backup's database is newer than the one that a refusal is about.
func (o *operator) isNewer(refusal string) bool {
	m := endsAt.FindStringSubmatch(refusal)
	if m == nil {
		return true
	}
	n, err := strconv.ParseUint(m[1], 10, 64)
	return err != nil || o.old.change > n
}

// tokens is the directory of SoftHSM, which stands for an HSM with its own backup: a refusal speaks of the HSM, not of SoftHSM's files.
const tokens = "tokens"

func inToken(file string) bool { return strings.HasPrefix(file, tokens+"/") }

// configuration are the files that belong to the operator, whose changes are no damage to Keyside.
var configuration = []string{"sidecar.yaml", "hsmd.yaml"}

// follow does one thing that a refusal says.
func (o *operator) follow(ctx context.Context, refusal string) error {
	switch m := letAccess.FindStringSubmatch(refusal); {
	case m != nil:
		o.permitted = true
		return os.Chmod(m[1]+m[2], 0o600)
	case newerCopy.MatchString(refusal):
		o.back = true
		if !o.isNewer(refusal) || slices.Contains(o.restored, "db") {
			return o.acceptLoss(ctx, refusal)
		}
		return o.restore("db")
	case strings.Contains(refusal, "Restore its files from a backup") && !slices.Contains(o.restored, "audit"):
		return o.restore("audit")
	case strings.Contains(refusal, "accept-loss"):
		return o.acceptLoss(ctx, refusal)
	case fromOld.MatchString(refusal) && strings.Contains(refusal, "database") && strings.Contains(refusal, o.dir+"/db") && !slices.Contains(o.restored, "db"):
		o.back = true
		return o.restore("db")
	case strings.Contains(refusal, "restore its backup") && !slices.Contains(o.restored, tokens): // that of the HSM
		return o.restore(tokens)
	case ownFile.MatchString(refusal):
		return o.restoreNamed(refusal)
	case slices.Contains(configuration, o.harmed) && !slices.Contains(o.restored, o.harmed):
		return o.restore(o.harmed)
	}
	return errors.New("no way out is named")
}

// restoreNamed restores the files that a refusal names.
func (o *operator) restoreNamed(refusal string) error {
	files, err := o.old.files()
	if err != nil {
		return err
	}
	found := false
	for _, name := range files {
		if strings.Contains(refusal, filepath.Join(o.dir, name)) && !slices.Contains(o.restored, name) {
			if err := o.restore(name); err != nil {
				return err
			}
			found = true
		}
	}
	if !found && strings.Contains(refusal, "or the token") && !slices.Contains(o.restored, tokens) {
		return o.restore(tokens)
	}
	if !found {
		return errors.New("no file to restore is named")
	}
	return nil
}

// restore replaces a file, or a directory with all files, by its copy in the backup.
func (o *operator) restore(name string) error {
	o.restored = append(o.restored, name)
	path := filepath.Join(o.dir, name)
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return errors.Join(copyTree(filepath.Join(o.old.dir, name), path), o.adapt(path))
}

func (o *operator) acceptLoss(ctx context.Context, refusal string) error {
	if !strings.Contains(refusal, "keyside audit accept-loss") {
		return errors.New("the command is not named")
	}
	if o.accepted {
		return errors.New("the loss was accepted before")
	}
	o.accepted = true
	out, err := o.keyside(ctx, "audit", "accept-loss", "--dir", o.dir, "--yes")
	if err != nil {
		return fmt.Errorf("accept-loss: %w: %s", err, out)
	}
	return nil
}

// keyside runs a verb as the node's user.
func (f *folder) keyside(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, f.binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinary, Gid: ordinary}}
	return cmd.CombinedOutput()
}
