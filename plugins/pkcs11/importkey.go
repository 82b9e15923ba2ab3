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

// importJob is the state of one import. After a fault of the block or of a private key, it goes on with a stand-in and does all that it
// does for good material, with the same C calls: neither the time nor the module's counters tell where the fault was. See balanced.
type importJob struct {
	d                *Driver
	req              *driver.ImportKeyRequest
	spec             keySpec
	block, container []byte
	blockInHSM       bool // the module opens the block
	keyInHSM         bool // and the block's content does not leave the module
	s                *session
	t                *tenantKeys
	temporary        []handle // objects to destroy at the end
	inBlock          handle   // stand-in of a key that the block contains; 0 if a container has the key
	bad              bool     // the material is bad, and what is made is thrown away
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
		j.s, j.t = s, t
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
		return j.run(wrapping)
	})
}

func (j *importJob) run(wrapping handle) (*driver.SealedKey, error) {
	h, err := j.open(wrapping)
	if err != nil {
		return nil, j.fault(err)
	}
	public, check, err := j.prove(h)
	if j.inBlock != 0 && j.data(err) { // a length that hasSize cannot tell
		j.bad, h, err = true, j.inBlock, nil
	}
	if err != nil {
		return nil, j.fault(err)
	}
	tenant := j.req.GetTenant()
	value, err := tenantMAC(j.s, j.t, driver.CheckValueMACLabel, check)
	if err != nil {
		return nil, err
	}
	sealed, err := j.d.seal(j.s, j.t, h, tenant, j.req.GetKey(), public)
	if err != nil {
		return nil, err
	}
	if want := j.req.GetExpectedCheckValue(); j.bad || len(want) > 0 && subtle.ConstantTimeCompare(want, value) != 1 {
		return nil, errBadMaterial
	}
	sealed.CheckValue, sealed.OpenedIn = value, driver.ProtectionProcess
	if j.keyInHSM {
		sealed.OpenedIn = driver.ProtectionHSM
	}
	return sealed, nil
}

// open creates the key object of the material, or of a stand-in, which can sign, for prove, and be wrapped.
func (j *importJob) open(wrapping handle) (handle, error) {
	target := j.spec.template(uses{sign: true}, true, inSession())
	if len(j.container) == 0 {
		h, own, err := j.openBlock(wrapping, target, []int{j.spec.Size()})
		j.inBlock = own.handle
		return h, err
	}
	// It is extractable because its wrapped form tells its length.
	may := specOf(driver.AES256).template(uses{unwrap: true}, true, inSession())
	if !j.keyInHSM && j.spec.class == privateKey {
		return j.openPrivateKey(wrapping, may, target)
	}
	key, standIn, err := j.openBlock(wrapping, may, material.TemporarySizes)
	if err != nil {
		return 0, err
	}
	return j.openContainer(key, standIn, target)
}

// standIn is a secret key object of a known random value.
type standIn struct {
	handle
	value []byte
}

func (j *importJob) newStandIn(template []*p11.Attribute, size int) (standIn, error) {
	value := material.Random(size)
	h, err := j.create(template, value)
	return standIn{h, value}, err
}

// openBlock creates a secret key from the content of the RSA block, inside the HSM or through the memory of this process, and a
// stand-in beside it. If the block is bad, or its content has none of these sizes, the key is the stand-in.
func (j *importJob) openBlock(wrapping handle, template []*p11.Attribute, sizes []int) (handle, standIn, error) {
	own, err := j.newStandIn(template, sizes[len(sizes)-1])
	if err != nil {
		return 0, own, err
	}
	if !j.keyInHSM {
		secret, err := j.readBlock(wrapping, own.value, sizes)
		if err != nil {
			return 0, own, err
		}
		defer clear(secret)
		h, err := j.create(template, secret)
		return h, own, err
	}
	blocks, err := j.standInBlocks(wrapping, own.value)
	if err != nil {
		return 0, own, err
	}
	h, _, ok, err := balanced(j, func(block []byte) (handle, error) {
		return j.keep(j.s.unwrap(rsaBlocks[j.req.GetAlgorithm()], wrapping, block, template))
	}, j.block, blocks.good, blocks.bad)
	if err != nil {
		return 0, own, err
	}
	if !ok {
		h = own.handle
	}
	right, err := j.hasSize(h, sizes)
	if err != nil {
		return 0, own, err
	}
	if !ok || !right {
		j.bad, h = true, own.handle
	}
	return h, own, nil
}

func (j *importJob) standInBlocks(wrapping handle, secret []byte) (standInBlocks, error) {
	public, err := rsaPublicKey(j.s, wrapping, specOf(j.req.GetWrappingKey().GetSpec()))
	if err != nil {
		return standInBlocks{}, err
	}
	parsed, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return standInBlocks{}, err
	}
	return newStandInBlocks(j.req.GetAlgorithm(), parsed.(*rsa.PublicKey), secret)
}

// openContainer unwraps a container under RFC 5649 with the key of the block, or a stand-in.
func (j *importJob) openContainer(key handle, own standIn, target []*p11.Attribute) (handle, error) {
	good := material.WrapStandIn(own.value, material.StandIn(j.req.GetKey().GetSpec()))
	bad := bytes.Clone(good)
	bad[len(bad)-1] ^= 1
	under := key
	h, other, ok, err := balanced(j, func(wrapped []byte) (handle, error) {
		defer func() { under = own.handle }()
		return j.keep(j.s.unwrap(mechanism{id: j.d.profile.Wrap.Mechanism}, under, wrapped, target))
	}, j.container, good, bad)
	if err != nil {
		return 0, err
	}
	if !ok {
		j.bad, h = true, other
	}
	return h, nil
}

// readBlock returns the content of the RSA block, which must have one of these sizes, or a copy of a stand-in.
func (j *importJob) readBlock(wrapping handle, own []byte, sizes []int) (secret []byte, err error) {
	var ok bool
	if j.blockInHSM {
		blocks, err := j.standInBlocks(wrapping, own)
		if err != nil {
			return nil, err
		}
		var other []byte
		secret, other, ok, err = balanced(j, func(block []byte) ([]byte, error) {
			return j.s.decryptRSA(rsaBlocks[j.req.GetAlgorithm()], wrapping, block)
		}, j.block, blocks.good, blocks.bad)
		clear(other)
		if err != nil {
			return nil, err
		}
	} else if secret, ok, err = j.s.openOAEP(driver.HashOf(j.req.GetAlgorithm()), wrapping, j.block); err != nil {
		return nil, err
	}
	if ok && slices.Contains(sizes, len(secret)) {
		return secret, nil
	}
	clear(secret)
	j.bad = true
	return bytes.Clone(own), nil
}

// openPrivateKey opens a private key in this process, because the module cannot, and unwraps it in the module under the temporary
// key. package material checks more of the key than modules do.
func (j *importJob) openPrivateKey(wrapping handle, may, target []*p11.Attribute) (handle, error) {
	temporary, err := j.readBlock(wrapping, material.Random(material.TemporarySizes[len(material.TemporarySizes)-1]), material.TemporarySizes)
	if err != nil {
		return 0, err
	}
	defer clear(temporary)
	pkcs8, ok := material.OpenPrivateKey(j.req.GetKey().GetSpec(), temporary, j.container)
	defer clear(pkcs8)
	if !ok {
		j.bad = true
	}
	w, err := material.NewKeyWrap(temporary)
	if err != nil {
		return 0, err
	}
	wrapped, err := w.Wrap(pkcs8)
	if err != nil {
		return 0, err
	}
	key, err := j.create(may, temporary)
	if err != nil {
		return 0, err
	}
	return j.keep(j.s.unwrap(mechanism{id: j.d.profile.Wrap.Mechanism}, key, wrapped, target))
}

// create makes a secret key object of a value.
func (j *importJob) create(template []*p11.Attribute, value []byte) (handle, error) {
	return j.keep(j.s.create(append(slices.Clip(template), p11.NewAttribute(p11.CKA_VALUE, value))))
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
func (j *importJob) prove(h handle) (public, check []byte, err error) {
	if j.spec.class == secretKey {
		check, err = j.proveSecret(h)
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

// hasSize reports whether a secret key object has one of these sizes in bytes, as far as the module tells. Some modules report length
// 0 for an unwrapped key. The length of its wrapped form tells it up to 7 bytes, and its use below the rest: AES has three lengths,
// and those modules refuse HMAC keys shorter than the hash.
func (j *importJob) hasSize(h handle, sizes []int) (bool, error) {
	length, err := j.s.attribute(h, p11.CKA_VALUE_LEN)
	if err != nil {
		return false, err
	}
	wrapped, err := j.s.wrap(j.d.profile.Wrap.Mechanism, j.t.roots[j.t.newestRoot()], h)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(sizes, func(size int) bool {
		if len(length) == 8 {
			if n := binary.NativeEndian.Uint64(length); n != 0 && n != uint64(size) {
				return false
			}
		}
		return len(wrapped) == (size+7)/8*8+8
	}), nil
}

func (j *importJob) proveSecret(h handle) ([]byte, error) {
	if right, err := j.hasSize(h, []int{j.spec.Size()}); err != nil || !right {
		return nil, errors.Join(errBadMaterial, err)
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
