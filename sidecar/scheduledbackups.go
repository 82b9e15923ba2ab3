package sidecar

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyside/keyside/plugins/procattr"
)

// BackupsConfig says where scheduled backups go. Without a directory there are none.
type BackupsConfig struct {
	Directory string        `yaml:"directory"` // must exist: it may be a volume that is not mounted
	Every     time.Duration `yaml:"every"`     // zero: DefaultBackupInterval
	Keep      int           `yaml:"keep"`      // verified backups that stay; zero: DefaultBackups
}

// Defaults of BackupsConfig.
const (
	DefaultBackupInterval = 24 * time.Hour
	DefaultBackups        = 7
)

func (c *BackupsConfig) validate(check func(ok bool, key, format string, args ...any)) {
	check(c.Directory == "" || filepath.IsAbs(c.Directory), "backups.directory", "an absolute path is required")
	check(c.Directory != "" || c.Every == 0 && c.Keep == 0, "backups.directory", "is required for scheduled backups")
	check(c.Every == 0 || c.Every >= time.Minute, "backups.every", "must be a minute or more")
	check(c.Keep >= 0 && c.Keep <= 10_000, "backups.keep", "must be 1 to 10000, or 0 for the default")
}

const (
	backupLook  = time.Second     // how often the clock is read
	backupRetry = 5 * time.Minute // after a failure
	backupTime  = "20060102T150405Z"
	partSuffix  = ".part" // of a file that is not verified yet
)

// scheduledBackups makes backups at intervals. A file gets its name once it is on disk and verified.
type scheduledBackups struct {
	p     *process
	dir   string
	every time.Duration
	keep  int
	names string // how the names of this node's files begin

	mu    sync.Mutex
	last  time.Time // of the last verified backup; the time of the start if there is none
	next  time.Time
	fault error // of the last try
}

func (p *process) openBackups(context.Context) error {
	c := &p.cfg.Backups
	if c.Directory == "" {
		return nil
	}
	node := p.store.Node()
	b := &scheduledBackups{
		p: p, dir: c.Directory, every: cmp.Or(c.Every, DefaultBackupInterval), keep: cmp.Or(c.Keep, DefaultBackups), last: p.now(),
		names: fmt.Sprintf("keyside-%s-%x-", p.cfg.Tenant, node[:4]),
	}
	b.next = b.last
	files, err := b.files()
	files = slices.DeleteFunc(files, func(f backupFile) bool { return f.at.After(b.last) }) // made before the clock was set back
	if err == nil && len(files) > 0 {
		b.last = files[len(files)-1].at
		b.next = b.last.Add(b.every)
	}
	p.backups = b
	return nil
}

// state returns the age of the last verified backup, and why the last try failed.
func (b *scheduledBackups) state() (age time.Duration, fault error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.p.now().Sub(b.last)), b.fault
}

// health returns an error if the last try failed, or if none ended in time.
func (b *scheduledBackups) health(context.Context) error {
	age, fault := b.state()
	if fault == nil && age > 2*b.every {
		fault = fmt.Errorf("the last backup is %s old", age.Round(time.Second))
	}
	return fault
}

// run makes backups until ctx ends.
func (b *scheduledBackups) run(ctx context.Context) {
	tick := time.NewTicker(backupLook)
	defer tick.Stop()
	for {
		if now := b.p.now(); !now.Before(b.next) || b.next.Sub(now) > b.every { // or the clock was set back
			b.once(ctx, now)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// once makes one backup and sets when the next is made.
func (b *scheduledBackups) once(ctx context.Context, now time.Time) {
	var made string
	err := b.p.core.ScheduledBackup(ctx, func(ctx context.Context) (_ string, err error) {
		made, err = b.make(ctx, now)
		return made, err
	})
	if ctx.Err() != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if made != "" {
		b.last, b.next = now, now.Add(b.every) // also where old ones could not be deleted: more would fill the disk
	} else {
		b.next = now.Add(min(backupRetry, b.every))
	}
	if b.fault = err; err != nil {
		b.p.log.Error("scheduled backup failed", slog.String("directory", b.dir), slog.Any("error", err))
	}
}

// make makes one backup, verifies it, and deletes older ones that are too many. It returns the name of the file.
func (b *scheduledBackups) make(ctx context.Context, now time.Time) (name string, err error) {
	if err := errors.Join(b.exists(), b.removeParts()); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(b.dir, b.names+"*"+partSuffix)
	if err != nil {
		return "", err
	}
	defer func() {
		if name == "" {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	header, err := b.p.backupTo(ctx, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if _, err := readBackup(ctx, b.p.hsm, f.Name()); err != nil {
		return "", fmt.Errorf("the new backup does not verify: %w", err)
	}
	made := fmt.Sprintf("%s%s-%d.backup", b.names, now.UTC().Format(backupTime), header.Change)
	if err := os.Rename(f.Name(), filepath.Join(b.dir, made)); err != nil {
		return "", err
	}
	if err := syncDirectory(b.dir); err != nil {
		return made, err
	}
	return made, b.retain(made)
}

func (b *scheduledBackups) exists() error {
	info, err := os.Stat(b.dir)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is no directory", b.dir)
	}
	return errors.Join(err, procattr.CheckDirectory(b.dir))
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeParts removes what killed processes left.
func (b *scheduledBackups) removeParts() error {
	parts, err := filepath.Glob(filepath.Join(escapeGlob.Replace(b.dir), b.names+"*"+partSuffix))
	for _, path := range parts {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

// backupFile is a file that a scheduled backup of this node made.
type backupFile struct {
	name   string
	at     time.Time
	change uint64
}

// nameRest is what follows the beginning of a name: time, and number of the last change.
var nameRest = regexp.MustCompile(`^(\d{8}T\d{6}Z)-(\d+)\.backup$`)

// files returns the files of scheduled backups of this node, the oldest first.
func (b *scheduledBackups) files() (files []backupFile, err error) {
	entries, err := os.ReadDir(b.dir)
	for _, e := range entries {
		rest, own := strings.CutPrefix(e.Name(), b.names)
		m := nameRest.FindStringSubmatch(rest)
		if !own || m == nil || !e.Type().IsRegular() {
			continue
		}
		at, err1 := time.Parse(backupTime, m[1])
		change, err2 := strconv.ParseUint(m[2], 10, 64)
		if err1 == nil && err2 == nil {
			files = append(files, backupFile{e.Name(), at, change})
		}
	}
	slices.SortFunc(files, func(a, b backupFile) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.change, b.change)) })
	return files, err
}

// retain deletes the oldest files beyond those to keep, but never the one that was just made: the clock may have been set back since
// the others. Every file with such a name was verified before it got its name.
func (b *scheduledBackups) retain(made string) error {
	files, err := b.files()
	if err != nil {
		return err
	}
	files = slices.DeleteFunc(files, func(f backupFile) bool { return f.name == made })
	for ; len(files) >= b.keep; files = files[1:] {
		if err := os.Remove(filepath.Join(b.dir, files[0].name)); err != nil {
			return err
		}
		b.p.log.Info("old backup deleted", slog.String("file", files[0].name))
	}
	return syncDirectory(b.dir)
}
