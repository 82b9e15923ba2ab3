package hsm

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar/kms"
)

// HSM implements kms.HSM over a Driver, for one tenant. The text of a driver's error goes to the log only.
type HSM struct {
	driver    driver.Driver
	submitter driver.Submitter
	tenant    *driver.Tenant
	name      string
	log       *slog.Logger
	traced    bool
	makes     map[kind][]driver.Algorithm // the keys that the driver makes, and their algorithms
	imports   kms.Imports
}

// kind is a key spec with a usage. The core and the contract use the same names; zero stands for one that the contract lacks.
type kind struct {
	spec  driver.KeySpec
	usage driver.KeyUsage
}

func kindOf(spec kms.KeySpec, usage kms.KeyUsage) kind {
	return kind{driver.SpecNamed(string(spec)).Value, driver.UsageNamed(string(usage))}
}

// newHSM returns the HSM of a tenant. description is the driver's own.
func newHSM(d driver.Driver, s driver.Submitter, description *driver.Description, tenant *driver.Tenant, traced bool, log *slog.Logger) *HSM {
	h := &HSM{driver: d, submitter: s, tenant: tenant, name: description.GetName(), traced: traced, log: log, makes: map[kind][]driver.Algorithm{}}
	for _, c := range description.GetKeys() {
		k := kind{c.GetSpec(), c.GetUsage()}
		h.makes[k] = append(h.makes[k], c.GetAlgorithms()...)
	}
	for _, a := range description.GetImportAlgorithms() {
		h.imports.Algorithms = append(h.imports.Algorithms, kms.WrappingAlgorithm(a.String()))
	}
	for _, s := range description.GetWrappingSpecs() {
		h.imports.Specs = append(h.imports.Specs, kms.KeySpec(driver.SpecOf(s).Name))
	}
	return h
}

// Supports implements kms.HSM.
func (h *HSM) Supports(spec kms.KeySpec, usage kms.KeyUsage) (ok bool, missing string) {
	if _, ok := h.makes[kindOf(spec, usage)]; ok {
		return true, ""
	}
	return false, fmt.Sprintf("driver %s has no %s keys for %s", h.name, spec, usage)
}

// identity is what a seal binds.
func identity(ref *kms.KeyRef) *driver.KeyIdentity {
	k := kindOf(ref.Spec, ref.Usage)
	return &driver.KeyIdentity{KeyId: ref.ID[:], Version: ref.Version, Spec: k.spec, Usage: k.usage}
}

// MakeKey implements kms.HSM.
func (h *HSM) MakeKey(ctx context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	k, err := h.driver.MakeKey(h.trace(ctx), &driver.MakeKeyRequest{Tenant: h.tenant.GetName(), Key: identity(&ref)})
	return h.sealedKey(ctx, "make-key", k, err)
}

// sealedKey is a driver's answer in the core's words. Where material was opened has a meaning for imports alone.
func (h *HSM) sealedKey(ctx context.Context, operation string, k *driver.SealedKey, err error) (*kms.SealedKey, error) {
	if err != nil {
		return nil, h.translate(ctx, operation, err)
	}
	return &kms.SealedKey{
		Sealed: k.GetSealed(), Root: k.GetRoot(), Protection: kms.Protection(driver.ProtectionName(k.GetProtection())), PublicKey: k.GetPublicKey(),
		CheckValue: k.GetCheckValue(), OpenedIn: kms.Protection(driver.ProtectionName(k.GetOpenedIn())),
	}, nil
}

// Imports implements kms.HSM.
func (h *HSM) Imports() kms.Imports { return h.imports }

// MakeWrappingKey implements kms.HSM.
func (h *HSM) MakeWrappingKey(ctx context.Context, ref kms.KeyRef) (*kms.SealedKey, error) {
	k, err := h.driver.MakeWrappingKey(h.trace(ctx), &driver.MakeWrappingKeyRequest{Tenant: h.tenant.GetName(), Key: identity(&ref)})
	return h.sealedKey(ctx, "make-wrapping-key", k, err)
}

// ImportKey implements kms.HSM.
func (h *HSM) ImportKey(ctx context.Context, ref kms.KeyRef, m kms.WrappedMaterial) (*kms.SealedKey, error) {
	k, err := h.driver.ImportKey(h.trace(ctx), &driver.ImportKeyRequest{
		Tenant: h.tenant.GetName(), Key: identity(&ref), WrappingKey: identity(&m.WrappingKey), SealedWrappingKey: m.WrappingKey.Sealed,
		Algorithm: driver.AlgorithmNamed(string(m.Algorithm)), EncryptedMaterial: m.Material, EncryptedPrivateKey: m.PrivateKey,
	})
	return h.sealedKey(ctx, "import-key", k, err)
}

// TenantMAC implements kms.HSM.
func (h *HSM) TenantMAC(ctx context.Context, data []byte) ([]byte, error) {
	return h.data(ctx, &driver.Op{Kind: driver.TenantMAC, Data: data})
}

// Encrypt implements kms.HSM.
func (h *HSM) Encrypt(ctx context.Context, key kms.KeyRef, plaintext, aad []byte) (iv, ciphertext []byte, err error) {
	res, err := h.do(ctx, &driver.Op{
		Kind: driver.Encrypt, Key: identity(&key), Sealed: key.Sealed, Algorithm: driver.AESGCM, Data: plaintext, Aad: aad,
	})
	return res.GetIv(), res.GetData(), err
}

// Decrypt implements kms.HSM.
func (h *HSM) Decrypt(ctx context.Context, key kms.KeyRef, iv, ciphertext, aad []byte) ([]byte, error) {
	return h.data(ctx, &driver.Op{
		Kind: driver.Decrypt, Key: identity(&key), Sealed: key.Sealed, Algorithm: driver.AESGCM, Iv: iv, Data: ciphertext, Aad: aad,
	})
}

// DataKey implements kms.HSM.
func (h *HSM) DataKey(ctx context.Context, key kms.KeyRef, n int, aad []byte) (plaintext, iv, ciphertext []byte, err error) {
	res, err := h.do(ctx, &driver.Op{
		Kind: driver.DataKey, Key: identity(&key), Sealed: key.Sealed, Algorithm: driver.AESGCM, Length: uint32(n), Aad: aad,
	})
	return res.GetPlaintext(), res.GetIv(), res.GetData(), err
}

// Sign implements kms.HSM.
func (h *HSM) Sign(ctx context.Context, key kms.KeyRef, alg kms.SigningAlgorithm, digest []byte) ([]byte, error) {
	return h.with(ctx, driver.Sign, &key, driver.AlgorithmNamed(string(alg)), digest)
}

// Random implements kms.HSM.
func (h *HSM) Random(ctx context.Context, n int) ([]byte, error) {
	return h.data(ctx, &driver.Op{Kind: driver.Random, Length: uint32(n)})
}

// DecryptRSA implements kms.HSM.
func (h *HSM) DecryptRSA(ctx context.Context, key kms.KeyRef, alg kms.EncryptionAlgorithm, ciphertext []byte) ([]byte, error) {
	return h.with(ctx, driver.DecryptRSA, &key, driver.AlgorithmNamed(string(alg)), ciphertext)
}

// MAC implements kms.HSM.
func (h *HSM) MAC(ctx context.Context, key kms.KeyRef, alg kms.MACAlgorithm, message []byte) ([]byte, error) {
	return h.with(ctx, driver.MAC, &key, driver.AlgorithmNamed(string(alg)), message)
}

// Derive implements kms.HSM.
func (h *HSM) Derive(ctx context.Context, key kms.KeyRef, peer []byte) ([]byte, error) {
	return h.with(ctx, driver.Derive, &key, driver.ECDH, peer)
}

// AuditKey returns the public half of the tenant's audit key: DER SubjectPublicKeyInfo, P-256.
func (h *HSM) AuditKey() []byte { return h.tenant.GetAuditPublicKey() }

// SignAudit signs a SHA-256 digest with the tenant's audit key.
func (h *HSM) SignAudit(ctx context.Context, digest []byte) ([]byte, error) {
	return h.data(ctx, &driver.Op{Kind: driver.AuditSign, Data: digest})
}

// DestroyKey implements kms.HSM.
func (h *HSM) DestroyKey(ctx context.Context, key kms.KeyRef) error {
	err := h.driver.DestroyKey(h.trace(ctx), &driver.DestroyKeyRequest{Tenant: h.tenant.GetName(), Key: identity(&key), Sealed: key.Sealed})
	if err != nil {
		return h.translate(ctx, "destroy-key", err)
	}
	return nil
}

// with runs an operation that takes data under an algorithm and gives data. Not every driver can do with a key all that
// the core knows of.
func (h *HSM) with(ctx context.Context, op driver.OpKind, key *kms.KeyRef, alg driver.Algorithm, data []byte) ([]byte, error) {
	if !slices.Contains(h.makes[kindOf(key.Spec, key.Usage)], alg) {
		return nil, kms.Errorf(kms.CodeUnsupported, "this HSM cannot do it: driver %s has no %s for %s keys", h.name, alg, key.Spec)
	}
	return h.data(ctx, &driver.Op{Kind: op, Key: identity(key), Sealed: key.Sealed, Algorithm: alg, Data: data})
}

// data runs one operation and returns its data.
func (h *HSM) data(ctx context.Context, op *driver.Op) ([]byte, error) {
	res, err := h.do(ctx, op)
	return res.GetData(), err
}

// do runs one operation.
func (h *HSM) do(ctx context.Context, op *driver.Op) (*driver.Result, error) {
	res, err := driver.Do(h.trace(ctx), h.submitter, h.tenant.GetName(), op)
	if err != nil {
		return nil, h.translate(ctx, op.GetKind().String(), err)
	}
	return res, nil
}

// trace hands ctx's span on to the layers below.
func (h *HSM) trace(ctx context.Context) context.Context {
	if h.traced {
		if parent := telemetry.InjectTrace(ctx); parent != nil {
			return driver.WithTrace(ctx, parent)
		}
	}
	return ctx
}

// CheckSeal lets the driver check the MAC of a sealed key and unwrap it, and compares its public key with the stored one.
func (h *HSM) CheckSeal(ctx context.Context, key kms.KeyRef, publicKey []byte) error {
	k, err := h.driver.Reseal(h.trace(ctx), &driver.ResealRequest{Tenant: h.tenant.GetName(), Key: identity(&key), Sealed: key.Sealed})
	if err != nil {
		return h.translate(ctx, "check-seal", err)
	}
	if !bytes.Equal(k.GetPublicKey(), publicKey) {
		return kms.Errorf(kms.CodeKeyUnavailable, "the stored public key is not that of the key")
	}
	return nil
}
