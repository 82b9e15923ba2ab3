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

// maxRecoverySteps bounds how often one operation is repeated: a fresh session, a key loaded again, the root found again, a
// fresh login.
const maxRecoverySteps = 5

// errStale is a handle of a former generation. Loading it again helps.
var errStale = errors.New("handle of a former login")

// failure is an error of an operation and what it was working with, for the ladder.
type failure struct {
	err    error
	tenant string
	key    *liveKey // nil where the operation has none
	gen    uint64   // before it started
}

// recoverFrom does what the error asks for and reports whether the operation is worth another try. No session is held.
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
	case freshSession: // the session was closed when it came back
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

// drop forgets the handles that an operation used.
func (d *Driver) drop(f failure) {
	if f.key != nil {
		d.live.lost(f.key)
	}
	d.tenants.forget(f.tenant)
}

// pinnedAlive makes sure of the pinned session, with which all live keys would have gone.
func (d *Driver) pinnedAlive(gen uint64) bool {
	d.pinned.Lock()
	err := d.pinned.runCanary()
	d.pinned.Unlock()
	return err == nil || d.renew(gen) == nil
}

// renew opens everything anew after the token forgot the login: sessions, login, canary. All handles of the old
// generation are void. It does nothing if somebody else has renewed since gen.
func (d *Driver) renew(gen uint64) error {
	d.renewMu.Lock()
	defer d.renewMu.Unlock()
	if d.generation.Load() != gen {
		return nil
	}
	if e := d.refused.Load(); e != nil {
		return e
	}
	// Nobody may be about to use an old handle when the module begins to give out new ones.
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
	if d.pin == nil { // the drain was faster
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

// canary does one real operation on the pinned session.
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

// tryKey encrypts and decrypts with an AES key.
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
		return errors.New("what was encrypted does not decrypt")
	}
	return nil
}

// badDataError decides about an error that bad data may have caused: if the profile names it for the function and the canary
// still sings on the same session, it is the data's fault. The caller may hold the pinned lock.
func (d *Driver) badDataError(s *session, err error, answer *driver.Error) error {
	var ce *callError
	if !errors.As(err, &ce) || !d.profile.causedByData(ce) {
		return err
	}
	if ce.class() != badData { // the code alone says nothing
		if tryKey(s, handle(d.pinned.canary.Load())) != nil {
			s.flawed = true
			return err
		}
	}
	answer.CKR, answer.Function, answer.Generation = ce.name(), ce.function, d.generation.Load()
	return answer
}

// stopAfterLogin ends the process, unless it was the PIN that failed: the next process would try that once more. This one
// stays and refuses everything, until a person has seen to the PIN.
func (d *Driver) stopAfterLogin(cause error) {
	e := d.answer(cause)
	if e.Code != driver.PINIncorrect && e.Code != driver.PINLocked {
		d.stopProcess(cause)
		return
	}
	d.refused.Store(e)
	d.log.Error("the token forgot the login and takes the pin no more", "error", e)
	d.emit("token-lost", e)
}

// stopProcess ends the process soon: nothing in it can help any more.
func (d *Driver) stopProcess(cause error) {
	if d.failed.Swap(true) {
		return
	}
	e := d.answer(cause)
	d.log.Error("module failed", "error", e)
	d.emit("restart", e)
	time.AfterFunc(exitDelay, func() { d.exit(ExitModuleGone) })
}

// hung ends the process: a C call does not return, and nothing can interrupt it.
func (d *Driver) hung(k kind, age, limit time.Duration) {
	d.failed.Store(true)
	d.log.Error("c call hangs", "call", kindNames[k], "age", age, "limit", limit)
	d.emit("hung-call", &driver.Error{Code: driver.Device, Message: "c call hangs: " + kindNames[k]})
	time.AfterFunc(exitDelay, func() { d.exit(ExitHung) })
}

// reply is the answer to a request. One that the end of this process decides is Lost, so that the host keeps the request for
// the next process.
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

// answer turns an error into one of the contract and remembers it for Status.
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
		e := *contract // some are shared
		return &e
	}
	var ce *callError
	if !errors.As(err, &ce) {
		if errors.Is(err, errStale) {
			return driver.Errorf(driver.KeyUnavailable, "key could not be loaded again: %w", err)
		}
		return driver.AsError(err)
	}
	e := &driver.Error{CKR: ce.name(), Function: ce.function, Generation: d.generation.Load()}
	switch ce.name() {
	case "CKR_PIN_INCORRECT", "CKR_PIN_INVALID", "CKR_PIN_LEN_RANGE":
		e.Code, e.Message = driver.PINIncorrect, "pin is wrong; it is not tried again"
		return e
	case "CKR_PIN_LOCKED", "CKR_PIN_EXPIRED", "CKR_USER_PIN_NOT_INITIALIZED":
		e.Code, e.Message = driver.PINLocked, "the token takes no user pin now"
		return e
	case "CKR_MECHANISM_INVALID", "CKR_MECHANISM_PARAM_INVALID", "CKR_FUNCTION_NOT_SUPPORTED", "CKR_CURVE_NOT_SUPPORTED":
		e.Code, e.Message = driver.Unsupported, "module cannot do it"
		return e
	}
	switch ce.class() {
	case busy:
		e.Code, e.RetryAfter, e.Message = driver.Busy, 100*time.Millisecond, "no session left"
	case findAgain:
		e.Code, e.Message = driver.KeyUnavailable, "object not found"
	case never, badData:
		e.Code, e.Retry, e.Message = driver.Device, driver.RetryNever, "module refused the call"
	default:
		e.Code, e.Retry, e.Message = driver.Device, driver.RetryElsewhere, "module failed"
	}
	return e
}
