package drivertest

import (
	"github.com/keyside/keyside/plugins/driver"
)

var argumentChecks = []check{
	{"arguments/operations", (*suite).checkOpArguments},
	{"arguments/identity", (*suite).checkIdentityArguments},
	{"arguments/usage", (*suite).checkUsage},
}

// checkOpArguments sends operations with a part missing or out of range.
func (s *suite) checkOpArguments(p *probe) {
	bad := only(driver.InvalidArgument, driver.Unsupported)
	for _, number := range []driver.OpKind{0, 11, 99, 255} {
		_, err := s.do(p.ctx, &driver.Op{Kind: number, Data: []byte("x")})
		p.refused(err, bad, "operation %d", number)
	}
	for _, number := range []driver.OpKind{
		driver.Encrypt, driver.Decrypt, driver.Sign, driver.MAC, driver.VerifyMAC, driver.DataKey, driver.Derive,
	} {
		op := &driver.Op{Kind: number, Data: make([]byte, 32), Iv: make([]byte, driver.GCMIVSize), Length: 16}
		_, err := s.do(p.ctx, op)
		p.refused(err, bad, "%s without a key", number)
	}
	for _, k := range s.samples() {
		key := s.mustShare(p, k)
		op, err := s.plainest(k)
		p.must(err, "an operation of %s", k)
		op.Sealed = key.sealed.GetSealed()
		_, err = s.do(p.ctx, op)
		p.refused(err, bad, "%s without its identity", k)
		p.refused(s.exercise(p.ctx, s.Tenant, key.id, nil), only(driver.InvalidArgument, driver.SealInvalid), "%s without its blob", k)
	}
}

// checkIdentityArguments sends identities that are incomplete.
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
			_, err := s.Driver.MakeKey(p.ctx, &driver.MakeKeyRequest{Tenant: s.Tenant, Key: id})
			p.refused(err, bad, "make %s with %s", k, what)
			_, err = s.Driver.Reseal(p.ctx, &driver.ResealRequest{Tenant: s.Tenant, Key: id, Sealed: key.sealed.GetSealed()})
			p.refused(err, only(driver.InvalidArgument, driver.Unsupported), "reseal %s with %s", k, what)
			op := &driver.Op{Kind: driver.Encrypt, Key: id, Sealed: key.sealed.GetSealed(), Data: []byte("x")}
			_, err = s.do(p.ctx, op)
			p.refused(err, only(driver.InvalidArgument, driver.Unsupported), "use %s with %s", k, what)
		}
	}
	_, err := s.Driver.MakeKey(p.ctx, &driver.MakeKeyRequest{Tenant: s.Tenant})
	p.refused(err, bad, "make a key without identity")
}

// checkUsage uses each key for what it is not for.
func (s *suite) checkUsage(p *probe) {
	ops := map[driver.OpKind]driver.KeyUsage{
		driver.Encrypt: driver.EncryptDecrypt, driver.Decrypt: driver.EncryptDecrypt, driver.DataKey: driver.EncryptDecrypt,
		driver.Sign: driver.SignVerify, driver.MAC: driver.GenerateVerifyMAC, driver.VerifyMAC: driver.GenerateVerifyMAC,
		driver.Derive: driver.KeyAgreement,
	}
	kinds := s.samples()
	if wrapping := s.wrappingKinds(); len(wrapping) > 0 {
		kinds = append(kinds, wrapping[0])
	}
	for _, k := range kinds {
		key := s.mustShare(p, k)
		for number, usage := range ops {
			if usage == k.usage {
				continue
			}
			for _, a := range append([]driver.Algorithm{0}, s.algorithms(k)...) {
				op := key.op(number, func(op *driver.Op) {
					op.Algorithm, op.Data, op.Iv, op.Length = a, make([]byte, 32), make([]byte, driver.GCMIVSize), 16
				})
				_, err := s.do(p.ctx, op)
				p.refused(err, only(driver.InvalidArgument, driver.Unsupported), "%s with a key %s", number, k)
			}
		}
	}
}
