package hsmd

import (
	"bytes"
	"context"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// Which member serves which tenant. Members fail over for each other only if they hold the same keys of a tenant, because a seal made
// under one root opens under no other. Equal audit public keys show that. The first key seen for a tenant counts until the Mux
// closes. A single member serves every tenant.

// presence says whether a member has a tenant's keys.
type presence uint8

const (
	unknown    presence = iota
	present             // it has the tenant's keys
	absent              // it has none
	mismatched          // it has other keys under that name, or only some of them
)

type presences struct {
	auditKey []byte
	at       map[*instance]presence
}

// askTimeout limits one DescribeTenant; askAgain is the pause after a failed one.
const (
	askTimeout = 10 * time.Second
	askAgain   = time.Second
)

// tenant returns the queue's record of a tenant and creates it if it does not exist. The caller must hold x.mu.
func (x *Mux) tenant(name string) *tenant {
	t := x.tenants[name]
	if t == nil {
		t = &tenant{name: name, presences: presences{at: map[*instance]presence{}}}
		x.tenants[name] = t
		if len(x.members) > 1 && name != "" {
			for _, l := range x.ready {
				go x.ask(l, t)
			}
		}
	}
	return t
}

// serves reports whether a member may run a tenant's calls. The caller must hold x.mu.
func (x *Mux) serves(l *instance, t *tenant) bool {
	if len(x.members) == 1 || t.name == "" {
		return true
	}
	if t.presences.auditKey != nil {
		return t.presences.at[l] == present
	}
	// No member has the tenant: the first ready one answers with TenantUnknown, or creates the tenant.
	for _, other := range x.ready {
		if t.presences.at[other] == unknown {
			return false
		}
	}
	return l == x.ready[0]
}

// discover asks a new member which known tenants it has. The caller must hold x.mu.
func (x *Mux) discover(l *instance) {
	if len(x.members) == 1 {
		return
	}
	for _, t := range x.tenants {
		if t.name != "" {
			go x.ask(l, t)
		}
	}
}

// forget drops the answers of a member that ended. The caller must hold x.mu.
func (x *Mux) forget(l *instance) {
	for _, t := range x.tenants {
		delete(t.presences.at, l)
	}
}

// ask asks a member about a tenant until it answers or ends.
func (x *Mux) ask(l *instance, t *tenant) {
	for {
		ctx, cancel := context.WithTimeout(x.ctx, askTimeout)
		res, err := l.backend.DescribeTenant(ctx, &driver.DescribeTenantRequest{Tenant: t.name})
		cancel()
		if x.settle(l, t, res, err) {
			x.pump(nil)
			return
		}
		pause := time.NewTimer(askAgain)
		select {
		case <-pause.C:
		case <-l.gone:
			return
		case <-x.ctx.Done():
			return
		}
	}
}

// settle records a member's answer about a tenant. It returns false if err is no answer.
func (x *Mux) settle(l *instance, t *tenant, res *driver.Tenant, err error) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l.ejected {
		return true
	}
	h := &t.presences
	switch driver.CodeOf(err) {
	case 0:
		key := res.GetAuditPublicKey()
		if h.auditKey == nil && len(key) > 0 {
			h.auditKey = bytes.Clone(key)
		}
		h.at[l] = present
		if len(key) == 0 || !bytes.Equal(h.auditKey, key) {
			h.at[l] = mismatched
			l.member.log.Error("member has other keys of this tenant than the first member, and gets none of its calls", "tenant", t.name)
		}
	case driver.TenantUnknown:
		h.at[l] = absent
	case driver.KeyUnavailable:
		h.at[l] = mismatched
		l.member.log.Error("member lacks some keys of this tenant, and gets none of its calls", "tenant", t.name)
	default:
		return false
	}
	return true
}

// made records that a member created a tenant, and asks the other members again.
func (x *Mux) made(l *instance, res *driver.Tenant) {
	if len(x.members) == 1 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.tenant(res.GetName())
	if t.presences.auditKey == nil {
		t.presences.auditKey = bytes.Clone(res.GetAuditPublicKey())
		t.presences.at[l] = present
	}
	for _, other := range x.ready {
		if other != l {
			go x.ask(other, t)
		}
	}
}
