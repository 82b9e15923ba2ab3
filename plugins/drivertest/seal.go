package drivertest

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

var sealChecks = []check{
	{"seal/bound-to-identity", (*suite).checkSealIdentity},
	{"seal/bound-to-usage", (*suite).checkSealUsage},
	{"seal/bound-to-tenant", (*suite).checkSealTenant},
	{"seal/swapped", (*suite).checkSealSwapped},
	{"seal/every-byte", (*suite).checkSealBytes},
	{"reseal", (*suite).checkReseal},
	{"destroy", (*suite).checkDestroy},
}

// changed returns the identity after change.
func changed(id *driver.KeyIdentity, change func(*driver.KeyIdentity)) *driver.KeyIdentity {
	c := proto.CloneOf(id)
	change(c)
	return c
}

// checkSealIdentity uses blobs with other identities, before and after the driver has the key live.
func (s *suite) checkSealIdentity(p *probe) {
	for _, k := range s.samples() {
		for _, live := range []bool{false, true} {
			key := s.mustMake(p, k)
			if live {
				p.must(s.use(p, key), "use %s", k)
			}
			for what, id := range map[string]*driver.KeyIdentity{
				"another key id":  changed(key.id, func(id *driver.KeyIdentity) { id.KeyId[15] ^= 1 }),
				"another version": changed(key.id, func(id *driver.KeyIdentity) { id.Version++ }),
			} {
				p.refused(s.exercise(p.ctx, s.Tenant, id, key.sealed.GetSealed()), only(driver.SealInvalid), "use %s with %s (live: %v)", k, what, live)
			}
			for _, other := range s.kinds() {
				if other == k {
					continue
				}
				id := changed(key.id, func(id *driver.KeyIdentity) { id.Spec, id.Usage = other.spec, other.usage })
				p.refused(s.exercise(p.ctx, s.Tenant, id, key.sealed.GetSealed()), only(driver.SealInvalid), "use %s as %s (live: %v)", k, other, live)
			}
			p.must(s.use(p, key), "use %s after all that", k)
		}
	}
}

// checkSealUsage uses each blob with another usage of its spec.
func (s *suite) checkSealUsage(p *probe) {
	all := append(s.kinds(), s.wrappingKinds()...)
	tried := false
	for _, k := range all {
		for _, other := range all {
			if other.spec != k.spec || other.usage == k.usage {
				continue
			}
			tried = true
			key := s.mustShare(p, k)
			id := changed(key.id, func(id *driver.KeyIdentity) { id.Usage = other.usage })
			p.refused(s.useAs(p, id, key), only(driver.SealInvalid), "use %s as one for %s", k, other.usage)
			p.refused(s.reseal(p, s.Tenant, id, key.sealed), only(driver.SealInvalid, driver.Unsupported), "reseal %s as one for %s", k, other.usage)
		}
	}
	p.skipIf(!tried, "describe announces no spec with two usages")
}

// useAs uses a key under another identity. If that is a wrapping key, it imports a key.
func (s *suite) useAs(p *probe, id *driver.KeyIdentity, key *testKey) error {
	if id.GetUsage() != driver.Unwrap {
		return s.use(p, &testKey{id, key.sealed})
	}
	k := s.importKinds()[0]
	m := mustMaterial(p, k)
	a := s.desc.GetImportAlgorithms()[0]
	w := m.wrap(p, a, mustRSAPublic(p, key))
	return errorOf(s.Driver.ImportKey(p.ctx, importRequest(s, k.identity(), &testKey{id, key.sealed}, a, w[0])))
}

func (s *suite) checkSealTenant(p *probe) {
	p.skipIf(s.OtherTenant == "", "the config names one tenant only")
	for _, k := range s.samples() {
		key := s.mustMake(p, k)
		for range 2 { // before and after the key is live for its own tenant
			p.refused(s.exercise(p.ctx, s.OtherTenant, key.id, key.sealed.GetSealed()), only(driver.SealInvalid), "use another tenant's %s", k)
			p.must(s.use(p, key), "use %s", k)
		}
		p.refused(s.reseal(p, s.OtherTenant, key.id, key.sealed), only(driver.SealInvalid, driver.Unsupported), "reseal another tenant's %s", k)
	}
}

func (s *suite) checkSealSwapped(p *probe) {
	for _, k := range s.samples() {
		one, two := s.mustMake(p, k), s.mustMake(p, k)
		for range 2 {
			p.refused(s.use(p, &testKey{one.id, two.sealed}), only(driver.SealInvalid), "%s: first key with the second's blob", k)
			p.refused(s.use(p, &testKey{two.id, one.sealed}), only(driver.SealInvalid), "%s: second key with the first's blob", k)
			p.must(s.use(p, one), "use the first %s", k)
			p.must(s.use(p, two), "use the second %s", k)
		}
	}
}

// checkSealBytes corrupts a blob: each of the first bytes, where the header is, a sample of the others, and its length.
func (s *suite) checkSealBytes(p *probe) {
	for _, k := range s.samples() {
		key := s.mustMake(p, k)
		whole := key.sealed.GetSealed()
		use := func(blob []byte) error { return s.exercise(p.ctx, s.Tenant, key.id, blob) }
		step := max((len(whole)-48)/48, 1)
		for at := 0; at < len(whole); at++ {
			if at >= 48 && at < len(whole)-8 && at%step != 0 {
				continue
			}
			bad := bytes.Clone(whole)
			bad[at] ^= 1 << (at % 8)
			p.refused(use(bad), only(driver.SealInvalid), "%s: blob with a bit of byte %d of %d flipped", k, at, len(whole))
		}
		for _, n := range []int{1, 3, len(whole) / 2, len(whole) - 33, len(whole) - 1} {
			if n = max(n, 1); n < len(whole) {
				p.refused(use(whole[:n:n]), only(driver.SealInvalid), "%s: %d of %d bytes of the blob", k, n, len(whole))
			}
		}
		p.refused(use(append(slices.Clip(whole), 0)), only(driver.SealInvalid), "%s: blob with a byte added", k)
		p.refused(use(bytes.Repeat([]byte{0xff}, len(whole))), only(driver.SealInvalid), "%s: blob of 0xff", k)
		p.refused(use(nil), only(driver.SealInvalid, driver.InvalidArgument), "%s: no blob", k)
		p.must(use(whole), "use %s after all that", k)
	}
}

// reseal drops the new blob.
func (s *suite) reseal(p *probe, tenant string, id *driver.KeyIdentity, sealed *driver.SealedKey) error {
	return errorOf(s.Driver.Reseal(p.ctx, &driver.ResealRequest{Tenant: tenant, Key: id, Sealed: sealed.GetSealed()}))
}

func (s *suite) checkReseal(p *probe) {
	newest := s.tenant.GetRoots()[len(s.tenant.GetRoots())-1]
	for _, k := range s.samples() {
		key := s.mustMake(p, k)
		again, err := s.Driver.Reseal(p.ctx, &driver.ResealRequest{Tenant: s.Tenant, Key: key.id, Sealed: key.sealed.GetSealed()})
		p.skipIf(driver.CodeOf(err) == driver.Unsupported, "the device does not let a sealed key out again: %v", err)
		p.must(err, "reseal %s", k)
		s.checkSealed(p, k, again)
		p.errorIf(again.GetRoot() != newest, "%s: resealed under root %d, newest is %d", k, again.GetRoot(), newest)
		p.equal(again.GetPublicKey(), key.sealed.GetPublicKey(), k.String()+": public key after reseal")
		p.must(s.exercise(p.ctx, s.Tenant, key.id, again.GetSealed()), "use resealed %s", k)
		s.checkSameKey(p, key, &testKey{key.id, again})

		bad := bytes.Clone(key.sealed.GetSealed())
		bad[len(bad)-1] ^= 1
		p.refused(s.reseal(p, s.Tenant, key.id, &driver.SealedKey{Sealed: bad}), only(driver.SealInvalid), "reseal a damaged %s", k)
		p.refused(s.reseal(p, s.Tenant, k.identity(), key.sealed), only(driver.SealInvalid), "reseal %s as another key", k)
	}
}

// checkSameKey checks that two blobs contain the same key.
func (s *suite) checkSameKey(p *probe, one, two *testKey) {
	k := kind{one.id.GetSpec(), one.id.GetUsage()}
	switch {
	case k.encrypts():
		out := s.mustDo(p, encryptOp(one, []byte(marker), nil))
		p.equal(s.mustDo(p, decryptOp(two, out, nil)).GetData(), []byte(marker), "plaintext under the other blob")
	case k.usage == driver.SignVerify:
		a := s.algorithms(k)[0]
		d := digest(a, marker)
		signature := s.mustDo(p, signOp(two, a, d)).GetData()
		p.should(verify(one.sealed.GetPublicKey(), a, d, signature), "signature under the other blob")
	default: // the other operations are deterministic
		op, err := s.plainest(one.id)
		p.must(err, "an operation of %s", k)
		op.Key, op.Sealed = one.id, one.sealed.GetSealed()
		want := s.mustDo(p, op).GetData()
		op.Sealed = two.sealed.GetSealed()
		p.equal(s.mustDo(p, op).GetData(), want, k.String()+": answer under the other blob")
	}
}

func (s *suite) checkDestroy(p *probe) {
	for _, k := range s.samples() {
		key := s.mustMake(p, k)
		p.must(s.use(p, key), "use %s", k)
		for range 3 {
			p.must(s.destroy(p, key), "destroy %s", k)
		}
		// The caller keeps the blob, so the key still works.
		p.must(s.use(p, key), "use %s, whose blob was kept", k)
		never := s.mustMake(p, k)
		p.must(s.destroy(p, never), "destroy %s that was never used", k)
	}
}

func (s *suite) destroy(p *probe, key *testKey) error {
	return s.Driver.DestroyKey(p.ctx, &driver.DestroyKeyRequest{Tenant: s.Tenant, Key: key.id, Sealed: key.sealed.GetSealed()})
}
