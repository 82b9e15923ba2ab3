package kms_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestSpans holds that each operation is one span that says how it ended.
func TestSpans(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	spans := tracetest.NewSpanRecorder()
	s, err := kms.New(kms.Config{
		Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test",
		Tracer: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("test"),
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.CreateKey(admin, kms.CreateKeyInput{Alias: "a"})
	wantCode(t, err, "ok")
	_, err = s.Random(nobody, 16)
	wantCode(t, err, kms.CodeDenied)
	ended := spans.Ended()
	if len(ended) != 2 {
		t.Fatalf("%d spans, want 2", len(ended))
	}
	for i, want := range []struct {
		name, outcome string
		status        codes.Code
	}{{"kms.create-key", "ok", codes.Unset}, {"kms.gen-random", "Denied", codes.Error}} {
		got := ended[i]
		if got.Name() != want.name || got.Status().Code != want.status || got.Attributes()[0].Value.AsString() != want.outcome {
			t.Errorf("span %s, %v, %v; want %+v", got.Name(), got.Status(), got.Attributes(), want)
		}
	}
}

// TestCausesAreLoggedNotTold holds that a cause goes to the log and not to the client, and a secret to neither.
func TestCausesAreLoggedNotTold(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	var log bytes.Buffer
	s, err := kms.New(kms.Config{
		Store: w.store, HSM: w.hsm, Auditor: w.audit, Tenant: "test",
		Logger: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	key := w.create(t, kms.CreateKeyInput{})
	w.hsm.down = errors.New("CKR_DEVICE_ERROR in slot 5")
	_, err = s.Encrypt(admin, kms.EncryptInput{
		KeyID: key.ID, Plaintext: []byte("topsecret"), AAD: []byte("topsecret"), Context: map[string]string{"k": "topsecret"},
	})
	wantCode(t, err, kms.CodeInternal)
	if strings.Contains(err.Error(), "CKR") {
		t.Errorf("client is told %q", err)
	}
	for _, want := range []string{"CKR_DEVICE_ERROR in slot 5", `"level":"ERROR"`, key.ID.String(), "req-1", "encrypt-data"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q: %s", want, &log)
		}
	}
	if strings.Contains(log.String(), "topsecret") || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log: %s", &log)
	}
}

// TestNewNeedsItsParts holds that a service without store, HSM, audit or tenant is none.
func TestNewNeedsItsParts(t *testing.T) {
	full := kms.Config{Store: newStore(t), HSM: newHSM(), Auditor: new(fakeAudit), Tenant: "t"}
	for name, remove := range map[string]func(*kms.Config){
		"store": func(c *kms.Config) { c.Store = nil }, "HSM": func(c *kms.Config) { c.HSM = nil },
		"auditor": func(c *kms.Config) { c.Auditor = nil }, "tenant": func(c *kms.Config) { c.Tenant = "" },
	} {
		c := full
		remove(&c)
		if _, err := kms.New(c); err == nil {
			t.Errorf("a service without %s is made", name)
		}
	}
}
