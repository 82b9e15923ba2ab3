package drivertest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"slices"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/keyside/keyside/plugins/driver"
)

var signChecks = []check{
	{"sign/verifies", (*suite).checkSignatures},
	{"sign/keys-differ", (*suite).checkSigningKeysDiffer},
	{"sign/arguments", (*suite).checkSignArguments},
	{"sign/audit", (*suite).checkAuditSign},
	{"derive/agrees", (*suite).checkDerive},
}

func digestSize(a driver.Algorithm) int {
	if h := driver.HashOf(a); h != 0 {
		return h.Size()
	}
	return 32
}

func digest(a driver.Algorithm, message string) []byte {
	h := driver.HashOf(a).New()
	h.Write([]byte(message))
	return h.Sum(nil)
}

// verify verifies a signature with Go's cryptography.
func verify(spki []byte, a driver.Algorithm, digest, signature []byte) error {
	parsed, err := parsePublic(spki)
	if err != nil {
		return err
	}
	switch pub := parsed.(type) {
	case *rsa.PublicKey:
		switch a {
		case driver.PSSSHA256, driver.PSSSHA384, driver.PSSSHA512:
			return rsa.VerifyPSS(pub, driver.HashOf(a), digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.VerifyPKCS1v15(pub, driver.HashOf(a), digest, signature)
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest, signature) {
			return errors.New("signature does not verify")
		}
		return nil
	case *secp256k1.PublicKey:
		if parsed, err := secpecdsa.ParseDERSignature(signature); err != nil || !parsed.Verify(digest, pub) {
			return errors.New("signature does not verify")
		}
		return nil
	}
	return errors.New("public key of an unknown type")
}

func signOp(key *testKey, a driver.Algorithm, digest []byte) *driver.Op {
	return key.op(driver.Sign, func(op *driver.Op) { op.Algorithm, op.Data = a, digest })
}

func (s *suite) checkSignatures(p *probe) {
	for _, k := range s.with(p, driver.SignVerify) {
		key := s.mustShare(p, k)
		for _, a := range s.algorithms(k) {
			d := digest(a, marker)
			signature := s.mustDo(p, signOp(key, a, bytes.Clone(d))).GetData()
			p.should(verify(key.sealed.GetPublicKey(), a, d, signature), "%s with %s", k, a)
		}
	}
}

func (s *suite) checkSigningKeysDiffer(p *probe) {
	kinds := slices.DeleteFunc(s.with(p, driver.SignVerify), func(k kind) bool { return isRSA(k.spec) })
	p.skipIf(len(kinds) == 0, "describe announces no elliptic curve; making two RSA keys would show little for the time")
	k := kinds[0]
	one, two := s.mustShare(p, k), s.mustMake(p, k)
	p.errorIf(bytes.Equal(one.sealed.GetPublicKey(), two.sealed.GetPublicKey()), "%s: the same key twice", k)
}

func (s *suite) checkSignArguments(p *probe) {
	bad := only(driver.InvalidArgument)
	for _, k := range s.with(p, driver.SignVerify) {
		key, announced := s.mustShare(p, k), s.algorithms(k)
		for _, n := range []int{0, 1, digestSize(announced[0]) - 1, digestSize(announced[0]) + 1} {
			s.refuse(p, signOp(key, announced[0], make([]byte, n)), bad, "%s: sign a digest of %d bytes with %s", k, n, announced[0])
		}
		s.refuseOthers(p, announced, k.String()+": sign", func(a driver.Algorithm) *driver.Op {
			return signOp(key, a, make([]byte, digestSize(a)))
		})
	}
}

func (s *suite) checkAuditSign(p *probe) {
	sum := sha256.Sum256([]byte(marker))
	signature := s.mustDo(p, &driver.Op{Kind: driver.AuditSign, Data: sum[:]}).GetData()
	p.should(verify(s.tenant.GetAuditPublicKey(), driver.ECDSASHA256, sum[:], signature), "audit signature")
	for _, n := range []int{0, 20, 31, 33, 64} {
		s.refuse(p, &driver.Op{Kind: driver.AuditSign, Data: make([]byte, n)}, only(driver.InvalidArgument), "audit signature of %d bytes", n)
	}
}

func (s *suite) checkDerive(p *probe) {
	for _, k := range s.with(p, driver.KeyAgreement) {
		key := s.mustShare(p, k)
		for range 8 {
			s.checkAgreement(p, key)
		}
		s.checkBadPeers(p, key)
	}
}

func deriveOp(key *testKey, peer []byte) *driver.Op {
	return key.op(driver.Derive, func(op *driver.Op) { op.Algorithm, op.Data = driver.ECDH, peer })
}

// checkAgreement compares the secret that the driver shares with a new peer with the peer's own.
func (s *suite) checkAgreement(p *probe, key *testKey) {
	other, err := newPeer(key.id.GetSpec())
	p.must(err, "make a peer")
	want, err := other.agree(key.sealed.GetPublicKey())
	p.must(err, "agree")
	p.equal(s.secret(s.mustDo(p, deriveOp(key, other.spki)).GetData()), want, key.id.GetSpec().String()+": shared secret")
}

// checkBadPeers sends public keys that are not on the key's curve.
func (s *suite) checkBadPeers(p *probe, key *testKey) {
	good, err := newPeer(key.id.GetSpec())
	p.must(err, "make a peer")
	elsewhere, err := newPeer(otherSpec(key.id.GetSpec()))
	p.must(err, "make a peer")
	spki, point := good.spki, len(good.spki)-2*good.field
	off := bytes.Clone(spki)
	off[len(off)-1] ^= 1 // not on the curve any more
	zero := bytes.Clone(spki)
	clear(zero[point:])
	for what, data := range map[string][]byte{
		"nothing": nil, "no key": []byte("x"), "another curve's": elsewhere.spki, "a point off the curve": off, "the point 0, 0": zero,
		"the bare point": spki[point-1:], "a byte more": append(bytes.Clone(spki), 0),
	} {
		s.refuse(p, deriveOp(key, data), only(driver.InvalidArgument), "%s: derive with %s", key.id.GetSpec(), what)
	}
	s.refuseOthers(p, []driver.Algorithm{driver.ECDH}, key.id.GetSpec().String()+": derive", func(a driver.Algorithm) *driver.Op {
		return key.op(driver.Derive, func(op *driver.Op) { op.Algorithm, op.Data = a, spki })
	})
}

func otherSpec(spec driver.KeySpec) driver.KeySpec {
	if spec == driver.ECP256 {
		return driver.Secp256k1 // has the same length, so it is the easiest to confuse
	}
	return driver.ECP256
}
