package drivertest

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"maps"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

var importChecks = []check{
	{"import/works", (*suite).checkImport},
	{"import/check-value", (*suite).checkCheckValue},
	{"import/bad-material", (*suite).checkBadMaterial},
	{"import/arguments", (*suite).checkImportArguments},
	{"import/not-announced", (*suite).checkImportNotAnnounced},
}

// wrappingKey returns the cheapest wrapping key and its public half, or ends the check.
func (s *suite) wrappingKey(p *probe) (*testKey, *rsa.PublicKey) {
	kinds := s.wrappingKinds()
	if len(kinds) == 0 {
		p.Skipf("describe announces no wrapping_specs")
	}
	slices.SortFunc(kinds, func(a, b kind) int { return int(cost(a.spec) - cost(b.spec)) })
	key := s.mustShare(p, kinds[0])
	parsed, err := x509.ParsePKIXPublicKey(key.sealed.GetPublicKey())
	p.must(err, "public key of the wrapping key")
	pub, ok := parsed.(*rsa.PublicKey)
	if !ok {
		p.Fatalf("public key of the wrapping key is a %T", parsed)
	}
	return key, pub
}

// importKinds returns what the kit imports: every announced kind that is quick to make in Go, RSA by the smallest of each
// usage. Go cannot write private keys on secp256k1.
func (s *suite) importKinds() []kind {
	smallest := map[driver.KeyUsage]kind{}
	kinds := slices.DeleteFunc(s.kinds(), func(k kind) bool {
		if has, there := smallest[k.usage]; isRSA(k.spec) && (!there || k.spec < has.spec) {
			smallest[k.usage] = k
		}
		return isRSA(k.spec) || k.spec == driver.Secp256k1
	})
	return append(kinds, slices.Collect(maps.Values(smallest))...)
}

func importRequest(s *suite, id *driver.KeyIdentity, with *testKey, a driver.Algorithm, w *wrapped) *driver.ImportKeyRequest {
	return &driver.ImportKeyRequest{
		Tenant: s.Tenant, Key: id, WrappingKey: with.id, SealedWrappingKey: with.sealed.GetSealed(), Algorithm: a,
		EncryptedMaterial: w.blob, EncryptedPrivateKey: w.privateKey,
	}
}

func (s *suite) checkImport(p *probe) {
	with, pub := s.wrappingKey(p)
	for _, k := range s.importKinds() {
		m, err := newMaterial(k)
		p.must(err, "make %s in go", k)
		s.secret(m.raw)
		for _, a := range s.desc.GetImportAlgorithms() {
			w, err := m.wrap(a, pub)
			p.must(err, "wrap %s with %s", k, a)
			key := &testKey{id: k.identity()}
			key.sealed, err = s.Driver.ImportKey(p.ctx, importRequest(s, key.id, with, a, w))
			p.must(err, "import %s with %s", k, a)
			s.checkSealed(p, k, key.sealed)
			want := driver.ProtectionProcess
			if slices.Contains(s.desc.GetOpenedInHsm(), a) {
				want = driver.ProtectionHSM
			}
			if got := key.sealed.GetOpenedIn(); got != want {
				p.Errorf("%s with %s was opened in %s, describe says %s", k, a, got, want)
			}
			m.check(s, p, key)
		}
	}
}

// checkCheckValue checks that one material has one check value whatever carried it, and two have two.
func (s *suite) checkCheckValue(p *probe) {
	with, pub := s.wrappingKey(p)
	for _, k := range s.importKinds() {
		var values [][]byte
		for range 2 {
			m, err := newMaterial(k)
			p.must(err, "make %s in go", k)
			var value []byte
			for _, a := range s.desc.GetImportAlgorithms() {
				w, err := m.wrap(a, pub)
				p.must(err, "wrap %s with %s", k, a)
				req := importRequest(s, k.identity(), with, a, w)
				req.ExpectedCheckValue = value
				sealed, err := s.Driver.ImportKey(p.ctx, req)
				p.must(err, "import %s with %s and the check value of another import of it", k, a)
				if value == nil {
					value = sealed.GetCheckValue()
				}
				p.equal(sealed.GetCheckValue(), value, k.String()+": check value of the same material")
			}
			if len(value) != driver.MACSize {
				p.Errorf("%s: check value of %d bytes", k, len(value))
			}
			values = append(values, value)
		}
		if bytes.Equal(values[0], values[1]) {
			p.Errorf("%s: two materials have one check value", k)
		}
	}
}

// checkBadMaterial sends material with every fault. All of them must look the same from outside: what differs tells an
// attacker how far the decryption went.
func (s *suite) checkBadMaterial(p *probe) {
	with, pub := s.wrappingKey(p)
	var text string
	refuse := func(req *driver.ImportKeyRequest, what string, k kind) {
		_, err := s.Driver.ImportKey(p.ctx, req)
		p.refused(err, only(driver.BadMaterial), "import %s with %s and %s", k, req.GetAlgorithm(), what)
		if err == nil {
			return
		}
		if text == "" {
			text = err.Error()
		}
		if err.Error() != text {
			p.Errorf("bad material has two answers: %q, and for %s %q", text, what, err)
		}
	}
	for _, k := range s.importSamples() {
		m, err := newMaterial(k)
		p.must(err, "make %s in go", k)
		for _, a := range s.desc.GetImportAlgorithms() {
			w, err := m.wrap(a, pub)
			p.must(err, "wrap %s with %s", k, a)
			for what, bad := range w.damaged() {
				refuse(importRequest(s, k.identity(), with, a, bad), what, k)
			}
			for what, wrong := range s.wrongMaterials(p, m) {
				w, err := wrong.wrap(a, pub)
				p.must(err, "wrap %s", what)
				refuse(importRequest(s, k.identity(), with, a, w), what, k)
			}
			req := importRequest(s, k.identity(), with, a, w)
			req.ExpectedCheckValue = make([]byte, driver.MACSize)
			refuse(req, "another check value", k)
		}
	}
}

// importSamples returns one symmetric and one asymmetric kind, the cheapest.
func (s *suite) importSamples() []kind {
	var list []kind
	for _, symmetric := range []bool{true, false} {
		for _, k := range s.importKinds() {
			if (symmetricSize(k.spec) > 0) == symmetric {
				list = append(list, k)
				break
			}
		}
	}
	return list
}

// damaged returns the wrapped material with every kind of damage to its bytes.
func (w *wrapped) damaged() map[string]*wrapped {
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	list := map[string]*wrapped{
		"its last bit flipped": {flip(w.blob, len(w.blob)-1), w.privateKey},
		"its middle flipped":   {flip(w.blob, len(w.blob)/2), w.privateKey},
		"its first flipped":    {flip(w.blob, 0), w.privateKey},
		"its last byte cut":    {w.blob[:len(w.blob)-1], w.privateKey},
		"its half":             {w.blob[:len(w.blob)/2], w.privateKey},
		"a byte added":         {append(bytes.Clone(w.blob), 0), w.privateKey},
		"zeros":                {make([]byte, len(w.blob)), w.privateKey},
	}
	if key := w.privateKey; len(key) > 0 {
		list["its private key's last bit flipped"] = &wrapped{w.blob, flip(key, len(key)-1)}
		list["its private key's first flipped"] = &wrapped{w.blob, flip(key, 0)}
		list["its private key cut by 8"] = &wrapped{w.blob, key[:len(key)-8]}
		list["its private key cut by 1"] = &wrapped{w.blob, key[:len(key)-1]}
		list["16 bytes for a private key"] = &wrapped{w.blob, key[:16]}
	}
	return list
}

// wrongMaterials returns material that opens well but is not what its spec says.
func (s *suite) wrongMaterials(p *probe, m *material) map[string]*material {
	if m.spki == nil {
		return map[string]*material{
			"a key one byte short": {kind: m.kind, raw: m.raw[1:]},
			"a key one byte long":  {kind: m.kind, raw: append(bytes.Clone(m.raw), 1)},
			"a key of one byte":    {kind: m.kind, raw: m.raw[:1]},
		}
	}
	list := map[string]*material{
		"no PKCS#8":     {kind: m.kind, raw: []byte("this is no private key at all"), spki: m.spki},
		"half a PKCS#8": {kind: m.kind, raw: m.raw[:len(m.raw)/2], spki: m.spki},
	}
	other := kind{driver.ECP384, m.kind.usage}
	if m.kind.spec == driver.ECP384 {
		other.spec = driver.ECP256
	}
	wrong, err := newMaterial(other)
	p.must(err, "make %s in go", other)
	list["a key of another curve"] = wrong
	return list
}

func (s *suite) checkImportArguments(p *probe) {
	with, pub := s.wrappingKey(p)
	k := s.importKinds()[0]
	m, err := newMaterial(k)
	p.must(err, "make %s in go", k)
	a := s.desc.GetImportAlgorithms()[0]
	w, err := m.wrap(a, pub)
	p.must(err, "wrap %s with %s", k, a)
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
		req := importRequest(s, k.identity(), with, a, w)
		c.change(req)
		_, err := s.Driver.ImportKey(p.ctx, req)
		p.refused(err, c.codes, "import with %s", what)
	}
	notForImport := kind{with.id.GetSpec(), driver.SignVerify}.identity()
	_, err = s.Driver.MakeWrappingKey(p.ctx, &driver.MakeWrappingKeyRequest{Tenant: s.Tenant, Key: notForImport})
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
		if symmetricSize(k.spec) == 0 && !wholeBlob(a) {
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
