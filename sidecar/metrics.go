package sidecar

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/hsmd/telemetry"
)

// openMetrics observes what the sidecar has, besides what the core and the Mux record themselves. It is read whenever metrics are
// collected, and waits for no operation.
func (p *process) openMetrics(context.Context) error {
	if !p.cfg.Telemetry.Enabled() {
		return nil
	}
	return errors.Join(
		telemetry.Observe(p.readStore, telemetry.MetricKeys, telemetry.MetricStoreBroken),
		telemetry.Observe(p.readAudit, telemetry.MetricAuditFailures, telemetry.MetricAuditLost, telemetry.MetricAuditOwed,
			telemetry.MetricAuditGaps, telemetry.MetricAuditUnsigned, telemetry.MetricCheckpointAge),
		telemetry.Observe(p.readEdge, telemetry.MetricHealth, telemetry.MetricConnections, telemetry.MetricConnectionLimit,
			telemetry.MetricConnectionsOver, telemetry.MetricCertificate),
		telemetry.Observe(p.messagesReader(), telemetry.MetricMessagesLeft),
		telemetry.Observe(p.readClock, telemetry.MetricWaiting),
		telemetry.Observe(p.readBackups, telemetry.MetricBackupAge, telemetry.MetricBackupFailed),
		telemetry.Observe(p.readDisks, telemetry.MetricDiskFree, telemetry.MetricDiskSize, telemetry.MetricDatabaseSize, telemetry.MetricAuditSize),
	)
}

func (p *process) readStore(_ context.Context, put telemetry.Put) error {
	for state, n := range p.store.CountStates() {
		put(telemetry.MetricKeys, float64(n), telemetry.AttrState.String(string(state)))
	}
	put(telemetry.MetricStoreBroken, telemetry.Flag(p.store.Failed()))
	return nil
}

func (p *process) readAudit(_ context.Context, put telemetry.Put) error {
	f := p.audit.Figures()
	put(telemetry.MetricAuditFailures, float64(f.Failures))
	put(telemetry.MetricAuditLost, float64(f.Lost))
	put(telemetry.MetricAuditOwed, float64(f.Owed))
	put(telemetry.MetricAuditGaps, float64(f.Gaps))
	put(telemetry.MetricAuditUnsigned, float64(f.Unsigned))
	put(telemetry.MetricCheckpointAge, f.Signed.Seconds())
	return nil
}

func (p *process) readEdge(_ context.Context, put telemetry.Put) error {
	for check, passed := range p.health.Checks() {
		put(telemetry.MetricHealth, telemetry.Flag(passed), telemetry.AttrCheck.String(check))
	}
	for listener, c := range p.figures.Connections() {
		attr := telemetry.AttrListener.String(listener)
		put(telemetry.MetricConnections, float64(c.Open), attr)
		put(telemetry.MetricConnectionLimit, float64(c.Limit), attr)
		put(telemetry.MetricConnectionsOver, float64(c.Refused), attr)
	}
	if end, ok := p.figures.CertificateEnd(); ok {
		put(telemetry.MetricCertificate, time.Until(end).Seconds())
	}
	return nil
}

const messagesEvery = time.Minute

// messagesReader returns a reader of the messages that the key with the fewest left can still encrypt. Finding it reads the counts of
// all keys, so it is done at most every messagesEvery.
func (p *process) messagesReader() func(context.Context, telemetry.Put) error {
	var mu sync.Mutex
	var at time.Time
	var left uint64
	return func(ctx context.Context, put telemetry.Put) error {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(at) >= messagesEvery {
			n, err := p.core.FewestMessagesLeft(ctx)
			if err != nil {
				return err
			}
			at, left = time.Now(), n
		}
		put(telemetry.MetricMessagesLeft, float64(left))
		return nil
	}
}

func (p *process) readClock(_ context.Context, put telemetry.Put) error {
	put(telemetry.MetricWaiting, float64(p.core.ClockState().Waiting))
	return nil
}

func (p *process) readBackups(_ context.Context, put telemetry.Put) error {
	if p.backups == nil {
		return nil
	}
	age, fault := p.backups.state()
	put(telemetry.MetricBackupAge, age.Seconds())
	put(telemetry.MetricBackupFailed, telemetry.Flag(fault != nil))
	return nil
}

// readDisks looks at the volumes and the directories on them. Files may come and go meanwhile.
func (p *process) readDisks(_ context.Context, put telemetry.Put) error {
	var errs []error
	for volume, d := range map[string]struct{ dir, size string }{
		"database": {p.cfg.Data, telemetry.MetricDatabaseSize}, "audit": {p.cfg.Audit.Dir, telemetry.MetricAuditSize},
	} {
		var st unix.Statfs_t
		if err := unix.Statfs(d.dir, &st); err != nil {
			errs = append(errs, os.NewSyscallError("statfs", err))
			continue
		}
		attr := telemetry.AttrVolume.String(volume)
		put(telemetry.MetricDiskFree, float64(st.Bavail)*float64(st.Bsize), attr)
		put(telemetry.MetricDiskSize, float64(st.Blocks)*float64(st.Bsize), attr)
		used, err := diskUse(d.dir)
		errs = append(errs, err)
		put(d.size, float64(used))
	}
	return errors.Join(errs...)
}

// blockSize is the unit of st_blocks (stat(2)), in bytes.
const blockSize = 512

// diskUse returns the disk space of the files in a directory, in bytes. badger makes files longer than what they use.
func diskUse(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return ignoreAbsent(err)
		}
		info, err := e.Info()
		if err != nil {
			return ignoreAbsent(err)
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			bytes += st.Blocks * blockSize
		}
		return nil
	})
	return bytes, err
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
