package pkcs11

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// provisional begins the label of a tenant key until the key is complete, tested and synced to disk.
const provisional = "keyside-unfinished/"

// InitTenant implements driver.Driver. A key gets its label last, so that an object of a killed process has none or a provisional
// one, and is deleted at the next start.
func (d *Driver) InitTenant(ctx context.Context, req *driver.InitTenantRequest) (*driver.Tenant, error) {
	if err := driver.CheckTenant(req.GetTenant()); err != nil {
		return nil, err
	}
	_, err := attempt(ctx, d, func() (struct{}, error) {
		return struct{}{}, d.withStore(true, func(s *session, st *store) error { return d.completeTenant(s, st, req.GetTenant()) })
	})
	if err != nil {
		return nil, err
	}
	d.tenants.forget(req.GetTenant())
	return d.DescribeTenant(ctx, &driver.DescribeTenantRequest{Tenant: req.GetTenant()})
}

// withStore runs fn on a read/write session under the store's lock. Without wait, it does not run fn if another driver process has
// the lock.
func (d *Driver) withStore(wait bool, fn func(*session, *store) error) (err error) {
	st, err := openStore(d.settings, d.profile)
	if err != nil {
		return err
	}
	locked, err := st.lock(wait)
	if err != nil || !locked {
		return err
	}
	defer st.close()
	s, err := d.openSession(p11.CKF_RW_SESSION)
	if err != nil {
		return err
	}
	defer d.closeSession(s)
	return fn(s, st)
}

// completeTenant creates the keys of a tenant that do not exist.
func (d *Driver) completeTenant(s *session, st *store, name string) error {
	if err := d.checkToken(s); err != nil {
		return err
	}
	d.pinned.Lock()
	parts, err := d.findParts(s, name)
	d.pinned.Unlock()
	if err != nil {
		return err
	}
	for _, purpose := range []string{purposeRoot, purposeMAC, purposeAudit} {
		if len(parts[purpose]) > 0 {
			continue
		}
		if err := d.createTenantKey(s, st, name, purpose, 1); err != nil {
			return err
		}
		d.log.Info("created tenant key", "tenant", name, "purpose", purpose)
	}
	return nil
}

// createTenantKey creates a key on the token under a provisional label, checks its attributes, uses it once, syncs it to disk, and
// then sets its label.
func (d *Driver) createTenantKey(s *session, st *store, tenant, purpose string, n uint32) error {
	since := time.Now()
	label := tenantLabel(tenant, purpose, n)
	h, public, err := d.generateTenantKey(s, label, purpose)
	if err != nil {
		return err
	}
	if err := d.checkAttributes(s, h, tenantPurposes[purpose]); err != nil {
		return errors.Join(driver.Errorf(driver.Device, "new key %s: %w", label, err), s.destroy(h))
	}
	err = d.tryTenantKey(s, h, public, purpose)
	if err == nil {
		err = st.sync(since)
	}
	if err != nil {
		return errors.Join(err, s.destroy(h))
	}
	return d.labelTenantKey(s, st, h, tenant, label, since)
}

// labelTenantKey sets the label of a new key, under which other processes may use the key at once. So the key is never destroyed
// afterwards: after an error the process exits, and the next one first syncs the key, or deletes it if it has no label.
func (d *Driver) labelTenantKey(s *session, st *store, h handle, tenant, label string, since time.Time) error {
	err := s.setAttribute(h, p11.CKA_LABEL, label)
	if err == nil {
		var ok bool
		if _, _, ok, err = d.partOf(s, h, tenant); err == nil && !ok {
			err = errors.New("its label cannot be read back")
		}
	}
	if err == nil {
		err = st.sync(since)
	}
	if err == nil {
		return nil
	}
	err = driver.Errorf(driver.Device, "label the new key %s: %v", label, err) // without the cause, which would start recovery
	d.stopProcess(err)
	return err
}

// generateTenantKey generates the object. For a key pair, it also returns the public key.
func (d *Driver) generateTenantKey(s *session, label, purpose string) (h handle, public []byte, err error) {
	key := tenantPurposes[purpose]
	spec := specOf(key.spec)
	template := spec.template(key.uses, false, onToken(), p11.NewAttribute(p11.CKA_LABEL, provisional+rand.Text()+"/"+label),
		p11.NewAttribute(p11.CKA_ID, labelID(label)))
	return generateObject(s, spec, template)
}

// tryTenantKey uses a new key once for its purpose.
func (d *Driver) tryTenantKey(s *session, h handle, public []byte, purpose string) error {
	switch purpose {
	case purposeRoot:
		return d.useRoot(s, h)
	case purposeMAC:
		_, err := s.sign(callMAC, 0, hmacSHA256, h, []byte(provisional), make([]byte, driver.MACSize))
		return err
	}
	digest := sha256.Sum256([]byte(provisional))
	signature, err := signEC(s, h, specOf(driver.ECP256), digest[:])
	if err != nil {
		return err
	}
	pub, err := x509.ParsePKIXPublicKey(public)
	if err != nil {
		return driver.Errorf(driver.Device, "public key of the new audit key: %w", err)
	}
	if ec, ok := pub.(*ecdsa.PublicKey); !ok || !ecdsa.VerifyASN1(ec, digest[:], signature) {
		return driver.Errorf(driver.Device, "the new audit key's signature does not verify")
	}
	return nil
}

// useRoot wraps a key, unwraps it, and uses the result.
func (d *Driver) useRoot(s *session, root handle) error {
	spec := specOf(driver.AES256)
	back, err := d.rewrapped(s, root, spec, spec.template(uses{encrypt: true, decrypt: true}, false, inSession()))
	if err != nil {
		return err
	}
	return errors.Join(tryKey(s, back), s.destroy(back))
}

// syncStore syncs keys that an earlier process may have labeled and not synced.
func (d *Driver) syncStore() error {
	st, err := openStore(d.settings, d.profile)
	if err != nil {
		return err
	}
	defer st.close()
	return st.sync(time.Time{})
}

// sweep deletes objects of a process that was killed during createTenantKey. The caller must hold the pinned lock.
func (d *Driver) sweep() error {
	return d.withStore(false, func(s *session, st *store) error {
		found, err := s.find(onToken())
		if err != nil {
			return err
		}
		var swept int
		for _, h := range found {
			if !d.leftover(s, h) {
				continue
			}
			if err := s.destroy(h); err != nil {
				return fmt.Errorf("delete an unfinished object: %w", err)
			}
			swept++
		}
		if swept > 0 {
			d.log.Warn("deleted unfinished objects from the token", "count", swept)
		}
		return nil
	})
}

// leftover reports whether an object was never completed. It returns false for an object that cannot be read.
func (d *Driver) leftover(s *session, h handle) bool {
	label, err := s.attribute(h, p11.CKA_LABEL)
	if err != nil {
		return false
	}
	if strings.HasPrefix(string(label), provisional) {
		return true
	}
	if !d.profile.SweepNameless || len(label) > 0 {
		return false
	}
	id, err := s.attribute(h, p11.CKA_ID)
	return err == nil && len(id) == 0
}
