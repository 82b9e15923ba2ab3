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
		if missing {
			p.Errorf("%s missing", name)
		}
	}
	if len(d.GetKeys()) != len(s.kinds()) {
		p.Errorf("keys lists a kind twice")
	}
	for _, c := range d.GetKeys() {
		s.checkCapability(p, c)
	}
	if (len(d.GetImportAlgorithms()) > 0) != (len(d.GetWrappingSpecs()) > 0) {
		p.Errorf("import_algorithms and wrapping_specs go together: one of them is empty")
	}
	for _, spec := range d.GetWrappingSpecs() {
		if !isRSA(spec) {
			p.Errorf("wrapping_specs holds %s", spec)
		}
	}
	for _, a := range d.GetImportAlgorithms() {
		if !slices.Contains(importAlgorithms, a) {
			p.Errorf("import_algorithms holds %s", a)
		}
	}
	for _, a := range d.GetOpenedInHsm() {
		if !slices.Contains(d.GetImportAlgorithms(), a) {
			p.Errorf("opened_in_hsm holds %s, import_algorithms does not", a)
		}
	}
}

func (s *suite) checkCapability(p *probe, c *driver.Capability) {
	k := kind{c.GetSpec(), c.GetUsage()}
	if len(c.GetAlgorithms()) == 0 {
		p.Errorf("%s has no algorithms", k)
	}
	if driver.SpecOf(k.spec).Family == 0 {
		p.Errorf("keys holds the unknown spec %d", k.spec)
	}
	allowed, _ := driver.SpecOf(k.spec).Algorithms(k.usage)
	for _, a := range c.GetAlgorithms() {
		if !slices.Contains(allowed, a) {
			p.Errorf("%s cannot have algorithm %s", k, a)
		}
	}
	if k.usage == driver.EncryptDecrypt && !k.decryptsRSA() && s.desc.GetMaxDataKey() == 0 {
		p.Errorf("max_data_key missing, although there are keys that encrypt")
	}
}

func (s *suite) checkDescriptionStable(p *probe) {
	again, err := s.Driver.Describe(p.ctx)
	p.must(err, "describe")
	if !proto.Equal(s.desc, again) {
		p.Errorf("describe answered differently the second time")
	}
}

var tenantChecks = []check{
	{"tenants/idempotent", (*suite).checkTenant},
	{"tenants/at-once", (*suite).checkTenantAtOnce},
	{"tenants/unknown", (*suite).checkTenantUnknown},
	{"tenants/names", (*suite).checkTenantNames},
}

func (s *suite) checkTenant(p *probe) {
	if s.tenant.GetName() != s.Tenant {
		p.Errorf("init answered tenant %q", s.tenant.GetName())
	}
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
	if !proto.Equal(again, s.tenant) || !proto.Equal(described, s.tenant) {
		p.Errorf("init, second init and describe do not answer the same tenant")
	}
	if s.OtherTenant == "" {
		return
	}
	other, err := s.Driver.DescribeTenant(p.ctx, &driver.DescribeTenantRequest{Tenant: s.OtherTenant})
	p.must(err, "describe the other tenant")
	if string(other.GetAuditPublicKey()) == string(s.tenant.GetAuditPublicKey()) {
		p.Errorf("two tenants share an audit key")
	}
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
	_, err := s.Driver.DescribeTenant(p.ctx, &driver.DescribeTenantRequest{Tenant: s.UnknownTenant})
	p.refused(err, unknown, "describe an unknown tenant")
	for _, k := range s.samples() {
		_, err := s.Driver.MakeKey(p.ctx, &driver.MakeKeyRequest{Tenant: s.UnknownTenant, Key: k.identity()})
		p.refused(err, unknown, "make %s for an unknown tenant", k)
		key := s.mustShare(p, k)
		p.refused(s.exercise(p.ctx, s.UnknownTenant, key.id, key.sealed.GetSealed()), unknown, "use %s for an unknown tenant", k)
	}
	_, err = s.Driver.Execute(p.ctx, s.UnknownTenant, &driver.Op{Kind: driver.TenantMAC, Data: []byte("x")})
	p.refused(err, unknown, "mac for an unknown tenant")
}

func (s *suite) checkTenantNames(p *probe) {
	// A multiplexer may refuse what is not the caller's before it looks at the form.
	bad := only(driver.InvalidArgument, driver.TenantUnknown)
	for _, name := range []string{"UPPER", "with space", "slash/inside", "../up", "nul\x00", "ünï", strings.Repeat("a", 65)} {
		_, err := s.Driver.InitTenant(p.ctx, &driver.InitTenantRequest{Tenant: name})
		p.refused(err, bad, "init tenant %q", name)
		_, err = s.Driver.Execute(p.ctx, name, &driver.Op{Kind: driver.Random, Length: 16})
		p.refused(err, bad, "random for tenant %q", name)
	}
}
