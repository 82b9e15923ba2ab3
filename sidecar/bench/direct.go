package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/pkcs11"
	"github.com/keyside/keyside/plugins/soft"
)

// direct is the module called by this process with nothing in between.
type direct struct {
	operation func(operation) func(ctx context.Context, worker int) error
	close     func() error
}

// target implements path.
func (d *direct) target(op operation, _ int) (target, error) {
	return target{do: d.operation(op), done: func() {}}, nil
}

// pids implements path: the module runs in this process.
func (d *direct) pids() []int { return nil }

// openDirect opens the driver that a node's folder configures.
func openDirect(ctx context.Context, dir string) (*direct, error) {
	config, err := hsmd.LoadConfig(filepath.Join(dir, "hsmd.yaml"))
	if err != nil {
		return nil, err
	}
	d := config.Drivers[0].Config
	settings, err := yaml.Marshal(&d.Settings)
	if err != nil {
		return nil, err
	}
	credential, err := d.Credential.Load(ctx)
	if err != nil {
		return nil, err
	}
	defer clear(credential)
	for name, value := range d.Env {
		if err := os.Setenv(name, value); err != nil {
			return nil, err
		}
	}
	switch d.Kind {
	case plugins.KindPKCS11:
		return openModule(settings, credential)
	case plugins.KindSoft:
		return openSoft(ctx, settings, credential)
	}
	return nil, fmt.Errorf("driver %s of kind %s cannot be called directly", d.Name, d.Kind)
}

func openModule(settings, pin []byte) (*direct, error) {
	m, err := pkcs11.OpenDirect(settings, pin)
	if err != nil {
		return nil, err
	}
	digest := make([]byte, 32)
	return &direct{close: m.Close, operation: func(op operation) func(context.Context, int) error {
		plaintext := make([]byte, op.size)
		switch op.kind {
		case kindEncrypt:
			return func(_ context.Context, w int) error { _, _, err := m.Encrypt(w, plaintext); return err }
		case kindDataKey:
			return func(_ context.Context, w int) error { _, _, _, err := m.DataKey(w, op.size); return err }
		case kindRandom:
			return func(_ context.Context, w int) error { _, err := m.Random(w, op.size); return err }
		case kindSignRSA:
			return func(_ context.Context, w int) error { _, err := m.SignRSA(w, digest); return err }
		default:
			return func(_ context.Context, w int) error { _, err := m.SignEC(w, digest); return err }
		}
	}}, nil
}

// openSoft opens the soft driver in this process. Its file is the node's, which has it open too, so this is a copy.
func openSoft(ctx context.Context, settings, passphrase []byte) (*direct, error) {
	var s struct {
		File string `yaml:"file"`
	}
	if err := yaml.Unmarshal(settings, &s); err != nil {
		return nil, err
	}
	settings = fmt.Appendf(nil, "file: %q\n", s.File+".bench")
	d, err := soft.Configure(ctx, settings, passphrase)
	if err != nil {
		return nil, err
	}
	if _, err := d.InitTenant(ctx, &driver.InitTenantRequest{Tenant: benchTenant}); err != nil {
		return nil, err
	}
	keys := map[kind]*driver.Op{}
	for k, op := range map[kind]struct {
		spec      driver.KeySpec
		usage     driver.KeyUsage
		kind      driver.OpKind
		algorithm driver.Algorithm
	}{
		kindEncrypt: {driver.AES256, driver.EncryptDecrypt, driver.Encrypt, driver.AESGCM},
		kindDataKey: {driver.AES256, driver.EncryptDecrypt, driver.DataKey, driver.AESGCM},
		kindSignRSA: {driver.RSA2048, driver.SignVerify, driver.Sign, driver.PKCS1v15SHA256},
		kindSignEC:  {driver.ECP256, driver.SignVerify, driver.Sign, driver.ECDSASHA256},
	} {
		id := &driver.KeyIdentity{KeyId: make([]byte, driver.KeyIDSize), Version: uint32(k) + 1, Spec: op.spec, Usage: op.usage}
		sealed, err := d.MakeKey(ctx, &driver.MakeKeyRequest{Tenant: benchTenant, Key: id})
		if err != nil {
			return nil, err
		}
		keys[k] = &driver.Op{Kind: op.kind, Key: id, Sealed: sealed.GetSealed(), Algorithm: op.algorithm, Data: make([]byte, 32)}
	}
	keys[kindDataKey].Data = nil
	keys[kindRandom] = &driver.Op{Kind: driver.Random}
	closeSoft := func() error { return errors.Join(d.Drain(context.WithoutCancel(ctx)), os.Remove(s.File+".bench")) }
	return &direct{close: closeSoft, operation: func(o operation) func(context.Context, int) error {
		base := keys[o.kind]
		op := &driver.Op{Kind: base.Kind, Key: base.Key, Sealed: base.Sealed, Algorithm: base.Algorithm, Data: base.Data}
		switch o.kind {
		case kindEncrypt:
			op.Data = make([]byte, o.size)
		case kindDataKey, kindRandom:
			op.Length = uint32(o.size)
		}
		return func(ctx context.Context, _ int) error { _, err := d.Execute(ctx, benchTenant, op); return err }
	}}, nil
}
