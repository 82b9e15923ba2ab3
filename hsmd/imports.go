package hsmd

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// ImportsConfig limits the imports of one tenant that fail because of their material. An attacker who sends chosen RSA blocks and
// learns something from each answer needs many: about 14,500 blocks open one of another user, if every answer tells whether
// its PKCS #1 v1.5 padding was good (Bardou et al. 2012, "Efficient Padding Oracle Attacks on Cryptographic Hardware").
type ImportsConfig struct {
	// Failures is how many imports of a tenant may fail at once, default 100. Negative means any number.
	Failures int `yaml:"failures,omitempty"`
	// Every is the interval at which one more may fail, default 6s.
	Every time.Duration `yaml:"every,omitempty"`
}

const (
	defaultFailures = 100
	// defaultEvery leaves an attacker 14,400 blocks in the 24 hours for which a wrapping key is valid.
	defaultEvery = 6 * time.Second
)

func (c *ImportsConfig) complete() {
	c.Failures = cmp.Or(c.Failures, defaultFailures)
	c.Every = cmp.Or(c.Every, defaultEvery)
}

func (c *ImportsConfig) validate() error {
	if c.Every < 0 {
		return errors.New("every is negative")
	}
	return nil
}

// failedImports counts the failed imports of each tenant. The zero value has no limit.
type failedImports struct {
	limit ImportsConfig
	mu    sync.Mutex
	free  map[string]time.Time // when each tenant has all its failures again
}

// take counts an import as failed before it runs. If the tenant has no failure left, it returns how long until there is one. last
// reports whether this was the last one.
func (f *failedImports) take(tenant string, now time.Time) (wait time.Duration, last bool) {
	if f.limit.Failures <= 0 {
		return 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.free == nil {
		f.free = map[string]time.Time{}
	}
	most := time.Duration(f.limit.Failures) * f.limit.Every
	free := f.free[tenant]
	if free.Before(now) {
		free = now
	}
	free = free.Add(f.limit.Every)
	if wait = free.Sub(now) - most; wait > 0 {
		return wait, false
	}
	f.free[tenant] = free
	return 0, wait > -f.limit.Every
}

// giveBack takes back the count of an import that did not fail.
func (f *failedImports) giveBack(tenant string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if free, ok := f.free[tenant]; ok {
		f.free[tenant] = free.Add(-f.limit.Every)
	}
}

// ImportKey implements driver.Driver. It returns Busy if too many imports of the tenant failed.
func (x *Mux) ImportKey(ctx context.Context, req *driver.ImportKeyRequest) (*driver.SealedKey, error) {
	tenant := req.GetTenant()
	key, err := control(ctx, x, "import-key", tenant, func(ctx context.Context, l *instance) (*driver.SealedKey, error) {
		wait, last := x.imports.take(tenant, time.Now())
		if wait > 0 {
			return nil, &driver.Error{Code: driver.Busy, RetryAfter: wait, Message: "too many imports of this tenant failed"}
		}
		key, err := l.backend.ImportKey(ctx, req)
		switch driver.CodeOf(err) {
		case driver.BadMaterial, driver.Deadline: // a caller's short deadline tells as much as an answer
			if last {
				x.log.Warn("so many imports failed that further ones are refused", "tenant", tenant, "failures", x.imports.limit.Failures)
			}
		default:
			x.imports.giveBack(tenant)
		}
		return key, err
	})
	x.cfg.Recorder.Import(tenant, driver.CodeOf(err))
	return key, err
}
