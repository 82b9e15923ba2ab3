package drivertest

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

var lifeChecks = []check{
	{"deadline/passed", (*suite).checkDeadlinePassed},
	{"deadline/honored", (*suite).checkDeadlineHonored},
	{"concurrency", (*suite).checkConcurrency},
	{"status", (*suite).checkStatus},
	{"health", (*suite).checkHealth},
	{"watch", (*suite).checkWatch},
}

// returnLimit is how long a call may take to return once its context has ended.
const returnLimit = 5 * time.Second

// within ends the check if fn takes longer than returnLimit.
func within(p *probe, what string, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		var err error
		defer func() { done <- err }()
		defer recovered(&err)
		err = fn()
	}()
	timer := time.NewTimer(returnLimit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		p.Fatalf("%s did not return within %s of its context's end", what, returnLimit)
		return nil
	}
}

func (s *suite) checkDeadlinePassed(p *probe) {
	passed, cancel := context.WithDeadline(p.ctx, time.Now().Add(-time.Second))
	defer cancel()
	late := only(driver.Deadline)
	for _, k := range s.samples() {
		key := s.mustShare(p, k)
		use := within(p, "an operation", func() error { return s.exercise(passed, s.Tenant, key.id, key.sealed.GetSealed()) })
		p.refused(use, late, "use %s after the deadline", k)
		p.refused(within(p, "make", func() error { return errorOf(s.make(passed, k)) }), late, "make %s after the deadline", k)
	}
	p.refused(within(p, "random", func() error { return errorOf(s.do(passed, randomOp(16))) }), late, "random after the deadline")
	p.must(s.Driver.Health(p.ctx, s.Tenant), "health after passed deadlines")
}

// checkDeadlineHonored gives the slowest key generation a millisecond.
func (s *suite) checkDeadlineHonored(p *probe) {
	slowest := s.kinds()[len(s.kinds())-1]
	ctx, cancel := context.WithTimeout(p.ctx, time.Millisecond)
	defer cancel()
	err := within(p, "make", func() error { return errorOf(s.make(ctx, slowest)) })
	if err != nil {
		p.refused(err, only(driver.Deadline), "make %s in a millisecond", slowest)
	}
	p.must(s.Driver.Health(p.ctx, s.Tenant), "health after a deadline")
}

// checkConcurrency runs mixed operations from many goroutines, each of which checks its answers.
func (s *suite) checkConcurrency(p *probe) {
	const goroutines, rounds = 32, 12
	var keys []*testKey
	for _, k := range append(s.samples(), firstOf(s.kinds(), kind.decryptsRSA)...) {
		keys = append(keys, s.mustShare(p, k))
	}
	parallel(p, goroutines, func(g int) error {
		for round := range rounds {
			if err := s.mixed(p.ctx, keys[(g+round)%len(keys)], g*rounds+round); err != nil {
				return err
			}
		}
		return nil
	})
}

// retryBusy repeats a call while it returns Busy.
func retryBusy(ctx context.Context, fn func() error) error {
	for {
		err := fn()
		var e *driver.Error
		if !errors.As(err, &e) || e.Code != driver.Busy {
			return err
		}
		pause := time.NewTimer(max(e.RetryAfter, time.Millisecond))
		select {
		case <-ctx.Done():
			pause.Stop()
			return err
		case <-pause.C:
		}
	}
}

func (s *suite) mixed(ctx context.Context, key *testKey, n int) error {
	return retryBusy(ctx, func() error {
		k := kind{key.id.GetSpec(), key.id.GetUsage()}
		switch {
		case k.decryptsRSA():
			return s.mixedRSA(ctx, key, n)
		case k.usage == driver.EncryptDecrypt:
			return s.mixedCipher(ctx, key, n)
		case k.usage == driver.GenerateVerifyMAC:
			data, a := fmt.Appendf(nil, "%s %d", marker, n), s.algorithms(k)[0]
			out, err := s.do(ctx, macOp(key, a, data))
			if err != nil {
				return err
			}
			res, err := s.do(ctx, verifyMACOp(key, a, data, out.GetData()))
			if err == nil && !res.GetValid() {
				err = errors.New("a mac does not verify while others are made")
			}
			return err
		case k.usage == driver.SignVerify:
			a := s.algorithms(k)[0]
			d := digest(a, fmt.Sprint(n))
			out, err := s.do(ctx, signOp(key, a, d))
			if err != nil {
				return err
			}
			return verify(key.sealed.GetPublicKey(), a, d, out.GetData())
		}
		return s.exercise(ctx, s.Tenant, key.id, key.sealed.GetSealed())
	})
}

func (s *suite) mixedRSA(ctx context.Context, key *testKey, n int) error {
	a := s.algorithms(kind{key.id.GetSpec(), key.id.GetUsage()})[0]
	data := fmt.Appendf(nil, "%s %d", marker, n)
	pub, err := publicOf[*rsa.PublicKey](key.sealed.GetPublicKey())
	if err != nil {
		return err
	}
	block, err := encryptRSA(a, pub, data)
	if err != nil {
		return err
	}
	return s.decrypts(ctx, decryptRSAOp(key, a, block), data)
}

// decrypts returns an error unless op answers the plaintext.
func (s *suite) decrypts(ctx context.Context, op *driver.Op, plaintext []byte) error {
	res, err := s.do(ctx, op)
	if err == nil && !bytes.Equal(res.GetData(), plaintext) {
		err = errors.New("another's plaintext came back")
	}
	return err
}

func (s *suite) mixedCipher(ctx context.Context, key *testKey, n int) error {
	if n%8 == 0 { // every eighth time with a new key
		fresh, err := s.make(ctx, kind{key.id.GetSpec(), key.id.GetUsage()})
		if err != nil {
			return err
		}
		key = fresh
	}
	data, aad := fmt.Appendf(nil, "%s %d", marker, n), fmt.Appendf(nil, "%d", n)
	out, err := s.do(ctx, encryptOp(key, bytes.Clone(data), aad))
	if err != nil {
		return err
	}
	return s.decrypts(ctx, decryptOp(key, out, aad), data)
}

var states = []string{"ready", "starting", "draining", "down"}

func (s *suite) checkStatus(p *probe) {
	members, err := s.Driver.Status(p.ctx)
	p.must(err, "status")
	ready := false
	for _, m := range members {
		p.errorIf(m.GetName() == "" || !slices.Contains(states, m.GetState()), "member %q in state %q", m.GetName(), m.GetState())
		ready = ready || m.GetState() == "ready"
	}
	p.errorIf(!ready, "no member of %d is ready", len(members))
}

func (s *suite) checkHealth(p *probe) {
	p.must(s.Driver.Health(p.ctx, s.Tenant), "health of the tenant")
	p.must(s.Driver.Health(p.ctx, ""), "health of any tenant")
	p.refused(s.Driver.Health(p.ctx, s.UnknownTenant), only(driver.TenantUnknown), "health of an unknown tenant")
}

func (s *suite) checkWatch(p *probe) {
	ctx, cancel := context.WithCancel(p.ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Driver.Watch(ctx, func(*driver.Event) {}) }()
	p.must(s.Driver.Health(p.ctx, s.Tenant), "health beside a watch")
	select {
	case err := <-ended:
		p.Errorf("watch ended on its own: %v", err)
		ended <- err
	default:
	}
	cancel()
	if err := within(p, "watch", func() error { return <-ended }); err != nil {
		p.refused(err, only(driver.Deadline), "watch after its context's end")
	}
}

// checkDrain drains while operations are in flight: they must be answered, and later ones refused.
func (s *suite) checkDrain(p *probe) {
	p.skipIf(!s.Config.Drain, "the config does not ask for it")
	gone := only(driver.Lost, driver.Busy, driver.KeyUnavailable)
	started, results := make(chan struct{}, 64), make(chan error, 64)
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			started <- struct{}{}
			results <- errorOf(s.do(p.ctx, &driver.Op{Kind: driver.TenantMAC, Data: []byte("x")}))
		})
	}
	for range 8 {
		<-started
	}
	p.must(s.Driver.Drain(p.ctx), "drain")
	wg.Wait()
	close(results)
	for err := range results {
		if err != nil {
			p.refused(err, gone, "an operation beside drain")
		}
	}
	s.refuse(p, &driver.Op{Kind: driver.TenantMAC, Data: []byte("x")}, gone, "an operation after drain")
}
