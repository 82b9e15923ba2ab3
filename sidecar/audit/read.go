package audit

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// Query selects records. A zero field selects every one.
type Query struct {
	Since, Until time.Time // of the record's own time
	Principal    string
	Key          string // id, also of the key that a re-encryption decrypted with
	Operation    string // any of its names
	Decision     string // allow; deny: for lack of a right; undecided: refused for another reason before a decision
	Outcome      string // "ok", "begun", a code, or the former name of one
	RequestID    string
	Last         int  // at most this many, the last ones; 0: all
	Follow       bool // wait for later records; Last then counts the present ones
}

// Entry is a record with its place.
type Entry struct {
	Record uint64 // number in the whole log, from 1
	File   string
	Line   int    // in the file, from 1
	JSON   []byte // the line, without its newline; valid until the function that receives it returns
}

// selected has the members of a record that a query compares.
type selected struct {
	Time        time.Time `json:"time"`
	RequestID   string    `json:"request_id"`
	Operation   string    `json:"operation"`
	Trace       string    `json:"trace"`
	Principal   string    `json:"principal"`
	KeyID       string    `json:"key_id"`
	SourceKeyID string    `json:"source_key_id"`
	Decision    string    `json:"decision"`
	Outcome     string    `json:"outcome"`
}

// timeOf returns the time of a record, the zero time if the line is not a record.
func timeOf(line []byte) time.Time {
	var r selected
	_ = json.Unmarshal(line, &r)
	return r.Time
}

// accepts reports whether the query selects a line. It selects only records.
func (q *Query) accepts(line []byte) bool {
	var r selected
	if json.Unmarshal(line, &r) != nil {
		return false
	}
	is := func(want string, have ...string) bool { return want == "" || slices.Contains(have, want) }
	operation := q.Operation
	if op, known := policy.ParseOperation(operation); known && operation != op.Trace() {
		operation = string(op) // a trace name finds its own records alone: operations with several tags have another one
	}
	return !r.Time.Before(q.Since) && (q.Until.IsZero() || r.Time.Before(q.Until)) && is(q.Principal, r.Principal) &&
		is(q.Key, r.KeyID, r.SourceKeyID) && is(operation, r.Operation, r.Trace, policy.Operation(r.Operation).Name()) && is(q.Decision, r.decision()) &&
		(is(q.Outcome, r.Outcome, string(formerCodes[r.Outcome])) || string(formerCodes[q.Outcome]) == r.Outcome) && is(q.RequestID, r.RequestID)
}

// denials are the codes of what was refused for lack of a right.
var denials = []string{string(kms.CodeDenied), string(kms.CodeUnauthenticated), string(kms.CodeTokenExpired)}

// decision returns the decision as queries name it: records have deny also for what was refused before a decision.
func (r *selected) decision() string {
	if r.Decision == "deny" && !slices.Contains(denials, r.Outcome) {
		return "undecided"
	}
	return r.Decision
}

// ownOperations are those of records alone: what the log writes about itself, and requests for no operation.
var ownOperations = []policy.Operation{OpResumed, OpRepaired, OpBegun, OpKeyChanged, OpRemoved, OpLossAccepted, kms.OpUnserved}

// KnowsOperation reports whether records can have an operation of this name.
func KnowsOperation(name string) bool {
	_, known := policy.ParseOperation(name)
	return known || slices.Contains(OperationNames(), name) ||
		slices.ContainsFunc(ownOperations, func(op policy.Operation) bool { return name == op.Trace() })
}

// OperationNames lists the names that records show of operations.
func OperationNames() []string {
	names := []string{policy.TraceTagInBatch, policy.TraceUntagInBatch}
	for _, op := range slices.Concat(ownOperations, policy.Operations, policy.Scheduled) {
		names = append(names, op.Name())
	}
	return names
}

// Outcomes lists the outcomes that records can have, also those of former versions.
func Outcomes() []string {
	all := []string{"ok", "begun"}
	for _, code := range kms.Codes {
		all = append(all, string(code))
	}
	return append(all, slices.Sorted(maps.Keys(formerCodes))...)
}

// Read calls fn with the records that a query selects, in their order. With Follow it ends with ctx, without an error.
func (l *Log) Read(ctx context.Context, q Query, fn func(Entry) error) error {
	l.retaining.RLock()
	at, err := l.readThere(ctx, q, fn)
	l.retaining.RUnlock()
	for err == nil && q.Follow {
		grown := l.watch()
		if now := l.now.Load(); now.number == at.number && now.size == at.offset {
			select {
			case <-grown:
			case <-ctx.Done():
				return nil
			}
			continue
		}
		err = l.readOn(&at, q, fn)
	}
	if q.Follow && ctx.Err() != nil {
		return nil
	}
	return err
}

// place is the position of a reader.
type place struct {
	number int
	offset int64  // in the file
	record uint64 // number of the last record before it
	line   int    // of that record
}

// readThere reads the present records and returns the place after them.
func (l *Log) readThere(ctx context.Context, q Query, fn func(Entry) error) (place, error) {
	now := l.now.Load()
	starts, err := l.starts(now)
	if err != nil {
		return place{}, err
	}
	end := place{now.number, now.size, now.tree.size(), int(now.tree.size() - now.start.size())}
	var last []Entry // with q.Last, those of later files
	for i := range starts {
		s := starts[i]
		if q.Last > 0 {
			s = starts[len(starts)-1-i]
		}
		var found []Entry
		take := fn
		if q.Last > 0 {
			take = func(e Entry) error {
				e.JSON = append([]byte(nil), e.JSON...)
				if found = append(found, e); len(found) > 2*q.Last {
					found = append(found[:0], found[len(found)-q.Last:]...)
				}
				return nil
			}
		}
		if err := l.readFile(ctx, &s, now, q, take); err != nil {
			return place{}, err
		}
		if q.Last > 0 {
			if last = append(found, last...); len(last) >= q.Last {
				last = last[len(last)-q.Last:]
				break
			}
		}
	}
	for _, e := range last {
		if err := fn(e); err != nil {
			return place{}, err
		}
	}
	return end, nil
}

// starts returns where each present file begins. The number of records of a file is that of its leaf hashes.
func (l *Log) starts(now *snapshot) (list []place, err error) {
	numbers, err := filesUpTo(l.opts.Dir, now.number)
	if err != nil {
		return nil, err
	}
	list = make([]place, len(numbers))
	record := now.start.size()
	for i := len(numbers) - 1; i >= 0; i-- {
		if numbers[i] != now.number {
			info, err := os.Stat(leavesPath(l.opts.Dir, numbers[i]))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			if err == nil {
				record -= min(record, uint64(info.Size()/hashSize))
			}
		}
		list[i] = place{number: numbers[i], record: record}
	}
	return list, nil
}

// filesUpTo returns the numbers of the files up to one.
func filesUpTo(dir string, last int) ([]int, error) {
	numbers, err := list(dir)
	return slices.DeleteFunc(numbers, func(n int) bool { return n > last }), err
}

// readFile reads a file from a place on, which it moves with each record. Of the last file it reads the acknowledged part.
func (l *Log) readFile(ctx context.Context, from *place, now *snapshot, q Query, fn func(Entry) error) error {
	f, err := os.Open(fileName(l.opts.Dir, from.number))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	in := io.Reader(f)
	if from.number == now.number {
		in = io.NewSectionReader(f, from.offset, now.size-from.offset)
	} else if _, err := f.Seek(from.offset, io.SeekStart); err != nil {
		return err
	}
	name := nameOf(from.number)
	return eachLine(in, func(line []byte, whole bool) error {
		from.record, from.line = from.record+1, from.line+1
		if !whole || !q.accepts(line) {
			return ctx.Err()
		}
		if err := fn(Entry{Record: from.record, File: name, Line: from.line, JSON: line}); err != nil {
			return err
		}
		return ctx.Err()
	})
}

// readOn reads the records after at, also those in later files, and moves at.
func (l *Log) readOn(at *place, q Query, fn func(Entry) error) error {
	l.retaining.RLock()
	defer l.retaining.RUnlock()
	now := l.now.Load()
	for at.number < now.number {
		if err := l.readFile(context.Background(), at, now, q, fn); err != nil {
			return err
		}
		*at = place{number: at.number + 1, record: at.record}
	}
	err := l.readFile(context.Background(), at, now, q, fn)
	at.offset = now.size
	return err
}

// watch returns a channel that is closed when the log has grown.
func (l *Log) watch() <-chan struct{} {
	c := make(chan struct{})
	for {
		if l.watching.CompareAndSwap(nil, &c) {
			return c
		}
		if there := l.watching.Load(); there != nil {
			return *there
		}
	}
}
