package drivertest

import (
	"bytes"
	"crypto/rsa"
	"reflect"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

var importChecks = []check{
	{"import/works", (*suite).checkImport},
	{"import/check-value", (*suite).checkCheckValue},
	{"import/bad-material", (*suite).checkBadMaterial},
	{"import/same-calls", (*suite).checkSameCalls},
	{"import/arguments", (*suite).checkImportArguments},
	{"import/not-announced", (*suite).checkImportNotAnnounced},
}

// wrappingKey returns the wrapping key that is fastest to make, and its public key. It ends the check if there is none.
func (s *suite) wrappingKey(p *probe) (*testKey, *rsa.PublicKey) {
	kinds := s.wrappingKinds()
	p.skipIf(len(kinds) == 0, "describe announces no wrapping_specs")
	key := s.mustShare(p, kinds[0])
	return key, mustRSAPublic(p, key)
}

// importKinds returns the kinds that the kit imports: the announced ones, but only the smallest RSA kind of each usage, and none on
// secp256k1, whose private keys Go cannot encode.
func (s *suite) importKinds() []kind {
	hasRSA := map[driver.KeyUsage]bool{}
	return slices.DeleteFunc(s.kinds(), func(k kind) bool {
		second := isRSA(k.spec) && hasRSA[k.usage]
		hasRSA[k.usage] = hasRSA[k.usage] || isRSA(k.spec)
		return second || k.spec == driver.Secp256k1
	})
}

func importRequest(s *suite, id *driver.KeyIdentity, with *testKey, a driver.Algorithm, w *wrapped) *driver.ImportKeyRequest {
	return &driver.ImportKeyRequest{
		Tenant: s.Tenant, Key: id, WrappingKey: with.id, SealedWrappingKey: with.sealed.GetSealed(), Algorithm: a,
		EncryptedMaterial: w.blob, EncryptedPrivateKey: w.privateKey,
	}
}

// openedInHSM reports whether Describe says that the HSM opens this layout.
func (s *suite) openedInHSM(a driver.Algorithm, w *wrapped) bool {
	return slices.Contains(s.desc.GetOpenedInHsm(), a) && !w.openssl
}

func (s *suite) checkImport(p *probe) {
	with, pub := s.wrappingKey(p)
	for _, k := range s.importKinds() {
		m := mustMaterial(p, k)
		s.secret(m.raw)
		for _, a := range s.desc.GetImportAlgorithms() {
			for _, w := range m.wrap(p, a, pub) {
				key := &testKey{id: k.identity()}
				var err error
				key.sealed, err = s.Driver.ImportKey(p.ctx, importRequest(s, key.id, with, a, w))
				p.must(err, "import %s with %s and %s", k, a, w.layout)
				s.checkSealed(p, k, key.sealed)
				want := driver.ProtectionProcess
				if s.openedInHSM(a, w) {
					want = driver.ProtectionHSM
				}
				if got := key.sealed.GetOpenedIn(); got != want {
					p.Errorf("%s with %s and %s was opened in %s, describe says %s", k, a, w.layout, got, want)
				}
				m.check(s, p, key)
			}
		}
	}
}

// checkCheckValue checks that one material has the same check value in every layout, and two materials have different ones.
func (s *suite) checkCheckValue(p *probe) {
	with, pub := s.wrappingKey(p)
	for _, k := range s.importKinds() {
		var values [][]byte
		for range 2 {
			m := mustMaterial(p, k)
			var value []byte
			for _, a := range s.desc.GetImportAlgorithms() {
				for _, w := range m.wrap(p, a, pub) {
					req := importRequest(s, k.identity(), with, a, w)
					req.ExpectedCheckValue = value
					sealed, err := s.Driver.ImportKey(p.ctx, req)
					p.must(err, "import %s with %s, %s and the check value of another import of it", k, a, w.layout)
					if value == nil {
						value = sealed.GetCheckValue()
					}
					p.equal(sealed.GetCheckValue(), value, k.String()+": check value of the same material")
				}
			}
			p.errorIf(len(value) != driver.MACSize, "%s: check value of %d bytes", k, len(value))
			values = append(values, value)
		}
		p.errorIf(bytes.Equal(values[0], values[1]), "%s: two materials have one check value", k)
	}
}

// checkBadMaterial sends material with every fault. All must get the same answer: a difference tells an attacker how far the
// decryption went.
func (s *suite) checkBadMaterial(p *probe) {
	with, pub := s.wrappingKey(p)
	var first *driver.Error
	refuse := func(req *driver.ImportKeyRequest, what string, k kind) {
		_, err := s.Driver.ImportKey(p.ctx, req)
		p.refused(err, only(driver.BadMaterial), "import %s with %s and %s", k, req.GetAlgorithm(), what)
		if err == nil {
			return
		}
		e := *driver.AsError(err)
		e.Generation = 0
		if first == nil {
			first = &e
		}
		p.errorIf(!reflect.DeepEqual(e, *first), "bad material has two answers: %+v, and for %s %+v", *first, what, e)
	}
	for _, k := range s.importSamples() {
		m := mustMaterial(p, k)
		wrongs := wrongMaterials(p, m)
		for _, a := range s.desc.GetImportAlgorithms() {
			for _, w := range m.wrap(p, a, pub) {
				for what, bad := range w.damaged(p, a, pub) {
					refuse(importRequest(s, k.identity(), with, a, bad), w.layout+" with "+what, k)
				}
				req := importRequest(s, k.identity(), with, a, w)
				req.ExpectedCheckValue = make([]byte, driver.MACSize)
				refuse(req, w.layout+" with another check value", k)
			}
			for what, wrong := range wrongs {
				for _, w := range wrong.wrap(p, a, pub) {
					if !wrong.longer || !s.openedInHSM(a, w) {
						refuse(importRequest(s, k.identity(), with, a, w), what+" in "+w.layout, k)
					}
				}
			}
		}
	}
}

// importSamples returns a symmetric, an elliptic and an RSA kind, the fastest to make of each.
func (s *suite) importSamples() []kind {
	return firstOf(s.importKinds(),
		func(k kind) bool { return driver.SpecOf(k.spec).Symmetric() },
		func(k kind) bool { return driver.SpecOf(k.spec).Curve != nil },
		func(k kind) bool { return isRSA(k.spec) })
}

// damaged returns the wrapped material with every kind of corruption.
func (w *wrapped) damaged(p *probe, a driver.Algorithm, pub *rsa.PublicKey) map[string]*wrapped {
	list := map[string]*wrapped{}
	block, behind := w.blob[:w.block], w.blob[w.block:]
	for what, block := range badImportBlocks(p, a, pub, block) {
		list["its block: "+what] = &wrapped{blob: slices.Concat(block, behind), privateKey: w.privateKey}
	}
	for what, behind := range damages(behind) {
		list["what follows the block: "+what] = &wrapped{blob: slices.Concat(block, behind)}
	}
	for what, key := range damages(w.privateKey) {
		list["its private key: "+what] = &wrapped{blob: block, privateKey: key}
	}
	return list
}

func damages(b []byte) map[string][]byte {
	if len(b) == 0 {
		return nil
	}
	flip := func(at int) []byte {
		b := bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	return map[string][]byte{
		"the last bit flipped": flip(len(b) - 1), "a bit near the end flipped": flip(len(b) - 17), "the middle flipped": flip(len(b) / 2),
		"the first flipped": flip(0), "the last byte cut": b[:len(b)-1], "8 bytes cut": b[:len(b)-8], "16 bytes cut": b[:len(b)-16],
		"16 bytes of it": b[:16], "8 bytes added": append(bytes.Clone(b), make([]byte, 8)...), "zeros": make([]byte, len(b)),
		"4 KB added": append(bytes.Clone(b), make([]byte, 4096)...),
	}
}

// badImportBlocks returns blocks that an algorithm does not open: each with one fault in its padding.
func badImportBlocks(p *probe, a driver.Algorithm, pub *rsa.PublicKey, good []byte) map[string][]byte {
	if a != driver.PKCS1v15 {
		return badBlocks(p, a, pub, good)
	}
	list := map[string][]byte{}
	for what, spoil := range map[string]func(em []byte) []byte{
		"a first byte that is not zero": func(em []byte) []byte { em[0] = 1; return em },
		"a block of type 1":             func(em []byte) []byte { em[1] = 1; return em },
		"a block of type 0":             func(em []byte) []byte { em[1] = 0; return em },
		"no end of the padding":         func(em []byte) []byte { em[len(em)-33] = 9; return em },
		"7 bytes of padding":            func(em []byte) []byte { em[9] = 0; return em },
		"no padding":                    func(em []byte) []byte { em[2] = 0; return em },
		"a key one byte short":          func(em []byte) []byte { em[len(em)-33], em[len(em)-32] = 9, 0; return em },
		"a key of no bytes":             func(em []byte) []byte { em[len(em)-33], em[len(em)-1] = 9, 0; return em },
		"a key of 248 bytes":            func(em []byte) []byte { em[10] = 0; return em },
	} {
		em := bytes.Repeat([]byte{9}, pub.Size()) // padding and key hold no zero
		em[0], em[1], em[len(em)-33] = 0, 2, 0
		list[what] = rawRSA(pub, spoil(em)) // as a number: a first byte of 1 stays below the modulus
	}
	return list
}

func (s *suite) checkImportArguments(p *probe) {
	with, pub := s.wrappingKey(p)
	k := s.importKinds()[0]
	m := mustMaterial(p, k)
	a := s.desc.GetImportAlgorithms()[0]
	list := m.wrap(p, a, pub)
	for what, c := range map[string]struct {
		codes  []driver.Code
		change func(*driver.ImportKeyRequest)
	}{
		"no material": {only(driver.InvalidArgument, driver.BadMaterial), func(r *driver.ImportKeyRequest) { r.EncryptedMaterial = nil }},
		"no identity": {only(driver.InvalidArgument), func(r *driver.ImportKeyRequest) { r.Key = nil }},
		"no wrapping key": {
			only(driver.InvalidArgument, driver.SealInvalid),
			func(r *driver.ImportKeyRequest) { r.WrappingKey, r.SealedWrappingKey = nil, nil },
		},
		"a damaged wrapping key": {only(driver.SealInvalid), func(r *driver.ImportKeyRequest) {
			r.SealedWrappingKey = bytes.Clone(r.SealedWrappingKey)
			r.SealedWrappingKey[len(r.SealedWrappingKey)/2] ^= 1
		}},
		"another wrapping key's identity": {only(driver.SealInvalid), func(r *driver.ImportKeyRequest) {
			r.WrappingKey = changed(r.WrappingKey, func(id *driver.KeyIdentity) { id.Version++ })
		}},
		"a wrapping key that is for signing": {only(driver.InvalidArgument, driver.SealInvalid), func(r *driver.ImportKeyRequest) {
			r.WrappingKey = changed(r.WrappingKey, func(id *driver.KeyIdentity) { id.Usage = driver.SignVerify })
		}},
		"an unknown tenant": {only(driver.TenantUnknown), func(r *driver.ImportKeyRequest) { r.Tenant = s.UnknownTenant }},
	} {
		req := importRequest(s, k.identity(), with, a, list[0])
		c.change(req)
		p.refused(errorOf(s.Driver.ImportKey(p.ctx, req)), c.codes, "import with %s", what)
	}
	notForImport := kind{with.id.GetSpec(), driver.SignVerify}.identity()
	_, err := s.Driver.MakeWrappingKey(p.ctx, &driver.MakeWrappingKeyRequest{Tenant: s.Tenant, Key: notForImport})
	p.refused(err, only(driver.InvalidArgument), "make a wrapping key with usage %s", driver.SignVerify)
}

func (s *suite) checkImportNotAnnounced(p *probe) {
	for _, a := range append(slices.Clone(importAlgorithms), 0, driver.AESGCM, 120) {
		if slices.Contains(s.desc.GetImportAlgorithms(), a) {
			continue
		}
		with := &testKey{id: kind{driver.RSA2048, driver.Unwrap}.identity(), sealed: &driver.SealedKey{Sealed: []byte("none")}}
		if len(s.wrappingKinds()) > 0 {
			with, _ = s.wrappingKey(p)
		}
		k := s.kinds()[0]
		req := importRequest(s, k.identity(), with, a, &wrapped{blob: make([]byte, 256)})
		if !driver.SpecOf(k.spec).Symmetric() && !wholeBlob(a) {
			req.EncryptedPrivateKey = make([]byte, 256)
		}
		_, err := s.Driver.ImportKey(p.ctx, req)
		codes := only(driver.Unsupported)
		if a == 0 {
			codes = only(driver.Unsupported, driver.InvalidArgument)
		}
		p.refused(err, codes, "import with %s, which describe does not announce", a)
	}
}
