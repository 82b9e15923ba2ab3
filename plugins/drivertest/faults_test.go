package drivertest_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

// fault is a driver with a fault, and the check that must find it.
type fault struct {
	check  string
	driver *faulty
}

func faults() map[string]fault {
	all := map[string]fault{"none": {"", &faulty{}}}
	for _, some := range []map[string]fault{operationFaults(), asymmetricFaults(), errorFaults(), keyFaults(), importFaults(), describeFaults()} {
		for what, f := range some {
			all[what] = f
		}
	}
	return all
}

// changing makes an after that changes the results of one kind of operation.
func changing(kind driver.OpKind, change func(*driver.Result)) func(*driver.Op, *driver.Result, error) error {
	return func(op *driver.Op, res *driver.Result, err error) error {
		if err == nil && op.GetKind() == kind {
			change(res)
		}
		return err
	}
}

// answering makes an after that puts another error in the place of those with a code.
func answering(code driver.Code, err error) func(*driver.Op, *driver.Result, error) error {
	return func(_ *driver.Op, _ *driver.Result, was error) error {
		if driver.CodeOf(was) == code {
			return err
		}
		return was
	}
}

func operationFaults() map[string]fault {
	var once sync.Once
	var iv []byte
	return map[string]fault{
		"an iv comes twice": {"encrypt/ivs-differ", &faulty{after: changing(driver.Encrypt, func(res *driver.Result) {
			once.Do(func() { iv = res.GetIv() })
			res.Iv = iv
		})}},
		"aad is not authenticated": {"encrypt/bad-ciphertext", &faulty{before: func(tenant string, op *driver.Op) string {
			op.Aad = nil
			return tenant
		}}},
		"the data key is not what is encrypted": {"data-key/round-trip", &faulty{
			after: changing(driver.DataKey, func(res *driver.Result) { res.Plaintext[0] ^= 1 }),
		}},
		"signatures of something else": {"sign/verifies", &faulty{before: func(tenant string, op *driver.Op) string {
			if op.GetKind() == driver.Sign && len(op.GetData()) == 32 {
				clear(op.GetData())
			}
			return tenant
		}}},
		"every mac verifies": {"mac/relations", &faulty{after: changing(driver.VerifyMAC, func(res *driver.Result) { res.Valid = true })}},
		"random bytes repeat": {"random/lengths", &faulty{
			after: changing(driver.Random, func(res *driver.Result) { clear(res.GetData()) }),
		}},
		"one mac for all tenants": {"mac/tenant", &faulty{before: func(tenant string, op *driver.Op) string {
			if op.GetKind() == driver.TenantMAC && tenant == "two" {
				return "one"
			}
			return tenant
		}}},
	}
}

func asymmetricFaults() map[string]fault {
	peer, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	good, _ := x509.MarshalPKIXPublicKey(peer.Public())
	return map[string]fault{
		"another shared secret": {"derive/agrees", &faulty{after: changing(driver.Derive, func(res *driver.Result) { res.Data[0] ^= 1 })}},
		"points off the curve": {"derive/agrees", &faulty{before: func(tenant string, op *driver.Op) string {
			if _, err := x509.ParsePKIXPublicKey(op.GetData()); err != nil && op.GetKind() == driver.Derive {
				op.Data = good
			}
			return tenant
		}}},
		"no fault of blocks": {"", &faulty{also: decrypter}},
		"another plaintext":  {"decrypt-rsa/opens", &faulty{also: decrypter, after: changing(driver.DecryptRSA, func(res *driver.Result) { res.Data = res.GetData()[:1] })}},
		"a block of another length has an answer of its own": {"decrypt-rsa/bad-blocks", &faulty{
			also: decrypter,
			after: func(op *driver.Op, _ *driver.Result, err error) error {
				if op.GetKind() == driver.DecryptRSA && len(op.GetData()) != 256 && driver.CodeOf(err) == driver.BadCiphertext {
					return driver.Errorf(driver.BadCiphertext, "block has %d bytes", len(op.GetData()))
				}
				return err
			},
		}},
		"a padding oracle by a module's code": {"decrypt-rsa/bad-blocks", &faulty{
			also: decrypter,
			after: func(op *driver.Op, _ *driver.Result, err error) error {
				if e := driver.AsError(err); op.GetKind() == driver.DecryptRSA && e.Code == driver.BadCiphertext && op.GetData()[0]&1 == 1 {
					return &driver.Error{Code: e.Code, CKR: "CKR_ENCRYPTED_DATA_INVALID", Function: "C_Decrypt", Message: e.Message}
				}
				return err
			},
		}},
		"any algorithm opens blocks": {"decrypt-rsa/arguments", &faulty{also: decrypter, before: func(tenant string, op *driver.Op) string {
			if op.GetKind() == driver.DecryptRSA && op.GetAlgorithm() != driver.OAEPSHA1 {
				op.Algorithm = driver.OAEPSHA256
			}
			return tenant
		}}},
		"keys for agreement that sign": {"seal/bound-to-usage", signingAgreements(good)},
	}
}

// signingAgreements makes a driver whose keys for agreement answer also when they are to sign.
func signingAgreements(peer []byte) *faulty {
	var made sync.Map // key id → usage
	return &faulty{
		makeKey: func(next driver.Driver, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
			made.Store(string(req.GetKey().GetKeyId()), req.GetKey().GetUsage())
			return next.MakeKey(context.Background(), req)
		},
		before: func(tenant string, op *driver.Op) string {
			if usage, _ := made.Load(string(op.GetKey().GetKeyId())); usage == driver.KeyAgreement && op.GetKind() == driver.Sign {
				op.Kind, op.Algorithm, op.Data = driver.Derive, driver.ECDH, peer
				op.Key.Usage = driver.KeyAgreement
			}
			return tenant
		},
	}
}

func errorFaults() map[string]fault {
	return map[string]fault{
		"a bad tag is a device error": {"encrypt/bad-ciphertext", &faulty{
			after: answering(driver.BadCiphertext, driver.Errorf(driver.Device, "general error")),
		}},
		"errors without a type": {"encrypt/bad-ciphertext", &faulty{after: answering(driver.BadCiphertext, errors.New("bad ciphertext"))}},
		"plaintext in an error": {"encrypt/limits", &faulty{
			after: answering(driver.InvalidArgument, driver.Errorf(driver.InvalidArgument, "too long after plaintext-of-drivertest")),
		}},
		"a panic": {"random/limits", &faulty{before: func(tenant string, op *driver.Op) string {
			if op.GetKind() == driver.Random && op.GetLength() == 0 {
				panic("no length")
			}
			return tenant
		}}},
		"two answers to bad material": {"import/bad-material", &faulty{
			imports: func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
				key, err := next.ImportKey(context.Background(), req)
				if driver.CodeOf(err) == driver.BadMaterial && len(req.GetEncryptedMaterial())%8 != 0 {
					err = driver.Errorf(driver.BadMaterial, "wrong length")
				}
				return key, err
			},
		}},
		"a module's code for bad material": {"import/bad-material", importing(func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
			key, err := next.ImportKey(context.Background(), req)
			if e := driver.AsError(err); driver.CodeOf(err) == driver.BadMaterial && len(req.GetEncryptedPrivateKey())%8 != 0 {
				err = &driver.Error{Code: e.Code, CKR: "CKR_WRAPPED_KEY_LEN_RANGE", Function: "C_UnwrapKey", Message: e.Message}
			}
			return key, err
		})},
		"any material is good enough": {"import/bad-material", importing(func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
			key, err := next.ImportKey(context.Background(), req)
			if driver.CodeOf(err) == driver.BadMaterial {
				return next.MakeKey(context.Background(), &driver.MakeKeyRequest{Tenant: req.GetTenant(), Key: req.GetKey()})
			}
			return key, err
		})},
		"bad material stops an import early": {"import/same-calls", stoppingEarly()},
		"health of the unknown":              {"health", &faulty{health: func(string) error { return nil }}},
	}
}

// stoppingEarly is a driver that reports two calls of its device for each import, but one for bad material.
func stoppingEarly() *faulty {
	var calls atomic.Uint64
	return &faulty{
		imports: func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
			key, err := next.ImportKey(context.Background(), req)
			calls.Add(1)
			if err == nil {
				calls.Add(1)
			}
			return key, err
		},
		status: func(members []*driver.Member) {
			members[0].Latencies = append(slices.Clone(members[0].Latencies), &driver.Latency{Op: "unwrap", Count: calls.Load()})
		},
	}
}

func importing(fn func(driver.Driver, *driver.ImportKeyRequest) (*driver.SealedKey, error)) *faulty {
	return &faulty{imports: fn}
}

// importFaults are those of layouts: what a driver of before them would do.
func importFaults() map[string]fault {
	openssl := func(req *driver.ImportKeyRequest) bool {
		return bytes.Contains(req.GetEncryptedMaterial(), []byte("Salted__")) || bytes.HasPrefix(req.GetEncryptedPrivateKey(), []byte("Salted__"))
	}
	return map[string]fault{
		"openssl's files are not known": {"import/works", importing(func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
			if openssl(req) {
				return nil, driver.Errorf(driver.BadMaterial, "bad")
			}
			return next.ImportKey(context.Background(), req)
		})},
		"openssl's files are said to open in an hsm": {"import/works", importing(func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
			key, err := next.ImportKey(context.Background(), req)
			if err == nil && openssl(req) {
				key.OpenedIn = driver.ProtectionHSM
			}
			return key, err
		})},
		"a block is no key of RSA_AES_KEY_WRAP": {"import/works", importing(func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
			if req.GetAlgorithm() == driver.RSAAESKeyWrapSHA1 && len(req.GetEncryptedMaterial()) == 256 {
				return nil, driver.Errorf(driver.BadMaterial, "bad")
			}
			return next.ImportKey(context.Background(), req)
		})},
		"a check value for each layout": {"import/check-value", importing(func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
			if len(req.GetExpectedCheckValue()) > 0 {
				req = proto.CloneOf(req)
				req.ExpectedCheckValue = nil
			}
			key, err := next.ImportKey(context.Background(), req)
			if err == nil && openssl(req) {
				key.CheckValue[0] ^= 1
			}
			return key, err
		})},
	}
}

// ignoring makes a driver whose seals do not bind what change sets to a constant.
func ignoring(change func(*driver.KeyIdentity)) *faulty {
	reduced := func(id *driver.KeyIdentity) *driver.KeyIdentity {
		if driver.CheckIdentity(id) == nil {
			id = proto.CloneOf(id)
			change(id)
		}
		return id
	}
	return &faulty{
		makeKey: func(next driver.Driver, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
			return next.MakeKey(context.Background(), &driver.MakeKeyRequest{Tenant: req.GetTenant(), Key: reduced(req.GetKey())})
		},
		before: func(tenant string, op *driver.Op) string {
			op.Key = reduced(op.GetKey())
			return tenant
		},
	}
}

func keyFaults() map[string]fault {
	return map[string]fault{
		"a seal not bound to its key id":  {"seal/swapped", ignoring(func(id *driver.KeyIdentity) { clear(id.KeyId) })},
		"a seal not bound to its version": {"seal/bound-to-identity", ignoring(func(id *driver.KeyIdentity) { id.Version = 1 })},
		"a seal not bound to its tenant": {"seal/bound-to-tenant", &faulty{before: func(tenant string, op *driver.Op) string {
			if tenant == "two" {
				return "one"
			}
			return tenant
		}}},
		"a check value that is not checked": {"import/bad-material", &faulty{
			imports: func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
				req = proto.CloneOf(req)
				req.ExpectedCheckValue = nil
				return next.ImportKey(context.Background(), req)
			},
		}},
		"reseal of a damaged blob": {"reseal", &faulty{
			reseal: func(next driver.Driver, req *driver.ResealRequest) (*driver.SealedKey, error) {
				if key, err := next.Reseal(context.Background(), req); err == nil {
					return key, nil
				}
				return next.MakeKey(context.Background(), &driver.MakeKeyRequest{Tenant: req.GetTenant(), Key: req.GetKey()})
			},
		}},
		"another protection than announced": {"keys/make", &faulty{
			makeKey: func(next driver.Driver, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
				key, err := next.MakeKey(context.Background(), req)
				if err == nil {
					key.Protection = driver.ProtectionHSM
				}
				return key, err
			},
		}},
	}
}

func describeFaults() map[string]fault {
	describing := func(change func(*driver.Description)) *faulty { return &faulty{describe: change} }
	return map[string]fault{
		"more is announced than there is": {"keys/make", describing(func(d *driver.Description) {
			more := &driver.Capability{Spec: driver.HMAC512, Usage: driver.GenerateVerifyMAC, Algorithms: []driver.Algorithm{driver.HMACSHA512}}
			d.Keys = append(append([]*driver.Capability(nil), d.GetKeys()...), more)
		})},
		"less is announced than there is": {"keys/not-announced", describing(func(d *driver.Description) { d.Keys = d.GetKeys()[:2] })},
		"limits that are not kept":        {"random/limits", describing(func(d *driver.Description) { d.MaxRandom = 100 })},
		"no workers":                      {"describe/sane", describing(func(d *driver.Description) { d.SlowWorkers = 0 })},
		"an algorithm of another key": {"describe/sane", describing(func(d *driver.Description) {
			d.Keys = append([]*driver.Capability{{Spec: driver.ECP256, Usage: driver.SignVerify, Algorithms: []driver.Algorithm{driver.PSSSHA256}}}, d.GetKeys()...)
		})},
	}
}
