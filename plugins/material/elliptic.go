package material

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyside/keyside/plugins/driver"
)

// readSEC1 reads an ECPrivateKey (RFC 5915). The curve may be named inside, outside or in both places, and if it is named nowhere, it is
// that of spec, or the one on which the key has its public point. Public points must be those of the key: the one inside, and public,
// the content of a BIT STRING outside, unless it is nil.
func readSEC1(der []byte, outside *driver.Spec, public []byte, spec driver.KeySpec) (*PrivateKey, error) {
	var key, params, inside, octets cryptobyte.String
	var hasParams, hasPublic bool
	var version int
	s := cryptobyte.String(der)
	if !s.ReadASN1(&key, casn1.SEQUENCE) || !s.Empty() || !key.ReadASN1Integer(&version) || version != 1 ||
		!key.ReadASN1(&octets, casn1.OCTET_STRING) ||
		!key.ReadOptionalASN1(&params, &hasParams, casn1.Tag(0).ContextSpecific().Constructed()) ||
		!key.ReadOptionalASN1(&inside, &hasPublic, casn1.Tag(1).ContextSpecific().Constructed()) || !key.Empty() {
		return nil, errMalformed
	}
	points := [][]byte{}
	if hasPublic {
		var point []byte
		if !inside.ReadASN1BitStringAsBytes(&point) || !inside.Empty() {
			return nil, errMalformed
		}
		points = append(points, point)
	}
	if public != nil {
		points = append(points, public)
	}
	curve := outside
	if hasParams {
		named, err := readCurve(params)
		if err != nil {
			return nil, err
		}
		if curve = named; outside != nil && outside != named {
			return nil, refuse("names two curves, %s and %s", outside.Name, named.Name)
		}
	}
	if curve != nil {
		return onCurve(curve, octets, points)
	}
	return onSomeCurve(octets, points, spec)
}

// onSomeCurve reads a key that names no curve.
func onSomeCurve(octets []byte, points [][]byte, spec driver.KeySpec) (*PrivateKey, error) {
	for _, s := range driver.Specs() {
		if s.Family == driver.EC && (s.Value == spec || spec == 0 && len(points) > 0) {
			if key, err := onCurve(s, octets, points); err == nil {
				return key, nil
			}
		}
	}
	return nil, &Refusal{Reason: "is an elliptic-curve key that does not name its curve",
		Command: "(openssl ecparam -name CURVE; cat FILE) > plain.pem"}
}

// onCurve reads a scalar on a curve, and compares its public point.
func onCurve(curve *driver.Spec, octets []byte, points [][]byte) (*PrivateKey, error) {
	scalar := make([]byte, curve.Size())
	defer clear(scalar)
	// Some tools omit leading zeros, others write one more: certtool for half of the keys.
	excess := max(0, len(octets)-len(scalar))
	var above byte
	for _, b := range octets[:excess] {
		above |= b
	}
	copy(scalar[max(0, len(scalar)-len(octets)):], octets[excess:])
	point, ok := publicPoint(curve.Curve, scalar)
	if !ok || above != 0 {
		return nil, refuse("has a scalar that is zero or not below the order of %s", curve.Name)
	}
	for _, given := range points {
		if !isPoint(given, point) {
			return nil, refuse("holds the public key of another private key")
		}
	}
	der, ok := encodeEC(curve.OID, scalar, point)
	if !ok {
		return nil, errMalformed
	}
	return &PrivateKey{curve.Value, der}, nil
}

// readCurve returns the curve that ECParameters name (RFC 5480 section 2.1.1).
func readCurve(params []byte) (*driver.Spec, error) {
	var oid asn1.ObjectIdentifier
	s := cryptobyte.String(params)
	switch {
	case s.PeekASN1Tag(casn1.SEQUENCE):
		return nil, errExplicit
	case !s.ReadASN1ObjectIdentifier(&oid) || !s.Empty():
		return nil, refuse("is an elliptic-curve key whose parameters are no name of a curve")
	}
	for _, c := range driver.Specs() {
		if c.Family == driver.EC && c.OID.Equal(oid) {
			return c, nil
		}
	}
	return nil, refuse("is a key on the curve %s, and keys are imported only on %s", named(curves, oid), specNames(driver.EC))
}

// publicPoint returns the uncompressed public point of a scalar, which must be from 1 to below the curve's order. A nil curve
// is secp256k1, which Go does not implement.
func publicPoint(curve elliptic.Curve, scalar []byte) ([]byte, bool) {
	if curve == nil {
		var d secp256k1.ModNScalar
		defer d.Zero()
		if overflow := d.SetByteSlice(scalar); overflow || d.IsZero() {
			return nil, false
		}
		return secp256k1.NewPrivateKey(&d).PubKey().SerializeUncompressed(), true
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
	if err != nil {
		return nil, false
	}
	point, err := key.PublicKey.Bytes()
	return point, err == nil
}

// isPoint reports whether given is the point: uncompressed, compressed or hybrid (SEC 1 section 2.3.3, X9.62 section 4.3.6).
func isPoint(given, point []byte) bool {
	size := (len(point) - 1) / 2
	odd := point[len(point)-1] & 1
	compressed := append([]byte{2 | odd}, point[1:1+size]...)
	hybrid := append([]byte{6 | odd}, point[1:]...)
	return bytes.Equal(given, point) || bytes.Equal(given, compressed) || bytes.Equal(given, hybrid)
}

// encodeEC encodes PKCS#8 as Go and openssl do.
func encodeEC(curve asn1.ObjectIdentifier, scalar, point []byte) ([]byte, bool) {
	var inner, b cryptobyte.Builder
	inner.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1OctetString(scalar)
		b.AddASN1(casn1.Tag(1).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) { b.AddASN1BitString(point) })
	})
	sec1, err := inner.Bytes()
	defer clear(sec1)
	if err != nil {
		return nil, false
	}
	b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oidEC)
			b.AddASN1ObjectIdentifier(curve)
		})
		b.AddASN1OctetString(sec1)
	})
	pkcs8, err := b.Bytes()
	return pkcs8, err == nil
}
