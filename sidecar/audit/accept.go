package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyside/keyside/policy"
)

// acceptance is the decision of an administrator that the log continues with its present records.
type acceptance struct {
	by     policy.Caller
	report *Report
}

// AcceptLoss continues a log that Open refuses, or that does not verify, with its present records. A record in the log
// states what is missing or changed, and who accepted that; Verify reports both from then on. Checkpoints of lost records
// are renamed. AcceptLoss returns what it accepted. It does not change an intact log.
// change and had are as in Source.
func AcceptLoss(ctx context.Context, opts Options, change, had uint64, by policy.Caller) (*Report, error) {
	accepted, err := acceptOnce(ctx, opts, change, had, by, func(r *Report) bool { return !r.OK() })
	if err != nil || accepted.OK() {
		return accepted, err
	}
	// The records of the outbox are in the log now, and the one before them may be lost.
	more, err := acceptOnce(ctx, opts, had, had, by, func(r *Report) bool {
		return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Accepted == "" && f.isAboutChange() })
	})
	if err != nil {
		return nil, err
	}
	for _, f := range more.Findings {
		if f.Accepted == "" && f.isAboutChange() {
			accepted.add(f)
		}
	}
	return accepted, nil
}

// acceptOnce accepts what a verification finds now, if needed says so, and returns its report.
func acceptOnce(ctx context.Context, opts Options, change, had uint64, by policy.Caller, needed func(*Report) bool) (*Report, error) {
	src, err := databaseSource(opts.Dir, opts.Heads)
	src.Change, src.Had = change, had
	if err != nil {
		return nil, err
	}
	if src.Anchor == nil {
		return nil, errors.New("the database has no head of an audit log, so no loss can be accepted")
	}
	if _, _, err := decodeHeads(src.Anchor, src.Head); err != nil {
		return nil, err
	}
	report, err := Verify(ctx, src)
	if err != nil || !needed(report) {
		return report, err
	}
	opts.accepted = &acceptance{by: by, report: report}
	l, err := Open(opts)
	if err != nil {
		return nil, err
	}
	return report, errors.Join(l.skipLostChanges(ctx, src.Had), l.Close())
}

// skipLostChanges has the database give no number again that a change has which it lost. had is the last that it is known to have
// had.
func (l *Log) skipLostChanges(ctx context.Context, had uint64) error {
	last := l.opts.Heads.LastRecorded()
	lost, err := ChangesAfter(l.opts.Dir, nil, last)
	if err != nil {
		return err
	}
	for _, c := range lost {
		last = max(last, c.Number)
	}
	return l.opts.Heads.SkipChanges(ctx, last, had)
}

// recordAcceptance records the acceptance. It also renames the newest checkpoint, which may cover lost records.
func (l *Log) recordAcceptance() error {
	if err := void(l.opts.Dir, checkpointName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l.signed.Store(0)
	var states, texts []string
	for _, f := range l.opts.accepted.report.Findings {
		if f.Accepted != "" {
			continue
		}
		texts = append(texts, f.String())
		lasts, err := l.lasts(f)
		if err != nil {
			return err
		}
		if lasts && !slices.Contains(states, f.content) {
			states = append(states, f.content)
		}
	}
	if more := l.opts.accepted.report.More; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return l.recordEventBy(l.opts.accepted.by, OpLossAccepted, strings.Join(texts, "; "), strings.Join(states, " "))
}

// lasts reports whether a file stays in the state that the finding describes. A file that the log rewrites when it continues
// is accepted only once: the same loss must not be accepted again.
func (l *Log) lasts(f Finding) (bool, error) {
	if f.isAboutChange() {
		return f.Kind == Gap, nil // a database that lost changes continues with other numbers
	}
	rewritten := []string{"", checkpointName, nameOf(l.number), fmt.Sprintf(leavesOfFile, l.number)}
	for _, end := range l.rotated { // their checkpoints are signed soon
		rewritten = append(rewritten, fmt.Sprintf(checkpointOfFile, end.number))
	}
	if slices.Contains(rewritten, f.File) {
		return false, nil
	}
	now, err := stateOf(l.opts.Dir, f.File)
	return now == f.content, err
}

// void renames a checkpoint, so that no check reads it.
func void(dir, name string) error {
	path := filepath.Join(dir, name)
	size := "damaged"
	if c, err := readUnverified(dir, name); err == nil {
		size = fmt.Sprint(c.tree.size())
	} else if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.Rename(path, path+"."+size+".void"), syncDir(dir))
}
