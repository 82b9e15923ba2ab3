// Package client speaks to a sidecar over its Unix socket: the operations of the Huawei dialect and Keyside's own routes.
// The command line uses it, and nothing else that the command line does goes another way.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
)

// idleConnections is how many connections stay open for the next call.
const idleConnections = 64

// maxAnswer bounds what is read of an answer, in bytes: a page of 2000 keys has less than two million.
const maxAnswer = 16 << 20

// Client is a connection pool to one sidecar. It is safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client

	mu      sync.Mutex
	project string
}

// Option changes a Client.
type Option func(*Client)

// WithProject sets the project id that paths name. Without it the client asks the sidecar once.
func WithProject(id string) Option { return func(c *Client) { c.project = id } }

// New returns a client of the sidecar that serves the socket. It connects on first use. Deadlines are the contexts'.
func New(socket string, options ...Option) *Client {
	c := &Client{socket: socket}
	dialer := new(net.Dialer)
	c.http = &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			MaxIdleConns: idleConnections, MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: time.Minute,
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, o := range options {
		o(c)
	}
	return c
}

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Error is a refusal or failure that the sidecar answered.
type Error struct {
	Status     int    // of HTTP
	Code       string // KMS.0207
	Message    string
	RequestID  string // names the audit record
	RetryAfter time.Duration
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s (%s, request %s)", e.Message, e.Code, e.RequestID)
}

// Is makes errors.Is(err, ErrNotFound) and its like compare codes.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// Answers that programs tell apart, for errors.Is.
var (
	ErrNotFound          = &Error{Code: "KMS.0207"}
	ErrDenied            = &Error{Code: "KMS.0307"}
	ErrInvalidKeyID      = &Error{Code: "KMS.0205"}
	ErrAliasExists       = &Error{Code: "KMS.1104"}
	ErrQuota             = &Error{Code: "KMS.1105"}
	ErrKeyDisabled       = &Error{Code: "KMS.0209"}
	ErrInvalidCiphertext = &Error{Code: "KMS.2201"}
	ErrTagNotFound       = &Error{Code: "KMS.0416"}
	ErrUnavailable       = &Error{Code: "KMS.0104"} // the HSM is busy or away; RetryAfter may say for how long
)

// ConnectError says that there was no answer: no sidecar serves the socket, or it went away.
type ConnectError struct {
	Socket string
	err    error
}

func (e *ConnectError) Error() string {
	return fmt.Sprintf("no answer from the sidecar at %s: %v", e.Socket, e.err)
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.err }

// call does one operation that is a POST to its own name, as most are.
func (c *Client) call(ctx context.Context, operation string, in, out any) error {
	return c.operate(ctx, http.MethodPost, operation, in, out)
}

// operate does one operation of the Huawei dialect. path is what follows /kms/; in is nil where there is no body, out where
// the answer has none that matters.
func (c *Client) operate(ctx context.Context, method, path string, in, out any) error {
	project, err := c.projectID(ctx)
	if err != nil {
		return err
	}
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode %s: %w", path, err)
		}
		defer clear(body)
	}
	return c.do(ctx, method, "/v1.0/"+project+"/kms/"+path, body, out)
}

// projectID returns the project that paths name.
func (c *Client) projectID(ctx context.Context) (string, error) {
	c.mu.Lock()
	project := c.project
	c.mu.Unlock()
	if project != "" {
		return project, nil
	}
	health, err := c.Health(ctx)
	if err != nil {
		return "", err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.project = health.Huawei.ProjectID
	return c.project, nil
}

// do does one request and decodes its answer into out, unless that is nil.
func (c *Client) do(ctx context.Context, method, path string, body []byte, out any) error {
	status, header, answer, err := c.roundTrip(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer clear(answer)
	switch status {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
	default:
		return errorOf(status, header, answer)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return notItsFormat(err)
	}
	return nil
}

// notItsFormat says where decoding stopped. It does not quote the answer as err does, which may hold key material.
func notItsFormat(err error) error {
	var where *json.SemanticError
	if errors.As(err, &where) {
		return fmt.Errorf("sidecar answered what is not its format at %q", where.JSONPointer)
	}
	return errors.New("sidecar answered what is not its format")
}

func (c *Client) roundTrip(ctx context.Context, method, path string, body []byte) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, c.connectError(ctx, err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := readAnswer(res)
	if err != nil {
		return 0, nil, nil, c.connectError(ctx, err)
	}
	return res.StatusCode, res.Header, answer, nil
}

// readAnswer reads a body, at once where its length is known.
func readAnswer(res *http.Response) ([]byte, error) {
	if res.ContentLength > maxAnswer {
		return nil, errors.New("answer too long")
	}
	if res.ContentLength >= 0 {
		b := make([]byte, res.ContentLength)
		_, err := io.ReadFull(res.Body, b)
		return b, err
	}
	return io.ReadAll(io.LimitReader(res.Body, maxAnswer))
}

// connectError tells a context that ended from a sidecar that is not there.
func (c *Client) connectError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &ConnectError{Socket: c.socket, err: err}
}

// errorOf reads an error in either of its forms.
func errorOf(status int, header http.Header, answer []byte) error {
	type fault struct {
		Code    string `json:"error_code"`
		Message string `json:"error_msg"`
	}
	var body struct {
		fault
		Error fault `json:"error"`
	}
	_ = json.Unmarshal(answer, &body) // what is not in the format has no code and a general message
	e := &Error{Status: status, RequestID: header.Get("X-Request-Id")}
	switch {
	case body.Error.Code != "":
		e.Code, e.Message = body.Error.Code, body.Error.Message
	case body.Code != "":
		e.Code, e.Message = body.Code, body.Message
	default:
		e.Code, e.Message = "HTTP."+strconv.Itoa(status), http.StatusText(status)
	}
	if s, err := strconv.Atoi(header.Get("Retry-After")); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}
