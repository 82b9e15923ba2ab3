// Package client is the Go client of Keyside's native API, which a sidecar serves on its Unix socket. A [Client] has one
// method per operation; requests and results are the JSON objects of the API. The command line uses nothing else.
package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"
)

// BasePath precedes the operation's name in the path of every request.
const BasePath = "/keyside/v1/"

// idleConnections is the number of connections that stay open for the next request.
const idleConnections = 64

// maxAnswer is the longest response that is read, in bytes: a page of 2000 keys has less than two million.
const maxAnswer = 16 << 20

// Client is a pool of connections to one sidecar. It is safe for concurrent use.
type Client struct {
	// Timeout is the time limit of each request whose response is not a stream; zero: none. Set it before the first request.
	Timeout time.Duration

	socket string
	http   *http.Client
}

// New returns a client of the sidecar that serves the Unix socket. It connects on first use.
func New(socket string) *Client {
	dialer := new(net.Dialer)
	return &Client{socket: socket, http: &http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.DialContext(ctx, "unix", socket)
			},
			MaxIdleConns: idleConnections, MaxIdleConnsPerHost: idleConnections, IdleConnTimeout: time.Minute,
			DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// none is the result of an operation that returns nothing.
type none struct{}

// call does one operation and decodes its result, which is nil with an error.
func call[Result any](ctx context.Context, c *Client, operation string, in any) (*Result, error) {
	out, err := value[Result](ctx, c, operation, in)
	if err != nil {
		return nil, err
	}
	return &out, nil
}

// value does one operation and decodes its result, which is the zero value with an error.
func value[Result any](ctx context.Context, c *Client, operation string, in any) (out Result, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("encode the request of %s: %w", operation, err)
	}
	defer clear(body)
	res, answer, err := c.fetch(ctx, http.MethodPost, BasePath+operation, body)
	if err != nil {
		return out, err
	}
	defer clear(answer)
	if res.StatusCode != http.StatusOK {
		return out, errorOf(res, answer)
	}
	var result Result
	if err := json.Unmarshal(answer, &result); err != nil {
		return out, malformed(err)
	}
	return result, nil
}

// do does one operation that returns nothing.
func (c *Client) do(ctx context.Context, operation string, in any) error {
	_, err := value[none](ctx, c, operation, in)
	return err
}

// fetch sends one request and reads the response.
func (c *Client) fetch(ctx context.Context, method, path string, body []byte) (*http.Response, []byte, error) {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	res, err := c.send(ctx, method, path, body)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := readAnswer(res)
	if err != nil {
		return nil, nil, c.connectError(ctx, err)
	}
	return res, answer, nil
}

// send sends one request. The caller closes the body of the response.
func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, c.connectError(ctx, err)
	}
	return res, nil
}

// readAnswer reads a body, at once where its length is known.
func readAnswer(res *http.Response) ([]byte, error) {
	if res.ContentLength > maxAnswer {
		return nil, errors.New("response too long")
	}
	if res.ContentLength >= 0 {
		b := make([]byte, res.ContentLength)
		_, err := io.ReadFull(res.Body, b)
		return b, err
	}
	return io.ReadAll(io.LimitReader(res.Body, maxAnswer))
}

// malformed says where decoding stopped. It does not quote the response as err does, because that may hold key material.
func malformed(err error) error {
	var where *json.SemanticError
	if errors.As(err, &where) {
		return fmt.Errorf("malformed response of the sidecar at %q", where.JSONPointer)
	}
	return errors.New("malformed response of the sidecar")
}
