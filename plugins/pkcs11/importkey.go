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
	"github.com/keyside/keyside/plugins/material"
)

var errBadMaterial = material.Bad()

// checkLabel is the message whose CMAC or HMAC is the check value of a symmetric key.
const checkLabel = "keyside material check v1\x00"

// importJob is the state of one import.
type importJob struct {
	d                *Driver
	req              *driver.ImportKeyRequest
	spec             keySpec
	block, container []byte
	blockInHSM       bool // the module opens the block
	keyInHSM         bool // and the block's content does not leave the module
	s                *session
	temporary        []handle // objects to destroy at the end
	bad              error    // what was wrong with the block
}

// ImportKey implements driver.Driver.
func (d *Driver) ImportKey(ctx context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	if err := d.checker.Import(req); err != nil {
		return nil, err
	}
	block, container, err := material.Parts(req)
	if err != nil {
		return nil, err
	}
	inHSM := slices.Contains(d.profile.Import.inHSM, req.GetAlgorithm())
	job := importJob{d: d, req: req, spec: specOf(req.GetKey().GetSpec()), block: block, container: container, blockInHSM: inHSM,
		keyInHSM: inHSM && !material.IsOpenSSL(container)}
	return control(ctx, d, req.GetTenant(), nil, func(s *session, t *tenantKeys) (sealed *driver.SealedKey, err error) {
		j := job
		j.s = s
		defer func() {
			for _, h := range j.temporary {
				err = errors.Join(err, s.destroy(h))
			}
		}()
		wrapping, _, err := d.unsealWorking(s, t, req.GetTenant(), req.GetWrappingKey(), req.GetSealedWrappingKey())
		if err != nil {
			return nil, err
		}
		j.temporary = append(j.temporary, wrapping)
		return j.run(t, wrapping)
	})
}

func (j *importJob) run(t *tenantKeys, wrapping handle) (*driver.SealedKey, error) {
	h, err := j.open(wrapping)
	if err != nil {
		return nil, j.fault(err)
	}
	public, check, err := j.prove(t, h)
	if err == nil {
		err = j.bad
	}
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
	sealed.CheckValue, sealed.OpenedIn = value, driver.ProtectionProcess
	if j.keyInHSM {
		sealed.OpenedIn = driver.ProtectionHSM
	}
	return sealed, nil
}

// open creates the key object of the material, which can sign, for prove, and be wrapped. It does not stop at a bad block: see
// readBlock.
func (j *importJob) open(wrapping handle) (handle, error) {
	target := j.spec.template(uses{sign: true}, true, inSession())
	if len(j.container) == 0 {
		return j.openBlock(wrapping, j.spec, target, []int{j.spec.Size()})
	}
	aes := specOf(driver.AES256)
	may := aes.template(uses{unwrap: true}, false, inSession())
	if j.keyInHSM || j.spec.class == secretKey {
		key, err := j.openBlock(wrapping, aes, may, material.TemporarySizes)
		if err != nil {
			return 0, err
		}
		return j.keep(j.s.unwrap(mechanism{id: j.d.profile.Wrap.Mechanism}, key, j.container, target))
	}
	return j.openPrivateKey(wrapping, may, target)
}

// openBlock creates a secret key from the content of the RSA block: inside the HSM, or through the memory of this process.
func (j *importJob) openBlock(wrapping handle, spec keySpec, template []*p11.Attribute, sizes []int) (handle, error) {
	if j.keyInHSM {
		h, err := j.keep(j.s.unwrap(rsaBlocks[j.req.GetAlgorithm()], wrapping, j.block, template))
		if !j.data(err) {
			return h, err
		}
		j.bad = err
		return j.keep(j.s.generate(spec.generate, append(template, p11.NewAttribute(p11.CKA_VALUE_LEN, spec.Size()))))
	}
	secret, err := j.readBlock(wrapping, sizes)
	if err != nil {
		return 0, err
	}
	defer clear(secret)
	return j.keep(j.s.create(append(template, p11.NewAttribute(p11.CKA_VALUE, secret))))
}

// readBlock returns the content of the RSA block, which must have one of these sizes. For a bad block it sets j.bad and returns
// a random secret, so that the steps that follow take the same time as for a good one: the time must not disclose the padding.
func (j *importJob) readBlock(wrapping handle, sizes []int) (secret []byte, err error) {
	ok := true
	if j.blockInHSM {
		secret, err = j.s.decryptRSA(rsaBlocks[j.req.GetAlgorithm()], wrapping, j.block)
	} else {
		secret, ok, err = j.s.openOAEP(driver.HashOf(j.req.GetAlgorithm()), wrapping, j.block)
	}
	switch {
	case j.data(err):
		j.bad = err
	case err != nil:
		return nil, err
	case !ok || !slices.Contains(sizes, len(secret)):
		j.bad = errBadMaterial
	default:
		return secret, nil
	}
	clear(secret)
	secret = make([]byte, sizes[len(sizes)-1])
	return secret, j.s.random(secret)
}

// openPrivateKey opens a private key in this process, because the module cannot, and unwraps it in the module under the temporary
// key. package material checks more of the key than modules do.
func (j *importJob) openPrivateKey(wrapping handle, may, target []*p11.Attribute) (handle, error) {
	temporary, err := j.readBlock(wrapping, material.TemporarySizes)
	if err != nil {
		return 0, err
	}
	defer clear(temporary)
	pkcs8, ok := material.OpenPrivateKey(j.req.GetKey().GetSpec(), temporary, j.container)
	if !ok {
		if j.bad == nil {
			j.bad = errBadMaterial
		}
		return 0, j.bad
	}
	defer clear(pkcs8)
	w, err := material.NewKeyWrap(temporary)
	if err != nil {
		return 0, err
	}
	wrapped, err := w.Wrap(pkcs8)
	if err != nil {
		return 0, err
	}
	key, err := j.keep(j.s.create(append(may, p11.NewAttribute(p11.CKA_VALUE, temporary))))
	if err != nil {
		return 0, err
	}
	return j.keep(j.s.unwrap(mechanism{id: j.d.profile.Wrap.Mechanism}, key, wrapped, target))
}

// data reports whether the material can have caused an error.
func (j *importJob) data(err error) bool {
	var ce *callError
	return errors.As(err, &ce) && (ce.class() == never || j.d.profile.causedByData(ce))
}

// keep notes an object that is to be destroyed at the end.
func (j *importJob) keep(h handle, err error) (handle, error) {
	if err == nil {
		j.temporary = append(j.temporary, h)
	}
	return h, err
}

// prove uses the new key once, checks that it is of its spec, and returns its public key and the input of the tenant's MAC for
// its check value.
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
	// Some modules report length 0 for an unwrapped key. The length of its wrapped form tells it up to 7 bytes, and its use
	// below the rest: AES has three lengths, and those modules refuse HMAC keys shorter than the hash.
	length, err := j.s.attribute(h, p11.CKA_VALUE_LEN)
	if err != nil {
		return nil, err
	}
	if len(length) == 8 {
		if n := binary.NativeEndian.Uint64(length); n != 0 && n != uint64(j.spec.Size()) {
			return nil, errBadMaterial
		}
	}
	wrapped, err := j.s.wrap(j.d.profile.Wrap.Mechanism, t.roots[t.newestRoot()], h)
	if err != nil {
		return nil, err
	}
	if len(wrapped) != (j.spec.Size()+7)/8*8+8 {
		return nil, errBadMaterial
	}
	mech, size := mechanism{id: p11.CKM_AES_CMAC}, 16
	if j.spec.keyType != p11.CKK_AES {
		a := j.spec.Uses[0].Algorithms[0]
		mech, size = signatures[a].mech, driver.HashOf(a).Size()
	}
	check, err := j.s.sign(callMAC, 0, mech, h, []byte(checkLabel), make([]byte, size))
	if err == nil && len(check) != size {
		return nil, errBadMaterial
	}
	return check, err
}

// proveRSA checks that the private key belongs to the public key.
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

// fault returns BadMaterial for every error that the material can have caused, otherwise err.
func (j *importJob) fault(err error) error {
	var ce *callError
	if !errors.As(err, &ce) || ce.class() == never {
		var e *driver.Error
		if ce == nil && errors.As(err, &e) && e.Code != driver.Device && e.Code != driver.BadMaterial {
			return err
		}
		return errBadMaterial
	}
	if err := j.d.badDataError(j.s, err, material.Bad()); driver.CodeOf(err) != driver.BadMaterial {
		return err
	}
	return errBadMaterial
}
