package bench

import (
	"bufio"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// serve answers each request on a socket with the next text, and closes the connection after the last one.
func serve(t *testing.T, answers ...string) *conn {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "socket")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		in := bufio.NewReader(c)
		for _, answer := range answers {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			body := make([]byte, r.ContentLength)
			if _, err := r.Body.Read(body); r.URL.Path != "/v1.0/keyside/kms/sign" || string(body) != `{"a":1}` {
				t.Errorf("the request is %s %s %v", r.URL, body, err)
			}
			_, _ = c.Write([]byte(answer))
		}
	}()
	c, err := connect(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestConn(t *testing.T) {
	c := serve(t,
		"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nDate: today\r\n\r\nfirst",
		"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 2\r\n\r\nno",
		"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\ndenied",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	ask := func() (string, error) {
		b, err := c.do(request("sign", []byte(`{"a":1}`)))
		return string(b), err
	}
	for _, want := range []string{"first", "no"} {
		if got, err := ask(); err != nil || got != want {
			t.Fatalf("%q, %v, want %q", got, err, want)
		}
	}
	for _, want := range []string{"kms/sign: denied", "no Content-Length", ""} {
		if got, err := ask(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q, %v, want an error with %q", got, err, want)
		}
	}
}

// TestRename: the aliases of create-key differ and the request stays as long as it says.
func TestRename(t *testing.T) {
	var s stack
	r := s.request(operation{kind: kindCreateKey})
	for _, want := range []string{"000000000001", "000000000002"} {
		before := len(r)
		s.rename(r)
		if !strings.HasSuffix(string(r), `{"key_alias":"bench/`+want+`"}`) || len(r) != before {
			t.Errorf("%s, want alias bench/%s", r, want)
		}
	}
}
