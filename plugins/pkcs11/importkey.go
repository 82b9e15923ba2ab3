package pkcs11

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// badMaterial is the one text for whatever is wrong with material: its sender learns nothing from the difference.
const badMaterial = "material does not open, or is not a key of this spec"

var errBadMaterial = &driver.Error{Code: driver.BadMaterial, Message: badMaterial}

// checkLabel is what a symmetric key authenticates to give its check value.
const checkLabel = "keyside material check v1\x00"

// importJob is one import on its way through the module.
type importJob struct {
	d         *Driver
	req       *driver.ImportKeyRequest
	spec      keySpec
	wrapper   keySpec // of the wrapping key
	inHSM     bool
	s         *session
	temporary []handle
}

// ImportKey implements driver.Driver.
func (d *Driver) ImportKey(ctx context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	spec, err := d.checkKey(req.GetKey())
	if err != nil {
		return nil, err
	}
	wrapper, err := d.checkWrappingKey(req.GetWrappingKey())
	if err != nil {
		return nil, err
	}
	inHSM := slices.Contains(d.profile.Import.inHSM, req.GetAlgorithm())
	if !inHSM && !slices.Contains(d.profile.Import.inProcess, req.GetAlgorithm()) {
		return nil, driver.Errorf(driver.Unsupported, "import algorithm %s", req.GetAlgorithm())
	}
	j := importJob{d: d, req: req, spec: spec, wrapper: wrapper, inHSM: inHSM}
	if _, _, err := j.parts(); err != nil {
		return nil, err
	}
	return control(ctx, d, req.GetTenant(), nil, func(s *session, t *tenantKeys) (sealed *driver.SealedKey, err error) {
		j := j
		j.s = s
		defer func() {
			for _, h := range j.temporary {
				err = errors.Join(err, s.destroy(h))
			}
		}()
		rec, err := openRecord(req.GetTenant(), req.GetSealedWrappingKey(), req.GetWrappingKey())
		if err != nil {
			return nil, err
		}
		wrapping, err := d.unseal(s, t, rec, workUses(driver.Unwrap, privateKey), false)
		if err != nil {
			return nil, err
		}
		j.temporary = append(j.temporary, wrapping)
		return j.run(t, wrapping)
	})
}

// parts splits the material into the RSA block and what follows under RFC 5649, nil where the block is the key itself.
func (j *importJob) parts() (block, rest []byte, err error) {
	material, private := j.req.GetEncryptedMaterial(), j.req.GetEncryptedPrivateKey()
	keyed := rsaBlocks[j.req.GetAlgorithm()].keyed
	size := j.wrapper.bits / 8
	switch {
	case len(private) > 0 && (keyed || j.spec.class == secretKey):
		return nil, nil, driver.Errorf(driver.InvalidArgument, "encrypted_private_key has no place in this import")
	case len(material) < size || len(material)+len(private) > size+maxWrappedKey:
		return nil, nil, errBadMaterial
	case keyed:
		block, rest = material[:size], material[size:]
	case len(material) != size || j.spec.class == privateKey && len(private) == 0:
		return nil, nil, errBadMaterial
	default:
		block, rest = material, private
	}
	if rest != nil && (len(rest) < 16 || len(rest)%8 != 0) {
		return nil, nil, errBadMaterial
	}
	return block, rest, nil
}

func (j *importJob) run(t *tenantKeys, wrapping handle) (*driver.SealedKey, error) {
	h, err := j.open(wrapping)
	if err != nil {
		return nil, j.fault(err)
	}
	public, check, err := j.prove(t, h)
	if err != nil {
		return nil, j.fault(err)
	}
	tenant := j.req.GetTenant()
	value, err := tenantMAC(j.s, t, driver.CheckValueMACLabel, check)
	if err != nil {
		return nil, err
	}
	if want := j.req.GetExpectedCheckValue(); len(want) > 0 && subtle.ConstantTimeCompare(want, value) != 1 {
		return nil, errBadMaterial
	}
	sealed, err := j.d.seal(j.s, t, h, tenant, j.req.GetKey(), public)
	if err != nil {
		return nil, err
	}
	sealed.CheckValue, sealed.OpenedIn = value, driver.ProtectionHSM
	if !j.inHSM {
		sealed.OpenedIn = driver.ProtectionProcess
	}
	return sealed, nil
}

// open makes the key object of the material. It may sign, for the proof that follows, and be wrapped.
func (j *importJob) open(wrapping handle) (handle, error) {
	block, rest, err := j.parts()
	if err != nil {
		return 0, err
	}
	target := j.spec.template(uses{sign: true}, true, inSession())
	if rest == nil {
		return j.openBlock(wrapping, block, target, []int{j.spec.bytes})
	}
	kek := specs[driver.AES256].template(uses{unwrap: true}, false, inSession())
	temp, err := j.openBlock(wrapping, block, kek, []int{16, 24, 32})
	if err != nil {
		return 0, err
	}
	return j.keep(j.s.unwrap(mechanism{id: j.d.profile.Wrap.Mechanism}, temp, rest, target))
}

// openBlock makes a secret key of what the RSA block holds: inside the HSM, or by way of this process's memory.
func (j *importJob) openBlock(wrapping handle, block []byte, template []*p11.Attribute, sizes []int) (handle, error) {
	how := rsaBlocks[j.req.GetAlgorithm()]
	if j.inHSM {
		return j.keep(j.s.unwrap(how.mech, wrapping, block, template))
	}
	secret, ok, err := j.s.openOAEP(how.hash, wrapping, block)
	if err != nil {
		return 0, err
	}
	defer clear(secret)
	if !ok || !slices.Contains(sizes, len(secret)) {
		return 0, errBadMaterial
	}
	return j.keep(j.s.create(append(template, p11.NewAttribute(p11.CKA_VALUE, secret))))
}

// keep remembers an object for its destruction.
func (j *importJob) keep(h handle, err error) (handle, error) {
	if err == nil {
		j.temporary = append(j.temporary, h)
	}
	return h, err
}

// prove uses the new key, makes sure that it is of its spec, and returns its public half and its check value before the
// tenant's MAC.
func (j *importJob) prove(t *tenantKeys, h handle) (public, check []byte, err error) {
	if j.spec.class == secretKey {
		check, err = j.proveSecret(t, h)
		return nil, check, err
	}
	if !j.spec.rsa() {
		params, err := j.s.attribute(h, p11.CKA_EC_PARAMS)
		if err != nil || !bytes.Equal(params, j.spec.ecParams()) {
			return nil, nil, errors.Join(errBadMaterial, err)
		}
	}
	if public, err = privateKeysPublic(j.s, h, j.spec); err != nil {
		return nil, nil, err
	}
	if j.spec.rsa() {
		if err := j.proveRSA(h, public); err != nil {
			return nil, nil, err
		}
	}
	sum := sha256.Sum256(public)
	return public, sum[:], nil
}

func (j *importJob) proveSecret(t *tenantKeys, h handle) ([]byte, error) {
	// Some modules do not tell the length of an unwrapped key. What it wraps to tells it up to 7 bytes, and its use below
	// the rest: AES knows three lengths, and those modules refuse HMAC keys shorter than the hash.
	length, err := j.s.attribute(h, p11.CKA_VALUE_LEN)
	if err != nil {
		return nil, err
	}
	if len(length) == 8 {
		if n := binary.NativeEndian.Uint64(length); n != 0 && n != uint64(j.spec.bytes) {
			return nil, errBadMaterial
		}
	}
	wrapped, err := j.s.wrap(j.d.profile.Wrap.Mechanism, t.roots[t.newestRoot()], h)
	if err != nil {
		return nil, err
	}
	if len(wrapped) != (j.spec.bytes+7)/8*8+8 {
		return nil, errBadMaterial
	}
	mech, size := mechanism{id: p11.CKM_AES_CMAC}, 16
	if j.spec.keyType != p11.CKK_AES {
		a := signatures[j.spec.usages[driver.GenerateVerifyMAC][0]]
		mech, size = a.mech, a.hash.Size()
	}
	check, err := j.s.sign(callMAC, 0, mech, h, []byte(checkLabel), make([]byte, size))
	if err == nil && len(check) != size {
		return nil, errBadMaterial
	}
	return check, err
}

// proveRSA makes sure that the private half belongs to the public one.
func (j *importJob) proveRSA(h handle, public []byte) error {
	digest := sha256.Sum256([]byte(checkLabel))
	signature, err := signRSA(j.s, h, j.spec, driver.PKCS1v15SHA256, digest[:])
	if err != nil {
		return err
	}
	pub, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return errBadMaterial
	}
	if key, ok := pub.(*rsa.PublicKey); !ok || rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil {
		return errBadMaterial
	}
	return nil
}

// fault makes BadMaterial of every error that the material can have caused.
func (j *importJob) fault(err error) error {
	var ce *callError
	if !errors.As(err, &ce) || ce.class() == never {
		var e *driver.Error
		if ce == nil && errors.As(err, &e) && e.Code != driver.Device && e.Code != driver.BadMaterial {
			return err
		}
		return errBadMaterial
	}
	if err := j.d.blame(j.s, err, driver.BadMaterial, badMaterial); driver.CodeOf(err) != driver.BadMaterial {
		return err
	}
	return errBadMaterial
}
