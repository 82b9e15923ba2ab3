package edge

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
)

// TestHost corrects the Host header of a connection's first request where it is a URL, tells handlers what was sent, and closes
// the connection. It leaves every other request as it is, however it arrives.
func TestHost(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	srv := &http.Server{ConnContext: connContext, ReadHeaderTimeout: headerTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s|%s|%s|%v", r.Host, dialect.SentHost(r.Context()), body, err)
	})}
	go func() { _ = srv.Serve(hostListener{limit(ln, 100, 100, slog.New(slog.DiscardHandler))}) }()
	t.Cleanup(func() { _ = srv.Close() })
	for what, c := range map[string]struct {
		request, want string // several answers are separated by a space
		closes        bool
	}{
		"url":             {"POST / HTTP/1.1\r\nhost: http://ADDRESS\r\nContent-Length: 4\r\nConnection: keep-alive\r\n\r\nbody", "ADDRESS|http://ADDRESS|body|<nil>", true},
		"secure url":      {"GET / HTTP/1.1\r\nAccept: */*\r\nHost: https://kms.example/\r\n\r\n", "kms.example|https://kms.example/||<nil>", true},
		"host":            {"POST / HTTP/1.1\r\nHost: ADDRESS\r\nContent-Length: 4\r\n\r\nbody", "ADDRESS||body|<nil>", false},
		"url elsewhere":   {"POST / HTTP/1.1\r\nHost: ADDRESS\r\nReferer: http://a\r\nContent-Length: 20\r\n\r\nHost:http://b\r\nx\r\n\r\n", "ADDRESS||Host:http://b\r\nx\r\n\r\n|<nil>", false},
		"url in the next": {"GET / HTTP/1.1\r\nHost: ADDRESS\r\n\r\nGET / HTTP/1.1\r\nHost: http://ADDRESS\r\n\r\n", "ADDRESS|||<nil> 400", true},
		"other scheme":    {"GET / HTTP/1.1\r\nHost: ftp://ADDRESS\r\n\r\n", "400", true},
		"twice":           {"GET / HTTP/1.1\r\nHost: http://ADDRESS\r\nHost: http://b\r\n\r\n", "400", true},
		"line feeds":      {"GET / HTTP/1.1\nHost: ADDRESS\n\n", "ADDRESS|||<nil>", false},
		"no request":      {"\x16\x03\x01\r\n\r\n", "400", true},
	} {
		for _, pieces := range []bool{false, true} {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.SetDeadline(time.Now().Add(headerTimeout - time.Second)) // what waits for more has failed
			text := strings.ReplaceAll(c.request, "ADDRESS", address)
			for len(text) > 0 {
				n := len(text)
				if pieces {
					n = min(n, 7)
				}
				if _, err := io.WriteString(conn, text[:n]); err != nil {
					break // it was refused by what came before
				}
				text = text[n:]
			}
			in, got, closed := bufio.NewReader(conn), "", false
			for range strings.Fields(strings.ReplaceAll(c.want, "\r\n", "")) {
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Errorf("%s, in pieces %v: %v", what, pieces, err)
					break
				}
				body, _ := io.ReadAll(resp.Body)
				if closed = resp.Close; resp.StatusCode != http.StatusOK {
					body = []byte(fmt.Sprint(resp.StatusCode))
				}
				got += " " + string(body)
			}
			if want := strings.ReplaceAll(c.want, "ADDRESS", address); strings.TrimPrefix(got, " ") != want || closed != c.closes {
				t.Errorf("%s, in pieces %v: %q, closes %v; want %q", what, pieces, got, closed, want)
			}
			_ = conn.Close()
		}
	}
}
