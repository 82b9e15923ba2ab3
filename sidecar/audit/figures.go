package audit

import (
	"bytes"
	"sync/atomic"
	"time"
)

// Figures are numbers about a log, for metrics.
type Figures struct {
	Failures uint64        // writes that failed since the start
	Lost     uint64        // records of refused operations that could not be written since the start
	Owed     int64         // changes that took effect and whose records are not in the log
	Gaps     int64         // changes since the start that later records name and that have no record
	Unsigned uint64        // records that no checkpoint covers
	Signed   time.Duration // since the last checkpoint, or since signing started; 0 before
}

// Figures returns the present numbers. It waits for no write.
func (l *Log) Figures() Figures {
	f := Figures{
		Failures: l.figures.failures.Load(), Lost: l.figures.lost.Load(), Owed: l.figures.owed.Load(), Gaps: l.figures.gaps.Load(), Unsigned: l.Unsigned(),
	}
	if at := l.figures.checkpoint.Load(); at != 0 {
		f.Signed = l.opts.Clock.Now().Sub(time.Unix(0, at))
	}
	return f
}

type figures struct {
	failures, lost         atomic.Uint64
	owed, gaps, checkpoint atomic.Int64 // checkpoint: nanoseconds since 1970 UTC
}

// startCounting begins to look for gaps after the last change that the database has a record of.
func (l *Log) startCounting() {
	last := l.opts.Heads.LastRecorded()
	l.seen = &changes{latest: last, unnamed: map[uint64]bool{last: true}, named: map[uint64]Finding{}}
}

// countGaps counts the changes that records name as previous and that have no record. Records of concurrent changes may be in
// another order, so a gap counts only until its record comes. l.writing is held.
func (l *Log) countGaps(lines []byte, logged []loggedChange) {
	if l.seen == nil || len(logged) == 0 {
		return
	}
	for line := range bytes.Lines(lines) {
		if c := changeIn(line); c != nil {
			l.seen.add(c, Finding{})
		}
	}
	l.figures.gaps.Store(int64(len(l.seen.named)))
}
