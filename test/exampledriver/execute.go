package main

import (
	"context"
	"crypto/hmac"
	"slices"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// usages says which key each operation needs; those without a key are not in it.
var usages = map[driver.OpKind]driver.KeyUsage{
	driver.Encrypt: driver.EncryptDecrypt, driver.Decrypt: driver.EncryptDecrypt, driver.DataKey: driver.EncryptDecrypt,
	driver.Sign: driver.SignVerify, driver.MAC: driver.GenerateVerifyMAC, driver.VerifyMAC: driver.GenerateVerifyMAC,
	driver.Derive: driver.KeyAgreement,
}

// Execute does one operation: check it, get a session, open the key's envelope, do it.
func (d *strongbox) Execute(ctx context.Context, tenant string, op *driver.Op) (res *driver.Result, err error) {
	if err := check(op); err != nil {
		return nil, err
	}
	start, timings := time.Now(), driver.TimingsFrom(ctx)
	err = d.with(ctx, func() error {
		if err := driver.CheckTenant(tenant); err != nil {
			return err
		}
		drawer, err := d.box.drawer(tenant, false)
		if err != nil {
			return err
		}
		var key []byte
		if _, keyed := usages[op.GetKind()]; keyed {
			if key, err = drawer.openEnvelope(op.GetSealed(), label(tenant, op.GetKey())); err != nil {
				return err
			}
			defer clear(key)
		}
		opened := time.Now()
		timings.Session = opened.Sub(start)
		defer func() { timings.HSM = time.Since(opened) }()
		res, err = run(drawer, key, op)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (d *strongbox) anyDrawer(tenant string) (*drawer, error) {
	if tenant != "" {
		return d.box.drawer(tenant, false)
	}
	d.box.mu.Lock()
	defer d.box.mu.Unlock()
	for _, drawer := range d.box.Drawers {
		return drawer, nil
	}
	return nil, errNoDrawer
}

// check refuses what can be refused without the key.
func check(op *driver.Op) error {
	if usage, keyed := usages[op.GetKind()]; keyed {
		if err := driver.CheckIdentity(op.GetKey()); err != nil {
			return err
		}
		if op.GetKey().GetUsage() != usage {
			return driver.Errorf(driver.InvalidArgument, "%s needs a key for %s", op.GetKind(), usage)
		}
		c, err := capability(op.GetKey())
		if err != nil {
			return err
		}
		defaulted := op.GetAlgorithm() == 0 && usage == driver.EncryptDecrypt
		if !defaulted && !slices.Contains(c.GetAlgorithms(), op.GetAlgorithm()) {
			return driver.Errorf(driver.InvalidArgument, "algorithm %s is not for %s keys", op.GetAlgorithm(), c.GetSpec())
		}
	}
	return checkSizes(op)
}

func checkSizes(op *driver.Op) error {
	most := maxData
	if op.GetKind() == driver.Decrypt {
		most += driver.GCMTagSize
	}
	n := op.GetLength()
	switch {
	case len(op.GetData()) > most || len(op.GetAad()) > maxData:
		return driver.Errorf(driver.InvalidArgument, "data longer than %d bytes", most)
	case op.GetKind() == driver.DataKey && (n < 1 || n > maxDataKey):
		return driver.Errorf(driver.InvalidArgument, "a data key has 1 to %d bytes", maxDataKey)
	case op.GetKind() == driver.Random && (n < 1 || n > maxRandom):
		return driver.Errorf(driver.InvalidArgument, "random data has 1 to %d bytes", maxRandom)
	case (op.GetKind() == driver.Sign || op.GetKind() == driver.AuditSign) && len(op.GetData()) != 32:
		return driver.Errorf(driver.InvalidArgument, "digest has 32 bytes")
	}
	return nil
}

// run does a checked operation in the box.
func run(drawer *drawer, key []byte, op *driver.Op) (*driver.Result, error) {
	switch op.GetKind() {
	case driver.Encrypt:
		return encrypt(key, op.GetData(), op.GetAad())
	case driver.Decrypt:
		if len(op.GetIv()) != driver.GCMIVSize {
			return nil, errBadTag
		}
		data, err := aesOpen(key, slices.Concat(op.GetIv(), op.GetData()), op.GetAad())
		return &driver.Result{Data: data}, err
	case driver.DataKey:
		plain := randomBytes(int(op.GetLength()))
		res, err := encrypt(key, plain, op.GetAad())
		if err != nil {
			return nil, err
		}
		res.Plaintext = plain
		return res, nil
	case driver.Sign:
		signature, err := sign(key, op.GetData())
		return &driver.Result{Data: signature}, err
	case driver.MAC:
		return &driver.Result{Data: stamp(key, op.GetData())}, nil
	case driver.VerifyMAC:
		return &driver.Result{Valid: hmac.Equal(stamp(key, op.GetData()), op.GetSignature())}, nil
	case driver.Random:
		return &driver.Result{Data: randomBytes(int(op.GetLength()))}, nil
	case driver.TenantMAC:
		return &driver.Result{Data: stamp(drawer.Stamp, []byte(driver.TenantMACLabel), op.GetData())}, nil
	case driver.AuditSign:
		signature, err := sign(drawer.Seal, op.GetData())
		return &driver.Result{Data: signature}, err
	}
	return nil, driver.Errorf(driver.Unsupported, "operation %s", op.GetKind())
}

func encrypt(key, data, aad []byte) (*driver.Result, error) {
	sealed, err := aesSeal(key, data, aad)
	if err != nil {
		return nil, err
	}
	return &driver.Result{Iv: sealed[:driver.GCMIVSize:driver.GCMIVSize], Data: sealed[driver.GCMIVSize:]}, nil
}
