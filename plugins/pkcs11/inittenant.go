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

// provisional begins the label of a lasting key until it is whole, in use and on disk.
const provisional = "keyside-unfinished/"

// InitTenant implements driver.Driver. A key gets its label last: whatever a kill leaves behind has none, or a
// provisional one, and is swept at the next start.
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

// withStore runs fn on a session that may write, while no other driver process writes to the same store. If it may not
// wait and another does, fn is not run.
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

// completeTenant makes the keys of a tenant that are missing.
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
		d.log.Info("tenant key made", "tenant", name, "purpose", purpose)
	}
	return nil
}

// createTenantKey makes a key that stays on the token: under a provisional label, read back, used once, synced to disk, and
// only then under its name.
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

// labelTenantKey gives a new key its name, under which others may find it and use it at once. So it is never destroyed from here
// on: whatever fails, the process ends, and the next one syncs the key, or sweeps it if it has no name, before it does
// anything else.
func (d *Driver) labelTenantKey(s *session, st *store, h handle, tenant, label string, since time.Time) error {
	err := s.setAttribute(h, p11.CKA_LABEL, label)
	if err == nil {
		var ok bool
		if _, _, ok, err = d.partOf(s, h, tenant); err == nil && !ok {
			err = errors.New("it does not read back")
		}
	}
	if err == nil {
		err = st.sync(since)
	}
	if err == nil {
		return nil
	}
	err = driver.Errorf(driver.Device, "name the new key %s: %v", label, err) // without the cause, for which this process would try again
	d.stopProcess(err)
	return err
}

// generateTenantKey generates the object, and returns the public key of a pair.
func (d *Driver) generateTenantKey(s *session, label, purpose string) (h handle, public []byte, err error) {
	key := tenantPurposes[purpose]
	spec := specOf(key.spec)
	template := spec.template(key.uses, false, onToken(), p11.NewAttribute(p11.CKA_LABEL, provisional+rand.Text()+"/"+label),
		p11.NewAttribute(p11.CKA_ID, labelID(label)))
	return generateObject(s, spec, template)
}

// tryTenantKey does with a new key what it is for.
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

// useRoot wraps a key, unwraps it, and uses what came out.
func (d *Driver) useRoot(s *session, root handle) error {
	spec := specOf(driver.AES256)
	both := uses{encrypt: true, decrypt: true}
	temp, err := s.generate(spec.generate, spec.template(both, true, inSession(), p11.NewAttribute(p11.CKA_VALUE_LEN, spec.Size())))
	if err != nil {
		return err
	}
	wrapped, err := s.wrap(d.profile.Wrap.Mechanism, root, temp)
	if err = errors.Join(err, s.destroy(temp)); err != nil {
		return err
	}
	back, err := s.unwrap(mechanism{id: d.profile.Wrap.Mechanism}, root, wrapped, spec.template(both, false, inSession()))
	if err != nil {
		return err
	}
	return errors.Join(tryKey(s, back), s.destroy(back))
}

// syncStore writes to disk what a former process may have named and not synced.
func (d *Driver) syncStore() error {
	st, err := openStore(d.settings, d.profile)
	if err != nil {
		return err
	}
	defer st.close()
	return st.sync(time.Time{})
}

// sweep removes what a kill in the midst of createTenantKey left. The pinned lock is held.
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
				return fmt.Errorf("sweep: %w", err)
			}
			swept++
		}
		if swept > 0 {
			d.log.Warn("swept unfinished objects from the token", "count", swept)
		}
		return nil
	})
}

// leftover reports whether an object is one that was never finished. What cannot be read is left alone.
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
