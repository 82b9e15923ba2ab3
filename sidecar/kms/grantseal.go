package kms

import (
	"context"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/keyside/keyside/policy"
)

// A grant carries the tenant's MAC over its content, which only the HSM can compute. An attacker that writes to the database
// can delete grants, or restore a revoked one, but cannot create or change one. The MAC is computed when the grant is issued
// and checked once, at start; later changes in memory are our own. The time of creation is not covered, because it allows
// nothing.
const grantDomain = "keyside grant v1\x00"

// sealedGrant returns what the MAC of a grant covers: the domain, then every field, each text and list with its length.
func sealedGrant(g *policy.Grant) []byte {
	c := &g.Constraints
	b := append([]byte(grantDomain), g.Key[:]...)
	for _, text := range []string{g.ID, g.Name, g.Grantee, g.Retiring, g.Issuer, g.Parent, string(c.Source)} {
		b = appendText(b, text)
	}
	b = append(b, bit(g.Account), bit(c.Exact))
	b = binary.BigEndian.AppendUint64(b, uint64(c.Expires.UnixMilli())) // long ago for grants that do not expire
	b = binary.BigEndian.AppendUint32(b, uint32(len(g.Operations)))
	for _, op := range g.Operations {
		b = appendText(b, string(op))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.Context)))
	for _, name := range slices.Sorted(maps.Keys(c.Context)) {
		b = appendText(appendText(b, name), c.Context[name])
	}
	return b
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// sealGrant has the HSM authenticate a grant.
func (s *Service) sealGrant(ctx context.Context, g *policy.Grant) error {
	mac, err := s.tenantMAC(ctx, sealedGrant(g))
	if err == nil {
		copy(g.Seal[:], mac)
	}
	return err
}

// checkAtOnce is the number of grants that the HSM authenticates concurrently.
const checkAtOnce = 16

// CheckGrants checks the seals of all grants, before requests are served. It returns an error if one is not authentic.
func (s *Service) CheckGrants(ctx context.Context) error {
	all, _ := s.store.FindGrants(func(*policy.Grant) bool { return true }, 0, math.MaxInt)
	var wg sync.WaitGroup
	faults := make([]error, checkAtOnce)
	for i := range faults {
		wg.Go(func() {
			for at := i; at < len(all) && faults[i] == nil; at += checkAtOnce {
				faults[i] = s.checkGrant(ctx, all[at])
			}
		})
	}
	wg.Wait()
	return errors.Join(faults...)
}

func (s *Service) checkGrant(ctx context.Context, g *policy.Grant) error {
	mac, err := s.tenantMAC(ctx, sealedGrant(g))
	if err != nil {
		return fmt.Errorf("look at the seal of grant %s: %w", g.ID, err)
	}
	if subtle.ConstantTimeCompare(mac, g.Seal[:]) != 1 {
		return fmt.Errorf("grant %s on key %s was not made by this tenant, or was changed in the database: restore the database from a backup", g.ID, KeyID(g.Key))
	}
	return nil
}
