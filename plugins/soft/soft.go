// Package soft is the built-in driver for nodes without an HSM: Go's cryptography and a sealed key file. Keys are protected only by
// the passphrase, the file's mode and the driver process; Describe says so.
//
// It uses only cryptography of Go's standard library that FIPS 140-3 allows. A binary built with GOFIPS140 therefore runs under
// GODEBUG=fips140=on with all functions, and under fips140=only without imports that need SHA-1 or PKCS #1 v1.5.
package soft

import (
	"bytes"
	"context"
	"crypto"
	"crypto/fips140"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/policy/spelling"
)

// Limits of one operation, in bytes.
const (
	maxData    = 64 << 10
	maxDataKey = 8 << 10
	maxRandom  = 64 << 10
)

// version of the driver, as Describe reports it.
const version = "1"

// settings is the driver's section of the configuration.
type settings struct {
	// File is the absolute path of the sealed key file, which is created if it does not exist.
	File string `yaml:"file"`
	// Iterations is the PBKDF2 iteration count of a new file, 600000 to 10000000; default 600000.
	Iterations int `yaml:"pbkdf2_iterations"`
	// LiveKeys is the most unsealed keys that stay in memory; default 4096.
	LiveKeys int `yaml:"live_keys"`
	// Workers is how many operations run at once in each lane; default one per processor.
	Workers int `yaml:"workers"`
}

// Driver implements driver.Driver.
type Driver struct {
	settings settings
	checker  *driver.Checker
	tenants  *tenants
	live     *liveKeys
	gate     *gate
	stats    stats
	making   chan struct{} // holds one element per RSA key that is being generated
}

var _ driver.Driver = (*Driver)(nil)

// Configure opens or creates the key file. It implements driver.Configurer; the credential is the passphrase of the file.
func Configure(ctx context.Context, raw, passphrase []byte) (driver.Driver, error) {
	s, err := parseSettings(raw)
	if err != nil {
		return nil, err
	}
	return start(ctx, s, passphrase)
}

// CheckSettings returns what is wrong with the driver's section of the configuration.
func CheckSettings(raw []byte) error {
	_, err := parseSettings(raw)
	return err
}

func start(ctx context.Context, s settings, passphrase []byte) (driver.Driver, error) {
	if len(passphrase) == 0 {
		return nil, driver.Errorf(driver.InvalidArgument, "passphrase missing: configure a credential for the soft driver")
	}
	file, err := openKeyFile(ctx, s.File, passphrase, s.Iterations)
	if err != nil {
		return nil, atStart(err)
	}
	d := &Driver{
		settings: s, tenants: &tenants{file: file}, live: newLiveKeys(s.LiveKeys), gate: newGate(),
		making: make(chan struct{}, runtime.NumCPU()),
	}
	d.checker = driver.NewChecker(d.describe())
	if err := d.tenants.refresh(); err != nil {
		return nil, atStart(err)
	}
	return d, nil
}

// atStart returns the error of a key file that cannot be used as one that no retry can repair, so that the host gives up and says why.
func atStart(err error) error {
	if driver.CodeOf(err) != driver.KeyUnavailable {
		return err
	}
	return driver.Errorf(driver.InvalidArgument, "%w", err)
}

func parseSettings(raw []byte) (settings, error) {
	s := settings{Iterations: minIterations, LiveKeys: 4096, Workers: runtime.NumCPU()}
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return s, driver.Errorf(driver.InvalidArgument, "soft settings: %w", spelling.YAML(err, raw, reflect.TypeFor[settings]()))
	}
	switch {
	case !filepath.IsAbs(s.File):
		return s, driver.Errorf(driver.InvalidArgument, "soft settings: file must be an absolute path")
	case s.Iterations < minIterations || s.Iterations > maxIterations:
		return s, driver.Errorf(driver.InvalidArgument, "soft settings: pbkdf2_iterations must be %d to %d",
			minIterations, maxIterations)
	case s.LiveKeys < 1 || s.Workers < 1 || s.Workers > 1024:
		return s, driver.Errorf(driver.InvalidArgument, "soft settings: live_keys and workers must be positive, workers at most 1024")
	}
	return s, nil
}

// capabilities returns every key that the driver makes: all specs but secp256k1, which Go's standard library does not
// implement. It leaves out what Go refuses in FIPS 140-3 only mode.
var capabilities = sync.OnceValue(func() (keys []*driver.Capability) {
	for _, spec := range driver.Specs() {
		for _, use := range spec.Uses {
			if use.Usage == driver.Unwrap || spec.Family == driver.EC && spec.Curve == nil {
				continue
			}
			algorithms := slices.DeleteFunc(slices.Clone(use.Algorithms), func(a driver.Algorithm) bool {
				return driver.HashOf(a) == crypto.SHA1 && fips140.Enforced()
			})
			keys = append(keys, &driver.Capability{Spec: spec.Value, Usage: use.Usage, Algorithms: algorithms})
		}
	}
	return keys
})

// wrappingSpecs returns the specs of keys that open imports.
func wrappingSpecs() (specs []driver.KeySpec) {
	for _, spec := range driver.Specs() {
		if _, ok := spec.Algorithms(driver.Unwrap); ok {
			specs = append(specs, spec.Value)
		}
	}
	return specs
}

// importAlgorithms leaves out what Go refuses in FIPS 140-3 only mode.
func importAlgorithms() []driver.Algorithm {
	approved := []driver.Algorithm{driver.OAEPSHA256, driver.RSAAESKeyWrapSHA256}
	if fips140.Enforced() {
		return approved
	}
	return append(approved, driver.OAEPSHA1, driver.RSAAESKeyWrapSHA1, driver.PKCS1v15)
}

// Describe implements driver.Driver.
func (d *Driver) Describe(context.Context) (*driver.Description, error) { return d.describe(), nil }

func (d *Driver) describe() *driver.Description {
	vendor := "Go " + runtime.Version()
	if fips140.Enabled() {
		vendor += ", FIPS 140-3 module " + fips140.Version()
	}
	return &driver.Description{
		Name: "soft", Version: version, Vendor: vendor, Keys: capabilities(), ImportAlgorithms: importAlgorithms(),
		WrappingSpecs: wrappingSpecs(), Protection: driver.ProtectionProcess, SealFormat: driver.SealRFC5649.String(),
		MaxData: maxData, MaxDataKey: maxDataKey, MaxRandom: maxRandom,
		FastWorkers: uint32(d.settings.Workers), SlowWorkers: uint32(d.settings.Workers),
	}
}

// InitTenant implements driver.Driver.
func (d *Driver) InitTenant(ctx context.Context, req *driver.InitTenantRequest) (*driver.Tenant, error) {
	return guard(ctx, d, func() (*driver.Tenant, error) {
		t, err := d.tenants.ensure(ctx, req.GetTenant())
		if err != nil {
			return nil, err
		}
		return t.describe(), nil
	})
}

// DescribeTenant implements driver.Driver. It reads the file again if the tenant is unknown.
func (d *Driver) DescribeTenant(ctx context.Context, req *driver.DescribeTenantRequest) (*driver.Tenant, error) {
	return guard(ctx, d, func() (*driver.Tenant, error) {
		t, err := d.tenants.get(req.GetTenant())
		if driver.CodeOf(err) == driver.TenantUnknown {
			if err := d.tenants.refresh(); err != nil {
				return nil, err
			}
			t, err = d.tenants.get(req.GetTenant())
		}
		if err != nil {
			return nil, err
		}
		return t.describe(), nil
	})
}

// Status implements driver.Driver.
func (d *Driver) Status(context.Context) ([]*driver.Member, error) {
	state := "ready"
	if d.gate.draining() {
		state = "draining"
	}
	return []*driver.Member{{
		Name: "soft", State: state, Vendor: runtime.Version(), Token: d.settings.File, Generation: 1,
		InFlight: uint32(d.gate.inside()), LiveKeys: uint32(d.live.len()), LiveKeysLimit: uint32(d.settings.LiveKeys),
		Pid: uint32(os.Getpid()), Latencies: d.stats.latencies(), LastError: d.stats.lastError(),
	}}, nil
}

// Health implements driver.Driver. It seals and unseals random material under the tenant's keys.
func (d *Driver) Health(ctx context.Context, name string) error {
	_, err := guard(ctx, d, func() (struct{}, error) {
		t := d.tenants.any()
		if name != "" {
			var err error
			if t, err = d.tenants.get(name); err != nil {
				return struct{}{}, err
			}
		}
		if t == nil {
			return struct{}{}, nil
		}
		return struct{}{}, t.canary()
	})
	return err
}

// canary seals and unseals random material with the tenant's root and MAC key.
func (t *tenant) canary() error {
	id := &driver.KeyIdentity{KeyId: make([]byte, driver.KeyIDSize), Version: 1, Spec: driver.AES256, Usage: driver.EncryptDecrypt}
	material, err := generate(driver.SpecOf(id.GetSpec()))
	if err != nil {
		return driver.Errorf(driver.Device, "canary: %w", err)
	}
	sealed, err := t.seal(id, material)
	if err != nil {
		return err
	}
	back, err := t.unseal(id, sealed.GetSealed())
	if err != nil {
		return err
	}
	if !bytes.Equal(back, material) {
		return driver.Errorf(driver.Device, "canary: unsealing returned other material")
	}
	return nil
}

// Watch implements driver.Driver. The driver has no events, so Watch only waits for the context or the drain.
func (d *Driver) Watch(ctx context.Context, _ func(*driver.Event)) error {
	select {
	case <-ctx.Done():
		return driver.AsError(ctx.Err())
	case <-d.gate.idle:
		return nil
	}
}

// Drain implements driver.Driver.
func (d *Driver) Drain(ctx context.Context) error { return d.gate.drain(ctx) }
