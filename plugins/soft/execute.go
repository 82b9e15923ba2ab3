package soft

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
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
	if err := d.checker.Op(op); err != nil {
		return nil, err
	}
	var key *workingKey
	if op.GetKey() != nil {
		if key, err = d.working(t, op.GetKey(), op.GetSealed()); err != nil {
			return nil, err
		}
	}
	timings, opened := driver.TimingsFrom(ctx), time.Now()
	timings.Session = opened.Sub(start)
	defer func() { timings.HSM = time.Since(opened) }()
	return operations[op.GetKind()](t, key, op)
}

// operations run requests that the checker accepted.
var operations = map[driver.OpKind]func(*tenant, *workingKey, *driver.Op) (*driver.Result, error){
	driver.Encrypt:    encrypt,
	driver.Decrypt:    decrypt,
	driver.DataKey:    dataKey,
	driver.DecryptRSA: decryptBlock,
	driver.Sign:       sign,
	driver.MAC:        mac,
	driver.VerifyMAC:  verifyMAC,
	driver.Derive:     derive,
	driver.Random:     random,
	driver.TenantMAC:  tenantMAC,
	driver.AuditSign:  auditSign,
}

func encrypt(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	out := key.gcm.Seal(nil, nil, op.GetData(), op.GetAad())
	return &driver.Result{Iv: out[:driver.GCMIVSize:driver.GCMIVSize], Data: out[driver.GCMIVSize:]}, nil
}

func decrypt(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	whole := make([]byte, 0, driver.GCMIVSize+len(op.GetData()))
	whole = append(append(whole, op.GetIv()...), op.GetData()...)
	plain, err := key.gcm.Open(whole[:0], nil, whole, op.GetAad())
	if err != nil {
		return nil, driver.BadCiphertextError()
	}
	return &driver.Result{Data: plain}, nil
}

// decryptBlock opens an RSA block. Every fault gets the same answer.
func decryptBlock(_ *tenant, key *workingKey, op *driver.Op) (*driver.Result, error) {
	plain, err := decryptOAEP(key.rsa, op.GetAlgorithm(), op.GetData())
	if err != nil {
		return nil, driver.BadCiphertextError()
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
	return sign(t, &workingKey{ec: t.audit}, &driver.Op{Algorithm: driver.ECDSASHA256, Data: op.GetData()})
}
