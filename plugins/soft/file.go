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
	"github.com/keyside/keyside/plugins/procattr"
)

// The key file's format; FILE.md is its specification and the two change together.
const (
	fileMagic     = "KSSOFT1\n"
	kdfPBKDF2     = 1
	saltSize      = 32
	verifierSize  = 32
	headerSize    = len(fileMagic) + 1 + 4 + saltSize + verifierSize
	maxFile       = 64 << 20   // bytes; enough for about 100,000 tenants
	minIterations = 600_000    // OWASP 2023 for PBKDF2-HMAC-SHA-256
	maxIterations = 10_000_000 // takes some seconds: a corrupt count must not delay a start by minutes
)

// keyFile is the encrypted file of tenants' keys. It keeps the key that is derived from the passphrase, but not the passphrase.
type keyFile struct {
	path   string
	header []byte
	aead   cipher.AEAD
}

// fileTenant is one tenant in the file.
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

// clear zeroes the key bytes.
func (t fileTenants) clear() {
	for _, tenant := range t {
		clear(tenant.MAC)
		clear(tenant.Audit)
		for _, r := range tenant.Roots {
			clear(r.Key)
		}
	}
}

// openKeyFile opens the file at path with the passphrase, and creates it if it does not exist.
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
		return f.corrupt()
	}
	salt, verifier := rest[5:5+saltSize], rest[5+saltSize:5+saltSize+verifierSize]
	derived, err := f.derive(passphrase, salt, int(iterations))
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(derived, verifier) != 1 {
		return driver.Errorf(driver.PINIncorrect, "the passphrase does not open key file %s: restore whichever of them was changed from a backup", f.path)
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

// newGCM returns AES-GCM that generates IVs and puts them before the ciphertext, as FIPS 140-3 requires.
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

// load reads all tenants. The caller must clear them.
func (f *keyFile) load() (fileTenants, error) {
	raw, err := f.read()
	if err != nil {
		return nil, driver.Errorf(driver.KeyUnavailable, "read the key file: %w", err)
	}
	if !bytes.Equal(raw[:headerSize], f.header) {
		return nil, driver.Errorf(driver.KeyUnavailable, "key file %s was replaced after the driver started", f.path)
	}
	plain, err := f.aead.Open(nil, nil, raw[headerSize:], f.header)
	if err != nil {
		return nil, f.corrupt()
	}
	defer clear(plain)
	var payload filePayload
	if err := json.Unmarshal(plain, &payload); err != nil {
		return nil, f.corrupt()
	}
	for _, t := range payload.Tenants {
		if t == nil {
			return nil, f.corrupt()
		}
	}
	if payload.Tenants == nil {
		payload.Tenants = fileTenants{}
	}
	return payload.Tenants, nil
}

// update changes the tenants under the lock. change reports whether to write the file. update returns once the new file is on disk.
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

// replaceFile replaces the content of path. After a power cut, path has either the old content or the new.
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

// read returns the file's content, which has at least a complete header of this version.
func (f *keyFile) read() ([]byte, error) {
	r, err := os.Open(f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, driver.Errorf(driver.InvalidArgument, "open the key file: %w", procattr.AdviseAccess(err))
	}
	defer func() { _ = r.Close() }()
	info, err := r.Stat()
	if err != nil {
		return nil, driver.Errorf(driver.Device, "read the key file: %w", err)
	}
	switch {
	case !info.Mode().IsRegular() || info.Size() > maxFile:
		return nil, driver.Errorf(driver.InvalidArgument, "key file %s is not a key file", f.path)
	case info.Mode().Perm()&0o077 != 0:
		return nil, driver.Errorf(driver.InvalidArgument, "key file %s is readable by others: chmod 600 it", f.path)
	}
	raw := make([]byte, info.Size())
	if _, err := r.ReadAt(raw, 0); err != nil {
		return nil, driver.Errorf(driver.Device, "read the key file: %w", err)
	}
	if len(raw) < headerSize || !bytes.HasPrefix(raw, []byte(fileMagic)) {
		return nil, driver.Errorf(driver.InvalidArgument, "%s is not a key file of this version: restore it from a backup", f.path)
	}
	return raw, nil
}

func (f *keyFile) corrupt() error {
	return driver.Errorf(driver.KeyUnavailable, "key file %s is corrupt: restore it from a backup", f.path)
}

// lockPoll is the interval at which a waiting writer tries the lock. Writers hold it for milliseconds.
const lockPoll = 2 * time.Millisecond

// lock takes the writers' lock, which all driver processes on the same file use.
func (f *keyFile) lock(ctx context.Context) (unlock func(), err error) {
	w, err := os.OpenFile(f.path+".lock", os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, driver.Errorf(driver.InvalidArgument, "open the key file's lock: %w", procattr.AdviseAccess(err))
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
