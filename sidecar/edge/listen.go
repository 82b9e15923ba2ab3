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
	if opts.Listen == "" {
		return []net.Listener{socket}, nil
	}
	port, err := listenPort(opts)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return []net.Listener{socket, port}, nil
}

// listenPort opens the loopback port, with TLS if a certificate is configured.
func listenPort(opts *Options) (net.Listener, error) {
	var secure *tls.Config
	if opts.TLS.Enabled() {
		c, err := openCertificates(opts.TLS, opts.Logger)
		if err != nil {
			return nil, err
		}
		secure = c.config()
	}
	ln, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	port := limit(ln, opts.Connections.Listen, opts.Connections.Share, opts.Logger)
	if secure != nil {
		return tls.NewListener(port, secure), nil
	}
	return hostListener{port}, nil
}
