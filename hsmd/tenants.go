package hsmd

import (
	"bytes"
	"context"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// Which member serves which tenant. Members fail over for each other only where they hold the same keys of a tenant,
// which its audit public key shows: a seal made under one root opens under no other. The first key seen for a tenant
// counts for the life of the Mux. With one member there is nothing to find out.

// home says what a member knows of a tenant.
type home uint8

const (
	unasked home = iota
	here         // it has the tenant's keys
	absent       // it has none
	foreign      // it has other keys under that name, or only some of them
)

type homes struct {
	auditKey []byte
	at       map[*life]home
}

// askTimeout bounds one DescribeTenant; askAgain is the pause after one that failed.
const (
	askTimeout = 10 * time.Second
	askAgain   = time.Second
)

// tenant returns the queue's record of a tenant, new if need be; the lock is held.
func (x *Mux) tenant(name string) *tenant {
	t := x.tenants[name]
	if t == nil {
		t = &tenant{name: name, homes: homes{at: map[*life]home{}}}
		x.tenants[name] = t
		if len(x.members) > 1 && name != "" {
			for _, l := range x.ready {
				go x.ask(l, t)
			}
		}
	}
	return t
}

// serves reports whether a member may do a tenant's work; the lock is held.
func (x *Mux) serves(l *life, t *tenant) bool {
	if len(x.members) == 1 || t.name == "" {
		return true
	}
	if t.homes.auditKey != nil {
		return t.homes.at[l] == here
	}
	// Nobody has the tenant: one member answers for all, with TenantUnknown or by making it.
	for _, other := range x.ready {
		if t.homes.at[other] == unasked {
			return false
		}
	}
	return l == x.ready[0]
}

// meet finds out which known tenants a new member has; the lock is held.
func (x *Mux) meet(l *life) {
	if len(x.members) == 1 {
		return
	}
	for _, t := range x.tenants {
		if t.name != "" {
			go x.ask(l, t)
		}
	}
}

// forget drops a dead member's answers; the lock is held.
func (x *Mux) forget(l *life) {
	for _, t := range x.tenants {
		delete(t.homes.at, l)
	}
}

// ask asks a member about a tenant until it answers or is gone.
func (x *Mux) ask(l *life, t *tenant) {
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

// settle records a member's answer about a tenant; false means that it gave none.
func (x *Mux) settle(l *life, t *tenant, res *driver.Tenant, err error) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if l.condemned {
		return true
	}
	h := &t.homes
	switch driver.CodeOf(err) {
	case 0:
		key := res.GetAuditPublicKey()
		if h.auditKey == nil && len(key) > 0 {
			h.auditKey = bytes.Clone(key)
		}
		h.at[l] = here
		if len(key) == 0 || !bytes.Equal(h.auditKey, key) {
			h.at[l] = foreign
			l.member.log.Error("member holds other keys of this tenant than the first and gets none of its work", "tenant", t.name)
		}
	case driver.TenantUnknown:
		h.at[l] = absent
	case driver.KeyUnavailable:
		h.at[l] = foreign
		l.member.log.Error("member lacks some keys of this tenant and gets none of its work", "tenant", t.name)
	default:
		return false
	}
	return true
}

// made records that a tenant was made on a member, so that the others are asked again.
func (x *Mux) made(l *life, res *driver.Tenant) {
	if len(x.members) == 1 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	t := x.tenant(res.GetName())
	if t.homes.auditKey == nil {
		t.homes.auditKey = bytes.Clone(res.GetAuditPublicKey())
		t.homes.at[l] = here
	}
	for _, other := range x.ready {
		if other != l {
			go x.ask(other, t)
		}
	}
}
