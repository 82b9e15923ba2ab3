package drivertest

import (
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

var argumentChecks = []check{
	{"arguments/operations", (*suite).checkOpArguments},
	{"arguments/identity", (*suite).checkIdentityArguments},
	{"arguments/usage", (*suite).checkUsage},
}

// checkOpArguments sends operations with fields that are missing or out of range.
func (s *suite) checkOpArguments(p *probe) {
	bad := only(driver.InvalidArgument, driver.Unsupported)
	for _, number := range []driver.OpKind{0, driver.LastOp + 1, 99, 255} {
		s.refuse(p, &driver.Op{Kind: number, Data: []byte("x")}, bad, "operation %d", number)
	}
	for number := range keyed {
		op := &driver.Op{Kind: number, Data: make([]byte, 32), Iv: make([]byte, driver.GCMIVSize), Length: 16}
		s.refuse(p, op, bad, "%s without a key", number)
	}
	for _, k := range s.samples() {
		key := s.mustShare(p, k)
		op, err := s.plainest(key.id)
		p.must(err, "an operation of %s", k)
		op.Sealed = key.sealed.GetSealed()
		s.refuse(p, op, bad, "%s without its identity", k)
		p.refused(s.exercise(p.ctx, s.Tenant, key.id, nil), only(driver.InvalidArgument, driver.SealInvalid), "%s without its blob", k)
	}
}

// checkIdentityArguments sends incomplete identities.
func (s *suite) checkIdentityArguments(p *probe) {
	bad := only(driver.InvalidArgument)
	for _, k := range s.samples() {
		key := s.mustShare(p, k)
		for what, id := range map[string]*driver.KeyIdentity{
			"no key id":      changed(key.id, func(id *driver.KeyIdentity) { id.KeyId = nil }),
			"a short key id": changed(key.id, func(id *driver.KeyIdentity) { id.KeyId = id.KeyId[:15] }),
			"a long key id":  changed(key.id, func(id *driver.KeyIdentity) { id.KeyId = append(id.KeyId, 0) }),
			"version 0":      changed(key.id, func(id *driver.KeyIdentity) { id.Version = 0 }),
			"no spec":        changed(key.id, func(id *driver.KeyIdentity) { id.Spec = 0 }),
			"no usage":       changed(key.id, func(id *driver.KeyIdentity) { id.Usage = 0 }),
		} {
			p.refused(errorOf(s.Driver.MakeKey(p.ctx, &driver.MakeKeyRequest{Tenant: s.Tenant, Key: id})), bad, "make %s with %s", k, what)
			p.refused(s.reseal(p, s.Tenant, id, key.sealed), only(driver.InvalidArgument, driver.Unsupported), "reseal %s with %s", k, what)
			op := &driver.Op{Kind: driver.Encrypt, Key: id, Sealed: key.sealed.GetSealed(), Data: []byte("x")}
			s.refuse(p, op, only(driver.InvalidArgument, driver.Unsupported), "use %s with %s", k, what)
		}
	}
	p.refused(errorOf(s.Driver.MakeKey(p.ctx, &driver.MakeKeyRequest{Tenant: s.Tenant})), bad, "make a key without identity")
}

// keyed has the operations that take a key, each with the kinds of keys that it can use.
var keyed = map[driver.OpKind]func(kind) bool{
	driver.Encrypt: kind.encrypts, driver.Decrypt: kind.encrypts, driver.DataKey: kind.encrypts, driver.DecryptRSA: kind.decryptsRSA,
	driver.Sign: is(driver.SignVerify), driver.MAC: is(driver.GenerateVerifyMAC), driver.VerifyMAC: is(driver.GenerateVerifyMAC),
	driver.Derive: is(driver.KeyAgreement),
}

// checkUsage uses each key for the operations of other usages.
func (s *suite) checkUsage(p *probe) {
	for _, k := range slices.Concat(s.samples(), firstOf(s.wrappingKinds(), is(driver.Unwrap)), firstOf(s.kinds(), kind.decryptsRSA)) {
		key := s.mustShare(p, k)
		size := max(driver.SpecOf(k.spec).Size(), 32) // the length of an RSA block, or of a digest
		for number, fits := range keyed {
			if fits(k) {
				continue
			}
			for _, a := range append([]driver.Algorithm{0}, s.algorithms(k)...) {
				op := key.op(number, func(op *driver.Op) {
					op.Algorithm, op.Data, op.Iv, op.Length = a, make([]byte, size), make([]byte, driver.GCMIVSize), 16
				})
				s.refuse(p, op, only(driver.InvalidArgument, driver.Unsupported), "%s with a key %s", number, k)
			}
		}
	}
}
