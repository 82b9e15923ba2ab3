package bench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
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
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	ok := bytes.HasPrefix(line, []byte("HTTP/1.1 200 "))
	length := -1
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return nil, err
		}
		name, value, isHeader := bytes.Cut(line, []byte(": "))
		if !isHeader {
			break
		}
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return nil, err
			}
		}
	}
	if length < 0 {
		return nil, errors.New("the answer has no Content-Length")
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return nil, err
	}
	if !ok {
		first, _, _ := bytes.Cut(request, []byte(" HTTP"))
		return nil, fmt.Errorf("%s: %s", first, c.body)
	}
	return c.body, nil
}
