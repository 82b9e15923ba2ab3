package main

import (
	"context"
	"crypto/hmac"
	"slices"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// Execute does one operation: check it, get a session, open the key's envelope, do it.
func (d *strongbox) Execute(ctx context.Context, tenant string, op *driver.Op) (res *driver.Result, err error) {
	if err := checker.Op(op); err != nil {
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
		if op.GetKey() != nil {
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

// run does a checked operation in the box.
func run(drawer *drawer, key []byte, op *driver.Op) (*driver.Result, error) {
	switch op.GetKind() {
	case driver.Encrypt:
		return encrypt(key, op.GetData(), op.GetAad())
	case driver.Decrypt:
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
