package drivertest

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/driverv1"
)

// kind is a key spec with a usage, as a capability announces it.
type kind struct {
	spec  driver.KeySpec
	usage driver.KeyUsage
}

func (k kind) String() string { return k.spec.String() + " for " + k.usage.String() }

// decryptsRSA reports RSA keys that decrypt; the other keys for ENCRYPT_DECRYPT are symmetric.
func (k kind) decryptsRSA() bool { return isRSA(k.spec) && k.usage == driver.EncryptDecrypt }

// encrypts reports symmetric keys that encrypt.
func (k kind) encrypts() bool { return k.usage == driver.EncryptDecrypt && !isRSA(k.spec) }

// is returns a test for kinds of a usage.
func is(usage driver.KeyUsage) func(kind) bool {
	return func(k kind) bool { return k.usage == usage }
}

// identity returns a new key identity of the kind.
func (k kind) identity() *driver.KeyIdentity {
	id := make([]byte, driver.KeyIDSize)
	rand.Read(id)
	return &driver.KeyIdentity{KeyId: id, Version: 1, Spec: k.spec, Usage: k.usage}
}

// testKey is a key that the driver generated or imported.
type testKey struct {
	id     *driver.KeyIdentity
	sealed *driver.SealedKey
}

// op returns an operation on the key.
func (k *testKey) op(kind driver.OpKind, set func(*driver.Op)) *driver.Op {
	op := &driver.Op{Kind: kind, Key: k.id, Sealed: k.sealed.GetSealed()}
	set(op)
	return op
}

// shared returns the key of a kind that all checks share, because a device may take seconds to generate an RSA key.
func (s *suite) shared(ctx context.Context, k kind) (*testKey, error) {
	s.mu.Lock()
	if s.keys[k] == nil {
		s.keys[k] = sync.OnceValues(func() (*testKey, error) { return s.make(ctx, k) })
	}
	made := s.keys[k]
	s.mu.Unlock()
	return made()
}

func (s *suite) make(ctx context.Context, k kind) (key *testKey, err error) {
	defer recovered(&err)
	key = &testKey{id: k.identity()}
	if k.usage == driver.Unwrap {
		key.sealed, err = s.Driver.MakeWrappingKey(ctx, &driver.MakeWrappingKeyRequest{Tenant: s.Tenant, Key: key.id})
	} else {
		key.sealed, err = s.Driver.MakeKey(ctx, &driver.MakeKeyRequest{Tenant: s.Tenant, Key: key.id})
	}
	if err == nil {
		s.mu.Lock()
		s.publics[string(key.id.GetKeyId())] = key.sealed.GetPublicKey()
		s.mu.Unlock()
	}
	return key, err
}

func (s *suite) mustShare(p *probe, k kind) *testKey {
	key, err := s.shared(p.ctx, k)
	p.must(err, "make %s", k)
	return key
}

func (s *suite) mustMake(p *probe, k kind) *testKey {
	key, err := s.make(p.ctx, k)
	p.must(err, "make %s", k)
	return key
}

// makeKeysAhead makes all shared keys while the first checks run.
func (s *suite) makeKeysAhead(ctx context.Context) *sync.WaitGroup {
	kinds := byCost(append(s.kinds(), s.wrappingKinds()...))
	slices.Reverse(kinds) // the slowest first
	turns := make(chan struct{}, 2)
	wg := new(sync.WaitGroup)
	for _, k := range kinds {
		wg.Go(func() {
			turns <- struct{}{}
			defer func() { <-turns }()
			ctx, cancel := context.WithTimeout(ctx, s.Timeout)
			defer cancel()
			_, _ = s.shared(ctx, k) // the checks that use the key report the error
		})
	}
	return wg
}

// cost orders specs by how long their keys take to make.
func cost(spec driver.KeySpec) driver.KeySpec {
	if isRSA(spec) {
		return 100 + spec
	}
	return 0
}

// kinds returns what Describe announces, without duplicates, the fastest to make first.
func (s *suite) kinds() []kind {
	var list []kind
	for _, c := range s.desc.GetKeys() {
		if k := (kind{c.GetSpec(), c.GetUsage()}); !slices.Contains(list, k) {
			list = append(list, k)
		}
	}
	return byCost(list)
}

// wrappingKinds does it for keys that open imports.
func (s *suite) wrappingKinds() []kind {
	var list []kind
	for _, spec := range s.desc.GetWrappingSpecs() {
		list = append(list, kind{spec, driver.Unwrap})
	}
	return byCost(list)
}

// byCost sorts kinds by how long their keys take to make.
func byCost(kinds []kind) []kind {
	slices.SortStableFunc(kinds, func(a, b kind) int { return int(cost(a.spec) - cost(b.spec)) })
	return kinds
}

// with returns the announced kinds of a usage. It ends the check if there is none.
func (s *suite) with(p *probe, usage driver.KeyUsage) []kind {
	list := slices.DeleteFunc(s.kinds(), func(k kind) bool { return k.usage != usage })
	p.skipIf(len(list) == 0, "describe announces no key for %s", usage)
	return list
}

func (s *suite) algorithms(k kind) []driver.Algorithm {
	var list []driver.Algorithm
	for _, c := range s.desc.GetKeys() {
		if c.GetSpec() == k.spec && c.GetUsage() == k.usage {
			list = append(list, c.GetAlgorithms()...)
		}
	}
	return list
}

// samples returns one announced kind of each usage, the fastest to make.
func (s *suite) samples() []kind {
	return firstOf(s.kinds(), is(driver.EncryptDecrypt), is(driver.SignVerify), is(driver.GenerateVerifyMAC), is(driver.KeyAgreement))
}

// firstOf returns for each test the first kind that passes it.
func firstOf(kinds []kind, tests ...func(kind) bool) (list []kind) {
	for _, passes := range tests {
		if i := slices.IndexFunc(kinds, passes); i >= 0 {
			list = append(list, kinds[i])
		}
	}
	return list
}

// ciphers returns the announced kinds of symmetric keys that encrypt. It ends the check if there is none.
func (s *suite) ciphers(p *probe) []kind {
	list := slices.DeleteFunc(s.with(p, driver.EncryptDecrypt), kind.decryptsRSA)
	p.skipIf(len(list) == 0, "describe announces no symmetric key for %s", driver.EncryptDecrypt)
	return list
}

// exercise runs the simplest operation of a key.
func (s *suite) exercise(ctx context.Context, tenant string, id *driver.KeyIdentity, sealed []byte) error {
	op, err := s.plainest(id)
	if err != nil {
		return err
	}
	op.Key, op.Sealed = id, sealed
	return errorOf(s.Driver.Execute(ctx, tenant, op))
}

// use is exercise for the tenant under test.
func (s *suite) use(p *probe, key *testKey) error {
	return s.exercise(p.ctx, s.Tenant, key.id, key.sealed.GetSealed())
}

// plainest returns the simplest operation of a key, without the key.
func (s *suite) plainest(id *driver.KeyIdentity) (*driver.Op, error) {
	k := kind{id.GetSpec(), id.GetUsage()}
	op := &driver.Op{Data: []byte(marker)}
	if algorithms := s.algorithms(k); len(algorithms) > 0 {
		op.Algorithm = algorithms[0]
	}
	var err error
	switch {
	case k.decryptsRSA():
		op.Kind = driver.DecryptRSA
		op.Data, err = s.blockFor(id, op.GetAlgorithm())
	case k.encrypts():
		op.Kind, op.Algorithm = driver.Encrypt, 0
	case k.usage == driver.SignVerify:
		op.Kind, op.Data = driver.Sign, make([]byte, digestSize(op.GetAlgorithm()))
	case k.usage == driver.GenerateVerifyMAC:
		op.Kind = driver.MAC
	case k.usage == driver.KeyAgreement:
		op.Kind = driver.Derive
		var other *peer
		if other, err = newPeer(k.spec); err == nil {
			op.Data = other.spki
		}
	default:
		err = fmt.Errorf("no operation is for %s", k)
	}
	return op, err
}

// blockFor encrypts the marker for an RSA key that the driver generated, also if id has another usage. For an unknown key or a key
// of another size, it returns zeros of the spec's block length.
func (s *suite) blockFor(id *driver.KeyIdentity, a driver.Algorithm) ([]byte, error) {
	s.mu.Lock()
	spki := s.publics[string(id.GetKeyId())]
	s.mu.Unlock()
	if pub, err := publicOf[*rsa.PublicKey](spki); err == nil && pub.N.BitLen() == driver.SpecOf(id.GetSpec()).Bits {
		return encryptRSA(a, pub, []byte(marker))
	}
	return make([]byte, driver.SpecOf(id.GetSpec()).Size()), nil
}

func isRSA(spec driver.KeySpec) bool { return driver.SpecOf(spec).Family == driver.RSA }

var keyChecks = []check{
	{"keys/make", (*suite).checkMake},
	{"keys/not-announced", (*suite).checkNotAnnounced},
}

// checkMake makes a key of every announced kind and checks the answer.
func (s *suite) checkMake(p *probe) {
	for _, k := range append(s.kinds(), s.wrappingKinds()...) {
		key := s.mustShare(p, k)
		s.checkSealed(p, k, key.sealed)
		p.errorIf(len(key.sealed.GetCheckValue()) > 0, "%s: a generated key has a check value", k)
		if k.usage != driver.Unwrap {
			p.should(s.use(p, key), "%s does not work", k)
		}
	}
}

// checkSealed checks the contract's rules for every sealed key.
func (s *suite) checkSealed(p *probe, k kind, sealed *driver.SealedKey) {
	n := len(sealed.GetSealed())
	p.errorIf(n < 32 || n > 16<<10, "%s: sealed key of %d bytes", k, n)
	p.errorIf(!slices.Contains(s.tenant.GetRoots(), sealed.GetRoot()),
		"%s: sealed under root %d, which the tenant does not have", k, sealed.GetRoot())
	p.errorIf(sealed.GetProtection() != s.desc.GetProtection(),
		"%s: protection %s, describe says %s", k, sealed.GetProtection(), s.desc.GetProtection())
	spec := driver.SpecOf(k.spec)
	if spec.Symmetric() {
		p.errorIf(len(sealed.GetPublicKey()) > 0, "%s: a symmetric key has a public key", k)
		return
	}
	pub, err := parsePublic(sealed.GetPublicKey())
	if err != nil {
		p.Errorf("%s: public key: %v", k, err)
		return
	}
	switch pub := pub.(type) {
	case *rsa.PublicKey:
		p.errorIf(spec.Family != driver.RSA || pub.N.BitLen() != spec.Bits, "%s: public key has %d bits", k, pub.N.BitLen())
	case *ecdsa.PublicKey:
		p.errorIf(pub.Curve != spec.Curve, "%s: public key is on %s", k, pub.Curve.Params().Name)
	case *secp256k1.PublicKey:
		p.errorIf(k.spec != driver.Secp256k1, "%s: public key is on secp256k1", k)
	default:
		p.Errorf("%s: public key is a %T", k, pub)
	}
}

// checkNotAnnounced requests every kind of key that Describe does not announce.
func (s *suite) checkNotAnnounced(p *probe) {
	announced := s.kinds()
	for number, name := range driverv1.KeySpec_name {
		for _, usage := range []driver.KeyUsage{driver.EncryptDecrypt, driver.SignVerify, driver.GenerateVerifyMAC, driver.KeyAgreement} {
			k := kind{driver.KeySpec(number), usage}
			if number == 0 || slices.Contains(announced, k) {
				continue
			}
			_, err := s.make(p.ctx, k)
			p.refused(err, only(driver.Unsupported), "make %s, which describe does not announce", k)
			p.errorIf(err != nil && !strings.Contains(err.Error(), name) && !strings.Contains(err.Error(), usage.String()),
				"make %s: refusal names neither %s nor %s: %v", k, name, usage, err)
		}
		wrapping := kind{driver.KeySpec(number), driver.Unwrap}
		if number == 0 || slices.Contains(s.desc.GetWrappingSpecs(), wrapping.spec) {
			continue
		}
		p.refused(errorOf(s.make(p.ctx, wrapping)), only(driver.Unsupported), "make a wrapping key %s, which describe does not announce", name)
	}
	unknown := kind{driver.KeySpec(120), driver.EncryptDecrypt}
	p.refused(errorOf(s.make(p.ctx, unknown)), only(driver.Unsupported, driver.InvalidArgument), "make a key of an unknown spec")
}
