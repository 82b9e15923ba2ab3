package soft

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"slices"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// Execute implements driver.Driver.
func (d *Driver) Execute(ctx context.Context, tenantName string, op *driver.Op) (*driver.Result, error) {
	if err := d.gate.enter(); err != nil {
		return nil, err
	}
	defer d.gate.leave()
	start := time.Now()
	res, err := d.execute(ctx, tenantName, op, start)
	d.stats.record(op.GetKind(), time.Since(start), err)
	return res, err
}

func (d *Driver) execute(ctx context.Context, tenantName string, op *driver.Op, start time.Time) (*driver.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, driver.AsError(err)
	}
	t, err := d.tenants.get(tenantName)
	if err != nil {
		return nil, err
	}
	run, err := plan(op)
	if err != nil {
		return nil, err
	}
	var key *workingKey
	if run.usage != 0 {
		if key, err = d.working(t, op.GetKey(), op.GetSealed()); err != nil {
			return nil, err
		}
	}
	timings, opened := driver.TimingsFrom(ctx), time.Now()
	timings.Session = opened.Sub(start)
	defer func() { timings.HSM = time.Since(opened) }()
	return run.do(t, key, op)
}

// operation is one kind: the usage its key must have (none: no key), and what it does once everything is checked.
type operation struct {
	usage driver.KeyUsage
	check func(*driver.Op) error
	do    func(*tenant, *workingKey, *driver.Op) (*driver.Result, error)
}

var operations = map[driver.OpKind]operation{
	driver.Encrypt:    {driver.EncryptDecrypt, checkData, encrypt},
	driver.Decrypt:    {driver.EncryptDecrypt, checkCiphertext, decrypt},
	driver.DataKey:    {driver.EncryptDecrypt, checkDataKey, dataKey},
	driver.DecryptRSA: {driver.EncryptDecrypt, checkData, decryptBlock},
	driver.Sign:       {driver.SignVerify, checkDigest, sign},
	driver.MAC:        {driver.GenerateVerifyMAC, checkData, mac},
	driver.VerifyMAC:  {driver.GenerateVerifyMAC, checkData, verifyMAC},
	driver.Derive:     {driver.KeyAgreement, checkData, derive},
	driver.Random:     {0, checkRandom, random},
	driver.TenantMAC:  {0, checkData, tenantMAC},
	driver.AuditSign:  {0, checkAuditDigest, auditSign},
}

// plan finds the operation and checks everything about the request that needs no key.
func plan(op *driver.Op) (operation, error) {
	run, known := operations[op.GetKind()]
	if !known {
		return run, driver.Errorf(driver.Unsupported, "operation %s", op.GetKind())
	}
	if run.usage != 0 {
		if err := checkKey(op, run.usage); err != nil {
			return run, err
		}
	} else if op.GetKey() != nil || len(op.GetSealed()) > 0 {
		return run, driver.Errorf(driver.InvalidArgument, "%s takes no key", op.GetKind())
	}
	return run, run.check(op)
}

func checkKey(op *driver.Op, usage driver.KeyUsage) error {
	if err := driver.CheckIdentity(op.GetKey()); err != nil {
		return err
	}
	if len(op.GetSealed()) == 0 {
		return driver.Errorf(driver.InvalidArgument, "sealed key missing")
	}
	if op.GetKey().GetUsage() != usage {
		return driver.Errorf(driver.InvalidArgument, "%s needs a key for %s", op.GetKind(), usage)
	}
	kind, err := kindOf(op.GetKey())
	if err != nil {
		return err
	}
	a := op.GetAlgorithm()
	if usage == driver.EncryptDecrypt {
		if opensBlocks := op.GetKind() == driver.DecryptRSA; opensBlocks != (driver.SpecOf(kind.GetSpec()).Family == driver.RSA) {
			return driver.Errorf(driver.InvalidArgument, "%s is not for %s keys", op.GetKind(), kind.GetSpec())
		} else if a == 0 && !opensBlocks {
			return nil // there is only one
		}
	}
	if !slices.Contains(kind.GetAlgorithms(), a) {
		return driver.Errorf(driver.InvalidArgument, "algorithm %s is not for %s keys", a, kind.GetSpec())
	}
	return nil
}

func checkData(op *driver.Op) error {
	if len(op.GetData()) > maxData || len(op.GetAad()) > maxData {
		return driver.Errorf(driver.InvalidArgument, "data longer than %d bytes", maxData)
	}
	return nil
}

func checkCiphertext(op *driver.Op) error {
	if len(op.GetData()) > maxData+driver.GCMTagSize || len(op.GetAad()) > maxData {
		return driver.Errorf(driver.InvalidArgument, "data longer than %d bytes", maxData+driver.GCMTagSize)
	}
	return nil
}

func checkDataKey(op *driver.Op) error {
	if op.GetLength() == 0 || op.GetLength() > maxDataKey {
		return driver.Errorf(driver.InvalidArgument, "a data key has 1 to %d bytes", maxDataKey)
	}
	return checkData(op)
}

func checkRandom(op *driver.Op) error {
	if op.GetLength() == 0 || op.GetLength() > maxRandom {
		return driver.Errorf(driver.InvalidArgument, "random data has 1 to %d bytes", maxRandom)
	}
	return nil
}

func checkDigest(op *driver.Op) error {
	if n := driver.HashOf(op.GetAlgorithm()).Size(); len(op.GetData()) != n {
		return driver.Errorf(driver.InvalidArgument, "digest for %s has %d bytes", op.GetAlgorithm(), n)
	}
	return nil
}

func checkAuditDigest(op *driver.Op) error {
	if len(op.GetData()) != 32 {
		return driver.Errorf(driver.InvalidArgument, "digest has 32 bytes")
	}
	return nil
}

func encrypt(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	out := key.gcm.Seal(nil, nil, op.GetData(), op.GetAad())
	return &driver.Result{Iv: out[:driver.GCMIVSize:driver.GCMIVSize], Data: out[driver.GCMIVSize:]}, nil
}

func decrypt(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	bad := driver.BadCiphertext
	if len(op.GetIv()) != driver.GCMIVSize || len(op.GetData()) < driver.GCMTagSize {
		return nil, driver.Errorf(bad, "ciphertext does not decrypt")
	}
	whole := make([]byte, 0, driver.GCMIVSize+len(op.GetData()))
	whole = append(append(whole, op.GetIv()...), op.GetData()...)
	plain, err := key.gcm.Open(whole[:0], nil, whole, op.GetAad())
	if err != nil {
		return nil, driver.Errorf(bad, "ciphertext does not decrypt")
	}
	return &driver.Result{Data: plain}, nil
}

// decryptBlock opens an RSA block, with one answer to every fault of it.
func decryptBlock(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	plain, err := decryptOAEP(key.rsa, op.GetAlgorithm(), op.GetData())
	if err != nil {
		return nil, driver.Errorf(driver.BadCiphertext, "ciphertext does not decrypt")
	}
	return &driver.Result{Data: plain}, nil
}

func dataKey(t *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	plain := make([]byte, op.GetLength())
	rand.Read(plain)
	res, err := encrypt(t, key, &driver.Op{Data: plain, Aad: op.GetAad()})
	if err != nil {
		return nil, err
	}
	res.Plaintext = plain
	return res, nil
}

func sign(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	signature, err := key.sign(op.GetAlgorithm(), op.GetData())
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "sign: %w", err)
	}
	return &driver.Result{Data: signature}, nil
}

func mac(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	m := key.mac()
	m.Write(op.GetData())
	return &driver.Result{Data: m.Sum(nil)}, nil
}

func verifyMAC(t *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	right, err := mac(t, key, op)
	if err != nil {
		return nil, err
	}
	return &driver.Result{Valid: hmac.Equal(right.GetData(), op.GetSignature())}, nil
}

func derive(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	secret, err := key.agree(op.GetData())
	if err != nil {
		return nil, err
	}
	return &driver.Result{Data: secret}, nil
}

func random(_ *tenant, _ *workingKey, op *driver.Op) (*driver.Result, error) {
	b := make([]byte, op.GetLength())
	rand.Read(b)
	return &driver.Result{Data: b}, nil
}

func tenantMAC(t *tenant, _ *workingKey, op *driver.Op) (*driver.Result, error) {
	return &driver.Result{Data: t.authenticate(driver.TenantMACLabel, op.GetData())}, nil
}

func auditSign(t *tenant, _ *workingKey, op *driver.Op) (*driver.Result, error) {
	key := workingKey{ec: t.audit}
	signature, err := key.sign(driver.ECDSASHA256, op.GetData())
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "sign: %w", err)
	}
	return &driver.Result{Data: signature}, nil
}
