package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar/kms"
)

// hsm is the core's HSM over a Driver: one tenant's keys, in the core's words. A driver's text goes to the log and never
// further.
type hsm struct {
	driver    driver.Driver
	submitter driver.Submitter
	tenant    string
	name      string
	log       *slog.Logger
	traced    bool
	makes     map[kind][]driver.Algorithm // and what such keys can do
	imports   kms.Imports
}

// kind is what Supports is asked about.
type kind struct {
	spec  driver.KeySpec
	usage driver.KeyUsage
}

// newHSM returns the HSM of a tenant. description is the driver's own.
func newHSM(d driver.Driver, s driver.Submitter, description *driver.Description, tenant string, traced bool, log *slog.Logger) *hsm {
	h := &hsm{driver: d, submitter: s, tenant: tenant, name: description.GetName(), traced: traced, log: log, makes: map[kind][]driver.Algorithm{}}
	for _, c := range description.GetKeys() {
		k := kind{c.GetSpec(), c.GetUsage()}
		h.makes[k] = append(h.makes[k], c.GetAlgorithms()...)
	}
	for alg, a := range wrappingAlgorithms {
		if slices.Contains(description.GetImportAlgorithms(), a) {
			h.imports.Algorithms = append(h.imports.Algorithms, alg)
		}
	}
	for spec, s := range driverSpecs {
		if slices.Contains(description.GetWrappingSpecs(), s) {
			h.imports.Specs = append(h.imports.Specs, spec)
		}
	}
	return h
}

// The core's words in the contract's. What is not here cannot be asked of a driver.
var (
	driverSpecs = map[kms.KeySpec]driver.KeySpec{
		kms.AES128: driver.AES128, kms.AES192: driver.AES192, kms.AES256: driver.AES256,
		kms.RSA2048: driver.RSA2048, kms.RSA3072: driver.RSA3072, kms.RSA4096: driver.RSA4096,
		kms.ECP256: driver.ECP256, kms.ECP384: driver.ECP384, kms.ECP521: driver.ECP521, kms.Secp256k1: driver.Secp256k1,
		kms.HMAC256: driver.HMAC256, kms.HMAC384: driver.HMAC384, kms.HMAC512: driver.HMAC512,
	}
	driverUsages = map[kms.KeyUsage]driver.KeyUsage{
		kms.EncryptDecrypt: driver.EncryptDecrypt, kms.SignVerify: driver.SignVerify,
		kms.GenerateVerifyMAC: driver.GenerateVerifyMAC, kms.KeyAgreement: driver.KeyAgreement, kms.Unwrap: driver.Unwrap,
	}
	signingAlgorithms = map[kms.SigningAlgorithm]driver.Algorithm{
		kms.RSAPSSSHA256: driver.PSSSHA256, kms.RSAPSSSHA384: driver.PSSSHA384, kms.RSAPSSSHA512: driver.PSSSHA512,
		kms.RSAPKCS1SHA256: driver.PKCS1v15SHA256, kms.RSAPKCS1SHA384: driver.PKCS1v15SHA384,
		kms.RSAPKCS1SHA512: driver.PKCS1v15SHA512,
		kms.ECDSASHA256:    driver.ECDSASHA256, kms.ECDSASHA384: driver.ECDSASHA384, kms.ECDSASHA512: driver.ECDSASHA512,
	}
	encryptionAlgorithms = map[kms.EncryptionAlgorithm]driver.Algorithm{
		kms.RSAOAEPSHA1: driver.OAEPSHA1, kms.RSAOAEPSHA256: driver.OAEPSHA256,
	}
	wrappingAlgorithms = map[kms.WrappingAlgorithm]driver.Algorithm{
		kms.WrapPKCS1: driver.PKCS1v15, kms.WrapOAEPSHA1: driver.OAEPSHA1, kms.WrapOAEPSHA256: driver.OAEPSHA256,
		kms.WrapRSAAESSHA1: driver.RSAAESKeyWrapSHA1, kms.WrapRSAAESSHA256: driver.RSAAESKeyWrapSHA256,
	}
	macAlgorithms = map[kms.MACAlgorithm]driver.Algorithm{
		kms.HMACSHA256: driver.HMACSHA256, kms.HMACSHA384: driver.HMACSHA384, kms.HMACSHA512: driver.HMACSHA512,
	}
	coreProtections = map[driver.Protection]kms.Protection{
		driver.ProtectionHSM: kms.ProtectionHSM, driver.ModuleUnenforced: kms.ProtectionModuleUnenforced,
		driver.ProtectionProcess: kms.ProtectionDriver,
	}
)

// Supports implements kms.HSM.
func (h *hsm) Supports(spec kms.KeySpec, usage kms.KeyUsage) (ok bool, missing string) {
	if _, ok := h.makes[kind{driverSpecs[spec], driverUsages[usage]}]; ok {
		return true, ""
	}
	return false, fmt.Sprintf("driver %s has no %s keys for %s", h.name, spec, usage)
}

// identity is what a seal binds.
func identity(ref *kms.KeyRef) *driver.KeyIdentity {
	return &driver.KeyIdentity{
		KeyId: ref.ID[:], Version: ref.Version, Spec: driverSpecs[ref.Spec], Usage: driverUsages[ref.Usage],
	}
}

// MakeKey implements kms.HSM.
func (h *hsm) MakeKey(ctx context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	k, err := h.driver.MakeKey(h.trace(ctx), &driver.MakeKeyRequest{Tenant: h.tenant, Key: identity(&ref)})
	if err != nil {
		return nil, h.translate(ctx, "make-key", err)
	}
	return sealedKey(k), nil
}

// sealedKey is a driver's answer in the core's words. Where material was opened has a meaning for imports alone.
func sealedKey(k *driver.SealedKey) *kms.SealedKey {
	return &kms.SealedKey{
		Sealed: k.GetSealed(), Root: k.GetRoot(), Protection: coreProtections[k.GetProtection()], PublicKey: k.GetPublicKey(),
		CheckValue: k.GetCheckValue(), OpenedIn: coreProtections[k.GetOpenedIn()],
	}
}

// Imports implements kms.HSM.
func (h *hsm) Imports() kms.Imports { return h.imports }

// MakeWrappingKey implements kms.HSM.
func (h *hsm) MakeWrappingKey(ctx context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	k, err := h.driver.MakeWrappingKey(h.trace(ctx), &driver.MakeWrappingKeyRequest{Tenant: h.tenant, Key: identity(&ref)})
	if err != nil {
		return nil, h.translate(ctx, "make-wrapping-key", err)
	}
	return sealedKey(k), nil
}

// ImportKey implements kms.HSM.
func (h *hsm) ImportKey(ctx context.Context, ref kms.KeyRef, m kms.WrappedMaterial) (*kms.SealedKey, error) {
	k, err := h.driver.ImportKey(h.trace(ctx), &driver.ImportKeyRequest{
		Tenant: h.tenant, Key: identity(&ref), WrappingKey: identity(&m.WrappingKey), SealedWrappingKey: m.WrappingKey.Sealed,
		Algorithm: wrappingAlgorithms[m.Algorithm], EncryptedMaterial: m.Material, EncryptedPrivateKey: m.PrivateKey,
	})
	if err != nil {
		return nil, h.translate(ctx, "import-key", err)
	}
	return sealedKey(k), nil
}

// TenantMAC implements kms.HSM.
func (h *hsm) TenantMAC(ctx context.Context, data []byte) ([]byte, error) {
	res, err := h.do(ctx, &driver.Op{Kind: driver.TenantMAC, Data: data})
	return res.GetData(), err
}

// Encrypt implements kms.HSM.
func (h *hsm) Encrypt(ctx context.Context, key kms.KeyRef, plaintext, aad []byte) (iv, ciphertext []byte, err error) {
	res, err := h.do(ctx, &driver.Op{
		Kind: driver.Encrypt, Key: identity(&key), Sealed: key.Sealed, Algorithm: driver.AESGCM, Data: plaintext, Aad: aad,
	})
	return res.GetIv(), res.GetData(), err
}

// Decrypt implements kms.HSM.
func (h *hsm) Decrypt(ctx context.Context, key kms.KeyRef, iv, ciphertext, aad []byte) ([]byte, error) {
	res, err := h.do(ctx, &driver.Op{
		Kind: driver.Decrypt, Key: identity(&key), Sealed: key.Sealed, Algorithm: driver.AESGCM, Iv: iv, Data: ciphertext, Aad: aad,
	})
	return res.GetData(), err
}

// DataKey implements kms.HSM.
func (h *hsm) DataKey(ctx context.Context, key kms.KeyRef, n int, aad []byte) (plaintext, iv, ciphertext []byte, err error) {
	res, err := h.do(ctx, &driver.Op{
		Kind: driver.DataKey, Key: identity(&key), Sealed: key.Sealed, Algorithm: driver.AESGCM, Length: uint32(n), Aad: aad,
	})
	return res.GetPlaintext(), res.GetIv(), res.GetData(), err
}

// Sign implements kms.HSM.
func (h *hsm) Sign(ctx context.Context, key kms.KeyRef, alg kms.SigningAlgorithm, digest []byte) ([]byte, error) {
	return h.with(ctx, driver.Sign, &key, signingAlgorithms[alg], digest)
}

// Random implements kms.HSM.
func (h *hsm) Random(ctx context.Context, n int) ([]byte, error) {
	res, err := h.do(ctx, &driver.Op{Kind: driver.Random, Length: uint32(n)})
	return res.GetData(), err
}

// DecryptRSA implements kms.HSM.
func (h *hsm) DecryptRSA(ctx context.Context, key kms.KeyRef, alg kms.EncryptionAlgorithm, ciphertext []byte) ([]byte, error) {
	return h.with(ctx, driver.DecryptRSA, &key, encryptionAlgorithms[alg], ciphertext)
}

// MAC implements kms.HSM.
func (h *hsm) MAC(ctx context.Context, key kms.KeyRef, alg kms.MACAlgorithm, message []byte) ([]byte, error) {
	return h.with(ctx, driver.MAC, &key, macAlgorithms[alg], message)
}

// Derive implements kms.HSM.
func (h *hsm) Derive(ctx context.Context, key kms.KeyRef, peer []byte) ([]byte, error) {
	return h.with(ctx, driver.Derive, &key, driver.ECDH, peer)
}

// signAudit signs a SHA-256 digest with the tenant's audit key.
func (h *hsm) signAudit(ctx context.Context, digest []byte) ([]byte, error) {
	res, err := h.do(ctx, &driver.Op{Kind: driver.AuditSign, Data: digest})
	return res.GetData(), err
}

// DestroyKey implements kms.HSM.
func (h *hsm) DestroyKey(ctx context.Context, key kms.KeyRef) error {
	err := h.driver.DestroyKey(h.trace(ctx), &driver.DestroyKeyRequest{Tenant: h.tenant, Key: identity(&key), Sealed: key.Sealed})
	if err != nil {
		return h.translate(ctx, "destroy-key", err)
	}
	return nil
}

// with runs an operation that takes data under an algorithm and gives data. Not every driver can do with a key all that
// the core knows of.
func (h *hsm) with(ctx context.Context, op driver.OpKind, key *kms.KeyRef, alg driver.Algorithm, data []byte) ([]byte, error) {
	if !slices.Contains(h.makes[kind{driverSpecs[key.Spec], driverUsages[key.Usage]}], alg) {
		return nil, kms.Errorf(kms.CodeUnsupportedSpec, "this HSM cannot do it: driver %s has no %s for %s keys", h.name, alg, key.Spec)
	}
	res, err := h.do(ctx, &driver.Op{Kind: op, Key: identity(key), Sealed: key.Sealed, Algorithm: alg, Data: data})
	return res.GetData(), err
}

// do runs one operation.
func (h *hsm) do(ctx context.Context, op *driver.Op) (*driver.Result, error) {
	res, err := driver.Do(h.trace(ctx), h.submitter, h.tenant, op)
	if err != nil {
		return nil, h.translate(ctx, op.GetKind().String(), err)
	}
	return res, nil
}

// trace hands ctx's span on to the layers below.
func (h *hsm) trace(ctx context.Context) context.Context {
	if h.traced {
		if parent := telemetry.InjectTrace(ctx); parent != nil {
			return driver.WithTrace(ctx, parent)
		}
	}
	return ctx
}

// failure is a driver's code as the core sees it.
type failure struct {
	code    kms.Code
	message string
	level   slog.Level // at which it is logged
}

// failures maps every code of the contract; a test proves it total. What the data or the load cause is logged for
// debugging only; what an operator must see, as an error.
var failures = map[driver.Code]failure{
	driver.InvalidArgument: {kms.CodeInternal, "internal error", slog.LevelError},
	driver.Unsupported:     {kms.CodeUnsupportedSpec, "the HSM cannot do this", slog.LevelWarn},
	driver.BadCiphertext:   {kms.CodeInvalidCiphertext, "ciphertext is not valid", slog.LevelDebug},
	driver.BadMaterial:     {kms.CodeBadMaterial, "material does not open, or is no key of this spec", slog.LevelDebug},
	driver.SealInvalid:     {kms.CodeKeyUnavailable, "key is unavailable in the HSM", slog.LevelError},
	driver.KeyUnavailable:  {kms.CodeKeyUnavailable, "key is unavailable in the HSM", slog.LevelError},
	driver.TenantUnknown:   {kms.CodeKeyUnavailable, "key is unavailable in the HSM", slog.LevelError},
	driver.PINIncorrect:    {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelError},
	driver.PINLocked:       {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelError},
	driver.Busy:            {kms.CodeBusy, "too many requests are waiting for the HSM", slog.LevelDebug},
	driver.Deadline:        {kms.CodeDeadline, "the request's time ended", slog.LevelDebug},
	driver.Device:          {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelWarn},
	driver.Lost:            {kms.CodeKeyUnavailable, "the HSM is not available", slog.LevelWarn},
	driver.Poison:          {kms.CodeInternal, "internal error", slog.LevelError},
	driver.Internal:        {kms.CodeInternal, "internal error", slog.LevelError},
}

// translate logs a driver's error and returns the core's. A SealInvalid means that the database and the HSM disagree: a
// blob was changed, swapped or sealed under another root.
func (h *hsm) translate(ctx context.Context, operation string, err error) error {
	e := driver.AsError(err)
	f, known := failures[e.Code]
	if !known {
		f = failures[driver.Internal]
	}
	if h.log.Enabled(ctx, f.level) {
		attrs := []slog.Attr{slog.String("operation", operation), slog.String("code", e.Code.String()), slog.String("error", e.Error())}
		if call := kms.CallFrom(ctx); call != nil {
			attrs = append(attrs, slog.String("request_id", call.RequestID))
		}
		h.log.LogAttrs(ctx, f.level, "driver refused an operation", attrs...)
	}
	out := &kms.Error{Code: f.code, Message: f.message}
	if f.code == kms.CodeBusy {
		out.RetryAfter = e.RetryAfter
	}
	return out.Because(e)
}
