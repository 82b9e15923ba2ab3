package sidecar

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/driverv1"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestFailuresAreTotal holds the table of failures to the contract's codes.
func TestFailuresAreTotal(t *testing.T) {
	known := map[kms.Code]bool{}
	for _, c := range kms.Codes {
		known[c] = true
	}
	for number, name := range driverv1.ErrorCode_name {
		code := driver.Code(number)
		f, ok := failures[code]
		if code == driverv1.ErrorCode_OK {
			if ok {
				t.Error("OK is a failure")
			}
			continue
		}
		if !ok || !known[f.code] || f.message == "" {
			t.Errorf("%s becomes %+v", name, f)
		}
	}
}

// scripted answers every operation with what it was given.
type scripted struct {
	driver.Driver
	result *driver.Result
	err    error
	op     *driver.Op
	tenant string
}

func (s *scripted) Submit(req *driver.Request, done func(*driver.Response)) {
	s.op, s.tenant = new(driver.Op), req.Tenant
	if err := proto.Unmarshal(req.Body, s.op); err != nil {
		done(driver.ErrorResponse(err))
		return
	}
	if s.err != nil {
		done(driver.ErrorResponse(s.err))
		return
	}
	body, err := proto.Marshal(s.result)
	if err != nil {
		done(driver.ErrorResponse(err))
		return
	}
	done(&driver.Response{Body: body})
}

// TestHSMTranslates checks what operations ask of a driver and what its errors become: the text stays in the log.
func TestHSMTranslates(t *testing.T) {
	var log bytes.Buffer
	s := &scripted{result: &driver.Result{Iv: []byte("iv"), Data: []byte("data"), Plaintext: []byte("plain")}}
	h := newHSM(s, s, &driver.Description{Name: "d", Keys: []*driver.Capability{{Spec: driver.AES256, Usage: driver.EncryptDecrypt}}},
		"acme", false, slog.New(slog.NewTextHandler(&log, nil)))
	ref := kms.KeyRef{ID: kms.KeyID{1}, Version: 3, Spec: kms.AES256, Usage: kms.EncryptDecrypt, Sealed: []byte("sealed")}
	plain, iv, data, err := h.DataKey(t.Context(), ref, 32, []byte("aad"))
	want := &driver.Op{
		Kind: driver.DataKey, Sealed: []byte("sealed"), Algorithm: driver.AESGCM, Aad: []byte("aad"), Length: 32,
		Key: &driver.KeyIdentity{KeyId: ref.ID[:], Version: 3, Spec: driver.AES256, Usage: driver.EncryptDecrypt},
	}
	if err != nil || string(plain) != "plain" || string(iv) != "iv" || string(data) != "data" || s.tenant != "acme" || !proto.Equal(s.op, want) {
		t.Errorf("data key: %q %q %q %v, asked for %v", plain, iv, data, err, s.op)
	}
	s.err = &driver.Error{Code: driver.SealInvalid, CKR: "CKR_SIGNATURE_INVALID", Function: "C_Verify", Message: "mac differs"}
	_, _, err = h.Encrypt(t.Context(), ref, []byte("x"), nil)
	if e := kms.AsError(err); e.Code != kms.CodeKeyUnavailable || strings.Contains(e.Error(), "mac") {
		t.Errorf("a bad seal became %v", err)
	}
	if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "CKR_SIGNATURE_INVALID") {
		t.Errorf("a bad seal is logged as %q", text)
	}
	s.err = &driver.Error{Code: driver.Busy, RetryAfter: time.Second}
	if _, err := h.Random(t.Context(), 8); kms.AsError(err).Code != kms.CodeBusy || kms.AsError(err).RetryAfter != time.Second {
		t.Errorf("busy became %v", err)
	}
	s.err = &driver.Error{Code: driver.Code(99), Message: "from a newer driver"}
	if _, err := h.Sign(t.Context(), ref, kms.ECDSASHA256, nil); kms.AsError(err).Code != kms.CodeInternal {
		t.Errorf("an unknown code became %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.err = nil
	s.result = nil
	if _, err := h.Decrypt(ctx, ref, nil, nil, nil); err != nil && kms.AsError(err).Code != kms.CodeDeadline {
		t.Errorf("a context that ended became %v", err)
	}
	if ok, missing := h.Supports(kms.ECP256, kms.SignVerify); ok || missing != "driver d has no EC_P256 keys for SIGN_VERIFY" {
		t.Errorf("EC_P256: %v %q", ok, missing)
	}
	if ok, _ := h.Supports(kms.AES256, kms.EncryptDecrypt); !ok {
		t.Error("AES_256 is not supported")
	}
	if ok, _ := h.Supports(kms.SM2, kms.SignVerify); ok {
		t.Error("a spec that the contract does not have is supported")
	}
}
