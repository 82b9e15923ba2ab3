package drivertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
)

var describeChecks = []check{
	{"describe/sane", (*suite).checkDescription},
	{"describe/stable", (*suite).checkDescriptionStable},
}

func (s *suite) checkDescription(p *probe) {
	d := s.desc
	for name, missing := range map[string]bool{
		"name": d.GetName() == "", "keys": len(d.GetKeys()) == 0, "protection": d.GetProtection() == 0, "seal_format": d.GetSealFormat() == "",
		"max_data": d.GetMaxData() == 0, "max_random": d.GetMaxRandom() == 0, "fast_workers": d.GetFastWorkers() == 0,
		"slow_workers": d.GetSlowWorkers() == 0,
	} {
		p.errorIf(missing, "%s missing", name)
	}
	p.errorIf(len(d.GetKeys()) != len(s.kinds()), "keys lists a kind twice")
	for _, c := range d.GetKeys() {
		s.checkCapability(p, c)
	}
	p.errorIf((len(d.GetImportAlgorithms()) > 0) != (len(d.GetWrappingSpecs()) > 0),
		"import_algorithms and wrapping_specs go together: one of them is empty")
	for _, spec := range d.GetWrappingSpecs() {
		p.errorIf(!isRSA(spec), "wrapping_specs holds %s", spec)
	}
	for _, a := range d.GetImportAlgorithms() {
		p.errorIf(!slices.Contains(importAlgorithms, a), "import_algorithms holds %s", a)
	}
	for _, a := range d.GetOpenedInHsm() {
		p.errorIf(!slices.Contains(d.GetImportAlgorithms(), a), "opened_in_hsm holds %s, import_algorithms does not", a)
	}
}

func (s *suite) checkCapability(p *probe, c *driver.Capability) {
	k := kind{c.GetSpec(), c.GetUsage()}
	p.errorIf(len(c.GetAlgorithms()) == 0, "%s has no algorithms", k)
	p.errorIf(driver.SpecOf(k.spec).Family == 0, "keys holds the unknown spec %d", k.spec)
	allowed, _ := driver.SpecOf(k.spec).Algorithms(k.usage)
	for _, a := range c.GetAlgorithms() {
		p.errorIf(!slices.Contains(allowed, a), "%s cannot have algorithm %s", k, a)
	}
	p.errorIf(k.encrypts() && s.desc.GetMaxDataKey() == 0,
		"max_data_key missing, although there are keys that encrypt")
}

func (s *suite) checkDescriptionStable(p *probe) {
	again, err := s.Driver.Describe(p.ctx)
	p.must(err, "describe")
	p.errorIf(!proto.Equal(s.desc, again), "describe answered differently the second time")
}

var tenantChecks = []check{
	{"tenants/idempotent", (*suite).checkTenant},
	{"tenants/at-once", (*suite).checkTenantAtOnce},
	{"tenants/unknown", (*suite).checkTenantUnknown},
	{"tenants/names", (*suite).checkTenantNames},
}

func (s *suite) checkTenant(p *probe) {
	p.errorIf(s.tenant.GetName() != s.Tenant, "init answered tenant %q", s.tenant.GetName())
	if roots := s.tenant.GetRoots(); len(roots) == 0 || len(slices.Compact(slices.Sorted(slices.Values(roots)))) != len(roots) {
		p.Errorf("tenant has roots %v", roots)
	}
	pub, err := x509.ParsePKIXPublicKey(s.tenant.GetAuditPublicKey())
	if ec, ok := pub.(*ecdsa.PublicKey); err != nil || !ok || ec.Curve != elliptic.P256() {
		p.Errorf("audit public key is no P-256 SubjectPublicKeyInfo")
	}
	again, err := s.Driver.InitTenant(p.ctx, &driver.InitTenantRequest{Tenant: s.Tenant})
	p.must(err, "second init")
	described, err := s.Driver.DescribeTenant(p.ctx, &driver.DescribeTenantRequest{Tenant: s.Tenant})
	p.must(err, "describe tenant")
	p.errorIf(!proto.Equal(again, s.tenant) || !proto.Equal(described, s.tenant),
		"init, second init and describe do not answer the same tenant")
	if s.OtherTenant == "" {
		return
	}
	other, err := s.Driver.DescribeTenant(p.ctx, &driver.DescribeTenantRequest{Tenant: s.OtherTenant})
	p.must(err, "describe the other tenant")
	p.errorIf(string(other.GetAuditPublicKey()) == string(s.tenant.GetAuditPublicKey()), "two tenants share an audit key")
}

func (s *suite) checkTenantAtOnce(p *probe) {
	parallel(p, 8, func(int) error {
		got, err := s.Driver.InitTenant(p.ctx, &driver.InitTenantRequest{Tenant: s.Tenant})
		if err == nil && !proto.Equal(got, s.tenant) {
			err = fmt.Errorf("init answered another tenant while others called it")
		}
		return err
	})
}

func (s *suite) checkTenantUnknown(p *probe) {
	unknown := only(driver.TenantUnknown)
	described := errorOf(s.Driver.DescribeTenant(p.ctx, &driver.DescribeTenantRequest{Tenant: s.UnknownTenant}))
	p.refused(described, unknown, "describe an unknown tenant")
	for _, k := range s.samples() {
		req := &driver.MakeKeyRequest{Tenant: s.UnknownTenant, Key: k.identity()}
		p.refused(errorOf(s.Driver.MakeKey(p.ctx, req)), unknown, "make %s for an unknown tenant", k)
		key := s.mustShare(p, k)
		p.refused(s.exercise(p.ctx, s.UnknownTenant, key.id, key.sealed.GetSealed()), unknown, "use %s for an unknown tenant", k)
	}
	mac := &driver.Op{Kind: driver.TenantMAC, Data: []byte("x")}
	p.refused(errorOf(s.Driver.Execute(p.ctx, s.UnknownTenant, mac)), unknown, "mac for an unknown tenant")
}

func (s *suite) checkTenantNames(p *probe) {
	// A multiplexer may refuse what is not the caller's before it looks at the form.
	bad := only(driver.InvalidArgument, driver.TenantUnknown)
	for _, name := range []string{"UPPER", "with space", "slash/inside", "../up", "nul\x00", "ünï", strings.Repeat("a", 65)} {
		p.refused(errorOf(s.Driver.InitTenant(p.ctx, &driver.InitTenantRequest{Tenant: name})), bad, "init tenant %q", name)
		p.refused(errorOf(s.Driver.Execute(p.ctx, name, &driver.Op{Kind: driver.Random, Length: 16})), bad, "random for tenant %q", name)
	}
}
