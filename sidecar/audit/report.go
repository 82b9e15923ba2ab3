package audit

import "fmt"

// Kind is the kind of a finding.
type Kind string

// The kinds.
const (
	Changed     Kind = "changed"      // a record differs from the acknowledged one
	Missing     Kind = "missing"      // records are missing between others
	Added       Kind = "added"        // records that were never acknowledged
	Swapped     Kind = "swapped"      // two records have changed places
	Truncated   Kind = "truncated"    // the last records are missing
	FileMissing Kind = "file-missing" // a whole file is missing
	FileSwapped Kind = "file-swapped" // a file has another one's records
	Signature   Kind = "signature"    // a checkpoint is corrupt, or not signed by a trusted key
	Checkpoint  Kind = "checkpoint"   // a checkpoint is missing, too old, or about other records
	Leaves      Kind = "leaves"       // the leaf hashes of a file do not match its records, which are intact
	Uncovered   Kind = "uncovered"    // records that are not attested
	Gap         Kind = "gap"          // a change of the database has no record
	LostChange  Kind = "lost-change"  // the database lacks a change that has a record, or that it had
	Accepted    Kind = "accepted"     // an administrator accepted a loss
	Database    Kind = "database"     // the head in the database is corrupt, or that of another log
)

// Finding is one fault of a log.
type Finding struct {
	Kind   Kind   `json:"kind"`
	File   string `json:"file,omitempty"`   // its name
	Record uint64 `json:"record,omitempty"` // number in the whole log, from 1; the first one where there are several
	Line   int    `json:"line,omitempty"`   // in the file, from 1
	Detail string `json:"detail"`
	// Accepted says that an administrator has accepted it and when, by a record in the log.
	Accepted string `json:"accepted,omitempty"`

	content string // of the file, as an acceptance names it
}

func (f Finding) String() string {
	where := f.File
	if f.Line > 0 {
		where += fmt.Sprintf(":%d", f.Line)
	}
	if f.Record > 0 {
		where += fmt.Sprintf(" (record %d)", f.Record)
	}
	if where != "" {
		where += ": "
	}
	text := where + string(f.Kind) + ": " + f.Detail
	if f.Accepted != "" {
		text += "; accepted " + f.Accepted
	}
	return text
}

// Report is what Verify found.
type Report struct {
	Origin   string    `json:"origin"`            // which log it is
	Keys     []string  `json:"keys"`              // verifier keys whose signatures counted
	First    uint64    `json:"first"`             // number of the first present record
	Records  uint64    `json:"records"`           // number of the last one
	Signed   uint64    `json:"signed"`            // records up to this one are covered by a signature
	Findings []Finding `json:"findings"`          // in the order of the log
	Notes    []string  `json:"notes,omitempty"`   // facts that are no faults
	More     int       `json:"more,omitempty"`    // findings beyond the limit of a report
	Removed  uint64    `json:"removed,omitempty"` // records that retention has removed
}

// OK reports whether every finding was accepted.
func (r *Report) OK() bool {
	for _, f := range r.Findings {
		if f.Accepted == "" {
			return false
		}
	}
	return r.More == 0
}

// maxFindings limits the findings of a report.
const maxFindings = 200

func (r *Report) add(f Finding) {
	if len(r.Findings) >= maxFindings {
		r.More++
		return
	}
	r.Findings = append(r.Findings, f)
}

func (r *Report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}
