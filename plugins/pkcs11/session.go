package pkcs11

import (
	"context"
	"crypto"
	"errors"
	"sync"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// session is a PKCS#11 session, used by one goroutine at a time. Every call on it is timed and watched.
type session struct {
	*tracker
	lib    *library
	h      handle
	flawed bool // an operation may still be active in it: put closes it
	ivs    [64 * driver.GCMIVSize]byte
	ivAt   int // of the next unused IV; 0: none left
}

// newIV returns a random IV. It fetches many from the HSM's generator in one call; they are not secret.
func (s *session) newIV() ([]byte, error) {
	if s.ivAt == 0 || s.ivAt == len(s.ivs) {
		s.ivAt = 0
		if err := s.random(s.ivs[:]); err != nil {
			return nil, err
		}
		if err := s.lib.newIVs(s.ivs[:]); err != nil {
			return nil, err
		}
	}
	iv := make([]byte, driver.GCMIVSize)
	copy(iv, s.ivs[s.ivAt:])
	s.ivAt += driver.GCMIVSize
	return iv, nil
}

// timed makes one C call that is rare or slow. function is its name where miekg/pkcs11 makes it, whose errors do not tell.
func timed[T any](s *session, k kind, size int, function string, call func() (T, error)) (T, error) {
	s.begin(k, size)
	v, err := call()
	err = called(err, function)
	s.finish(err)
	return v, err
}

func (s *session) random(out []byte) error {
	s.begin(callRandom, len(out))
	err := s.lib.list.random(s.h, out)
	s.finish(err)
	return err
}

// seal encrypts in under a new IV, after replacing its first fresh bytes with random ones.
func (s *session) seal(key handle, aad, in []byte, fresh int) (iv, out []byte, err error) {
	if iv, err = s.newIV(); err != nil {
		return nil, nil, err
	}
	k := callEncrypt
	if fresh > 0 {
		k = callDataKey
	}
	out = make([]byte, len(in)+driver.GCMTagSize)
	s.begin(k, len(in))
	out, err = s.lib.list.seal(s.h, key, iv, aad, in, fresh, out)
	s.finish(err)
	return iv, out, err
}

func (s *session) open(key handle, iv, aad, in []byte) ([]byte, error) {
	out := make([]byte, len(in))
	s.begin(callDecrypt, len(in))
	out, err := s.lib.list.open(s.h, key, iv, aad, in, out)
	s.finish(err)
	return out, err
}

// sign signs or computes a MAC. size, in bytes, selects the watchdog's limit.
func (s *session) sign(k kind, size int, m mechanism, key handle, in []byte, out []byte) ([]byte, error) {
	s.begin(k, size)
	out, err := s.lib.list.sign(s.h, m, key, in, out)
	s.finish(err)
	return out, err
}

// decryptRSA decrypts a block as long as the modulus.
func (s *session) decryptRSA(m mechanism, key handle, block []byte) ([]byte, error) {
	return timed(s, callDecryptRSA, len(block), "", func() ([]byte, error) {
		return s.lib.list.decrypt(s.h, m, key, block, make([]byte, len(block)))
	})
}

// openOAEP decrypts a block by raw RSA inside the HSM and decodes its padding in this process. ok is false for every fault of
// the block.
func (s *session) openOAEP(hash crypto.Hash, key handle, block []byte) (message []byte, ok bool, err error) {
	raw, err := s.decryptRSA(mechanism{id: p11.CKM_RSA_X_509}, key, block)
	if err != nil {
		return nil, false, err
	}
	em := make([]byte, len(block)) // modules may leave out leading zeros
	copy(em[len(em)-len(raw):], raw)
	clear(raw)
	if message, ok = oaepDecode(hash, em); !ok {
		clear(em)
	}
	return message, ok, nil
}

// ecdh computes the shared secret of size bytes with the point of a peer. The secret is an answer, so its object is readable; it
// is destroyed before ecdh returns.
func (s *session) ecdh(key handle, point []byte, size int) ([]byte, error) {
	secret := []*p11.Attribute{
		p11.NewAttribute(p11.CKA_CLASS, uint(p11.CKO_SECRET_KEY)), p11.NewAttribute(p11.CKA_KEY_TYPE, uint(p11.CKK_GENERIC_SECRET)),
		inSession(), p11.NewAttribute(p11.CKA_SENSITIVE, false), p11.NewAttribute(p11.CKA_EXTRACTABLE, true),
		p11.NewAttribute(p11.CKA_VALUE_LEN, size),
	}
	return timed(s, callDerive, size, "", func() ([]byte, error) {
		return s.lib.list.ecdh(s.h, key, point, secret, make([]byte, size))
	})
}

// maxWrappedKey is the largest wrapped key in bytes. A wrapped RSA-4096 key has 2.4 KB.
const maxWrappedKey = 4096

func (s *session) wrap(mech uint, wrapping, key handle) ([]byte, error) {
	return timed(s, callWrap, 0, "", func() ([]byte, error) {
		return s.lib.list.wrap(s.h, mech, wrapping, key, make([]byte, maxWrappedKey))
	})
}

func (s *session) unwrap(m mechanism, key handle, wrapped []byte, template []*p11.Attribute) (handle, error) {
	return timed(s, callUnwrap, len(wrapped), "", func() (handle, error) { return s.lib.list.unwrap(s.h, m, key, wrapped, template) })
}

func (s *session) create(template []*p11.Attribute) (handle, error) {
	return timed(s, callObject, 0, "", func() (handle, error) { return s.lib.list.create(s.h, template) })
}

func (s *session) generate(mech uint, template []*p11.Attribute) (handle, error) {
	h, err := timed(s, callGenerate, 0, "C_GenerateKey", func() (p11.ObjectHandle, error) {
		return s.lib.ctx.GenerateKey(p11.SessionHandle(s.h), []*p11.Mechanism{p11.NewMechanism(mech, nil)}, template)
	})
	return handle(h), err
}

func (s *session) generatePair(mech uint, public, private []*p11.Attribute) (pub, priv handle, err error) {
	s.begin(callGenerate, 0)
	a, b, err := s.lib.ctx.GenerateKeyPair(p11.SessionHandle(s.h), []*p11.Mechanism{p11.NewMechanism(mech, nil)}, public, private)
	err = called(err, "C_GenerateKeyPair")
	s.finish(err)
	return handle(a), handle(b), err
}

func (s *session) copyObject(h handle, template []*p11.Attribute) (handle, error) {
	c, err := timed(s, callObject, 0, "C_CopyObject", func() (p11.ObjectHandle, error) {
		return s.lib.ctx.CopyObject(p11.SessionHandle(s.h), p11.ObjectHandle(h), template)
	})
	return handle(c), err
}

// destroy destroys an object. It returns nil if the object does not exist.
func (s *session) destroy(h handle) error {
	s.begin(callObject, 0)
	err := called(s.lib.ctx.DestroyObject(p11.SessionHandle(s.h), p11.ObjectHandle(h)), "C_DestroyObject")
	var ce *callError
	if errors.As(err, &ce) && ce.class() == findAgain {
		err = nil
	}
	s.finish(err)
	return err
}

// attribute reads one attribute.
func (s *session) attribute(h handle, typ uint) ([]byte, error) {
	a, err := timed(s, callObject, 0, "C_GetAttributeValue", func() ([]*p11.Attribute, error) {
		return s.lib.ctx.GetAttributeValue(p11.SessionHandle(s.h), p11.ObjectHandle(h), []*p11.Attribute{p11.NewAttribute(typ, nil)})
	})
	if err != nil {
		return nil, err
	}
	return a[0].Value, nil
}

func (s *session) setAttribute(h handle, typ uint, value any) error {
	s.begin(callObject, 0)
	err := called(s.lib.ctx.SetAttributeValue(p11.SessionHandle(s.h), p11.ObjectHandle(h), []*p11.Attribute{p11.NewAttribute(typ, value)}),
		"C_SetAttributeValue")
	s.finish(err)
	return err
}

// find returns all objects that match a template.
func (s *session) find(template ...*p11.Attribute) (handles []handle, err error) {
	s.begin(callFind, 0)
	defer func() { s.finish(err) }()
	sh := p11.SessionHandle(s.h)
	if err := s.lib.ctx.FindObjectsInit(sh, template); err != nil {
		return nil, called(err, "C_FindObjectsInit")
	}
	for {
		batch, _, err := s.lib.ctx.FindObjects(sh, 256)
		if err != nil {
			return nil, called(errors.Join(err, s.lib.ctx.FindObjectsFinal(sh)), "C_FindObjects")
		}
		for _, h := range batch {
			handles = append(handles, handle(h))
		}
		if len(batch) == 0 {
			return handles, called(s.lib.ctx.FindObjectsFinal(sh), "C_FindObjectsFinal")
		}
	}
}

// finish ends a call. After an error that may leave an operation active, the session is not used again.
func (s *session) finish(err error) {
	s.end(err)
	if err == nil {
		return
	}
	var ce *callError
	if !errors.As(err, &ce) || ce.class() != badData && ce.class() != never && ce.class() != unclear {
		s.flawed = true
	}
}

// pool leases sessions, the last returned first, and opens new ones up to a limit.
type pool struct {
	open  func() (*session, error)
	close func(*session)
	event func(limit int) // called when the module refused a session, with the new limit

	mu      sync.Mutex
	idle    []*session
	count   int // idle, in use and being opened
	limit   int
	waiters []chan *session // a nil session means: open one
	paused  bool
	closed  bool
	empty   chan struct{} // closed when paused and count is 0
}

var errDraining = &driver.Error{Code: driver.Lost, Message: "driver is draining"}

// get leases a session. The caller must return it with put.
func (p *pool) get(ctx context.Context) (*session, error) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, errDraining
	case p.paused:
	case len(p.idle) > 0:
		s := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		p.mu.Unlock()
		return s, nil
	case p.count < p.limit:
		p.count++
		p.mu.Unlock()
		return p.openOne(ctx)
	}
	turn := make(chan *session, 1)
	p.waiters = append(p.waiters, turn)
	p.mu.Unlock()
	return p.wait(ctx, turn)
}

func (p *pool) wait(ctx context.Context, turn chan *session) (*session, error) {
	select {
	case s, ok := <-turn:
		if !ok {
			return nil, errDraining
		}
		if s == nil {
			return p.openOne(ctx)
		}
		return s, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	for i, w := range p.waiters {
		if w == turn {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			p.mu.Unlock()
			return nil, driver.AsError(ctx.Err())
		}
	}
	p.mu.Unlock()
	if s, ok := <-turn; ok { // sent at the same moment
		p.put(s)
	}
	return nil, driver.AsError(ctx.Err())
}

// openOne opens a session that count already includes.
func (p *pool) openOne(ctx context.Context) (*session, error) {
	s, err := p.open()
	if err == nil {
		return s, nil
	}
	var ce *callError
	full := errors.As(err, &ce) && ce.class() == busy
	p.mu.Lock()
	if full && p.count > 1 {
		p.limit = p.count - 1
		p.event(p.limit)
	}
	others := p.count > 1
	p.mu.Unlock()
	p.put(nil)
	if full && others {
		return p.get(ctx)
	}
	return nil, err
}

// put returns a session. nil returns only its place in count.
func (p *pool) put(s *session) {
	if s != nil && s.flawed {
		p.close(s)
		s = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.paused || p.count > p.limit:
		p.count--
		if s != nil {
			p.close(s)
		}
		if p.paused && p.count == 0 {
			close(p.empty)
		}
	case len(p.waiters) > 0:
		p.waiters[0] <- s
		p.waiters = p.waiters[1:]
	case s != nil:
		p.idle = append(p.idle, s)
	default:
		p.count--
	}
}

// flush closes the idle sessions. A module that closed one idle session has probably closed the others as well, and there may be
// more of them than an operation has recovery steps.
func (p *pool) flush() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.count -= len(idle)
	p.mu.Unlock()
	for _, s := range idle {
		p.close(s)
	}
}

// pause closes the idle sessions and waits until all leased ones are returned. get blocks until resume.
func (p *pool) pause(ctx context.Context) error {
	p.mu.Lock()
	if !p.paused {
		p.paused, p.empty = true, make(chan struct{})
		for _, s := range p.idle {
			p.close(s)
		}
		p.count -= len(p.idle)
		p.idle = nil
		if p.count == 0 {
			close(p.empty)
		}
	}
	empty := p.empty
	p.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return driver.AsError(ctx.Err())
	}
}

func (p *pool) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.paused = false
	for len(p.waiters) > 0 && p.count < p.limit {
		p.count++
		p.waiters[0] <- nil
		p.waiters = p.waiters[1:]
	}
}

// shut makes get return errDraining from now on.
func (p *pool) shut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, w := range p.waiters {
		close(w)
	}
	p.waiters = nil
}

func (p *pool) usage() (open, inUse, limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count, p.count - len(p.idle), p.limit
}
