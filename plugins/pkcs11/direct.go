package pkcs11

import (
	"errors"
	"log/slog"

	p11 "github.com/miekg/pkcs11"

	"github.com/keyside/keyside/plugins/driver"
)

// maxDirectWorkers is the number of workers of a Direct.
const maxDirectWorkers = 1024

// Direct calls a module from this process, for comparison in benchmarks. It uses the same C calls and kinds of keys as the driver,
// with one session per worker and no lock.
type Direct struct {
	d        *Driver
	owner    *session // of the keys
	sessions [maxDirectWorkers]*session
	aes      handle
	rsa, ec  handle
}

// OpenDirect opens the token of a driver's settings and generates an AES-256, an RSA-2048 and a P-256 key as session objects.
func OpenDirect(settings, pin []byte) (*Direct, error) {
	d, err := openDriver(settings, pin, slog.New(slog.DiscardHandler), func(int) {})
	if err != nil {
		return nil, err
	}
	x := &Direct{d: d}
	if err := x.makeKeys(); err != nil {
		return nil, errors.Join(d.answer(err), x.Close())
	}
	return x, nil
}

func (x *Direct) makeKeys() (err error) {
	if x.owner, err = x.d.openSession(0); err != nil {
		return err
	}
	s := x.owner
	root := specOf(driver.AES256)
	kek, err := s.generate(root.generate, root.template(uses{wrap: true, unwrap: true}, false, inSession(),
		p11.NewAttribute(p11.CKA_VALUE_LEN, root.Size())))
	if err != nil {
		return err
	}
	for _, k := range []struct {
		into  *handle
		spec  driver.KeySpec
		usage driver.KeyUsage
	}{{&x.aes, driver.AES256, driver.EncryptDecrypt}, {&x.rsa, driver.RSA2048, driver.SignVerify}, {&x.ec, driver.ECP256, driver.SignVerify}} {
		if *k.into, err = x.makeKey(kek, specOf(k.spec), k.usage); err != nil {
			return err
		}
	}
	return s.destroy(kek)
}

// makeKey creates a key like Keyside's working keys: generated, wrapped, unwrapped.
func (x *Direct) makeKey(kek handle, spec keySpec, usage driver.KeyUsage) (handle, error) {
	work := spec.template(workUses(usage, spec.class), false, x.d.sessionOnly(false)...)
	return x.d.rewrapped(x.owner, kek, spec, work)
}

// session returns the session of a worker.
func (x *Direct) session(worker int) (*session, error) {
	var err error
	if x.sessions[worker] == nil {
		x.sessions[worker], err = x.d.openSession(0)
	}
	return x.sessions[worker], err
}

// Encrypt encrypts with AES-GCM. For all methods, only one goroutine at a time may use a worker number, 0 to 1023.
func (x *Direct) Encrypt(worker int, plaintext []byte) (iv, ciphertext []byte, err error) {
	s, err := x.session(worker)
	if err != nil {
		return nil, nil, err
	}
	return s.seal(x.aes, nil, plaintext, 0)
}

// DataKey generates a data key of n bytes and returns it in plaintext and encrypted.
func (x *Direct) DataKey(worker, n int) (plaintext, iv, ciphertext []byte, err error) {
	s, err := x.session(worker)
	if err != nil {
		return nil, nil, nil, err
	}
	plaintext = make([]byte, n)
	iv, ciphertext, err = s.seal(x.aes, nil, plaintext, n)
	return plaintext, iv, ciphertext, err
}

// Random returns n random bytes.
func (x *Direct) Random(worker, n int) ([]byte, error) {
	s, err := x.session(worker)
	if err != nil {
		return nil, err
	}
	out := make([]byte, n)
	return out, s.random(out)
}

// SignRSA signs a SHA-256 digest with RSA-2048, PKCS #1 v1.5.
func (x *Direct) SignRSA(worker int, digest []byte) ([]byte, error) {
	s, err := x.session(worker)
	if err != nil {
		return nil, err
	}
	return signRSA(s, x.rsa, specOf(driver.RSA2048), driver.PKCS1v15SHA256, digest)
}

// SignEC signs a SHA-256 digest with ECDSA on P-256.
func (x *Direct) SignEC(worker int, digest []byte) ([]byte, error) {
	s, err := x.session(worker)
	if err != nil {
		return nil, err
	}
	return signEC(s, x.ec, specOf(driver.ECP256), digest)
}

// Close closes all sessions. No worker may be busy.
func (x *Direct) Close() error {
	for i, s := range x.sessions {
		if s != nil {
			x.d.closeSession(s)
			x.sessions[i] = nil
		}
	}
	if x.owner != nil {
		x.d.closeSession(x.owner)
		x.owner = nil
	}
	x.d.close()
	return nil
}
