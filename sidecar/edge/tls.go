package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// TLSConfig names the files of the loopback port's certificate, with the chain after it, and of its private key, both PEM.
type TLSConfig struct {
	Certificate string `yaml:"certificate"`
	Key         string `yaml:"key"`
}

// Enabled reports whether the port speaks TLS.
func (c TLSConfig) Enabled() bool { return c.Certificate != "" || c.Key != "" }

// lookInterval is the shortest time between two checks of the files, which cost two calls of stat.
const lookInterval = time.Second

// The log warns of a certificate's expiry warnBefore it, half of what ACME clients leave for a renewal, and then every warnInterval.
const (
	warnBefore   = 15 * 24 * time.Hour
	warnInterval = 24 * time.Hour
)

// maxPEM is the largest size of a certificate's or a key's file, in bytes.
const maxPEM = 1 << 20

// certificates provides the certificate for every handshake and follows its files: a renewal needs no restart and drops no
// connection. If new files cannot be used, the current certificate stays.
type certificates struct {
	cfg TLSConfig
	log *slog.Logger
	now func() time.Time
	try func() (*tls.Certificate, error) // load, except in tests

	mu      sync.Mutex
	current *tls.Certificate
	stamps  [2]stamp // of the files that current was read from
	failed  [2]stamp // of the files that failed last
	looked  time.Time
	warned  time.Time
}

// stamp shows whether a file changed: every change, also of its mode, changes ctime.
type stamp struct {
	ino, dev uint64
	ctime    unix.Timespec
	size     int64
}

func openCertificates(cfg TLSConfig, log *slog.Logger) (*certificates, error) {
	c := &certificates{cfg: cfg, log: log, now: time.Now}
	c.try = c.load
	c.stamps = c.look()
	c.looked = c.now()
	var err error
	if c.current, err = c.load(); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	c.warn(c.looked)
	return c, nil
}

// warn logs, once a day, that a certificate expires soon or has expired.
func (c *certificates) warn(now time.Time) {
	end := c.current.Leaf.NotAfter
	if now.Before(end.Add(-warnBefore)) || now.Sub(c.warned) < warnInterval {
		return
	}
	c.warned = now
	if now.After(end) {
		c.log.Error("tls certificate has expired, clients refuse it", slog.Time("not_after", end))
		return
	}
	c.log.Warn("tls certificate expires soon", slog.Time("not_after", end))
}

// config returns the TLS configuration of a listener.
func (c *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get(), nil },
	}
}

// get returns the certificate, from new files if they changed.
func (c *certificates) get() *tls.Certificate {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.now(); now.Sub(c.looked) >= lookInterval || now.Before(c.looked) {
		c.looked = now
		c.follow()
		c.warn(now)
	}
	return c.current
}

// follow reads the files if they changed. The stamps are taken before, so that a change while they are read counts as another one. Files that
// cannot be used are tried again, and logged once.
func (c *certificates) follow() {
	stamps := c.look()
	if stamps == c.stamps {
		return
	}
	renewed, err := c.try()
	if err != nil {
		if c.failed != stamps {
			c.log.Error("tls certificate cannot be renewed", slog.Any("error", err))
		}
		c.failed = stamps
		return
	}
	c.stamps, c.failed, c.current, c.warned = stamps, [2]stamp{}, renewed, time.Time{}
	c.log.Info("tls certificate renewed", slog.Time("not_after", renewed.Leaf.NotAfter))
}

// look returns the stamps of the files, zero for a missing one.
func (c *certificates) look() (stamps [2]stamp) {
	for i, path := range []string{c.cfg.Certificate, c.cfg.Key} {
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			stamps[i] = stamp{st.Ino, st.Dev, st.Ctim, st.Size}
		}
	}
	return stamps
}

// load reads the files. Both must belong to root or this user. Other users must not be able to write the certificate or read the key.
func (c *certificates) load() (*tls.Certificate, error) {
	certificate, err := readPEM(c.cfg.Certificate, 0o022, "written by others than its owner")
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	key, err := readPEM(c.cfg.Key, 0o077, "read by others than its owner; chmod 600 it")
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	defer clear(key)
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}

// readPEM reads a file that has none of the forbidden permission bits.
func readPEM(path string, forbidden fs.FileMode, why string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to uid %d, neither root nor this user", path, st.Uid)
	case info.Mode().Perm()&forbidden != 0:
		return nil, fmt.Errorf("%s can be %s (mode %04o)", path, why, info.Mode().Perm())
	case info.Size() > maxPEM:
		return nil, errors.New(path + " is too long")
	}
	text := make([]byte, info.Size())
	_, err = io.ReadFull(f, text)
	return text, err
}
