package huawei

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/mux"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// nullCore answers at once, with ciphertexts as long as real ones.
type nullCore struct {
	Core
	ciphertext []byte
}

func (n nullCore) Encrypt(_ context.Context, in kms.EncryptInput) (*kms.EncryptOutput, error) {
	return &kms.EncryptOutput{KeyID: in.KeyID, Ciphertext: n.ciphertext[:len(in.Plaintext)+kms.CiphertextOverhead]}, nil
}

func (n nullCore) Decrypt(_ context.Context, in kms.DecryptInput) (*kms.DecryptOutput, error) {
	return &kms.DecryptOutput{Plaintext: bytes.Repeat([]byte("a"), len(in.Ciphertext)-kms.CiphertextOverhead)}, nil
}

// BenchmarkHandler is what the dialect costs by itself, without net/http's parsing and writing and without the core:
// routing, authentication, decoding, encoding.
func BenchmarkHandler(b *testing.B) {
	d := New(Config{
		Core: nullCore{ciphertext: make([]byte, 8192)}, ProjectID: testProject, Host: dialect.Host{
			Timeout:   10 * time.Second,
			Principal: owners(0, policy.Principal{Name: "owner", Role: policy.Administrator}).Principal,
		},
	})
	router := dialect.NewRouter()
	router.Add(d, Marks, dialect.Everywhere)
	const id = "41cb5a1d-7089-41eb-9977-201dea396261"
	for _, c := range []struct{ name, operation, body string }{
		{"encrypt-32", "encrypt-data", `{"key_id":"` + id + `","plain_text":"` + strings.Repeat("a", 32) + `"}`},
		{"encrypt-4096", "encrypt-data", `{"key_id":"` + id + `","plain_text":"` + strings.Repeat("a", 4096) + `"}`},
		{"encrypt-4096-escaped", "encrypt-data", `{"key_id":"` + id + `","plain_text":"` + strings.Repeat(`ab\n`, 1365) + `"}`},
		{"decrypt-4096", "decrypt-data", `{"cipher_text":"` + strings.Repeat("A", 5648) + `"}`},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			ctx := kms.WithCaller(context.Background(), policy.Caller{Known: true})
			body := []byte(c.body)
			reader := bytes.NewReader(body)
			r := (&http.Request{
				Method: http.MethodPost, URL: &url.URL{Path: "/v1.0/" + testProject + "/kms/" + c.operation},
				ContentLength: int64(len(body)), Body: io.NopCloser(reader),
			}).WithContext(ctx)
			w := &nullWriter{header: http.Header{}}
			for b.Loop() {
				reader.Reset(body)
				router.ServeHTTP(w, r)
			}
			if w.status != http.StatusOK {
				b.Fatal("status", w.status)
			}
		})
	}
}

type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkRouting compares the kernel's table of paths with gorilla/mux, for the reasons of ADR-0001.
func BenchmarkRouting(b *testing.B) {
	table, router := dialect.NewPathTable(pathBase, routes), mux.NewRouter().UseEncodedPath()
	for _, rt := range routes {
		router.Methods(rt.Method).Path(pathRoot + "{project_id}/kms/" + rt.Path).Handler(http.NotFoundHandler())
	}
	for name, path := range map[string]string{"encrypt-data": "encrypt-data", "tags": "41cb5a1d-7089-41eb-9977-201dea396261/tags/action"} {
		r := &http.Request{Method: http.MethodPost, URL: &url.URL{Path: address(path)}}
		b.Run(name+"/table", func(b *testing.B) {
			b.ReportAllocs()
			x := dialect.Begin()
			defer x.End()
			for b.Loop() {
				if rt, _ := table.Find(r, x); rt == nil {
					b.Fatal("no route")
				}
			}
		})
		b.Run(name+"/mux", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !router.Match(r, new(mux.RouteMatch)) {
					b.Fatal("no route")
				}
			}
		})
	}
}
