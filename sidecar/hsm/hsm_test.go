package hsm

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/hsmd"
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

// TestStatusOfAnHSMThatIsAway holds that the status comes at once when no driver process works, with the cause.
func TestStatusOfAnHSMThatIsAway(t *testing.T) {
	b, err := Open(Options{
		Name: "away", Via: "/run/hsmd.sock", Tenant: "default", Logger: slog.New(slog.DiscardHandler),
		Start: func(context.Context) (hsmd.Backend, error) { return nil, driver.Errorf(driver.Device, "unplugged") },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close(t.Context()) }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		began := time.Now()
		status := b.Status(ctx)
		if took := time.Since(began); took > 5*askTimeout {
			t.Fatalf("the status took %v", took)
		}
		if m := status.Layers[0].Members[0]; m.State != "ready" && m.LastError == "DEVICE" {
			return
		} else if ctx.Err() != nil {
			t.Fatalf("the status is %+v", m)
		}
	}
}

// TestNames checks that the contract has every name by which the core makes and uses keys: a new spec needs nothing here.
func TestNames(t *testing.T) {
	for _, name := range kms.SpecNames(kms.AES, kms.RSA, kms.EC, kms.HMAC) {
		if driver.SpecNamed(name).Value == 0 {
			t.Errorf("spec %s", name)
		}
	}
	for _, name := range append(kms.UsageNames(), string(kms.Unwrap)) {
		if driver.UsageNamed(name) == 0 {
			t.Errorf("usage %s", name)
		}
	}
	for _, name := range slices.Concat(kms.EncryptionNames(), kms.SigningNames(), kms.MACNames(), kms.WrappingNames()) {
		if name != string(kms.SymmetricDefault) && driver.AlgorithmNamed(name) == 0 { // which is the driver's AES_GCM
			t.Errorf("algorithm %s", name)
		}
	}
	for p, want := range map[driver.Protection]kms.Protection{
		driver.ProtectionHSM: kms.ProtectionHSM, driver.ModuleUnenforced: kms.ProtectionModuleUnenforced, driver.ProtectionProcess: kms.ProtectionDriver,
	} {
		if got := driver.ProtectionName(p); got != string(want) {
			t.Errorf("protection %s is %s", got, want)
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
		&driver.Tenant{Name: "acme"}, false, slog.New(slog.NewTextHandler(&log, nil)))
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
	if _, err := h.Random(t.Context(), 8); kms.AsError(err).Code != kms.CodeInternal {
		t.Errorf("an unknown code became %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.err = nil
	s.result = nil
	if _, err := h.Decrypt(ctx, ref, nil, nil, nil); err != nil && kms.AsError(err).Code != kms.CodeDeadlineExceeded {
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

// TestHSMByAlgorithm checks the operations that name an algorithm: each asks the driver in the contract's words, and none
// asks for what Describe does not announce.
func TestHSMByAlgorithm(t *testing.T) {
	keys := []*driver.Capability{
		{Spec: driver.RSA2048, Usage: driver.EncryptDecrypt, Algorithms: []driver.Algorithm{driver.OAEPSHA256}},
		{Spec: driver.ECP256, Usage: driver.SignVerify, Algorithms: []driver.Algorithm{driver.ECDSASHA256}},
		{Spec: driver.ECP256, Usage: driver.KeyAgreement, Algorithms: []driver.Algorithm{driver.ECDH}},
		{Spec: driver.HMAC384, Usage: driver.GenerateVerifyMAC, Algorithms: []driver.Algorithm{driver.HMACSHA384}},
	}
	s := &scripted{result: &driver.Result{Data: []byte("answer")}}
	h := newHSM(s, s, &driver.Description{Name: "d", Keys: keys}, &driver.Tenant{Name: "acme"}, false, slog.New(slog.DiscardHandler))
	ref := func(spec kms.KeySpec, usage kms.KeyUsage) kms.KeyRef {
		return kms.KeyRef{ID: kms.KeyID{1}, Version: 1, Spec: spec, Usage: usage, Sealed: []byte("sealed")}
	}
	in := []byte("input")
	for name, c := range map[string]struct {
		do   func() ([]byte, error)
		kind driver.OpKind
		alg  driver.Algorithm
	}{
		"decrypt": {func() ([]byte, error) {
			return h.DecryptRSA(t.Context(), ref(kms.RSA2048, kms.EncryptDecrypt), kms.RSAOAEPSHA256, in)
		}, driver.DecryptRSA, driver.OAEPSHA256},
		"decrypt sha-1": {func() ([]byte, error) {
			return h.DecryptRSA(t.Context(), ref(kms.RSA2048, kms.EncryptDecrypt), kms.RSAOAEPSHA1, in)
		}, 0, 0},
		"sign": {func() ([]byte, error) {
			return h.Sign(t.Context(), ref(kms.ECP256, kms.SignVerify), kms.ECDSASHA256, in)
		}, driver.Sign, driver.ECDSASHA256},
		"sign sha-384": {func() ([]byte, error) {
			return h.Sign(t.Context(), ref(kms.ECP256, kms.SignVerify), kms.ECDSASHA384, in)
		}, 0, 0},
		"derive": {func() ([]byte, error) {
			return h.Derive(t.Context(), ref(kms.ECP256, kms.KeyAgreement), in)
		}, driver.Derive, driver.ECDH},
		"derive on another curve": {func() ([]byte, error) {
			return h.Derive(t.Context(), ref(kms.ECP384, kms.KeyAgreement), in)
		}, 0, 0},
		"mac": {func() ([]byte, error) {
			return h.MAC(t.Context(), ref(kms.HMAC384, kms.GenerateVerifyMAC), kms.HMACSHA384, in)
		}, driver.MAC, driver.HMACSHA384},
		"mac sha-256": {func() ([]byte, error) {
			return h.MAC(t.Context(), ref(kms.HMAC384, kms.GenerateVerifyMAC), kms.HMACSHA256, in)
		}, 0, 0},
	} {
		s.op = nil
		out, err := c.do()
		if c.kind == 0 {
			if kms.AsError(err).Code != kms.CodeUnsupported || !strings.Contains(err.Error(), "driver d has no") || s.op != nil {
				t.Errorf("%s, which is not announced: %v, asked for %v", name, err, s.op)
			}
			continue
		}
		if err != nil || string(out) != "answer" || s.op.GetKind() != c.kind || s.op.GetAlgorithm() != c.alg ||
			string(s.op.GetData()) != "input" || string(s.op.GetSealed()) != "sealed" {
			t.Errorf("%s: %q, %v, asked for %v", name, out, err, s.op)
		}
	}
	s.err = &driver.Error{Code: driver.BadCiphertext, CKR: "CKR_ENCRYPTED_DATA_INVALID", Function: "C_Decrypt"}
	_, err := h.DecryptRSA(t.Context(), ref(kms.RSA2048, kms.EncryptDecrypt), kms.RSAOAEPSHA256, in)
	if e := kms.AsError(err); e.Code != kms.CodeInvalidCiphertext || strings.Contains(e.Error(), "CKR") {
		t.Errorf("a bad block became %v", err)
	}
}

// destroyed notes what is to be forgotten.
type destroyed struct {
	driver.Driver
	req *driver.DestroyKeyRequest
	err error
}

func (d *destroyed) DestroyKey(_ context.Context, req *driver.DestroyKeyRequest) error {
	d.req = req
	return d.err
}

func TestHSMDestroysKeys(t *testing.T) {
	d := new(destroyed)
	h := newHSM(d, nil, &driver.Description{}, &driver.Tenant{Name: "acme"}, false, slog.New(slog.DiscardHandler))
	ref := kms.KeyRef{ID: kms.KeyID{1}, Version: 2, Spec: kms.AES256, Usage: kms.EncryptDecrypt, Sealed: []byte("sealed")}
	want := &driver.DestroyKeyRequest{Tenant: "acme", Sealed: []byte("sealed"), Key: identity(&ref)}
	if err := h.DestroyKey(t.Context(), ref); err != nil || !proto.Equal(d.req, want) {
		t.Errorf("%v, asked for %v", err, d.req)
	}
	d.err = driver.Errorf(driver.Lost, "gone")
	if err := h.DestroyKey(t.Context(), ref); kms.AsError(err).Code != kms.CodeKeyUnavailable {
		t.Errorf("a lost driver became %v", err)
	}
}

// importer notes what it is asked to make and import.
type importer struct {
	driver.Driver
	wrapping *driver.MakeWrappingKeyRequest
	req      *driver.ImportKeyRequest
	err      error
}

var importedKey = &driver.SealedKey{
	Sealed: []byte("new"), Root: 3, Protection: driver.ProtectionHSM, PublicKey: []byte("public"), CheckValue: []byte("check"),
	OpenedIn: driver.ProtectionProcess,
}

func (i *importer) MakeWrappingKey(_ context.Context, req *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	i.wrapping = req
	return importedKey, i.err
}

func (i *importer) ImportKey(_ context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	i.req = req
	return importedKey, i.err
}

// TestHSMImports checks what imports ask of a driver, that every announced algorithm has its word in the core, and that
// what is wrong with material stays one answer.
func TestHSMImports(t *testing.T) {
	i := new(importer)
	h := newHSM(i, nil, &driver.Description{
		ImportAlgorithms: []driver.Algorithm{driver.PKCS1v15, driver.OAEPSHA1, driver.OAEPSHA256, driver.RSAAESKeyWrapSHA1, driver.RSAAESKeyWrapSHA256},
		WrappingSpecs:    []driver.KeySpec{driver.RSA2048, driver.RSA4096},
	}, &driver.Tenant{Name: "acme"}, false, slog.New(slog.DiscardHandler))
	if can := h.Imports(); len(can.Algorithms) != 5 || len(can.Specs) != 2 {
		t.Errorf("it can import by %v", can)
	}
	wrapping := kms.KeyRef{ID: kms.KeyID{2}, Version: 1, Spec: kms.RSA4096, Usage: kms.Unwrap, Sealed: []byte("wrapping")}
	ref := kms.KeyRef{ID: kms.KeyID{1}, Version: 1, Spec: kms.ECP256, Usage: kms.SignVerify}
	if _, err := h.MakeWrappingKey(t.Context(), wrapping); err != nil || !proto.Equal(i.wrapping, &driver.MakeWrappingKeyRequest{
		Tenant: "acme", Key: &driver.KeyIdentity{KeyId: wrapping.ID[:], Version: 1, Spec: driver.RSA4096, Usage: driver.Unwrap},
	}) {
		t.Errorf("%v, asked for %v", err, i.wrapping)
	}
	material := kms.WrappedMaterial{WrappingKey: wrapping, Algorithm: kms.WrapOAEPSHA256, Material: []byte("material"), PrivateKey: []byte("private")}
	made, err := h.ImportKey(t.Context(), ref, material)
	if err != nil || !proto.Equal(i.req, &driver.ImportKeyRequest{
		Tenant: "acme", Key: identity(&ref), WrappingKey: identity(&wrapping), SealedWrappingKey: []byte("wrapping"),
		Algorithm: driver.OAEPSHA256, EncryptedMaterial: []byte("material"), EncryptedPrivateKey: []byte("private"),
	}) {
		t.Errorf("%v, asked for %v", err, i.req)
	}
	if made.OpenedIn != kms.ProtectionDriver || made.Protection != kms.ProtectionHSM || string(made.CheckValue) != "check" || made.Root != 3 {
		t.Errorf("made %+v", made)
	}
	i.err = &driver.Error{Code: driver.BadMaterial, CKR: "CKR_WRAPPED_KEY_INVALID", Function: "C_UnwrapKey", Message: "padding"}
	_, err = h.ImportKey(t.Context(), ref, material)
	if e := kms.AsError(err); e.Code != kms.CodeInvalidKeyMaterial || strings.Contains(e.Error(), "padding") || strings.Contains(e.Error(), "CKR") {
		t.Errorf("bad material became %v", err)
	}
}
