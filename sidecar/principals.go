package sidecar

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Principal is the identity of certain processes on the Unix socket. It has a role, or is a cloud service, or has neither and may do what
// grants and policies allow. If several select a process, the first counts.
type Principal struct {
	Name          string      `yaml:"name"`
	UID           int64       `yaml:"uid"`           // the selector uid:N, in short
	Selectors     []string    `yaml:"selectors"`     // of the processes; all must match (policy.Source)
	Account       string      `yaml:"account"`       // that it belongs to; empty: huawei.domain_id
	Role          policy.Role `yaml:"role"`          // administrator, user, auditor or none
	Administrator bool        `yaml:"administrator"` // the role administrator, as files before roles have it
	Service       string      `yaml:"service"`       // obs, evs, ims, …: may use its default master key, NAME/default, and what grants and policies allow
}

// UnmarshalYAML makes a missing uid a fault: it must not mean root by accident.
func (p *Principal) UnmarshalYAML(n *yaml.Node) error {
	type plain Principal
	q := plain{UID: unset}
	if err := decodeStrict(n, &q); err != nil {
		return err
	}
	*p = Principal(q)
	return nil
}

// ownerName is the owner's name in records.
const ownerName = "owner"

// users maps callers to principals: first the owner, by uid, then the configured principals.
func (c *Config) users() *policy.Users {
	list := []policy.User{{Source: uidSource(c.Owner), Principal: policy.Principal{Name: ownerName, Role: policy.Administrator}}}
	for i := range c.Principals {
		p := &c.Principals[i]
		source, _ := p.source() // which Validate has looked at
		list = append(list, policy.User{Source: source, Principal: p.principal()})
	}
	return policy.NewUsers(list...)
}

func uidSource(uid int64) policy.Source { return policy.Source("uid:" + strconv.FormatInt(uid, 10)) }

// source is what selects the processes.
func (p *Principal) source() (policy.Source, error) {
	selectors := p.Selectors
	if p.UID != unset {
		selectors = append(slices.Clone(selectors), string(uidSource(p.UID)))
	}
	return policy.ParseSource(selectors...)
}

func (p *Principal) principal() policy.Principal {
	return policy.Principal{Name: p.Name, Account: p.Account, Role: p.role(), Service: p.Service}
}

// noRole is how a file says that a principal has no role.
const noRole = "none"

func (p *Principal) role() policy.Role {
	switch {
	case p.Administrator && p.Role == policy.None:
		return policy.Administrator
	case p.Role == noRole:
		return policy.None
	}
	return p.Role
}

// principalNamed returns the principal that the configuration has by a name.
func (c *Config) principalNamed(name string) (policy.Principal, bool) {
	if name == ownerName {
		return policy.Principal{Name: ownerName, Role: policy.Administrator}, true
	}
	for i := range c.Principals {
		if c.Principals[i].Name == name {
			return c.Principals[i].principal(), true
		}
	}
	return policy.Principal{}, false
}

// accounts are those that principals belong to.
func (c *Config) accounts() (names []string) {
	for _, p := range c.Principals {
		if p.Account != "" {
			names = append(names, p.Account)
		}
	}
	return names
}

// checkPrincipals refuses principals that could be mistaken for others.
func (c *Config) checkPrincipals(check func(ok bool, key, format string, args ...any)) {
	names := map[string]bool{ownerName: true}
	for i := range c.Principals {
		p, key := &c.Principals[i], fmt.Sprintf("principals[%d].", i)
		err := kms.CheckUser(p.Name)
		check(err == nil, key+"name", "must be 1 to 64 letters, digits and any of . _ @ -, the first a letter or digit")
		check(!names[p.Name], key+"name", "%q is taken", p.Name)
		check(p.Account == "" || dialect.IsName(p.Account), key+"account", "must be 1 to 64 letters, digits, - and _")
		check(p.Service == "" || kms.CheckService(p.Service) == nil, key+"service", "must be 1 to 32 of a-z, 0-9 and -, the first a letter")
		check(slices.Contains(policy.Roles, p.role()), key+"role", "must be administrator, user, auditor or none")
		check(!p.Administrator || p.Role == policy.None || p.Role == policy.Administrator, key+"administrator", "is not the role %s", p.Role)
		check(p.Service == "" || p.role() == policy.None, key+"service", "a service has no other role")
		c.checkSelectors(i, check)
		names[p.Name] = true
	}
}

// checkSelectors refuses selectors that are malformed, or that select only processes of an earlier principal.
func (c *Config) checkSelectors(i int, check func(ok bool, key, format string, args ...any)) {
	p, key := &c.Principals[i], fmt.Sprintf("principals[%d].", i)
	at := key + "selectors" // the key that a fault of all of them is at
	if len(p.Selectors) == 0 {
		at = key + "uid"
	}
	if p.UID == unset && len(p.Selectors) == 0 {
		check(false, at, "a uid, or selectors, are required")
		return
	}
	if p.UID != unset && !isUID(p.UID) {
		check(false, key+"uid", "must be a uid")
		return
	}
	source, err := p.source()
	if err != nil {
		check(false, at, "%v", err)
		return
	}
	for _, selector := range source.Selectors() {
		kind, number, _ := strings.Cut(selector, ":")
		check(selector != "uid:"+strconv.FormatUint(uint64(peer.OverflowUID()), 10), at, overflowText, kind, number)
		check(selector != "gid:"+strconv.FormatUint(uint64(peer.OverflowGID()), 10), at, overflowText, kind, number)
	}
	if source.Within(uidSource(c.Owner)) {
		check(false, at, "uid %d is the owner's alone", c.Owner)
		return
	}
	for j := range c.Principals[:i] {
		earlier, err := c.Principals[j].source()
		if err == nil && earlier != "" && source.Within(earlier) {
			check(false, at, "every process that this selects is %s already, by principals[%d]", c.Principals[j].Name, j)
			return
		}
	}
}

// overflowText says why a principal cannot have the kernel's overflow ids.
const overflowText = "%[1]s %[2]v stands for all users without a number in a user namespace (/proc/sys/kernel/overflow%[1]s), so it identifies none"

// isUID reports whether a number can be a user's: the highest one stands for none (chown(2)).
func isUID(uid int64) bool { return uid >= 0 && uid < policy.NoID }

// warnOfNamesakes says which access keys have the name of a principal with other rights: none is made, but the configuration
// can give a name that one has. Grants to the name are then both's.
func (p *process) warnOfNamesakes(ctx context.Context) error {
	credentials, err := p.store.ListCredentials(ctx)
	for _, c := range credentials {
		if known, ok := p.cfg.principalNamed(c.User); ok && (known.Role != c.Role || known.Service != c.Service) {
			p.log.Warn("an access key has the name of a principal with another role, and its grants", slog.String("access_key", c.AccessKey), slog.String("user", c.User))
		}
	}
	return err
}

// warnOfConflicts says which keys have names that mean the same as those of other keys. None is made, but databases of earlier
// versions can have some.
func (p *process) warnOfConflicts() {
	for _, id := range p.store.ConflictingNames() {
		p.log.Warn("a key has a name that means the same as one of another key; keyside key describe shows both", slog.String("key_id", id.String()))
	}
}
