package drivertest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/drivertest"
	"github.com/keyside/keyside/plugins/soft"
)

// faulty is the soft driver with a fault. It announces few kinds of keys, so that each run of the kit is short.
type faulty struct {
	driver.Driver
	also     []*driver.Capability // announced beside few
	describe func(*driver.Description)
	// before may change an operation, after what came of it.
	before  func(tenant string, op *driver.Op) string
	after   func(op *driver.Op, res *driver.Result, err error) error
	makeKey func(next driver.Driver, req *driver.MakeKeyRequest) (*driver.SealedKey, error)
	imports func(next driver.Driver, req *driver.ImportKeyRequest) (*driver.SealedKey, error)
	reseal  func(next driver.Driver, req *driver.ResealRequest) (*driver.SealedKey, error)
	health  func(tenant string) error
	status  func([]*driver.Member)
}

var few = []*driver.Capability{
	{Spec: driver.AES256, Usage: driver.EncryptDecrypt, Algorithms: []driver.Algorithm{driver.AESGCM}},
	{Spec: driver.ECP256, Usage: driver.SignVerify, Algorithms: []driver.Algorithm{driver.ECDSASHA256, driver.ECDSASHA384, driver.ECDSASHA512}},
	{Spec: driver.ECP256, Usage: driver.KeyAgreement, Algorithms: []driver.Algorithm{driver.ECDH}},
	{Spec: driver.HMAC256, Usage: driver.GenerateVerifyMAC, Algorithms: []driver.Algorithm{driver.HMACSHA256}},
}

var fewImports = []driver.Algorithm{driver.OAEPSHA256, driver.RSAAESKeyWrapSHA1}

// decrypter takes time to make, so it is announced only where the fault is about it.
var decrypter = []*driver.Capability{
	{Spec: driver.RSA2048, Usage: driver.EncryptDecrypt, Algorithms: []driver.Algorithm{driver.OAEPSHA256, driver.OAEPSHA1}},
}

func (f *faulty) Describe(ctx context.Context) (*driver.Description, error) {
	d, err := f.Driver.Describe(ctx)
	if err != nil {
		return nil, err
	}
	d = proto.CloneOf(d)
	d.Keys, d.WrappingSpecs, d.ImportAlgorithms = slices.Concat(few, f.also), []driver.KeySpec{driver.RSA2048}, fewImports
	if f.describe != nil {
		f.describe(d)
	}
	return d, nil
}

func (f *faulty) announced(id *driver.KeyIdentity) bool {
	for _, c := range slices.Concat(few, f.also) {
		if c.GetSpec() == id.GetSpec() && c.GetUsage() == id.GetUsage() {
			return true
		}
	}
	return false
}

func (f *faulty) MakeKey(ctx context.Context, req *driver.MakeKeyRequest) (*driver.SealedKey, error) {
	if driver.CheckIdentity(req.GetKey()) == nil && !f.announced(req.GetKey()) {
		return nil, driver.Errorf(driver.Unsupported, "keys: %s", req.GetKey().GetSpec())
	}
	if f.makeKey != nil && ctx.Err() == nil {
		return f.makeKey(f.Driver, req)
	}
	return f.Driver.MakeKey(ctx, req)
}

func (f *faulty) MakeWrappingKey(ctx context.Context, req *driver.MakeWrappingKeyRequest) (*driver.SealedKey, error) {
	if spec := req.GetKey().GetSpec(); spec == driver.RSA3072 || spec == driver.RSA4096 {
		return nil, driver.Errorf(driver.Unsupported, "wrapping_specs: %s", spec)
	}
	return f.Driver.MakeWrappingKey(ctx, req)
}

func (f *faulty) ImportKey(ctx context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	if !slices.Contains(fewImports, req.GetAlgorithm()) {
		return nil, driver.Errorf(driver.Unsupported, "import_algorithms: %s", req.GetAlgorithm())
	}
	if f.imports != nil {
		return f.imports(f.Driver, req)
	}
	return f.Driver.ImportKey(ctx, req)
}

func (f *faulty) Reseal(ctx context.Context, req *driver.ResealRequest) (*driver.SealedKey, error) {
	if f.reseal != nil {
		return f.reseal(f.Driver, req)
	}
	return f.Driver.Reseal(ctx, req)
}

func (f *faulty) Execute(ctx context.Context, tenant string, op *driver.Op) (*driver.Result, error) {
	if f.before != nil {
		op = proto.CloneOf(op)
		tenant = f.before(tenant, op)
	}
	res, err := f.Driver.Execute(ctx, tenant, op)
	if f.after != nil {
		err = f.after(op, res, err)
	}
	return res, err
}

func (f *faulty) Health(ctx context.Context, tenant string) error {
	if f.health != nil {
		return f.health(tenant)
	}
	return f.Driver.Health(ctx, tenant)
}

func (f *faulty) Status(ctx context.Context) ([]*driver.Member, error) {
	members, err := f.Driver.Status(ctx)
	if err == nil && f.status != nil {
		f.status(members)
	}
	return members, err
}

// TestKitFindsFaults gives the kit drivers that have one fault each: it must fail, and by the check that is about it.
func TestKitFindsFaults(t *testing.T) {
	base, err := soft.Configure(t.Context(), fmt.Appendf(nil, "file: %s\n", filepath.Join(t.TempDir(), "soft.keys")), []byte("passphrase"))
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range faults() {
		t.Run(what, func(t *testing.T) {
			c.driver.Driver = base
			report := drivertest.Check(t.Context(), drivertest.Config{Driver: c.driver, Tenant: "one", OtherTenant: "two"})
			var failed []string
			found := c.check == "" && report.Passed()
			for _, o := range report.Outcomes {
				if o.Status == drivertest.Fail {
					failed = append(failed, o.Name+": "+o.Detail)
					found = found || o.Name == c.check
				}
			}
			if !found {
				t.Errorf("want %q to fail, but it was %q", c.check, failed)
			}
		})
	}
}

// TestKitOnNothing: a config that gives the kit nothing to stand on fails at once and says why.
func TestKitOnNothing(t *testing.T) {
	for what, cfg := range map[string]drivertest.Config{
		"no driver":     {Tenant: "one"},
		"a nil pointer": {Driver: (*faulty)(nil), Tenant: "one"},
	} {
		report := drivertest.Check(t.Context(), cfg)
		if report.Passed() || len(report.Outcomes) != 1 || report.Outcomes[0].Detail == "" {
			t.Errorf("%s: %+v", what, report)
		}
	}
	if (&drivertest.Report{}).Passed() {
		t.Error("an empty report passed")
	}
}
