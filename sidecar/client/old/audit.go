package client

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Paths of the audit log.
const (
	AuditQueryPath  = "/keyside/v1/audit/query"
	AuditVerifyPath = "/keyside/v1/audit/verify"
	AuditExportPath = "/keyside/v1/audit/export"
)

// AuditQuery selects records of the audit log. A zero field selects every one.
type AuditQuery struct {
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	Principal string    `json:"principal,omitzero"`
	KeyID     string    `json:"key_id,omitzero"`
	Operation string    `json:"operation,omitzero"` // by its name or that of its trace
	Decision  string    `json:"decision,omitzero"`  // allow or deny
	Outcome   string    `json:"outcome,omitzero"`
	RequestID string    `json:"request_id,omitzero"`
	Last      int       `json:"last,omitzero"`   // the last so many of those that are there
	Follow    bool      `json:"follow,omitzero"` // and those that are yet to come, until the context ends
}

// AuditEntry is a record with its place in the log.
type AuditEntry struct {
	Record uint64         `json:"record"` // number in the whole log, from 1
	File   string         `json:"file"`
	Line   int            `json:"line"`  // in the file, from 1
	Entry  jsontext.Value `json:"entry"` // the record, as it is in the log
}

// QueryAudit calls fn with the records that a query selects, in their order.
func (c *Client) QueryAudit(ctx context.Context, q AuditQuery, fn func(*AuditEntry) error) error {
	body, err := json.Marshal(&q)
	if err != nil {
		return err
	}
	return c.stream(ctx, AuditQueryPath, body, func(r io.Reader) error {
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
				return notItsFormat(err)
			}
			if err := fn(&e); err != nil {
				return err
			}
		}
	})
}

// AuditFinding is one thing that is wrong with an audit log.
type AuditFinding struct {
	Kind     string `json:"kind"`
	File     string `json:"file,omitzero"`
	Record   uint64 `json:"record,omitzero"`
	Line     int    `json:"line,omitzero"`
	Detail   string `json:"detail"`
	Accepted string `json:"accepted,omitzero"` // when an administrator accepted it
}

// AuditReport is what a verification found.
type AuditReport struct {
	Origin   string         `json:"origin"`
	Keys     []string       `json:"keys"` // verifier keys whose signatures counted
	First    uint64         `json:"first"`
	Records  uint64         `json:"records"` // number of the last record
	Signed   uint64         `json:"signed"`  // the records up to this one are covered by a signature
	Findings []AuditFinding `json:"findings"`
	Notes    []string       `json:"notes,omitempty"`
	More     int            `json:"more,omitzero"` // findings that are left out
	Removed  uint64         `json:"removed,omitzero"`
}

// OK reports whether nothing is wrong that nobody has accepted.
func (r *AuditReport) OK() bool {
	for i := range r.Findings {
		if r.Findings[i].Accepted == "" {
			return false
		}
	}
	return r.More == 0
}

// VerifyAudit has the sidecar verify its audit log up to now, under a verifier key or ("") those that its database names.
func (c *Client) VerifyAudit(ctx context.Context, key string) (*AuditReport, error) {
	body, err := json.Marshal(map[string]string{"key": key})
	if err != nil {
		return nil, err
	}
	out := new(AuditReport)
	return out, c.stream(ctx, AuditVerifyPath, body, func(r io.Reader) error {
		if err := json.UnmarshalRead(r, out); err != nil {
			return notItsFormat(err)
		}
		return nil
	})
}

// ExportAudit hands read the audit log as a tar archive, which it reads to the end.
func (c *Client) ExportAudit(ctx context.Context, read func(io.Reader) error) error {
	return c.stream(ctx, AuditExportPath, []byte("{}"), read)
}

// ErrCutOff is the error of an answer that came in part.
var ErrCutOff = errors.New("the sidecar cut its answer off")

// stream does one request whose answer is read as it comes. One that is cut off is ErrCutOff.
func (c *Client) stream(ctx context.Context, path string, body []byte, read func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return c.connectError(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		answer, err := readAnswer(res)
		if err != nil {
			return c.connectError(ctx, err)
		}
		return errorOf(res.StatusCode, res.Header, answer)
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
