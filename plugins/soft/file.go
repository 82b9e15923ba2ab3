package soft

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keyside/keyside/plugins/driver"
)

// The key file's format; FILE.md is its specification and the two change together.
const (
	fileMagic     = "KSSOFT1\n"
	kdfPBKDF2     = 1
	saltSize      = 32
	verifierSize  = 32
	headerSize    = len(fileMagic) + 1 + 4 + saltSize + verifierSize
	maxFile       = 64 << 20   // bytes; some hundred thousand tenants
	minIterations = 600_000    // OWASP's figure of 2023 for PBKDF2-HMAC-SHA-256
	maxIterations = 10_000_000 // some seconds: a damaged count must not keep a start busy for minutes
)

// keyFile is the sealed file of tenants' keys. The key derived from the passphrase stays in memory, the passphrase does not.
type keyFile struct {
	path   string
	header []byte
	aead   cipher.AEAD
}

// fileTenant is one tenant as the file holds it.
type fileTenant struct {
	Roots []fileRoot `json:"roots"`
	MAC   []byte     `json:"mac"`
	Audit []byte     `json:"audit"`
}

type fileRoot struct {
	Number uint32 `json:"number"`
	Key    []byte `json:"key"`
}

type fileTenants map[string]*fileTenant

type filePayload struct {
	Tenants fileTenants `json:"tenants"`
}

// clear wipes the key bytes of tenants that were read or are written.
func (t fileTenants) clear() {
	for _, tenant := range t {
		clear(tenant.MAC)
		clear(tenant.Audit)
		for _, r := range tenant.Roots {
			clear(r.Key)
		}
	}
}

// openKeyFile opens the file at path under the passphrase, and makes it where there is none.
func openKeyFile(ctx context.Context, path string, passphrase []byte, iterations int) (*keyFile, error) {
	f := &keyFile{path: path}
	unlock, err := f.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	raw, err := f.read()
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.create(passphrase, iterations); err != nil {
			return nil, err
		}
		return f, f.save(fileTenants{})
	}
	if err != nil {
		return nil, err
	}
	return f, f.unlockWith(raw, passphrase)
}

func (f *keyFile) create(passphrase []byte, iterations int) error {
	header := append(make([]byte, 0, headerSize), fileMagic...)
	header = append(header, kdfPBKDF2)
	header = binary.BigEndian.AppendUint32(header, uint32(iterations))
	salt := make([]byte, saltSize)
	rand.Read(salt)
	header = append(header, salt...)
	verifier, err := f.derive(passphrase, salt, iterations)
	f.header = append(header, verifier...)
	return err
}

func (f *keyFile) unlockWith(raw, passphrase []byte) error {
	rest := raw[len(fileMagic):]
	iterations := binary.BigEndian.Uint32(rest[1:])
	if rest[0] != kdfPBKDF2 || iterations < 1 || iterations > maxIterations {
		return f.damaged()
	}
	salt, verifier := rest[5:5+saltSize], rest[5+saltSize:5+saltSize+verifierSize]
	derived, err := f.derive(passphrase, salt, int(iterations))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(derived, verifier) != 1 {
		return driver.Errorf(driver.PINIncorrect, "passphrase does not open the key file")
	}
	f.header = bytes.Clone(raw[:headerSize])
	return nil
}

// derive sets the file's AEAD and returns the verifier of the passphrase.
func (f *keyFile) derive(passphrase, salt []byte, iterations int) ([]byte, error) {
	master, err := pbkdf2.Key(sha256.New, string(passphrase), salt, iterations, 32)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "derive the file key: %w", err)
	}
	defer clear(master)
	key, err := hkdf.Key(sha256.New, master, nil, "keyside soft file key v1", 32)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "derive the file key: %w", err)
	}
	defer clear(key)
	if f.aead, err = newGCM(key); err != nil {
		return nil, err
	}
	verifier, err := hkdf.Key(sha256.New, master, nil, "keyside soft file verifier v1", verifierSize)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "derive the file key: %w", err)
	}
	return verifier, nil
}

// newGCM returns AES-GCM that makes its own IVs and puts them before the ciphertext: the form that FIPS 140-3 allows.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "aes: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "gcm: %w", err)
	}
	return aead, nil
}

// load reads all tenants; the caller clears them.
func (f *keyFile) load() (fileTenants, error) {
	raw, err := f.read()
	if err != nil {
		return nil, driver.Errorf(driver.KeyUnavailable, "read the key file: %w", err)
	}
	if !bytes.Equal(raw[:headerSize], f.header) {
		return nil, driver.Errorf(driver.KeyUnavailable, "key file %s was replaced since the driver started", f.path)
	}
	plain, err := f.aead.Open(nil, nil, raw[headerSize:], f.header)
	if err != nil {
		return nil, f.damaged()
	}
	defer clear(plain)
	var payload filePayload
	if err := json.Unmarshal(plain, &payload); err != nil {
		return nil, f.damaged()
	}
	for _, t := range payload.Tenants {
		if t == nil {
			return nil, f.damaged()
		}
	}
	if payload.Tenants == nil {
		payload.Tenants = fileTenants{}
	}
	return payload.Tenants, nil
}

// update changes the tenants under the lock; change reports whether there is anything to write. It returns only once
// the new file is on disk.
func (f *keyFile) update(ctx context.Context, change func(fileTenants) (bool, error)) error {
	unlock, err := f.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	tenants, err := f.load()
	if err != nil {
		return err
	}
	defer tenants.clear()
	changed, err := change(tenants)
	if err != nil || !changed {
		return err
	}
	return f.save(tenants)
}

func (f *keyFile) save(tenants fileTenants) error {
	plain, err := json.Marshal(filePayload{tenants})
	if err != nil {
		return driver.Errorf(driver.Internal, "encode the key file: %w", err)
	}
	defer clear(plain)
	sealed := f.aead.Seal(bytes.Clone(f.header), nil, plain, f.header)
	if err := replaceFile(f.path, sealed); err != nil {
		return driver.Errorf(driver.Device, "write the key file: %w", err)
	}
	return nil
}

// replaceFile puts data in the place of path such that after a power cut path holds either the old bytes or the new.
func replaceFile(path string, data []byte) error {
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	w, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	if err := errors.Join(err, w.Sync(), w.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// read returns the file's bytes, at least a whole header of this version.
func (f *keyFile) read() ([]byte, error) {
	r, err := os.Open(f.path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		return nil, driver.Errorf(driver.InvalidArgument, "open the key file: %w", err)
	}
	defer func() { _ = r.Close() }()
	info, err := r.Stat()
	if err != nil {
		return nil, driver.Errorf(driver.Device, "read the key file: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, driver.Errorf(driver.InvalidArgument, "key file %s is not a key file", f.path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, driver.Errorf(driver.InvalidArgument, "key file %s is open to others: chmod 600 it", f.path)
	}
	raw := make([]byte, info.Size())
	if _, err := r.ReadAt(raw, 0); err != nil {
		return nil, driver.Errorf(driver.Device, "read the key file: %w", err)
	}
	if len(raw) < headerSize || !bytes.HasPrefix(raw, []byte(fileMagic)) {
		return nil, driver.Errorf(driver.InvalidArgument, "%s is not a key file of this version", f.path)
	}
	return raw, nil
}

func (f *keyFile) damaged() error {
	return driver.Errorf(driver.KeyUnavailable, "key file %s is damaged: restore it from its backup", f.path)
}

// lockPoll is how often a waiting writer looks whether the lock is free. Writers hold it for milliseconds.
const lockPoll = 2 * time.Millisecond

// lock takes the writers' lock, which other driver processes on the same file honour too.
func (f *keyFile) lock(ctx context.Context) (unlock func(), err error) {
	w, err := os.OpenFile(f.path+".lock", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "open the key file's lock: %w", err)
	}
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		err := unix.Flock(int(w.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = w.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(driver.Errorf(driver.Device, "lock the key file: %w", err), w.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(driver.AsError(ctx.Err()), w.Close())
		case <-tick.C:
		}
	}
}
