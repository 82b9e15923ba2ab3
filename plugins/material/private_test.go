package material

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/keyside/keyside/plugins/driver"
)

var testRSA = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// pkcs1 and sec1 are the forms with all their parts open, to spoil them.
type pkcs1 struct {
	Version               int
	N                     *big.Int
	E                     int
	D, P, Q, Dp, Dq, QInv *big.Int
	More                  asn1.RawValue `asn1:"optional"`
}

type sec1 struct {
	Version int
	Scalar  []byte
	Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	Point   asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

type algorithm struct {
	OID    asn1.ObjectIdentifier
	Params any
}

type pkcs8 struct {
	Version   int
	Algorithm asn1.RawValue
	Key       []byte
	More      asn1.RawValue `asn1:"optional"`
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func inPKCS8(t *testing.T, oid asn1.ObjectIdentifier, params any, key []byte) []byte {
	t.Helper()
	return marshal(t, pkcs8{Algorithm: asn1.RawValue{FullBytes: marshal(t, algorithm{oid, params})}, Key: key})
}

// withPublic returns a OneAsymmetricKey of version 2 (RFC 5958) with a public key.
func withPublic(t *testing.T, oid asn1.ObjectIdentifier, params any, key, public []byte) []byte {
	t.Helper()
	return marshal(t, pkcs8{Version: 1, Algorithm: asn1.RawValue{FullBytes: marshal(t, algorithm{oid, params})}, Key: key,
		More: asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: append([]byte{0}, public...)}})
}

func openRSA(key *rsa.PrivateKey) pkcs1 {
	return pkcs1{N: key.N, E: key.E, D: key.D, P: key.Primes[0], Q: key.Primes[1],
		Dp: key.Precomputed.Dp, Dq: key.Precomputed.Dq, QInv: key.Precomputed.Qinv}
}

// withExponent gives a key another exponent that fits its primes.
func withExponent(key *rsa.PrivateKey, e int64) (pkcs1, bool) {
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(key.Primes[0], one), new(big.Int).Sub(key.Primes[1], one)
	d := new(big.Int).ModInverse(big.NewInt(e), new(big.Int).Mul(p1, q1))
	if d == nil {
		return pkcs1{}, false
	}
	k := openRSA(key)
	k.E, k.D, k.Dp, k.Dq = int(e), d, new(big.Int).Mod(d, p1), new(big.Int).Mod(d, q1)
	return k, true
}

func weakExponent(t *testing.T, key *rsa.PrivateKey) pkcs1 {
	t.Helper()
	for e := int64(3); e <= 1<<16; e += 2 {
		if weak, ok := withExponent(key, e); ok {
			return weak
		}
	}
	t.Fatal("no exponent fits")
	return pkcs1{}
}

// closePrimes makes an RSA key whose modulus Fermat factors at once.
func closePrimes(t *testing.T) pkcs1 {
	t.Helper()
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(1) {
		q.Add(q, big.NewInt(2))
	}
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	d := new(big.Int).ModInverse(big.NewInt(65537), new(big.Int).Mul(p1, q1))
	return pkcs1{N: new(big.Int).Mul(p, q), E: 65537, D: d, P: p, Q: q,
		Dp: new(big.Int).Mod(d, p1), Dq: new(big.Int).Mod(d, q1), QInv: new(big.Int).ModInverse(q, p)}
}

// openPKCS8 reads PKCS#8 as a container under RFC 5649 is read.
func openPKCS8(spec driver.KeySpec, der []byte) ([]byte, bool) {
	key, err := readPKCS8(der, spec)
	return key.ofSpec(spec, err)
}

func TestReadPKCS8(t *testing.T) {
	good := testRSA()
	goodEC, err := ecdsa.GenerateKey(driver.SpecOf(driver.ECP256).Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ec256 := driver.SpecOf(driver.ECP256).OID
	rsaDER := func(change func(*pkcs1)) []byte {
		k := openRSA(good)
		change(&k)
		return inPKCS8(t, oidRSA, asn1.NullRawValue, marshal(t, k))
	}
	scalar, err := goodEC.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := goodEC.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	ecDER := func(change func(*sec1)) []byte {
		k := sec1{Version: 1, Scalar: bytes.Clone(scalar), Point: asn1.BitString{Bytes: bytes.Clone(point), BitLength: 8 * len(point)}}
		change(&k)
		return inPKCS8(t, oidEC, ec256, marshal(t, k))
	}
	more := func(n *big.Int) *big.Int { return new(big.Int).Add(n, big.NewInt(2)) }
	order := driver.SpecOf(driver.ECP256).Curve.Params().N
	first := rsaDER(func(*pkcs1) {})
	last := append(bytes.Clone(first), 0)
	infoV2 := pkcs8{Version: 1, Algorithm: asn1.RawValue{FullBytes: marshal(t, algorithm{oidRSA, asn1.NullRawValue})}, Key: marshal(t, openRSA(good)),
		More: asn1.RawValue{Class: 2, Tag: 0, IsCompound: true}}
	rsaCases := map[string]struct {
		der  []byte
		good bool
	}{
		"as it is":                      {first, true},
		"version 2 with its public key": {withPublic(t, oidRSA, asn1.NullRawValue, marshal(t, openRSA(good)), x509.MarshalPKCS1PublicKey(&good.PublicKey)), true},
		"another public key":            {withPublic(t, oidRSA, asn1.NullRawValue, marshal(t, openRSA(good)), x509.MarshalPKCS1PublicKey(&rsa.PublicKey{N: more(good.N), E: good.E})), false},
		"with attributes":               {marshal(t, infoV2), true},
		"an element more":               {marshal(t, func() pkcs8 { v := infoV2; v.More = asn1.RawValue{FullBytes: []byte{5, 0}}; return v }()), false},
		"version 2":                     {marshal(t, func() pkcs8 { v := infoV2; v.Version = 2; return v }()), false},
		"a byte behind it":              {last, false},
		"a byte cut":                    {first[:len(first)-1], false},
		"an element more in the key":    {rsaDER(func(k *pkcs1) { k.More = asn1.RawValue{FullBytes: []byte{5, 0}} }), false},
		"a byte behind the key":         {inPKCS8(t, oidRSA, asn1.NullRawValue, append(marshal(t, openRSA(good)), 0)), false},
		"no parameters":                 {marshal(t, pkcs8{Algorithm: asn1.RawValue{FullBytes: marshal(t, struct{ A asn1.ObjectIdentifier }{oidRSA})}, Key: marshal(t, openRSA(good))}), true},
		"RSASSA-PSS":                    {inPKCS8(t, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}, asn1.NullRawValue, marshal(t, openRSA(good))), false},
		"another private exponent":      {rsaDER(func(k *pkcs1) { k.D = more(k.D) }), false},
		"another modulus":               {rsaDER(func(k *pkcs1) { k.N = more(k.N) }), false},
		"another prime":                 {rsaDER(func(k *pkcs1) { k.P = more(k.P) }), false},
		"primes swapped":                {rsaDER(func(k *pkcs1) { k.P, k.Q = k.Q, k.P }), false},
		"another exponent of p":         {rsaDER(func(k *pkcs1) { k.Dp = more(k.Dp) }), false},
		"another coefficient":           {rsaDER(func(k *pkcs1) { k.QInv = more(k.QInv) }), false},
		"exponent 1":                    {rsaDER(func(k *pkcs1) { k.E, k.D, k.Dp, k.Dq = 1, big.NewInt(1), big.NewInt(1), big.NewInt(1) }), false},
		"an even exponent":              {rsaDER(func(k *pkcs1) { k.E = 65538 }), false},
		"a weak exponent":               {inPKCS8(t, oidRSA, asn1.NullRawValue, marshal(t, weakExponent(t, good))), false},
		"primes too close":              {inPKCS8(t, oidRSA, asn1.NullRawValue, marshal(t, closePrimes(t))), false},
		"an elliptic key":               {ecDER(func(*sec1) {}), false},
		"an encrypted key":              {marshal(t, struct{ A, B any }{algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, asn1.NullRawValue}, make([]byte, 256)}), false},
		"PKCS#1, which is not for here": {marshal(t, openRSA(good)), false},
		"nothing":                       {nil, false},
	}
	for what, c := range rsaCases {
		got, ok := openPKCS8(driver.RSA2048, c.der)
		if ok != c.good || ok && !bytes.Equal(got, first) {
			t.Errorf("rsa, %s: %t", what, ok)
		}
	}
	if _, ok := openPKCS8(driver.RSA3072, first); ok {
		t.Error("2048 bits are taken for 3072")
	}
	canonical, err := x509.MarshalPKCS8PrivateKey(goodEC)
	if err != nil {
		t.Fatal(err)
	}
	off := bytes.Clone(point)
	off[len(off)-1] ^= 1
	compressed := append([]byte{2 | point[64]&1}, point[1:33]...)
	bits := func(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }
	for what, c := range map[string]struct {
		der  []byte
		good bool
	}{
		"as go writes it":         {canonical, true},
		"as it is":                {ecDER(func(*sec1) {}), true},
		"without its point":       {ecDER(func(k *sec1) { k.Point = asn1.BitString{} }), true},
		"with a compressed point": {ecDER(func(k *sec1) { k.Point = bits(compressed) }), true},
		"with its curve":          {ecDER(func(k *sec1) { k.Curve = ec256 }), true},
		"another curve inside":    {ecDER(func(k *sec1) { k.Curve = driver.SpecOf(driver.Secp256k1).OID }), false},
		"a point off the curve":   {ecDER(func(k *sec1) { k.Point = bits(off) }), false},
		"another key's point":     {ecDER(func(k *sec1) { k.Scalar[31] ^= 1 }), false},
		"half a point":            {ecDER(func(k *sec1) { k.Point = bits(point[:33]) }), false},
		"scalar 0":                {ecDER(func(k *sec1) { clear(k.Scalar); k.Point = asn1.BitString{} }), false},
		"the order for a scalar":  {ecDER(func(k *sec1) { k.Scalar, k.Point = order.Bytes(), asn1.BitString{} }), false},
		"with a hybrid point":     {ecDER(func(k *sec1) { k.Point = bits(append([]byte{6 | point[64]&1}, point[1:]...)) }), true},
		"a zero more":             {ecDER(func(k *sec1) { k.Scalar = append([]byte{0}, k.Scalar...) }), true},
		"many zeros more":         {ecDER(func(k *sec1) { k.Scalar = append(make([]byte, 32), k.Scalar...) }), true},
		"a byte more":             {ecDER(func(k *sec1) { k.Scalar, k.Point = append([]byte{1}, k.Scalar...), asn1.BitString{} }), false},
		"version 2 and its key":   {withPublic(t, oidEC, ec256, marshal(t, sec1{Version: 1, Scalar: scalar}), point), true},
		"and a compressed one":    {withPublic(t, oidEC, ec256, marshal(t, sec1{Version: 1, Scalar: scalar}), compressed), true},
		"another public key":      {withPublic(t, oidEC, ec256, marshal(t, sec1{Version: 1, Scalar: scalar}), off), false},
		"an empty public key":     {withPublic(t, oidEC, ec256, marshal(t, sec1{Version: 1, Scalar: scalar}), nil), false},
		"no scalar":               {ecDER(func(k *sec1) { k.Scalar = nil }), false},
		"another version":         {ecDER(func(k *sec1) { k.Version = 2 }), false},
		"a byte behind it":        {append(bytes.Clone(canonical), 0), false},
		"another curve outside":   {inPKCS8(t, oidEC, driver.SpecOf(driver.ECP384).OID, marshal(t, sec1{Version: 1, Scalar: scalar})), false},
		"a curve not named":       {inPKCS8(t, oidEC, asn1.NullRawValue, marshal(t, sec1{Version: 1, Scalar: scalar})), false},
		"an rsa key":              {first, false},
	} {
		got, ok := openPKCS8(driver.ECP256, c.der)
		if ok != c.good || ok && !bytes.Equal(got, canonical) {
			t.Errorf("elliptic, %s: %t", what, ok)
		}
	}
}

// TestReadSecp256k1 reads a key on the curve that Go has not, and the two scalars just outside of it.
func TestReadSecp256k1(t *testing.T) {
	oid := driver.SpecOf(driver.Secp256k1).OID
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	scalar, point := key.Serialize(), key.PubKey().SerializeUncompressed()
	whole := sec1{Version: 1, Scalar: scalar, Point: asn1.BitString{Bytes: point, BitLength: 8 * len(point)}}
	want := inPKCS8(t, oidEC, oid, marshal(t, whole))
	for _, k := range []sec1{whole, {Version: 1, Scalar: scalar}} {
		if got, ok := openPKCS8(driver.Secp256k1, inPKCS8(t, oidEC, oid, marshal(t, k))); !ok || !bytes.Equal(got, want) {
			t.Errorf("%t: %x", ok, got)
		}
	}
	order := secp256k1.Params().N.Bytes()
	for _, bad := range [][]byte{make([]byte, 32), order} {
		if _, ok := openPKCS8(driver.Secp256k1, inPKCS8(t, oidEC, oid, marshal(t, sec1{Version: 1, Scalar: bad}))); ok {
			t.Errorf("scalar %x is accepted", bad)
		}
	}
}

// TestReadText reads what openssl reads, and refuses what is cut, named wrongly or encrypted.
func TestReadText(t *testing.T) {
	key := testRSA()
	want, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	traditional := x509.MarshalPKCS1PrivateKey(key)
	block := func(typ string, der []byte, headers map[string]string) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: typ, Bytes: der, Headers: headers})
	}
	join := func(parts ...string) []byte { return []byte(strings.Join(parts, "")) }
	text, certificate := string(block("PRIVATE KEY", want, nil)), string(block("CERTIFICATE", []byte("no certificate"), nil))
	const mark = "\ufeff"
	good := map[string][]byte{
		"pkcs8 pem": []byte(text), "pkcs8 der": want, "pkcs1 pem": block("RSA PRIVATE KEY", traditional, nil), "pkcs1 der": traditional,
		"lines of windows": bytes.ReplaceAll([]byte(text), []byte("\n"), []byte("\r\n")), "without the last line's end": bytes.TrimSpace([]byte(text)),
		"two keys": join(text, string(block("EC PRIVATE KEY", []byte("ignored"), nil))), "text behind it": join(text, "more"),
		"text before it":       join("Bag Attributes\n    friendlyName: key\nKey Attributes: <No Attributes>\n", text),
		"behind a certificate": join(certificate, text), "before one": join(text, certificate),
		"a byte order mark": join(mark, text), "two files with marks": join(mark, certificate, mark, text),
	}
	for what, b := range good {
		if got, err := ReadPrivateKey(b); err != nil || got.Spec != driver.RSA2048 || !bytes.Equal(got.PKCS8, want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	utf16 := "\xff\xfe" + strings.Join(strings.Split(text, ""), "\x00") + "\x00"
	for what, c := range map[string]struct {
		file   []byte
		reason string
	}{
		"half of it":                  {[]byte(text[:len(text)/2]), "cut off or damaged"},
		"its end":                     {[]byte(text[len(text)/2:]), "not a private key"},
		"the name of another form":    {block("RSA PRIVATE KEY", want, nil), "numbers are not those of PKCS #1"},
		"another form of that name":   {block("PRIVATE KEY", traditional, nil), "not valid DER"},
		"an elliptic name":            {block("EC PRIVATE KEY", traditional, nil), "not valid DER"},
		"a certificate's":             {block("CERTIFICATE", want, nil), `no private key but "CERTIFICATE"`},
		"certificates":                {join(certificate, certificate, string(block("PUBLIC KEY", want, nil))), `no private key but "CERTIFICATE, PUBLIC KEY"`},
		"a certificate, half a key":   {join(certificate, text[:len(text)/2]), "cut off or damaged"},
		"encrypted pkcs8":             {block("ENCRYPTED PRIVATE KEY", want, nil), "passphrase"},
		"encrypted as once":           {block("RSA PRIVATE KEY", traditional, map[string]string{"Proc-Type": "4,ENCRYPTED"}), "passphrase"},
		"headers":                     {block("PRIVATE KEY", want, map[string]string{"Comment": "mine"}), "headers"},
		"der with a byte behind":      {append(bytes.Clone(want), '\n'), "more bytes follow"},
		"nothing":                     {nil, "not a private key"},
		"a beginning and no more":     {[]byte("-----BEGIN PRIVATE KEY-----"), "cut off or damaged"},
		"indented":                    {[]byte(strings.ReplaceAll("\n"+text, "\n", "\n  ")), "first column"},
		"line ends as two characters": {[]byte(strings.ReplaceAll(text, "\n", `\n`)), `has \n`},
		"utf-16":                      {[]byte(utf16), "UTF-16"},
		"base64 alone":                {[]byte(base64.StdEncoding.EncodeToString(want)), "base64 of DER"},
		"an unknown name":             {block("DSA PRIVATE KEY", traditional, nil), `"DSA PRIVATE KEY"`},
	} {
		_, err := ReadPrivateKey(c.file)
		var r *Refusal
		if !errors.As(err, &r) || !strings.Contains(err.Error(), c.reason) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestCurveNowhere reads a SEC 1 key that names no curve: on the curve of its public point, or of the block or spec outside of it.
func TestCurveNowhere(t *testing.T) {
	for _, value := range []driver.KeySpec{driver.ECP256, driver.ECP384, driver.ECP521, driver.Secp256k1} {
		row := driver.SpecOf(value)
		canonical := StandIn(value)
		whole, err := readPKCS8(canonical, 0)
		if err != nil {
			t.Fatal(err)
		}
		var outer pkcs8
		if _, err := asn1.Unmarshal(whole.PKCS8, &outer); err != nil {
			t.Fatal(err)
		}
		var inner sec1
		if _, err := asn1.Unmarshal(outer.Key, &inner); err != nil {
			t.Fatal(err)
		}
		inner.Curve = nil
		if got, err := ReadPrivateKey(marshal(t, inner)); err != nil || got.Spec != value || !bytes.Equal(got.PKCS8, canonical) {
			t.Errorf("%s by its point: %v", row.Name, err)
		}
		inner.Point = asn1.BitString{}
		bare := marshal(t, inner)
		if _, err := ReadPrivateKey(bare); err == nil || !strings.Contains(err.Error(), "does not name its curve") {
			t.Errorf("%s without any curve: %v", row.Name, err)
		}
		file := append(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: marshal(t, row.OID)}),
			pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: bare})...)
		if got, err := ReadPrivateKey(file); err != nil || !bytes.Equal(got.PKCS8, canonical) {
			t.Errorf("%s by the block in front: %v", row.Name, err)
		}
		if got, _, err := readFile(bare, value); err != nil || !bytes.Equal(got.PKCS8, canonical) {
			t.Errorf("%s by the spec: %v", row.Name, err)
		}
	}
}
