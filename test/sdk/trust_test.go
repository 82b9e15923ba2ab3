package sdk

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// altered changes a request after it was signed.
type altered struct {
	next  http.RoundTripper
	alter func(*http.Request)
}

// RoundTrip implements http.RoundTripper.
func (a altered) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	a.alter(r)
	return a.next.RoundTrip(r)
}

// TestAlteredRequest changes each part of a request that a signature covers. None may get through, on localhost and on the
// socket.
func TestAlteredRequest(t *testing.T) {
	for name, alter := range map[string]func(*http.Request){
		"body": func(r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			body = bytes.Replace(body, []byte(`"limit":"1"`), []byte(`"limit":"2"`), 1)
			r.Body = io.NopCloser(bytes.NewReader(body))
		},
		"white space of the body": func(r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(bytes.TrimSpace(body))), int64(len(bytes.TrimSpace(body)))
		},
		"path":          func(r *http.Request) { r.URL.Path = strings.Replace(r.URL.Path, "list-keys", "gen-random", 1) },
		"query":         func(r *http.Request) { r.URL.RawQuery = "limit=1" },
		"signed header": func(r *http.Request) { r.Header.Set("User-Agent", "another") },
		"date": func(r *http.Request) {
			r.Header.Set("X-Sdk-Date", time.Now().UTC().Add(time.Minute).Format(dateFormat))
		},
		"unsigned header named as signed": func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "SignedHeaders=", "SignedHeaders=accept;", 1))
		},
	} {
		for _, y := range []way{{name: "localhost"}, {name: "derived", derived: true}, {name: "socket", socket: true}} {
			t.Run(y.name+"/"+name, func(t *testing.T) {
				w := as(t, y, newCredential(t, "altered"))
				request := &model.ListKeysRequest{Body: &model.ListKeysRequestBody{Limit: new("1")}}
				call(w, (*kms.KmsClient).ListKeys, request)
				w.wire.next = altered{w.wire.next, alter}
				refuse(w, (*kms.KmsClient).ListKeys, request, http.StatusUnauthorized, "APIGW.0301")
			})
		}
	}
}

// TestWindow signs with clocks that go wrong: 15 minutes either way are the bound.
func TestWindow(t *testing.T) {
	w := as(t, way{}, newCredential(t, "late"))
	for _, off := range []time.Duration{-14 * time.Minute, 14 * time.Minute, -16 * time.Minute, 16 * time.Minute} {
		w.client.HcClient.WithExtraHeaders(map[string]string{"X-Sdk-Date": time.Now().UTC().Add(off).Format(dateFormat)})
		if off.Abs() < 15*time.Minute {
			call(w, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{})
		} else {
			refuse(w, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{}, http.StatusUnauthorized, "APIGW.0301")
		}
	}
}

// TestManyAtOnce has clients that share nothing encrypt and decrypt at once: no answer may be another's.
func TestManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 12 {
		y := ways[i%len(ways)]
		w := &walk{T: t, way: y, answered: map[string]bool{}, refused: map[string]bool{}}
		w.client, w.wire = y.connect(t, "")
		w.way.name = fmt.Sprintf("%s-%d", y.name, i)
		key := w.key("at-once", "AES_256", "ENCRYPT_DECRYPT")
		wg.Go(func() {
			for n := range 25 {
				plain := fmt.Sprintf("message %d of %s", n, w.way.name)
				sealed, err := w.client.EncryptData(&model.EncryptDataRequest{Body: &model.EncryptDataRequestBody{KeyId: key, PlainText: plain}})
				if err != nil {
					t.Error(err)
					return
				}
				opened, err := w.client.DecryptData(&model.DecryptDataRequest{Body: &model.DecryptDataRequestBody{CipherText: *sealed.CipherText}})
				if err != nil || *opened.PlainText != plain || *opened.KeyId != key {
					t.Errorf("%s came back as %v (%v)", plain, opened, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestTLS serves localhost by TLS, which is what the SDK takes an endpoint without a scheme for.
func TestTLS(t *testing.T) {
	dir := t.TempDir()
	pool := certificate(t, dir)
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	o := node.Options{Binary: target.binary, Dir: filepath.Join(dir, "node"), Driver: "soft", Args: []string{"--listen", address}}
	err = node.Edit(t.Context(), o, func(config map[string]any) {
		config["tls"] = map[string]any{"certificate": filepath.Join(dir, "tls.crt"), "key": filepath.Join(dir, "tls.key")}
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	own, url := target.node, target.url
	target.node, target.url = n, address
	defer func() {
		target.node, target.url = own, url
		if err := n.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	w := &walk{T: t, answered: map[string]bool{}, refused: map[string]bool{}}
	w.client, w.wire = way{}.connectAs(t, newCredential(t, "tls"), "")
	w.wire.next = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	key := w.key("tls", "AES_256", "ENCRYPT_DECRYPT")
	if got := w.decrypt(key, w.encrypt(key, "by TLS", nil, false), nil, false); got != "by TLS" {
		t.Errorf("decrypted %q", got)
	}
	versions := call(w, (*kms.KmsClient).ShowVersions, &model.ShowVersionsRequest{})
	if href := *(*(*versions.Versions)[0].Links)[0].Href; !strings.HasPrefix(href, "https://"+address) {
		t.Errorf("link to %s", href)
	}
	if resp, err := http.Get("http://" + address + "/"); err == nil {
		if resp.Body.Close(); resp.StatusCode < 400 {
			t.Error("plain HTTP is served beside TLS")
		}
	}
}

// certificate leaves tls.crt and tls.key in a folder, for 127.0.0.1, and returns who trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: public}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		text := pem.EncodeToMemory(block)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if block.Type == "CERTIFICATE" && !pool.AppendCertsFromPEM(text) {
			t.Fatal("no certificate")
		}
	}
	return pool
}
