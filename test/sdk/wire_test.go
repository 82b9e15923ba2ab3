package sdk

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// wire is a transport that holds every answer to what all of them have in common, and remembers the last one as it came.
type wire struct {
	next   http.RoundTripper
	paths  []string // of all requests
	status int
	header http.Header
	body   []byte
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.paths = append(w.paths, r.Method+" "+r.URL.Path)
	resp, err := w.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	if err = joinClose(err, resp.Body); err != nil {
		return nil, err
	}
	w.status, w.header, w.body = resp.StatusCode, resp.Header, body
	if err := w.check(); err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%d %s", r.Method, r.URL.Path, err, w.status, body)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, nil
}

func joinClose(err error, c io.Closer) error {
	if closing := c.Close(); err == nil {
		return closing
	}
	return err
}

// check holds what is true of every answer: it has a request id, it never redirects (the SDK does not follow), it is JSON
// of the length that it says, or nothing at all with 204.
func (w *wire) check() error {
	kind := w.header.Get("Content-Type")
	switch {
	case len(w.header.Get("X-Request-Id")) < 16:
		return fmt.Errorf("X-Request-Id is %q", w.header.Get("X-Request-Id"))
	case w.status >= 300 && w.status < 400:
		return fmt.Errorf("a redirection")
	case w.status == http.StatusNoContent:
		if len(w.body) > 0 || kind != "" {
			return fmt.Errorf("204 with a body or a Content-Type")
		}
		return nil
	case !strings.HasPrefix(kind, "application/json"):
		return fmt.Errorf("Content-Type is %q", kind)
	case w.header.Get("Content-Length") != fmt.Sprint(len(w.body)):
		return fmt.Errorf("Content-Length is %q for %d bytes", w.header.Get("Content-Length"), len(w.body))
	case !json.Valid(w.body):
		return fmt.Errorf("body is not JSON")
	}
	return nil
}

// failure returns the code of an error body, which must be in the form that belongs to it: the gateway's flat, the
// service's nested.
func (w *wire) failure() (code string, err error) {
	type text struct {
		Code      string `json:"error_code"`
		Message   string `json:"error_msg"`
		RequestID string `json:"request_id"`
	}
	var flat text
	if err := strictly(w.body, &flat); err == nil {
		if flat.RequestID != w.header.Get("X-Request-Id") || flat.Message == "" || !strings.HasPrefix(flat.Code, "APIGW.") {
			return "", fmt.Errorf("gateway's error is %+v", flat)
		}
		return flat.Code, nil
	}
	var nested struct {
		Error struct {
			Code    string `json:"error_code"`
			Message string `json:"error_msg"`
		} `json:"error"`
	}
	if err := strictly(w.body, &nested); err != nil {
		return "", err
	}
	if nested.Error.Message == "" || !strings.HasPrefix(nested.Error.Code, "KMS.") {
		return "", fmt.Errorf("service's error is %+v", nested)
	}
	return nested.Error.Code, nil
}

func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}
