package pkcs11

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// The purposes of a tenant's keys, as their labels contain them.
const (
	purposeRoot  = "root"  // AES-256: wraps and unwraps, nothing else
	purposeMAC   = "mac"   // generic secret: authenticates seals and tokens, nothing else
	purposeAudit = "audit" // P-256: signs checkpoints, nothing else
)

// tenantKey is the spec and the uses of the key for a purpose.
type tenantKey struct {
	spec driver.KeySpec
	uses uses
}

var tenantPurposes = map[string]tenantKey{
	purposeRoot:  {driver.AES256, uses{wrap: true, unwrap: true}},
	purposeMAC:   {driver.HMAC256, uses{sign: true, verify: true}},
	purposeAudit: {driver.ECP256, uses{sign: true}},
}

func tenantLabel(tenant, purpose string, n uint32) string {
	return fmt.Sprintf("keyside/%s/%s/%d", tenant, purpose, n)
}

// labelID returns the CKA_ID of a tenant key: a hash of its label.
func labelID(label string) []byte {
	sum := sha256.Sum256([]byte(label))
	return sum[:20]
}

// tenantKeys has the handles of a tenant's keys, which are valid in one generation of the login.
type tenantKeys struct {
	gen         uint64
	roots       map[uint32]handle
	numbers     []uint32 // of roots, ascending
	mac, audit  handle
	auditPublic []byte
}

func (t *tenantKeys) newestRoot() uint32 { return t.numbers[len(t.numbers)-1] }

// tenantCache caches the tenants that were found.
type tenantCache struct {
	mu sync.RWMutex
	m  map[string]*tenantKeys
}

func (c *tenantCache) get(name string, gen uint64) *tenantKeys {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if t := c.m[name]; t != nil && t.gen == gen {
		return t
	}
	return nil
}

func (c *tenantCache) put(name string, t *tenantKeys) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[name] = t
}

func (c *tenantCache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.m, name)
}

func (c *tenantCache) forgetAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.m)
}

// tenant returns a tenant's keys.
func (d *Driver) tenant(name string) (*tenantKeys, error) {
	if t := d.tenants.get(name, d.generation.Load()); t != nil {
		return t, nil
	}
	if err := driver.CheckTenant(name); err != nil {
		return nil, err
	}
	d.pinned.Lock()
	defer d.pinned.Unlock()
	return d.tenantPinned(name)
}

// tenantPinned is tenant for callers that hold the pinned lock.
func (d *Driver) tenantPinned(name string) (*tenantKeys, error) {
	gen := d.generation.Load()
	if t := d.tenants.get(name, gen); t != nil {
		return t, nil
	}
	s := d.pinned.session
	if s == nil {
		return nil, errDraining
	}
	t, err := d.findTenant(s, name)
	if err != nil {
		return nil, err
	}
	if d.profile.CopyTenantKeys {
		if err := t.copyInto(s); err != nil {
			return nil, err
		}
	}
	if t.auditPublic, err = ecPublicKey(s, t.audit, specOf(driver.ECP256)); err != nil {
		return nil, err
	}
	t.gen = gen
	d.tenants.put(name, t)
	return t, nil
}

// copyInto replaces the handles of token objects with those of session copies.
func (t *tenantKeys) copyInto(s *session) (err error) {
	handles := []*handle{&t.mac, &t.audit}
	roots := make([]handle, len(t.numbers))
	for i, n := range t.numbers {
		roots[i] = t.roots[n]
		handles = append(handles, &roots[i])
	}
	for _, h := range handles {
		if *h, err = s.copyObject(*h, []*p11.Attribute{inSession()}); err != nil {
			return err
		}
	}
	for i, n := range t.numbers {
		t.roots[n] = roots[i]
	}
	return nil
}

// findTenant finds a tenant's keys on the token and checks their attributes.
func (d *Driver) findTenant(s *session, name string) (*tenantKeys, error) {
	parts, err := d.findParts(s, name)
	if err != nil {
		return nil, err
	}
	t := &tenantKeys{roots: parts[purposeRoot], mac: parts[purposeMAC][1], audit: parts[purposeAudit][1]}
	switch {
	case len(t.roots) == 0 && t.mac == 0 && t.audit == 0:
		// A failed token and a lost login also find nothing, without an error.
		if err := d.checkToken(s); err != nil {
			return nil, err
		}
		return nil, driver.Errorf(driver.TenantUnknown, "the token has no keys of tenant %s", name)
	case len(t.roots) == 0 || t.mac == 0 || t.audit == 0:
		return nil, driver.Errorf(driver.KeyUnavailable, "the token has only some of the keys of tenant %s", name)
	}
	t.numbers = slices.Sorted(maps.Keys(t.roots))
	return t, nil
}

// findParts returns the tenant's keys that exist, by purpose and number. The caller must hold the pinned lock: a copy, which is
// made under it, looks like another token object until it is complete.
func (d *Driver) findParts(s *session, name string) (map[string]map[uint32]handle, error) {
	parts := map[string]map[uint32]handle{purposeRoot: {}, purposeMAC: {}, purposeAudit: {}}
	for _, class := range []uint{p11.CKO_SECRET_KEY, p11.CKO_PRIVATE_KEY} {
		found, err := s.find(onToken(), p11.NewAttribute(p11.CKA_CLASS, class))
		if err != nil {
			return nil, err
		}
		for _, h := range found {
			purpose, n, ok, err := d.partOf(s, h, name)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			if parts[purpose][n] != 0 {
				return nil, driver.Errorf(driver.KeyUnavailable, "two objects are labeled %s", tenantLabel(name, purpose, n))
			}
			if err := d.checkAttributes(s, h, tenantPurposes[purpose]); err != nil {
				return nil, driver.Errorf(driver.KeyUnavailable, "%s: %w", tenantLabel(name, purpose, n), err)
			}
			parts[purpose][n] = h
		}
	}
	return parts, nil
}

// partOf reads purpose and number from an object's label. ok is false for an object that is not a key of the tenant, or whose
// label cannot be read; errors of the session or the token are returned.
func (d *Driver) partOf(s *session, h handle, tenant string) (purpose string, n uint32, ok bool, err error) {
	label, err := s.attribute(h, p11.CKA_LABEL)
	if err != nil {
		return "", 0, false, notTheObjects(err)
	}
	rest, found := strings.CutPrefix(string(label), "keyside/"+tenant+"/")
	if !found {
		return "", 0, false, nil
	}
	purpose, digits, _ := strings.Cut(rest, "/")
	number, err := strconv.ParseUint(digits, 10, 32)
	if _, known := tenantPurposes[purpose]; err != nil || !known || number == 0 || tenantLabel(tenant, purpose, uint32(number)) != string(label) {
		return "", 0, false, nil
	}
	id, err := s.attribute(h, p11.CKA_ID)
	return purpose, uint32(number), err == nil && bytes.Equal(id, labelID(string(label))), notTheObjects(err)
}

// notTheObjects returns err if the session or the token caused it, and nil if the object did.
func notTheObjects(err error) error {
	var ce *callError
	if errors.As(err, &ce) {
		switch ce.class() {
		case freshSession, loginAgain, replaceProcess:
			return err
		}
	}
	return nil
}

// checkAttributes checks that a tenant key is sensitive, not extractable, generated on the token, and has only its uses.
func (d *Driver) checkAttributes(s *session, h handle, key tenantKey) error {
	spec := specOf(key.spec)
	want := spec.template(key.uses, false, onToken())
	if d.profile.protection == driver.ProtectionHSM {
		want = append(want, p11.NewAttribute(p11.CKA_ALWAYS_SENSITIVE, true), p11.NewAttribute(p11.CKA_NEVER_EXTRACTABLE, true))
	}
	for _, a := range want {
		got, err := s.attribute(h, a.Type)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, a.Value) {
			return fmt.Errorf("attribute 0x%x has another value than the template", a.Type)
		}
	}
	return nil
}

// checkToken returns an error if the token does not answer, and then makes the process exit, because modules do not find such a
// token again. For a lost login, it returns the error that a module should.
func (d *Driver) checkToken(s *session) error {
	info, err := d.tokenInfo(s)
	if err == nil && info.SerialNumber != d.info.SerialNumber {
		err = errors.New("another token is in the slot")
	}
	if err != nil {
		e := deviceError(driver.RetryElsewhere, "token does not answer: %w", err)
		d.emit("token-lost", e)
		d.stopProcess(e)
		return e
	}
	state, err := timed(s, callInfo, 0, "C_GetSessionInfo", func() (p11.SessionInfo, error) {
		return d.lib.ctx.GetSessionInfo(p11.SessionHandle(s.h))
	})
	if err == nil && state.State != p11.CKS_RO_USER_FUNCTIONS && state.State != p11.CKS_RW_USER_FUNCTIONS {
		err = &callError{rv: p11.CKR_USER_NOT_LOGGED_IN, function: "C_GetSessionInfo"}
	}
	return err
}

// DescribeTenant implements driver.Driver.
func (d *Driver) DescribeTenant(ctx context.Context, req *driver.DescribeTenantRequest) (*driver.Tenant, error) {
	return attempt(ctx, d, func() (*driver.Tenant, error) {
		t, err := d.tenant(req.GetTenant())
		if err != nil {
			return nil, failure{err: err, tenant: req.GetTenant()}
		}
		return &driver.Tenant{Name: req.GetTenant(), Roots: slices.Clone(t.numbers), AuditPublicKey: bytes.Clone(t.auditPublic)}, nil
	})
}
