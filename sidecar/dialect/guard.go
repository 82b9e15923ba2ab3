package dialect

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// FromBrowser reports whether a request on localhost may be a web page's doing: it has an Origin, or a Host that is not
// this machine, as after DNS rebinding. No KMS client sends either.
func FromBrowser(r *http.Request) bool {
	return r.Header.Get("Origin") != "" || !loopback(r.Host)
}

// loopback reports whether a Host header names this machine; an absent one passes.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if host == "" || strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}
