package soft

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/material"
)

// tenant has one tenant's keys. It is immutable.
type tenant struct {
	name    string
	numbers []uint32 // of the roots, oldest first
	roots   map[uint32]*material.KeyWrap
	mac     []byte
	audit   *ecdsa.PrivateKey
	public  []byte // of audit, DER SubjectPublicKeyInfo
}

// tenants has the tenants of a key file, as of its last reading.
type tenants struct {
	file *keyFile

	reading sync.Mutex // held from reading the file to storing the result, so that an older result never replaces a newer one

	mu    sync.RWMutex
	known map[string]*tenant
}

// get returns a tenant from memory, without reading the file. refresh finds tenants that another driver process created.
func (t *tenants) get(name string) (*tenant, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if found := t.known[name]; found != nil {
		return found, nil
	}
	if err := driver.CheckTenant(name); err != nil {
		return nil, err
	}
	return nil, driver.Errorf(driver.TenantUnknown, "the key file has no keys of this tenant")
}

// any returns some tenant, or nil.
func (t *tenants) any() *tenant {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, found := range t.known {
		return found
	}
	return nil
}

// refresh reads the file again.
func (t *tenants) refresh() error {
	t.reading.Lock()
	defer t.reading.Unlock()
	stored, err := t.file.load()
	if err != nil {
		return err
	}
	return t.adopt(stored)
}

// adopt stores the tenants read from the file and clears their encoded keys.
func (t *tenants) adopt(stored fileTenants) error {
	defer stored.clear()
	known := make(map[string]*tenant, len(stored))
	for name, s := range stored {
		opened, err := openTenant(name, s)
		if err != nil {
			return err
		}
		known[name] = opened
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = known
	return nil
}

// ensure creates the tenant's keys if they do not exist, and returns once they are on disk.
func (t *tenants) ensure(ctx context.Context, name string) (*tenant, error) {
	if found, err := t.get(name); err == nil || driver.CodeOf(err) != driver.TenantUnknown {
		return found, err
	}
	err := t.file.update(ctx, func(stored fileTenants) (bool, error) {
		if stored[name] != nil {
			return false, nil
		}
		fresh, err := makeTenant()
		stored[name] = fresh
		return err == nil, err
	})
	if err != nil {
		return nil, err
	}
	if err := t.refresh(); err != nil {
		return nil, err
	}
	return t.get(name)
}

func makeTenant() (*fileTenant, error) {
	audit, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "generate the audit key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(audit)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "encode the audit key: %w", err)
	}
	fresh := &fileTenant{Roots: []fileRoot{{Number: 1, Key: make([]byte, 32)}}, MAC: make([]byte, driver.MACSize), Audit: der}
	rand.Read(fresh.Roots[0].Key)
	rand.Read(fresh.MAC)
	return fresh, nil
}

func openTenant(name string, s *fileTenant) (*tenant, error) {
	bad := driver.Errorf(driver.KeyUnavailable, "tenant %s is incomplete in the key file", name)
	private, err := x509.ParsePKCS8PrivateKey(s.Audit)
	audit, isEC := private.(*ecdsa.PrivateKey)
	if err != nil || !isEC || audit.Curve != elliptic.P256() || len(s.MAC) != driver.MACSize || len(s.Roots) == 0 {
		return nil, bad
	}
	public, err := x509.MarshalPKIXPublicKey(audit.Public())
	if err != nil {
		return nil, bad
	}
	t := &tenant{name: name, roots: map[uint32]*material.KeyWrap{}, mac: append([]byte(nil), s.MAC...), audit: audit, public: public}
	for _, r := range s.Roots {
		if len(r.Key) != 32 || t.roots[r.Number] != nil {
			return nil, bad
		}
		if t.roots[r.Number], err = material.NewKeyWrap(r.Key); err != nil {
			return nil, bad
		}
		t.numbers = append(t.numbers, r.Number)
	}
	return t, nil
}

func (t *tenant) describe() *driver.Tenant {
	return &driver.Tenant{
		Name: t.name, Roots: append([]uint32(nil), t.numbers...), AuditPublicKey: append([]byte(nil), t.public...),
	}
}

// authenticate returns the tenant's HMAC-SHA-256 of label and data.
func (t *tenant) authenticate(label string, data []byte) []byte {
	m := hmac.New(sha256.New, t.mac)
	m.Write([]byte(label))
	m.Write(data)
	return m.Sum(nil)
}

// sealMAC authenticates seal records.
func (t *tenant) sealMAC(record []byte) ([]byte, error) {
	return t.authenticate(driver.SealMACLabel, record), nil
}

// seal wraps a key's material under the newest root and authenticates it with the identity.
func (t *tenant) seal(id *driver.KeyIdentity, key []byte) (*driver.SealedKey, error) {
	root := t.numbers[len(t.numbers)-1]
	wrapped, err := t.roots[root].Wrap(key)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "wrap: %w", err)
	}
	record := &driver.SealRecord{
		Format: driver.SealRFC5649, Protection: driver.ProtectionProcess, Root: root, Key: id, Tenant: t.name, Wrapped: wrapped,
	}
	blob, err := record.Seal(t.sealMAC)
	if err != nil {
		return nil, err
	}
	return &driver.SealedKey{Sealed: blob, Root: root, Protection: driver.ProtectionProcess}, nil
}

// unseal checks that sealed is the key of this identity and returns its material, which the caller must clear.
func (t *tenant) unseal(id *driver.KeyIdentity, sealed []byte) ([]byte, error) {
	record, err := driver.OpenSealRecord(t.name, id, sealed, t.sealMAC)
	if err != nil {
		return nil, err
	}
	if record.Format != driver.SealRFC5649 || record.Protection != driver.ProtectionProcess {
		return nil, driver.Errorf(driver.SealInvalid, "the seal was not created by this driver")
	}
	root := t.roots[record.Root]
	if root == nil {
		return nil, driver.Errorf(driver.KeyUnavailable, "root %d of the tenant does not exist in the key file", record.Root)
	}
	key, ok := root.Unwrap(record.Wrapped)
	if !ok {
		return nil, driver.Errorf(driver.SealInvalid, "the sealed material does not unwrap")
	}
	return key, nil
}
