package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"sync"
)

// This file stands for the vendor's own library: the Strongbox and its words. Nothing in it knows of Keyside. It is a
// toy: what a real box keeps in hardware is in memory here, and in a plain file if it is given one.

// Errors as the box's library reports them.
var (
	errWrongPIN    = errors.New("strongbox: wrong pin")
	errNoDrawer    = errors.New("strongbox: no such drawer")
	errBadEnvelope = errors.New("strongbox: envelope was not closed by this drawer, or not for this label")
	errBadTag      = errors.New("strongbox: message authentication failed")
	errStorage     = errors.New("strongbox: storage failed")
)

// box is one appliance. It has drawers, one for each customer.
type box struct {
	path string // of the file that keeps the drawers, or empty

	mu      sync.Mutex
	PIN     []byte             `json:"pin"` // SHA-256
	Drawers map[string]*drawer `json:"drawers"`
}

// drawer holds one customer's secrets. Keys leave it only in envelopes.
type drawer struct {
	Master []byte `json:"master"` // closes envelopes
	Stamp  []byte `json:"stamp"`  // for the customer's own MACs
	Seal   []byte `json:"seal"`   // PKCS#8, signs for the customer
}

// openBox opens the box whose file is at path, or a box that forgets everything. The first PIN that opens a new box is its PIN.
func openBox(path string, pin []byte) (*box, error) {
	b := &box{path: path, Drawers: map[string]*drawer{}}
	sum := sha256.Sum256(pin)
	if path != "" {
		data, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(data, b)
		} else if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return nil, errors.Join(errStorage, err)
		}
	}
	if b.PIN == nil {
		b.PIN = sum[:]
		return b, b.store()
	}
	if subtle.ConstantTimeCompare(b.PIN, sum[:]) != 1 {
		return nil, errWrongPIN
	}
	return b, nil
}

// store writes the box's file such that a power cut leaves the old one or the new.
func (b *box) store() error {
	if b.path == "" {
		return nil
	}
	data, err := json.Marshal(b)
	if err != nil {
		return errors.Join(errStorage, err)
	}
	f, err := os.OpenFile(b.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return errors.Join(errStorage, err)
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(errStorage, err)
	}
	if err := os.Rename(b.path+".new", b.path); err != nil {
		return errors.Join(errStorage, err)
	}
	return nil
}

// drawer finds a drawer; with fit it puts one in where there is none.
func (b *box) drawer(name string, fit bool) (*drawer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.Drawers[name]; d != nil {
		return d, nil
	}
	if !fit {
		return nil, errNoDrawer
	}
	seal, err := newSigningKey()
	if err != nil {
		return nil, err
	}
	d := &drawer{Master: randomBytes(32), Stamp: randomBytes(32), Seal: seal}
	b.Drawers[name] = d
	if err := b.store(); err != nil {
		delete(b.Drawers, name)
		return nil, err
	}
	return d, nil
}

// isEmpty reports a box without drawers.
func (b *box) isEmpty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.Drawers) == 0
}

// envelope closes a key in an envelope that opens only in this drawer and under the same label.
func (d *drawer) envelope(key []byte, label string) ([]byte, error) {
	return aesSeal(d.Master, key, []byte(label))
}

func (d *drawer) openEnvelope(envelope []byte, label string) ([]byte, error) {
	key, err := aesOpen(d.Master, envelope, []byte(label))
	if err != nil {
		return nil, errBadEnvelope
	}
	return key, nil
}

// aesSeal returns nonce, ciphertext and tag in one.
func aesSeal(key, data, label []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	return gcm.Seal(nil, nil, data, label), nil
}

func aesOpen(key, sealed, label []byte) ([]byte, error) {
	gcm, err := newGCM(key)
	if err != nil {
		return nil, err
	}
	data, err := gcm.Open(nil, nil, sealed, label)
	if err != nil {
		return nil, errBadTag
	}
	return data, nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func newSigningKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func signingKey(pkcs8 []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(pkcs8)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errBadEnvelope
	}
	return key, nil
}

func sign(pkcs8, digest []byte) ([]byte, error) {
	key, err := signingKey(pkcs8)
	if err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, key, digest)
}

func publicKey(pkcs8 []byte) ([]byte, error) {
	key, err := signingKey(pkcs8)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(key.Public())
}

func stamp(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}
