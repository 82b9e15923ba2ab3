package edge

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// certificate makes a self-signed certificate for the loopback and its key, both PEM.
func certificate(t testing.TB, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// write replaces a file as a renewal does.
func write(t testing.TB, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestCertificates follows the files through a renewal, and through all that can be wrong with one.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	cfg := TLSConfig{Certificate: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}
	first, firstKey := certificate(t, 1)
	second, secondKey := certificate(t, 2)
	write(t, cfg.Certificate, first, 0o644)
	write(t, cfg.Key, firstKey, 0o600)
	var log bytes.Buffer
	c, err := openCertificates(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := c.looked
	c.now = func() time.Time { return now }
	serial := func(step string, want int64) {
		t.Helper()
		if got := c.get().Leaf.SerialNumber.Int64(); got != want {
			t.Errorf("%s: certificate %d, want %d", step, got, want)
		}
	}
	later := func() { now = now.Add(lookInterval) }
	serial("at first", 1)
	write(t, cfg.Certificate, second, 0o644)
	later()
	serial("with the new certificate and the old key", 1)
	later()
	serial("still", 1)
	if n := strings.Count(log.String(), "cannot be renewed"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	write(t, cfg.Key, secondKey, 0o600)
	now = now.Add(lookInterval - 1)
	serial("before the next look", 1)
	later()
	serial("with both", 2)
	for step, spoil := range map[string]func(){
		"a key that others can read":          func() { write(t, cfg.Key, secondKey, 0o640) },
		"a certificate that others can write": func() { write(t, cfg.Certificate, second, 0o666) },
		"garbage":                             func() { write(t, cfg.Certificate, []byte("garbage"), 0o644) },
		"an empty file":                       func() { write(t, cfg.Certificate, nil, 0o644) },
		"no file":                             func() { _ = os.Remove(cfg.Certificate) },
		"a directory":                         func() { _ = os.Remove(cfg.Certificate); _ = os.Mkdir(cfg.Certificate, 0o700) },
	} {
		spoil()
		later()
		serial(step, 2)
		if _, err := openCertificates(cfg, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: a start with it is fine", step)
		}
		_ = os.RemoveAll(cfg.Certificate)
		write(t, cfg.Certificate, first, 0o644)
		write(t, cfg.Key, firstKey, 0o600)
		later()
		serial("after "+step, 1)
		write(t, cfg.Certificate, second, 0o644)
		write(t, cfg.Key, secondKey, 0o600)
		later()
		serial("and again", 2)
	}
	if err := os.Chmod(cfg.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openCertificates(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that every user can read: %v", err)
	}
	if strings.Contains(log.String(), "PRIVATE") {
		t.Error("the log shows the key")
	}
}

// TestCertificatesTriedAgain checks that new files that could not be read once, for example because no descriptor was free, are read later
// without another change, and that the log reports the failure once.
func TestCertificatesTriedAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := TLSConfig{Certificate: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}
	replace := func(serial int64) {
		cert, key := certificate(t, serial)
		write(t, cfg.Certificate, cert, 0o644)
		write(t, cfg.Key, key, 0o600)
	}
	replace(1)
	var log bytes.Buffer
	c, err := openCertificates(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	now := c.looked
	c.now = func() time.Time { now = now.Add(lookInterval); return now }
	c.try = func() (*tls.Certificate, error) { return nil, syscall.EMFILE }
	replace(2)
	for range 3 {
		if got := c.get().Leaf.SerialNumber.Int64(); got != 1 {
			t.Errorf("certificate %d", got)
		}
	}
	c.try = c.load
	if got := c.get().Leaf.SerialNumber.Int64(); got != 2 || strings.Count(log.String(), "cannot be renewed") != 1 {
		t.Errorf("certificate %d, log:\n%s", got, log.String())
	}
}

// TestCertificateEnds holds that the end of a certificate is told ahead, at start and once a day, and not of a new one.
func TestCertificateEnds(t *testing.T) {
	dir := t.TempDir()
	cfg := TLSConfig{Certificate: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}
	cert, key := certificate(t, 1)
	write(t, cfg.Certificate, cert, 0o644)
	write(t, cfg.Key, key, 0o600)
	var log bytes.Buffer
	c, err := openCertificates(cfg, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	said := func(step string, soon, expired int) {
		t.Helper()
		c.get()
		if a, b := strings.Count(log.String(), "expires soon"), strings.Count(log.String(), "has expired"); a != soon || b != expired {
			t.Errorf("%s: the log has %d and %d warnings, want %d and %d", step, a, b, soon, expired)
		}
	}
	now := c.looked
	c.now = func() time.Time { now = now.Add(lookInterval); return now }
	said("an hour before the end", 1, 0)
	said("again", 1, 0)
	now = now.Add(warnInterval)
	said("a day later", 1, 1)
	c.current.Leaf.NotAfter = now.Add(warnBefore + warnInterval)
	now = now.Add(warnInterval / 2)
	said("of a certificate that is good for longer", 1, 1)
	now = now.Add(warnInterval)
	said("when its end comes near", 2, 1)
}

// TestTLSPort serves the loopback port with TLS: nothing older than TLS 1.2, and a renewal that an open connection outlives.
func TestTLSPort(t *testing.T) {
	dir := t.TempDir()
	files := TLSConfig{Certificate: filepath.Join(dir, "crt"), Key: filepath.Join(dir, "key")}
	first, key := certificate(t, 1)
	write(t, files.Certificate, first, 0o644)
	write(t, files.Key, key, 0o600)
	log := make(logLines, 100)
	opts, _ := serve(t, Options{TLS: files, Listen: freePort(t), Logger: slog.New(slog.NewTextHandler(log, nil))})

	second, secondKey := certificate(t, 2)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(first)
	roots.AppendCertsFromPEM(second)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	ask := func(transport *http.Transport) (status int, serial int64) {
		t.Helper()
		res, err := (&http.Client{Transport: transport}).Get("https://" + opts.Listen)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res.StatusCode, res.TLS.PeerCertificates[0].SerialNumber.Int64()
	}
	if status, serial := ask(transport); status != 200 || serial != 1 {
		t.Errorf("%d with certificate %d", status, serial)
	}
	if _, err := tls.Dial("tcp", opts.Listen, &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if res, err := http.Get("http://" + opts.Listen); err == nil {
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("the port answers without TLS")
		}
	}

	write(t, files.Certificate, second, 0o644)
	write(t, files.Key, secondKey, 0o600)
	for deadline := time.Now().Add(20 * time.Second); ; {
		fresh := transport.Clone()
		_, serial := ask(fresh)
		fresh.CloseIdleConnections()
		if serial == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the renewed certificate is not used")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if status, serial := ask(transport); status != 200 || serial != 1 {
		t.Errorf("the connection from before: %d with certificate %d", status, serial)
	}
	if !log.have("tls certificate renewed") {
		t.Error("the log does not mention it")
	}
}
