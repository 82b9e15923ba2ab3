package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// AuditQuery selects records of the audit log. A zero field selects all.
type AuditQuery struct {
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	Principal string    `json:"principal,omitzero"`
	KeyID     string    `json:"key_id,omitzero"`
	Operation string    `json:"operation,omitzero"` // any of its names
	Decision  string    `json:"decision,omitzero"`  // allow, deny (for lack of a right), or undecided (refused before a decision)
	Outcome   string    `json:"outcome,omitzero"`
	RequestID string    `json:"request_id,omitzero"`
	Last      int       `json:"last,omitzero"`   // only the last ones, at most 100000
	Follow    bool      `json:"follow,omitzero"` // also new records, until the context ends
}

// AuditEntry is a record with its place in the log.
type AuditEntry struct {
	Record uint64         `json:"record"` // number in the whole log, from 1
	File   string         `json:"file"`
	Line   int            `json:"line"`  // in the file, from 1
	Entry  jsontext.Value `json:"entry"` // the record, as it is in the log
}

// ReadAuditLog calls fn with each record that a query selects, in order. Error: ErrCutOff if the response ended early.
func (c *Client) ReadAuditLog(ctx context.Context, q AuditQuery, fn func(*AuditEntry) error) error {
	return c.stream(ctx, "read-audit-log", q, func(r io.Reader) error {
		in := bufio.NewReaderSize(r, 64<<10)
		for {
			line, err := in.ReadBytes('\n')
			switch {
			case err == io.EOF && len(line) == 0:
				return nil
			case err != nil:
				return err
			}
			var e AuditEntry
			if err := json.Unmarshal(line, &e); err != nil {
				return malformed(err)
			}
			if err := fn(&e); err != nil {
				return err
			}
		}
	})
}

// AuditFinding is one fault of an audit log.
type AuditFinding struct {
	Kind     string `json:"kind"`
	File     string `json:"file,omitzero"`
	Record   uint64 `json:"record,omitzero"`
	Line     int    `json:"line,omitzero"`
	Detail   string `json:"detail"`
	Accepted string `json:"accepted,omitzero"` // the time when an administrator accepted it
}

// AuditReport is the result of a verification.
type AuditReport struct {
	Origin   string         `json:"origin"`
	Keys     []string       `json:"keys"` // verifier keys whose signatures were accepted
	First    uint64         `json:"first"`
	Records  uint64         `json:"records"` // number of the last record
	Signed   uint64         `json:"signed"`  // the records up to this one are covered by a signature
	Findings []AuditFinding `json:"findings"`
	Notes    []string       `json:"notes,omitempty"`
	More     int            `json:"more,omitzero"` // number of findings left out
	Removed  uint64         `json:"removed,omitzero"`
}

// OK reports whether every finding is accepted.
func (r *AuditReport) OK() bool {
	for i := range r.Findings {
		if r.Findings[i].Accepted == "" {
			return false
		}
	}
	return r.More == 0
}

// VerifyAuditRequest names the key of the signatures.
type VerifyAuditRequest struct {
	VerifierKey string `json:"verifier_key,omitzero"` // NAME+KEYID+BASE64; empty: the keys that the database has
}

// VerifyAuditLog verifies the audit log up to now, under a verifier key, or ("") under those that the database has.
func (c *Client) VerifyAuditLog(ctx context.Context, verifierKey string) (*AuditReport, error) {
	out := new(AuditReport)
	return out, c.stream(ctx, "verify-audit-log", VerifyAuditRequest{verifierKey}, func(r io.Reader) error {
		answer, err := io.ReadAll(io.LimitReader(r, maxAnswer))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(answer, out); err != nil {
			return malformed(err)
		}
		return nil
	})
}

// ExportAuditLog calls read with the audit log as a tar archive, which it reads to the end.
func (c *Client) ExportAuditLog(ctx context.Context, read func(io.Reader) error) error {
	return c.stream(ctx, "export-audit-log", none{}, read)
}

// stream does one operation whose response is read as it comes. The error of one that ends early is ErrCutOff.
func (c *Client) stream(ctx context.Context, operation string, in any, read func(io.Reader) error) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the request of %s: %w", operation, err)
	}
	res, err := c.send(ctx, http.MethodPost, BasePath+operation, body)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		answer, err := readAnswer(res)
		if err != nil {
			return c.connectError(ctx, err)
		}
		return errorOf(res, answer)
	}
	err = read(res.Body)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w (request %s)", ErrCutOff, res.Header.Get("X-Request-Id"))
	}
	return err
}
