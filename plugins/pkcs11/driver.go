// Package pkcs11 implements the contract driver.v1 for HSMs with a PKCS#11 module, which a [Profile] describes. It is the only
// package that knows sessions, object handles and CKR codes.
//
// One process serves one token with one credential. A pinned session holds the login and owns every live key; each
// operation runs on a session of its own. Recovery escalates from a new session to reloading the key, a new login and a new
// process.
package pkcs11

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// Exit codes of a driver process that cannot recover. The host starts another process.
const (
	// ExitHung means that a C call did not return in time.
	ExitHung = 70
	// ExitModuleGone means that the module or its token no longer works in this process.
	ExitModuleGone = 71
)

// exitDelay is how long the process waits before it exits, so that the answer and the event that explain the exit are sent.
const exitDelay = 200 * time.Millisecond

// controlSessions limits the control calls that run at once. At most half of them may generate RSA keys, which takes seconds.
const controlSessions = 4

// Driver implements driver.Driver on one token.
type Driver struct {
	settings *Settings
	profile  *Profile
	lib      *library
	log      *slog.Logger
	exit     func(code int)
	pin      secret
	checker  *driver.Checker

	slot         uint
	info         p11.TokenInfo
	sessionLimit int // 0: no limit is known
	generation   atomic.Uint64
	failed       atomic.Bool // the process is about to exit
	draining     atomic.Bool
	refused      atomic.Pointer[driver.Error] // set when the token rejects a PIN that it accepted before; every call then returns it

	meter    meter
	watchdog *watchdog
	pool     *pool         // for operations
	control  *pool         // for everything else
	making   chan struct{} // holds one element per RSA key that is being generated
	pinned   pinnedSession
	live     *liveKeys
	tenants  tenantCache
	renewMu  sync.Mutex
	watch    watchers
	last     atomic.Pointer[driver.Error]
}

// pinnedSession holds the login and owns the live keys. Closing it would delete their objects.
type pinnedSession struct {
	sync.Mutex
	*session
	canary atomic.Uint64 // handle of the canary key; readable without the lock while a session is leased, because no login happens meanwhile
}

var _ driver.Driver = (*Driver)(nil)

// Configure opens the token that the settings name. It implements driver.Configurer.
func Configure(_ context.Context, settings, credential []byte) (driver.Driver, error) {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	d, err := openDriver(settings, credential, log, os.Exit)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func openDriver(settings, credential []byte, log *slog.Logger, exit func(int)) (*Driver, error) {
	s, p, err := ParseSettings(settings)
	if err != nil {
		return nil, err
	}
	lib, err := loadLibrary(s, p.LoadByPath)
	if err != nil {
		return nil, err
	}
	d := &Driver{settings: s, profile: p, lib: lib, log: log, exit: exit}
	d.tenants.m, d.watch.subs = map[string]*tenantKeys{}, map[chan *driver.Event]struct{}{}
	tok, err := lib.findToken(s)
	if err != nil {
		return nil, d.answer(err)
	}
	d.slot, d.info = tok.slot, tok.info
	if d.pin, err = keepSecret(credential); err != nil {
		return nil, err
	}
	d.watchdog = newWatchdog(s.Watchdog, &d.meter, d.hung)
	d.makePools()
	d.checker = driver.NewChecker(d.describe())
	d.live = newLiveKeys(s.LiveKeys, d.loadKey, d.destroyKey)
	go d.watchdog.run()
	if err := d.start(); err != nil {
		d.close()
		return nil, d.answer(err)
	}
	return d, nil
}

// start logs in, tests the module against its profile, and deletes what a killed process left unfinished.
func (d *Driver) start() error {
	d.pinned.Lock()
	defer d.pinned.Unlock()
	if err := d.openPinned(); err != nil {
		return err
	}
	if err := d.selfTest(d.pinned.session); err != nil {
		return err
	}
	if err := d.syncStore(); err != nil {
		return err
	}
	return d.sweep()
}

// makePools sizes the pools by the token's session limit. A token reports 0 for no limit, and all ones for unknown.
func (d *Driver) makePools() {
	if n := d.info.MaxSessionCount; n != 0 && n != p11.CK_UNAVAILABLE_INFORMATION {
		d.sessionLimit = int(n)
	} else {
		d.sessionLimit = d.profile.Limits.Sessions
	}
	work, control := d.settings.FastWorkers+d.settings.SlowWorkers, controlSessions
	if d.sessionLimit > 0 {
		// One session is pinned, and one is reserved for creating a tenant's keys.
		control = min(control, max((d.sessionLimit-2)/4, 1))
		work = min(work, max(d.sessionLimit-2-control, 1))
	}
	newPool := func(limit int) *pool {
		return &pool{open: func() (*session, error) { return d.openSession(0) }, close: d.closeSession, limit: limit,
			event: func(int) { d.emit("session-limit", nil) }}
	}
	d.pool, d.control, d.making = newPool(work), newPool(control), make(chan struct{}, max(control/2, 1))
}

func (d *Driver) openSession(flags uint) (*session, error) {
	s := &session{tracker: d.watchdog.watch(), lib: d.lib}
	s.begin(callSession, 0)
	h, err := d.lib.ctx.OpenSession(d.slot, p11.CKF_SERIAL_SESSION|flags)
	err = called(err, "C_OpenSession")
	s.end(err)
	if err != nil {
		d.watchdog.forget(s.tracker)
		return nil, err
	}
	s.h = handle(h)
	return s, nil
}

func (d *Driver) closeSession(s *session) {
	s.begin(callSession, 0)
	err := called(d.lib.ctx.CloseSession(p11.SessionHandle(s.h)), "C_CloseSession")
	s.end(err)
	d.watchdog.forget(s.tracker)
}

// openPinned opens the pinned session, logs in, and generates the canary key. The caller must hold the pinned lock.
func (d *Driver) openPinned() error {
	s, err := d.openSession(0)
	if err != nil {
		return err
	}
	d.pinned.session = s
	if err := d.login(s); err != nil {
		return err
	}
	canary := specOf(driver.AES256).template(uses{encrypt: true, decrypt: true}, false, inSession(),
		p11.NewAttribute(p11.CKA_VALUE_LEN, specOf(driver.AES256).Size()))
	h, err := s.generate(p11.CKM_AES_KEY_GEN, canary)
	if err != nil {
		return err
	}
	d.pinned.canary.Store(uint64(h))
	d.generation.Add(1)
	return nil
}

// login calls C_Login once. It refuses to try a PIN that the token rejected before in this process, and to use the token's last
// attempt, which is the operator's.
func (d *Driver) login(s *session) error {
	d.lib.mu.Lock()
	defer d.lib.mu.Unlock()
	if d.lib.pinFailed[d.info.SerialNumber] {
		return driver.Errorf(driver.PINIncorrect, "the token rejected this pin before: it is not tried again")
	}
	info, err := d.tokenInfo(s)
	switch {
	case err != nil:
		return err
	case info.Flags&p11.CKF_USER_PIN_LOCKED != 0:
		return driver.Errorf(driver.PINLocked, "the token has locked its user pin")
	case info.Flags&p11.CKF_USER_PIN_FINAL_TRY != 0:
		return driver.Errorf(driver.PINLocked, "one more wrong pin would lock the token: log in once by hand to reset its counter")
	}
	s.begin(callLogin, 0)
	err = d.lib.list.login(s.h, d.pin)
	s.end(err)
	var ce *callError
	switch {
	case err == nil:
		d.emit("login", nil)
		return nil
	case errors.As(err, &ce) && ce.rv == p11.CKR_USER_ALREADY_LOGGED_IN:
		return nil
	case ce != nil && (ce.rv == p11.CKR_PIN_INCORRECT || ce.rv == p11.CKR_PIN_LEN_RANGE || ce.rv == p11.CKR_PIN_INVALID):
		d.lib.pinFailed[d.info.SerialNumber] = true
	}
	return err
}

func (d *Driver) tokenInfo(s *session) (p11.TokenInfo, error) {
	return timed(s, callInfo, 0, "C_GetTokenInfo", func() (p11.TokenInfo, error) { return d.lib.ctx.GetTokenInfo(d.slot) })
}

// close closes the pinned session and clears the PIN. It does not call C_Finalize, because calls may be in flight.
func (d *Driver) close() {
	d.watchdog.close()
	d.pinned.Lock()
	defer d.pinned.Unlock()
	if d.pinned.session != nil {
		d.closeSession(d.pinned.session)
		d.pinned.session = nil
	}
	d.pin.wipe()
}

// describe returns the answer of Describe. The token must be known.
func (d *Driver) describe() *driver.Description {
	p := d.profile
	return &driver.Description{
		Name: p.Name, Version: d.lib.version, Vendor: d.info.ManufacturerID + " " + d.info.Model, Protection: p.protection,
		Keys: p.keys, WrappingSpecs: p.wrapping, SealFormat: p.Wrap.Format, MaxData: uint32(p.Limits.Data),
		MaxDataKey: uint32(p.Limits.DataKey), MaxRandom: uint32(p.Limits.Random), FastWorkers: uint32(d.settings.FastWorkers),
		SlowWorkers: uint32(d.settings.SlowWorkers), SessionLimit: uint32(d.sessionLimit), OpenedInHsm: p.Import.inHSM,
		ImportAlgorithms: p.Import.all(),
	}
}

// Describe implements driver.Driver.
func (d *Driver) Describe(context.Context) (*driver.Description, error) { return d.describe(), nil }

// admit returns an error if the driver takes no more work, or if the context ended.
func (d *Driver) admit(ctx context.Context) error {
	switch {
	case d.refused.Load() != nil:
		return d.refused.Load()
	case d.failed.Load():
		return &driver.Error{Code: driver.Lost, Message: "module failed: the process exits"}
	case d.draining.Load():
		return errDraining
	}
	if err := ctx.Err(); err != nil {
		return driver.AsError(err)
	}
	return nil
}

// Drain implements driver.Driver.
func (d *Driver) Drain(ctx context.Context) error {
	d.draining.Store(true)
	for _, p := range []*pool{d.pool, d.control} {
		p.shut()
		if err := p.pause(ctx); err != nil {
			return err
		}
	}
	d.close()
	return nil
}
