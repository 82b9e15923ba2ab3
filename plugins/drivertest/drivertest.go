// Package drivertest is the conformance kit: tests that every Keyside driver must pass, in process, through a process boundary and
// through hsmd. A driver's author calls [Run] from a test, or runs `keyside driver check` on a binary, which calls [Check].
//
// The kit tests what the driver announces in Describe: a capability that is announced must work, and one that is not must be refused
// with Unsupported. No check can be disabled. A check is skipped only if Describe (or the Config, for tenants and Drain) leaves it
// nothing to test; its detail says why.
package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/driverv1"
)

// Config is the input of the kit. Only Driver and Tenant are required.
type Config struct {
	// Driver is the configured driver to test. Nothing else may use it during the test.
	Driver driver.Driver
	// Tenant is the tenant to use. The kit creates its keys if they do not exist, and does not delete them.
	Tenant string
	// OtherTenant, if the caller may use two tenants, is used to check that one tenant cannot use another's keys.
	OtherTenant string
	// UnknownTenant is a tenant without keys, or one that the caller may not use.
	UnknownTenant string
	// Drain makes the kit drain the driver at the end.
	Drain bool
	// Timeout limits each check; zero is two minutes, enough for a slow device to generate RSA keys.
	Timeout time.Duration
	// Progress, if not nil, is called after each check.
	Progress func(Outcome)
}

// T has the methods of *testing.T that Run uses.
type T interface {
	Helper()
	Context() context.Context
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
}

// Run runs the kit as part of a test.
func Run(t T, cfg Config) {
	t.Helper()
	for _, o := range Check(t.Context(), cfg).Outcomes {
		switch o.Status {
		case Fail:
			t.Errorf("%s: %s", o.Name, o.Detail)
		case Skip:
			t.Logf("%s: skipped: %s", o.Name, o.Detail)
		case Pass:
			t.Logf("%s: pass (%s)", o.Name, o.Took.Round(time.Millisecond))
		}
	}
}

// suite is one run of the kit.
type suite struct {
	Config
	desc   *driver.Description
	tenant *driver.Tenant
	report *Report

	mu      sync.Mutex
	keys    map[kind]func() (*testKey, error) // each makes the key once
	publics map[string][]byte                 // SubjectPublicKeyInfo of keys that the driver generated, by key id
	secrets [][]byte                          // plaintext and material, which no error text may contain
}

// check is one named test of the kit.
type check struct {
	name string
	run  func(*suite, *probe)
}

// Check runs the kit and returns its report. A panic of the driver is a failure of the check.
func Check(ctx context.Context, cfg Config) *Report {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.UnknownTenant == "" {
		cfg.UnknownTenant = "drivertest-unknown"
	}
	s := &suite{Config: cfg, report: &Report{}, keys: map[kind]func() (*testKey, error){}, publics: map[string][]byte{}}
	if !s.run(ctx, check{"start", (*suite).start}) {
		return s.report
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	made := s.makeKeysAhead(ctx)
	for _, c := range slices.Concat(describeChecks, tenantChecks, keyChecks, cipherChecks, decryptChecks, signChecks, macChecks,
		randomChecks, sealChecks, argumentChecks, importChecks, lifeChecks) {
		s.run(ctx, c)
	}
	made.Wait()
	s.run(ctx, check{"drain", (*suite).checkDrain})
	return s.report
}

// start describes the driver and creates the tenants.
func (s *suite) start(p *probe) {
	p.fatalIf(s.Driver == nil, "config has no driver")
	var err error
	s.desc, err = s.Driver.Describe(p.ctx)
	p.must(err, "describe")
	s.tenant, err = s.Driver.InitTenant(p.ctx, &driver.InitTenantRequest{Tenant: s.Tenant})
	p.must(err, "init tenant %q", s.Tenant)
	if s.OtherTenant != "" {
		_, err = s.Driver.InitTenant(p.ctx, &driver.InitTenantRequest{Tenant: s.OtherTenant})
		p.must(err, "init tenant %q", s.OtherTenant)
	}
}

// run runs one check and reports whether it did not fail.
func (s *suite) run(ctx context.Context, c check) bool {
	ctx, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	p := &probe{ctx: ctx, secrets: s.knownSecrets}
	start := time.Now()
	p.contain(func() { c.run(s, p) })
	o := p.outcome()
	o.Name, o.Took = c.name, time.Since(start)
	s.report.Outcomes = append(s.report.Outcomes, o)
	if s.Progress != nil {
		s.Progress(o)
	}
	return o.Status != Fail
}

// secret notes plaintext or material, which no later error text may contain.
func (s *suite) secret(b []byte) []byte {
	if len(b) >= 8 { // shorter strings occur by chance
		s.mu.Lock()
		s.secrets = append(s.secrets, slices.Clone(b))
		s.mu.Unlock()
	}
	return b
}

func (s *suite) knownSecrets() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clip(s.secrets)
}

// do runs one operation for the tenant under test.
func (s *suite) do(ctx context.Context, op *driver.Op) (*driver.Result, error) {
	return s.Driver.Execute(ctx, s.Tenant, op)
}

// mustDo is do for an operation that must succeed.
func (s *suite) mustDo(p *probe, op *driver.Op) *driver.Result {
	res, err := s.do(p.ctx, op)
	p.must(err, "%s", op.GetKind())
	p.fatalIf(res == nil, "%s answered neither a result nor an error", op.GetKind())
	p.fatalIf(res.GetError() != nil, "%s answered an error inside its result", op.GetKind())
	return res
}

// refuse runs an operation for the tenant under test that must fail with one of the codes.
func (s *suite) refuse(p *probe, op *driver.Op, codes []driver.Code, format string, args ...any) {
	p.refused(errorOf(s.do(p.ctx, op)), codes, format, args...)
}

// refuseOthers runs an operation with every algorithm that is not announced.
func (s *suite) refuseOthers(p *probe, announced []driver.Algorithm, what string, op func(driver.Algorithm) *driver.Op) {
	for number := range driverv1.Algorithm_name {
		if a := driver.Algorithm(number); !slices.Contains(announced, a) {
			s.refuse(p, op(a), only(driver.InvalidArgument, driver.Unsupported), "%s with %s", what, a)
		}
	}
}

// parallel runs fn n times at once and waits; the errors of all are a failure.
func parallel(p *probe, n int, fn func(i int) error) {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			defer recovered(&errs[i])
			errs[i] = fn(i)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		p.Errorf("%v", err)
	}
}

// recovered, deferred, turns a panic into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("panicked: %v", r)
	}
}
