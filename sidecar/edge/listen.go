package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"github.com/keyside/keyside/hsmd/peer"
)

// listen opens the Unix socket and, if configured, the loopback port.
func listen(opts *Options) ([]net.Listener, error) {
	ln, err := peer.Listen(opts.Socket, opts.SocketMode, opts.SocketGroup)
	if err != nil {
		return nil, err
	}
	socket := limit(peer.Watch(ln), opts.Connections.Socket, opts.Connections.Share, opts.Logger)
	now := &served{listeners: map[string]*limited{"socket": socket}}
	all := []net.Listener{socket}
	if opts.Listen != "" {
		port, err := listenPort(opts, now)
		if err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		all = append(all, port)
	}
	if opts.Figures != nil {
		opts.Figures.serving.Store(now)
	}
	return all, nil
}

// listenPort opens the loopback port, with TLS if a certificate is configured.
func listenPort(opts *Options, now *served) (net.Listener, error) {
	var err error
	if opts.TLS.Enabled() {
		if now.certificates, err = openCertificates(opts.TLS, opts.Logger); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	port := limit(ln, opts.Connections.Listen, opts.Connections.Share, opts.Logger)
	now.listeners["port"] = port
	if now.certificates != nil {
		return tls.NewListener(port, now.certificates.config()), nil
	}
	return hostListener{port}, nil
}
