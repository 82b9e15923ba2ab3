package kms_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestMACs holds MACs of each spec, their limits, and that an algorithm goes with its spec alone.
func TestMACs(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	algorithms := map[kms.KeySpec]kms.MACAlgorithm{
		kms.HMAC256: kms.HMACSHA256, kms.HMAC384: kms.HMACSHA384, kms.HMAC512: kms.HMACSHA512,
	}
	for spec, right := range algorithms {
		key := w.create(t, kms.CreateKeyInput{Spec: spec})
		for _, alg := range algorithms {
			if alg == right {
				continue
			}
			_, err := w.GenerateMAC(admin, kms.MACInput{KeyID: key.ID, Algorithm: alg, Message: []byte("m")})
			wantCode(t, err, kms.CodeInvalidAlgorithm)
			_, err = w.VerifyMAC(admin, kms.MACInput{KeyID: key.ID, Algorithm: alg, Message: []byte("m")}, []byte("x"))
			if wantCode(t, err, kms.CodeInvalidAlgorithm); fieldOf(err) != "mac_algorithm" {
				t.Errorf("field %q", fieldOf(err))
			}
		}
		in := kms.MACInput{KeyID: key.ID, Algorithm: right, Message: []byte("message")}
		mac, err := w.GenerateMAC(admin, in)
		wantCode(t, err, "ok")
		changed, longer := bytes.Clone(mac), append(bytes.Clone(mac), 0)
		changed[len(changed)-1] ^= 1
		for what, c := range map[string]struct {
			message string
			mac     []byte
			want    bool
		}{
			"the mac": {"message", mac, true}, "a bit changed": {"message", changed, false}, "cut": {"message", mac[:16], false},
			"longer": {"message", longer, false}, "nothing": {"message", nil, false}, "another message": {"massage", mac, false},
		} {
			in.Message = []byte(c.message)
			if got, err := w.VerifyMAC(admin, in, c.mac); err != nil || got != c.want {
				t.Errorf("%s: %s verifies: %t, %v", spec, what, got, err)
			}
		}
		for n, want := range map[int]kms.Code{0: kms.CodeInvalidRequest, 1: "ok", 4096: "ok", 4097: "InvalidRequest/message/length"} {
			in.Message = make([]byte, n)
			_, err := w.GenerateMAC(admin, in)
			wantCode(t, err, want)
			_, err = w.VerifyMAC(admin, in, mac)
			wantCode(t, err, want)
		}
	}
}

// peerKey returns a new key on a curve, as Go's ECDH wants it and as its owner publishes it.
func peerKey(t *testing.T, curve elliptic.Curve) (*ecdh.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	own, err := key.ECDH()
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return own, public
}

// TestDeriveSharedSecret holds that both sides agree, and that only points of the key's curve are taken.
func TestDeriveSharedSecret(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	for spec, curve := range map[kms.KeySpec]elliptic.Curve{
		kms.ECP256: elliptic.P256(), kms.ECP384: elliptic.P384(), kms.ECP521: elliptic.P521(),
	} {
		key := w.create(t, kms.CreateKeyInput{Spec: spec, Usage: kms.KeyAgreement})
		own, public := peerKey(t, curve)
		got, err := w.DeriveSharedSecret(admin, kms.DeriveInput{KeyID: key.ID, PublicKey: public})
		wantCode(t, err, "ok")
		theirs, err := x509.ParsePKIXPublicKey(key.Versions[0].PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		point, err := theirs.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		want, err := own.ECDH(point)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the two sides do not agree (%v)", spec, err)
		}

		other := elliptic.P256()
		if curve == other {
			other = elliptic.P384()
		}
		_, foreign := peerKey(t, other)
		off, zero := bytes.Clone(public), bytes.Clone(public)
		off[len(off)-1] ^= 1
		point2 := 2 * ((curve.Params().BitSize + 7) / 8)
		clear(zero[len(zero)-point2:])
		infinity := bytes.Clone(public[:len(public)-point2])
		infinity[len(infinity)-1] = 0 // the octet of a point at infinity; the lengths around it do not fit then, either
		for what, peer := range map[string][]byte{
			"nothing": nil, "no key": []byte("key"), "another curve": foreign, "off the curve": off, "0, 0": zero,
			"infinity": infinity, "the bare point": public[len(public)-point2-1:], "a byte more": append(bytes.Clone(public), 0),
			"an RSA key": rsaPublic(),
		} {
			_, err := w.DeriveSharedSecret(admin, kms.DeriveInput{KeyID: key.ID, PublicKey: peer})
			if !is(err, invalidPublicKey) || fieldOf(err) != "public_key" {
				t.Errorf("%s with %s: %v in %q", spec, what, err, fieldOf(err))
			}
		}
	}
}

// TestSharedSecretIsWiped holds that a shared secret that could not be recorded does not stay in memory.
func TestSharedSecretIsWiped(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	key := w.create(t, kms.CreateKeyInput{Spec: kms.ECP256, Usage: kms.KeyAgreement})
	var seen []byte
	w.hsm.hook = func(a *answer) { seen = a.output; w.audit.down = errors.New("disk full") }
	_, err := w.DeriveSharedSecret(admin, kms.DeriveInput{KeyID: key.ID, PublicKey: ecPublic(kms.ECP256)})
	wantCode(t, err, kms.CodeInternal)
	if !bytes.Equal(seen, make([]byte, 32)) {
		t.Errorf("shared secret is still there: %x", seen)
	}
}
