package pkcs11

import (
	"context"
	"crypto/subtle"
	"encoding/asn1"
	"math/big"
	"slices"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// job is one operation with the objects that it uses.
type job struct {
	d   *Driver
	op  *driver.Op
	s   *session
	t   *tenantKeys
	key *liveKey // nil for operations without a key
}

var operations = map[driver.OpKind]func(*job) (*driver.Result, error){
	driver.Encrypt:    (*job).encrypt,
	driver.Decrypt:    (*job).decrypt,
	driver.DataKey:    (*job).dataKey,
	driver.DecryptRSA: (*job).decryptRSA,
	driver.Sign:       (*job).sign,
	driver.MAC:        (*job).mac,
	driver.VerifyMAC:  (*job).verifyMAC,
	driver.Derive:     (*job).derive,
	driver.Random:     (*job).random,
	driver.TenantMAC:  (*job).tenantMAC,
	driver.AuditSign:  (*job).auditSign,
}

// Execute implements driver.Driver.
func (d *Driver) Execute(ctx context.Context, tenant string, op *driver.Op) (*driver.Result, error) {
	if err := d.admit(ctx); err != nil {
		return nil, err
	}
	if err := d.checker.Op(op); err != nil {
		return nil, err
	}
	for step := 0; ; step++ {
		f := failure{tenant: tenant, gen: d.generation.Load()}
		res, err := d.once(ctx, op, &f)
		if err == nil {
			return res, nil
		}
		if f.err = err; step == maxRecoverySteps || !d.recoverFrom(f) {
			return nil, d.reply(err)
		}
	}
}

// once runs an operation once and stores in f which key it used.
func (d *Driver) once(ctx context.Context, op *driver.Op, f *failure) (*driver.Result, error) {
	start := time.Since(epoch)
	t, err := d.tenant(f.tenant)
	if err != nil {
		return nil, err
	}
	j := job{d: d, op: op, t: t}
	if op.GetKey() != nil {
		if j.key, err = d.live.get(ctx, f.tenant, op.GetSealed(), op.GetKey()); err != nil {
			return nil, err
		}
		f.key = j.key
		defer d.live.put(j.key)
	}
	if j.s, err = d.pool.get(ctx); err != nil {
		return nil, err
	}
	defer d.pool.put(j.s)
	// The generation cannot change while a session is leased.
	if gen := d.generation.Load(); t.gen != gen || j.key != nil && j.key.gen != gen {
		return nil, errStale
	}
	timings := driver.TimingsFrom(ctx)
	timings.Session = time.Since(epoch) - start
	j.s.spent = 0
	res, err := operations[op.GetKind()](&j)
	timings.HSM = j.s.spent
	return res, err
}

func (j *job) encrypt() (*driver.Result, error) {
	iv, sealed, err := j.s.seal(j.key.handle, j.op.GetAad(), j.op.GetData(), 0)
	if err != nil {
		return nil, err
	}
	return sealedResult(iv, sealed, len(j.op.GetData()), nil)
}

func (j *job) dataKey() (*driver.Result, error) {
	plain := make([]byte, j.op.GetLength())
	iv, sealed, err := j.s.seal(j.key.handle, j.op.GetAad(), plain, len(plain))
	if err != nil {
		clear(plain)
		return nil, err
	}
	return sealedResult(iv, sealed, len(plain), plain)
}

func sealedResult(iv, sealed []byte, n int, plain []byte) (*driver.Result, error) {
	if len(sealed) != n+driver.GCMTagSize {
		return nil, driver.Errorf(driver.Device, "the module returned a ciphertext of %d bytes from %d", len(sealed), n)
	}
	return &driver.Result{Iv: iv, Data: sealed, Plaintext: plain}, nil
}

func (j *job) decrypt() (*driver.Result, error) {
	plain, err := j.s.open(j.key.handle, j.op.GetIv(), j.op.GetAad(), j.op.GetData())
	if err != nil {
		return nil, j.d.badDataError(j.s, err, driver.BadCiphertextError())
	}
	if len(plain) != len(j.op.GetData())-driver.GCMTagSize {
		return nil, driver.Errorf(driver.Device, "the module returned a plaintext of %d bytes from %d", len(plain), len(j.op.GetData()))
	}
	return &driver.Result{Data: plain}, nil
}

// decryptRSA opens a block inside the HSM, or decodes it here after raw RSA in the HSM, as the profile says.
func (j *job) decryptRSA() (*driver.Result, error) {
	algorithm, block := j.op.GetAlgorithm(), j.op.GetData()
	var plain []byte
	var err error
	opened := true
	if slices.Contains(j.d.profile.Decrypt.inHSM, algorithm) {
		plain, err = j.s.decryptRSA(rsaBlocks[algorithm], j.key.handle, block)
	} else {
		plain, opened, err = j.s.openOAEP(driver.HashOf(algorithm), j.key.handle, block)
	}
	if err != nil {
		if err = j.d.badDataError(j.s, err, driver.BadCiphertextError()); driver.CodeOf(err) != driver.BadCiphertext {
			return nil, err
		}
		opened = false
	}
	if !opened {
		return nil, driver.BadCiphertextError()
	}
	if len(plain) > len(block)-2*driver.HashOf(algorithm).Size()-2 {
		clear(plain)
		return nil, driver.Errorf(driver.Device, "the module returned a plaintext of %d bytes from a block of %d", len(plain), len(block))
	}
	return &driver.Result{Data: plain}, nil
}

// derive runs ECDH. It checks the peer's point itself, because a point off the curve would disclose the private key bit by bit
// (Biehl, Meyer, Mueller 2000) if the module does not check it.
func (j *job) derive() (*driver.Result, error) {
	point, err := peerPoint(j.key.spec, j.op.GetData())
	if err != nil {
		return nil, err
	}
	size := j.key.spec.Size()
	secret, err := j.s.ecdh(j.key.handle, point, size)
	return result(exact(secret, err, size, "a shared secret"))
}

func (j *job) sign() (*driver.Result, error) {
	if j.key.spec.rsa() {
		return result(signRSA(j.s, j.key.handle, j.key.spec, j.op.GetAlgorithm(), j.op.GetData()))
	}
	return result(signEC(j.s, j.key.handle, j.key.spec, j.op.GetData()))
}

func (j *job) mac() (*driver.Result, error) {
	data, size := j.op.GetData(), driver.HashOf(j.op.GetAlgorithm()).Size()
	out, err := j.s.sign(callMAC, len(data), signatures[j.op.GetAlgorithm()].mech, j.key.handle, data, make([]byte, size))
	return result(exact(out, err, size, "a mac"))
}

// verifyMAC computes the MAC and compares it in this process, so that the module's own comparison need not be trusted.
func (j *job) verifyMAC() (*driver.Result, error) {
	right, err := j.mac()
	if err != nil {
		return nil, err
	}
	return &driver.Result{Valid: subtle.ConstantTimeCompare(right.GetData(), j.op.GetSignature()) == 1}, nil
}

func (j *job) random() (*driver.Result, error) {
	out := make([]byte, j.op.GetLength())
	return result(out, j.s.random(out))
}

func (j *job) tenantMAC() (*driver.Result, error) {
	return result(tenantMAC(j.s, j.t, driver.TenantMACLabel, j.op.GetData()))
}

func (j *job) auditSign() (*driver.Result, error) {
	return result(signEC(j.s, j.t.audit, specOf(driver.ECP256), j.op.GetData()))
}

func result(data []byte, err error) (*driver.Result, error) {
	if err != nil {
		return nil, err
	}
	return &driver.Result{Data: data}, nil
}

// exact returns an error if the module's output does not have size bytes. what names it, with its article.
func exact(out []byte, err error, size int, what string) ([]byte, error) {
	if err == nil && len(out) != size {
		clear(out)
		return nil, driver.Errorf(driver.Device, "the module returned %s of %d bytes", what, len(out))
	}
	return out, err
}

func signRSA(s *session, key handle, spec keySpec, alg driver.Algorithm, digest []byte) ([]byte, error) {
	a, size := signatures[alg], spec.Size()
	input := digest
	if a.prefix != nil {
		input = append(slices.Clone(a.prefix), digest...)
	}
	out, err := s.sign(callSign, spec.Bits, a.mech, key, input, make([]byte, size))
	return exact(out, err, size, "an rsa signature")
}

// signEC signs a digest, truncated to the bit length of the curve's order (FIPS 186-5 section 6.4.1), and returns the signature
// as ASN.1 DER.
func signEC(s *session, key handle, spec keySpec, digest []byte) ([]byte, error) {
	raw, err := rawSignEC(s, key, spec, digest)
	if err != nil {
		return nil, err
	}
	half := len(raw) / 2
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "encode signature: %w", err)
	}
	return der, nil
}

func rawSignEC(s *session, key handle, spec keySpec, digest []byte) ([]byte, error) {
	size := spec.Size()
	// Whole bytes suffice: no digest is longer than the order of P-521, the only one that does not end at a byte.
	out, err := s.sign(callSign, size, signatures[driver.ECDSASHA256].mech, key, digest[:min(len(digest), size)], make([]byte, 2*size))
	return exact(out, err, 2*size, "an ecdsa signature")
}
