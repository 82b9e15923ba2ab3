package pkcs11

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"time"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// maxRecoverySteps limits how often one operation is repeated: on a new session, with its key loaded again, with the tenant's
// keys found again, after a new login.
const maxRecoverySteps = 5

// errStale reports a handle of an earlier login. Loading the object again helps.
var errStale = errors.New("handle of an earlier login")

// failure is an error of an operation with the objects that the operation used.
type failure struct {
	err    error
	tenant string
	key    *liveKey // nil for an operation without a key
	gen    uint64   // generation of the login before the operation started
}

// recoverFrom takes the recovery step of an error and reports whether to repeat the operation. The caller must not hold a session.
func (d *Driver) recoverFrom(f failure) bool {
	if errors.Is(f.err, errStale) {
		d.drop(f)
		return true
	}
	var ce *callError
	if !errors.As(f.err, &ce) {
		return false
	}
	switch ce.class() {
	case freshSession: // put has closed the session
		if ce.rv == p11.CKR_SESSION_HANDLE_INVALID || ce.rv == p11.CKR_SESSION_CLOSED {
			d.pool.flush()
			d.control.flush()
		}
		return d.pinnedAlive(f.gen)
	case findAgain:
		d.drop(f)
		return true
	case loginAgain:
		return d.renew(f.gen) == nil
	case makeRoom:
		d.live.makeRoom()
		return true
	case unclear:
		if d.canary() != nil {
			d.stopProcess(ce)
		}
		return false
	case replaceProcess:
		d.stopProcess(ce)
	}
	return false
}

// drop removes the handles that an operation used from the caches.
func (d *Driver) drop(f failure) {
	if f.key != nil {
		d.live.lost(f.key)
	}
	d.tenants.forget(f.tenant)
}

// pinnedAlive reports whether the pinned session works, after a new login if necessary. If it was closed, all live keys are gone.
func (d *Driver) pinnedAlive(gen uint64) bool {
	d.pinned.Lock()
	err := d.pinned.runCanary()
	d.pinned.Unlock()
	return err == nil || d.renew(gen) == nil
}

// renew logs in again after the token lost the login, with new sessions and a new canary. All earlier handles become invalid.
// It does nothing if another goroutine has renewed the login since generation gen.
func (d *Driver) renew(gen uint64) error {
	d.renewMu.Lock()
	defer d.renewMu.Unlock()
	if d.generation.Load() != gen {
		return nil
	}
	if e := d.refused.Load(); e != nil {
		return e
	}
	// Wait for all operations, because the module may assign an old handle to a new object.
	for _, p := range []*pool{d.pool, d.control} {
		if err := p.pause(context.Background()); err != nil {
			return err
		}
		defer p.resume()
	}
	d.pinned.Lock()
	defer d.pinned.Unlock()
	d.live.lostAll()
	d.tenants.forgetAll()
	if d.pinned.session != nil {
		d.closeSession(d.pinned.session)
		d.pinned.session = nil
	}
	if d.pin == nil { // drained meanwhile
		return errDraining
	}
	if err := d.openPinned(); err != nil {
		d.stopAfterLogin(err)
		return err
	}
	d.log.Warn("logged in again", "generation", d.generation.Load())
	d.emit("recovered", nil)
	return nil
}

// canary runs one encryption and decryption on the pinned session.
func (d *Driver) canary() error {
	d.pinned.Lock()
	defer d.pinned.Unlock()
	return d.pinned.runCanary()
}

func (p *pinnedSession) runCanary() error {
	if p.session == nil {
		return errors.New("no session")
	}
	return tryKey(p.session, handle(p.canary.Load()))
}

// tryKey encrypts and decrypts random bytes with an AES key.
func tryKey(s *session, key handle) error {
	var text [16]byte
	_, _ = rand.Read(text[:])
	iv, sealed, err := s.seal(key, nil, text[:], 0)
	if err != nil {
		return err
	}
	opened, err := s.open(key, iv, nil, sealed)
	if err != nil {
		return err
	}
	if !bytes.Equal(opened, text[:]) {
		return errors.New("decryption returned another plaintext")
	}
	return nil
}

// badDataError returns answer, completed, if bad data caused err, otherwise err. The profile must list err for the C function;
// unless its class is badData, a canary on s must succeed. The caller may hold the pinned lock.
func (d *Driver) badDataError(s *session, err error, answer *driver.Error) error {
	var ce *callError
	if !errors.As(err, &ce) || !d.profile.causedByData(ce) {
		return err
	}
	// Without class badData, the code alone does not tell the cause.
	if ce.class() != badData && tryKey(s, handle(d.pinned.canary.Load())) != nil {
		s.flawed = true
		return err
	}
	answer.CKR, answer.Function, answer.Generation = ce.name(), ce.function, d.generation.Load()
	return answer
}

// stopAfterLogin handles a login that failed. If the token rejects the PIN, the process keeps running and refuses all calls,
// because the next process would try the PIN again; otherwise it exits.
func (d *Driver) stopAfterLogin(cause error) {
	e := d.answer(cause)
	if e.Code != driver.PINIncorrect && e.Code != driver.PINLocked {
		d.stopProcess(cause)
		return
	}
	d.refused.Store(e)
	d.log.Error("token lost the login and now rejects the PIN", "error", e)
	d.emit("token-lost", e)
}

// stopProcess makes the process exit after exitDelay, because only a new process can recover.
func (d *Driver) stopProcess(cause error) {
	if d.failed.Swap(true) {
		return
	}
	e := d.answer(cause)
	d.log.Error("module failed", "error", e)
	d.emit("restart", e)
	time.AfterFunc(exitDelay, func() { d.exit(ExitModuleGone) })
}

// hung makes the process exit: a C call does not return, and Go cannot interrupt it.
func (d *Driver) hung(k kind, age, limit time.Duration) {
	d.failed.Store(true)
	d.log.Error("C call does not return", "call", kindNames[k], "age", age, "limit", limit)
	d.emit("hung-call", &driver.Error{Code: driver.Device, Message: "C call does not return: " + kindNames[k]})
	time.AfterFunc(exitDelay, func() { d.exit(ExitHung) })
}

// reply returns the error that answers a request. If the process is about to exit, it is Lost, so that the host repeats the
// request on the next process.
func (d *Driver) reply(err error) *driver.Error {
	e := d.answer(err)
	if e.Code != driver.Device {
		return e
	}
	if refused := d.refused.Load(); refused != nil {
		return refused
	}
	if d.failed.Load() {
		lost := *e
		lost.Code, lost.Retry = driver.Lost, driver.RetryElsewhere
		return &lost
	}
	return e
}

// answer translates an error into one of the contract and stores it for Status.
func (d *Driver) answer(err error) *driver.Error {
	e := d.translate(err)
	if e.Generation == 0 {
		e.Generation = d.generation.Load()
	}
	if e.Code != driver.BadCiphertext && e.Code != driver.BadMaterial && e.Code != driver.InvalidArgument && e.Code != driver.TenantUnknown {
		d.last.Store(e)
	}
	return e
}

func (d *Driver) translate(err error) *driver.Error {
	var contract *driver.Error
	if errors.As(err, &contract) {
		e := *contract // some are shared variables
		return &e
	}
	var ce *callError
	if !errors.As(err, &ce) {
		if errors.Is(err, errStale) {
			return driver.Errorf(driver.KeyUnavailable, "the key cannot be loaded again: %w", err)
		}
		return driver.AsError(err)
	}
	e := &driver.Error{CKR: ce.name(), Function: ce.function, Generation: d.generation.Load()}
	switch ce.name() {
	case "CKR_PIN_INCORRECT", "CKR_PIN_INVALID", "CKR_PIN_LEN_RANGE":
		e.Code, e.Message = driver.PINIncorrect, "the token rejects the pin: it is not tried again"
		return e
	case "CKR_PIN_LOCKED", "CKR_PIN_EXPIRED", "CKR_USER_PIN_NOT_INITIALIZED":
		e.Code, e.Message = driver.PINLocked, "the user pin is locked, expired or not set"
		return e
	case "CKR_MECHANISM_INVALID", "CKR_MECHANISM_PARAM_INVALID", "CKR_FUNCTION_NOT_SUPPORTED", "CKR_CURVE_NOT_SUPPORTED":
		e.Code, e.Message = driver.Unsupported, "the module does not support this"
		return e
	}
	switch ce.class() {
	case busy:
		e.Code, e.RetryAfter, e.Message = driver.Busy, 100*time.Millisecond, "the token has no free session"
	case findAgain:
		e.Code, e.Message = driver.KeyUnavailable, "object not found"
	case never, badData:
		e.Code, e.Retry, e.Message = driver.Device, driver.RetryNever, "the module refused the call"
	default:
		e.Code, e.Retry, e.Message = driver.Device, driver.RetryElsewhere, "the module failed"
	}
	return e
}
