package audit

import (
	"bytes"
	"maps"
	"slices"
)

// The record of a change is durable in the database's outbox before it is in the log. So after a crash between both the next
// start writes it, and after an error of the log the first thing that is written are the records that could not be.

// loggedChange is a change with the lines of its records.
type loggedChange struct {
	change  uint64
	records int
	from    int // where the lines begin in those of its group
	to      int
	lines   []byte // of one that is owed
	size    uint64 // of one in the log: records of the log as far as it is known to contain them
}

// owe keeps what was not written of a group. l.writing is held.
func (l *Log) owe(g *group) {
	lost := g.records
	for _, c := range g.changes {
		c.lines = bytes.Clone(g.lines[c.from:c.to])
		l.owed = append(l.owed, c)
		lost -= c.records
	}
	l.lost += lost
	l.figures.failures.Add(1)
	l.figures.lost.Add(uint64(lost))
	l.figures.owed.Store(int64(len(l.owed)))
}

// writeOwed writes the records that are owed.
func (l *Log) writeOwed() error {
	if len(l.owed) == 0 {
		return nil
	}
	var lines []byte
	for _, c := range l.owed {
		lines = append(lines, c.lines...)
	}
	if err := l.append(lines, l.owed, false); err != nil {
		return err
	}
	l.owed = nil
	l.figures.owed.Store(0)
	return nil
}

// noteLogged notes that the records of changes are in the log. The tree is already that with them.
func (l *Log) noteLogged(changes []loggedChange) {
	if len(changes) == 0 {
		return
	}
	l.outbox.Lock()
	defer l.outbox.Unlock()
	for _, c := range changes {
		l.logged = append(l.logged, loggedChange{change: c.change, size: l.tree.size()})
	}
}

// maxForgotten is the number of outbox entries that one transaction of the database removes, far below its limit.
const maxForgotten = 1000

// loggedUpTo returns the numbers of the changes whose records are among the first records of the log.
func (l *Log) loggedUpTo(size uint64) (changes []uint64) {
	l.outbox.Lock()
	defer l.outbox.Unlock()
	for _, c := range l.logged {
		if c.size > size {
			break
		}
		changes = append(changes, c.change)
	}
	return changes
}

// forget removes the first n of the logged changes, which are out of the outbox.
func (l *Log) forget(n int) {
	l.outbox.Lock()
	defer l.outbox.Unlock()
	if l.logged = l.logged[n:]; len(l.logged) == 0 {
		l.logged = nil
	}
}

// linesOf returns all lines of an outbox.
func linesOf(outbox map[uint64][]byte) map[string]bool {
	all := make(map[string]bool)
	for _, lines := range outbox {
		for line := range bytes.Lines(lines) {
			all[string(line)] = true
		}
	}
	return all
}

// writeMissing writes the records of the outbox that the log lacks, and notes those that it has.
func (l *Log) writeMissing(outbox map[uint64][]byte, missing map[string]bool) error {
	for _, change := range slices.Sorted(maps.Keys(outbox)) {
		c := loggedChange{change: change}
		for line := range bytes.Lines(outbox[change]) {
			if missing[string(line)] {
				c.lines = append(c.lines, line...)
			}
		}
		if len(c.lines) == 0 {
			l.noteLogged([]loggedChange{c})
			continue
		}
		l.owed = append(l.owed, c)
		l.opts.Logger.Info("the audit log gets the record of a change that a crash kept from it", "change", change)
	}
	return l.writeOwed()
}
