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

// operation is one OpKind: the usage that its key must have (0: no key) and the class, where a usage has keys of two; what is
// checked before anything is touched, and what is done.
type operation struct {
	usage driver.KeyUsage
	class uint
	check func(*Driver, *driver.Op) error
	run   func(*job) (*driver.Result, error)
}

// job is one operation with all that it needs.
type job struct {
	d   *Driver
	op  *driver.Op
	s   *session
	t   *tenantKeys
	key *liveKey // nil for operations without a key
}

var operations = map[driver.OpKind]*operation{
	driver.Encrypt:    {driver.EncryptDecrypt, secretKey, checkData, (*job).encrypt},
	driver.Decrypt:    {driver.EncryptDecrypt, secretKey, checkCiphertext, (*job).decrypt},
	driver.DataKey:    {driver.EncryptDecrypt, secretKey, checkDataKey, (*job).dataKey},
	driver.DecryptRSA: {driver.EncryptDecrypt, privateKey, checkBlock, (*job).decryptRSA},
	driver.Sign:       {driver.SignVerify, 0, checkDigest, (*job).sign},
	driver.MAC:        {driver.GenerateVerifyMAC, 0, checkData, (*job).mac},
	driver.VerifyMAC:  {driver.GenerateVerifyMAC, 0, checkData, (*job).verifyMAC},
	driver.Derive:     {driver.KeyAgreement, 0, checkData, (*job).derive},
	driver.Random:     {0, 0, checkRandom, (*job).random},
	driver.TenantMAC:  {0, 0, checkData, (*job).tenantMAC},
	driver.AuditSign:  {0, 0, checkAuditDigest, (*job).auditSign},
}

// Execute implements driver.Driver.
func (d *Driver) Execute(ctx context.Context, tenant string, op *driver.Op) (*driver.Result, error) {
	if err := d.admit(ctx); err != nil {
		return nil, err
	}
	o := operations[op.GetKind()]
	if o == nil {
		return nil, driver.Errorf(driver.Unsupported, "operation %s", op.GetKind())
	}
	if err := d.checkOpKey(o, op); err != nil {
		return nil, err
	}
	if err := o.check(d, op); err != nil {
		return nil, err
	}
	for rung := 0; ; rung++ {
		f := failure{tenant: tenant, gen: d.generation.Load()}
		res, err := d.once(ctx, o, op, &f)
		if err == nil {
			return res, nil
		}
		if f.err = err; rung == maxRungs || !d.climb(f) {
			return nil, d.reply(err)
		}
	}
}

// once does an operation once, and leaves in f what it worked with.
func (d *Driver) once(ctx context.Context, o *operation, op *driver.Op, f *failure) (*driver.Result, error) {
	start := time.Since(epoch)
	t, err := d.tenant(f.tenant)
	if err != nil {
		return nil, err
	}
	j := job{d: d, op: op, t: t}
	if o.usage != 0 {
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
	// No new generation begins while a session is out.
	if gen := d.generation.Load(); t.gen != gen || j.key != nil && j.key.gen != gen {
		return nil, errStale
	}
	timings := driver.TimingsFrom(ctx)
	timings.Session = time.Since(epoch) - start
	j.s.spent = 0
	res, err := o.run(&j)
	timings.HSM = j.s.spent
	return res, err
}

func (d *Driver) checkOpKey(o *operation, op *driver.Op) error {
	if o.usage == 0 {
		if op.GetKey() != nil || len(op.GetSealed()) > 0 {
			return driver.Errorf(driver.InvalidArgument, "%s takes no key", op.GetKind())
		}
		return nil
	}
	if err := driver.CheckIdentity(op.GetKey()); err != nil {
		return err
	}
	if op.GetKey().GetUsage() != o.usage {
		return driver.Errorf(driver.InvalidArgument, "%s needs a key for %s", op.GetKind(), o.usage)
	}
	if o.class != 0 && specOf(op.GetKey().GetSpec()).class != o.class {
		return driver.Errorf(driver.InvalidArgument, "%s is not for %s keys", op.GetKind(), op.GetKey().GetSpec())
	}
	alg := op.GetAlgorithm()
	if alg == 0 && o.usage == driver.EncryptDecrypt && o.class == secretKey {
		alg = driver.AESGCM // there is but one
	}
	if !slices.Contains(d.profile.keys[keyKind{op.GetKey().GetSpec(), o.usage}], alg) {
		return driver.Errorf(driver.InvalidArgument, "algorithm %s is not for %s keys", alg, op.GetKey().GetSpec())
	}
	return nil
}

func (d *Driver) checkLengths(op *driver.Op, limit int) error {
	if len(op.GetData()) > limit || len(op.GetAad()) > d.profile.Limits.Data {
		return driver.Errorf(driver.InvalidArgument, "data longer than %d bytes", d.profile.Limits.Data)
	}
	return nil
}

func checkData(d *Driver, op *driver.Op) error { return d.checkLengths(op, d.profile.Limits.Data) }

func checkCiphertext(d *Driver, op *driver.Op) error {
	if err := d.checkLengths(op, d.profile.Limits.Data+driver.GCMTagSize); err != nil {
		return err
	}
	if len(op.GetIv()) != driver.GCMIVSize || len(op.GetData()) < driver.GCMTagSize {
		return driver.Errorf(driver.BadCiphertext, badCiphertext)
	}
	return nil
}

// checkBlock wants a block as long as the modulus. Another length is a fault like any other.
func checkBlock(_ *Driver, op *driver.Op) error {
	if len(op.GetData()) != specOf(op.GetKey().GetSpec()).Size() {
		return errBadBlock
	}
	return nil
}

func checkDataKey(d *Driver, op *driver.Op) error {
	if n := op.GetLength(); n == 0 || int(n) > d.profile.Limits.DataKey {
		return driver.Errorf(driver.InvalidArgument, "a data key has 1 to %d bytes", d.profile.Limits.DataKey)
	}
	return checkData(d, op)
}

func checkRandom(d *Driver, op *driver.Op) error {
	if n := op.GetLength(); n == 0 || int(n) > d.profile.Limits.Random {
		return driver.Errorf(driver.InvalidArgument, "random data has 1 to %d bytes", d.profile.Limits.Random)
	}
	return nil
}

func checkDigest(_ *Driver, op *driver.Op) error {
	if n := driver.HashOf(op.GetAlgorithm()).Size(); len(op.GetData()) != n {
		return driver.Errorf(driver.InvalidArgument, "digest for %s has %d bytes", op.GetAlgorithm(), n)
	}
	return nil
}

func checkAuditDigest(_ *Driver, op *driver.Op) error {
	if len(op.GetData()) != 32 {
		return driver.Errorf(driver.InvalidArgument, "digest has 32 bytes")
	}
	return nil
}

const badCiphertext = "ciphertext does not decrypt"

// errBadBlock is the one answer to every fault of an RSA block: what differs would let its sender decrypt other people's
// messages (Bleichenbacher 1998, Manger 2001).
var errBadBlock = &driver.Error{Code: driver.BadCiphertext, Message: badCiphertext}

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
		return nil, driver.Errorf(driver.Device, "module made a ciphertext of %d bytes from %d", len(sealed), n)
	}
	return &driver.Result{Iv: iv, Data: sealed, Plaintext: plain}, nil
}

func (j *job) decrypt() (*driver.Result, error) {
	plain, err := j.s.open(j.key.handle, j.op.GetIv(), j.op.GetAad(), j.op.GetData())
	if err != nil {
		return nil, j.d.blame(j.s, err, driver.BadCiphertext, badCiphertext)
	}
	if len(plain) != len(j.op.GetData())-driver.GCMTagSize {
		return nil, driver.Errorf(driver.Device, "module made a plaintext of %d bytes from %d", len(plain), len(j.op.GetData()))
	}
	return &driver.Result{Data: plain}, nil
}

// decryptRSA opens a block where the profile says: inside the HSM, or by raw RSA there and decoding here.
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
		if err = j.d.blame(j.s, err, driver.BadCiphertext, badCiphertext); driver.CodeOf(err) != driver.BadCiphertext {
			return nil, err
		}
		opened = false
	}
	if !opened {
		return nil, errBadBlock
	}
	if len(plain) > len(block)-2*driver.HashOf(algorithm).Size()-2 {
		clear(plain)
		return nil, driver.Errorf(driver.Device, "module made a plaintext of %d bytes from a block of %d", len(plain), len(block))
	}
	return &driver.Result{Data: plain}, nil
}

// derive does ECDH. The peer's point is checked here, whatever the module does: one that is not on the curve gives the key
// away bit by bit (Biehl, Meyer, Mueller 2000).
func (j *job) derive() (*driver.Result, error) {
	point, err := peerPoint(j.key.spec, j.op.GetData())
	if err != nil {
		return nil, err
	}
	size := j.key.spec.Size()
	secret, err := j.s.ecdh(j.key.handle, point, size)
	if err == nil && len(secret) != size {
		clear(secret)
		return nil, driver.Errorf(driver.Device, "module made a shared secret of %d bytes", len(secret))
	}
	return result(secret, err)
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
	if err == nil && len(out) != size {
		return nil, driver.Errorf(driver.Device, "module made a mac of %d bytes", len(out))
	}
	return result(out, err)
}

// verifyMAC makes the MAC again and compares it here: one answer less to trust.
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

func signRSA(s *session, key handle, spec keySpec, alg driver.Algorithm, digest []byte) ([]byte, error) {
	a, size := signatures[alg], spec.Size()
	input := digest
	if a.prefix != nil {
		input = append(slices.Clone(a.prefix), digest...)
	}
	out, err := s.sign(callSign, spec.Bits, a.mech, key, input, make([]byte, size))
	if err == nil && len(out) != size {
		return nil, driver.Errorf(driver.Device, "module made an rsa signature of %d bytes", len(out))
	}
	return out, err
}

// signEC signs a digest, of which only as many left-most bits count as the curve's order has (FIPS 186-5 section 6.4.1),
// and returns the signature as ASN.1 DER.
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
	// Whole bytes are enough: no digest is longer than the one curve whose order has a broken byte.
	out, err := s.sign(callSign, size, signatures[driver.ECDSASHA256].mech, key, digest[:min(len(digest), size)], make([]byte, 2*size))
	if err == nil && len(out) != 2*size {
		return nil, driver.Errorf(driver.Device, "module made an ecdsa signature of %d bytes", len(out))
	}
	return out, err
}
