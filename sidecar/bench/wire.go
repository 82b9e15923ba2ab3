package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"
)

// conn is one kept connection to a node's socket. It sends requests that are ready as bytes and reads answers that have a
// Content-Length, so that the load generator takes little of the processor time that it measures.
type conn struct {
	net.Conn
	in   *bufio.Reader
	body []byte // of the last answer
}

// connect opens a connection. It lasts for one measurement: a sidecar closes connections that are idle for 2 minutes.
func connect(socket string) (*conn, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, in: bufio.NewReader(c)}, nil
}

// request returns a POST of the Huawei dialect under the default project id of `keyside up`.
func request(operation string, body []byte) []byte {
	return fmt.Appendf(nil, "POST /v1.0/keyside/kms/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		operation, len(body), body)
}

// do sends a request and returns the answer's body, which is valid until the next call. A status other than 200 is an error.
func (c *conn) do(request []byte) ([]byte, error) {
	a, err := c.exchange(request)
	if err != nil {
		return nil, err
	}
	if a.status != http.StatusOK {
		first, _, _ := bytes.Cut(request, []byte(" HTTP"))
		return nil, fmt.Errorf("%s: %s", first, c.body)
	}
	return c.body, nil
}

// answer is what a load generator needs of an answer.
type answer struct {
	status     int
	retryAfter time.Duration
	closes     bool // the server closes the connection
}

// exchange sends a request and reads the answer. Its body stays in c.body until the next call.
func (c *conn) exchange(request []byte) (a answer, err error) {
	if _, err := c.Write(request); err != nil {
		return a, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return a, err
	}
	if _, status, ok := bytes.Cut(line, []byte("HTTP/1.1 ")); !ok || len(status) < 3 {
		return a, fmt.Errorf("no status line: %q", line)
	} else if a.status, err = strconv.Atoi(string(status[:3])); err != nil {
		return a, err
	}
	length, seconds := -1, 0
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return a, err
		}
		name, value, isHeader := bytes.Cut(line, []byte(": "))
		if !isHeader {
			break
		}
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Retry-After")):
			seconds, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Connection")):
			a.closes = bytes.EqualFold(value, []byte("close"))
		}
		if err != nil {
			return a, err
		}
	}
	if length < 0 {
		return a, errors.New("the answer has no Content-Length")
	}
	a.retryAfter = time.Duration(seconds) * time.Second
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	_, err = io.ReadFull(c.in, c.body)
	return a, err
}
