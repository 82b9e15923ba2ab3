// Package drivertest is the conformance kit: the tests that every Keyside driver passes, in process, through a process
// boundary and through hsmd. A driver's author calls [Run] from a test, or `keyside driver check` on a binary, which is
// [Check].
//
// Everything follows from what the driver says in Describe: a capability that it announces must work, and one that it
// does not announce must be refused with Unsupported. So there is nothing to switch off: a check is skipped only because
// Describe (or the Config, for tenants and Drain) leaves it nothing to do, and its detail says so.
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

// Config is what the kit needs. The zero value of every field but Driver and Tenant is good.
type Config struct {
	// Driver is tested. It is configured and nobody else uses it meanwhile.
	Driver driver.Driver
	// Tenant gets its keys from the kit if it has none yet. Nothing is deleted at the end.
	Tenant string
	// OtherTenant, where the caller may have two, is used to show that one tenant's keys are of no use to another.
	OtherTenant string
	// UnknownTenant is a name that has no keys, or is not the caller's.
	UnknownTenant string
	// Drain ends the kit with Drain, after which the driver is of no use.
	Drain bool
	// Timeout bounds each check; zero is two minutes, enough for a slow device to make RSA keys.
	Timeout time.Duration
	// Progress, if not nil, is called as each check ends.
	Progress func(Outcome)
}

// T is what Run needs of *testing.T.
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
			t.Logf("%s: left out: %s", o.Name, o.Detail)
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
	keys    map[kind]*pendingKey
	publics map[string][]byte // SubjectPublicKeyInfo of what the driver made, by key id
	secrets [][]byte          // what no error text may hold
}

// check is one named part of the kit.
type check struct {
	name string
	run  func(*suite, *probe)
}

// Check runs the kit and reports. It never panics, whatever the driver does in this process.
func Check(ctx context.Context, cfg Config) *Report {
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.UnknownTenant == "" {
		cfg.UnknownTenant = "drivertest-unknown"
	}
	s := &suite{Config: cfg, report: &Report{}, keys: map[kind]*pendingKey{}, publics: map[string][]byte{}}
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

// start learns what the rest of the kit stands on.
func (s *suite) start(p *probe) {
	if s.Driver == nil {
		p.Fatalf("config has no driver")
	}
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

// run runs one check and reports whether it went without failure.
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

// secret remembers plaintext or material, which from now on no error text may hold.
func (s *suite) secret(b []byte) []byte {
	if len(b) >= 8 { // shorter ones turn up by chance
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

// mustDo is do for an operation that has to work.
func (s *suite) mustDo(p *probe, op *driver.Op) *driver.Result {
	res, err := s.do(p.ctx, op)
	p.must(err, "%s", op.GetKind())
	if res == nil {
		p.Fatalf("%s answered neither a result nor an error", op.GetKind())
	}
	if res.GetError() != nil {
		p.Fatalf("%s answered an error inside its result", op.GetKind())
	}
	return res
}

// refuse runs an operation for the tenant under test that must fail with one of the codes.
func (s *suite) refuse(p *probe, op *driver.Op, codes []driver.Code, format string, args ...any) {
	_, err := s.do(p.ctx, op)
	p.refused(err, codes, format, args...)
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
			defer func() {
				if r := recover(); r != nil {
					errs[i] = fmt.Errorf("panicked: %v", r)
				}
			}()
			errs[i] = fn(i)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		p.Errorf("%v", err)
	}
}
