package material

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/keyside/keyside/plugins/driver"
)

// TestKeyFiles reads the files that real tools made (testdata/keys/make.sh), as the command line does and as an import under RFC 5649
// does. The public key of a key that was read must be the one that openssl printed for its file.
func TestKeyFiles(t *testing.T) {
	const dir = "testdata/keys"
	table, err := os.ReadFile(filepath.Join(dir, "keys.txt"))
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(table)) {
		row := strings.Split(strings.TrimSpace(line), "\t")
		if len(row) != 3 {
			t.Fatalf("%q is not file, source, expected", line)
		}
		rows++
		file, err := os.ReadFile(filepath.Join(dir, row[0]))
		if err != nil {
			t.Fatal(err)
		}
		before := bytes.Clone(file)
		key, err := ReadPrivateKey(file)
		if !bytes.Equal(file, before) {
			t.Errorf("%s: reading changes the file's bytes", row[0])
		}
		if reason, refused := strings.CutPrefix(row[2], "! "); refused {
			var r *Refusal
			if !errors.As(err, &r) || !strings.Contains(r.Reason, reason) {
				t.Errorf("%s (%s): %v, not refused because it %s", row[0], row[1], err, reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s (%s): %v", row[0], row[1], err)
			continue
		}
		if got := driver.SpecOf(key.Spec).Name + " " + publicDigest(t, key); got != row[2] {
			t.Errorf("%s (%s): read as %s, not as %s", row[0], row[1], got, row[2])
		}
		temporary := Random(32)
		w, err := NewKeyWrap(temporary)
		if err != nil {
			t.Fatal(err)
		}
		der := file // a driver opens PKCS#8; of other forms it gets what import wrap makes
		if block, _ := pem.Decode(file); block != nil && block.Type == "PRIVATE KEY" {
			der = block.Bytes
		} else if block != nil || !isPKCS8(file) {
			der = key.PKCS8
		}
		wrapped, err := w.Wrap(der)
		if err != nil {
			t.Fatal(err)
		}
		if pkcs8, ok := openContainer(key.Spec, temporary, wrapped); !ok || !bytes.Equal(pkcs8, key.PKCS8) {
			t.Errorf("%s (%s): an import reads another key, or none: %t", row[0], row[1], ok)
		}
	}
	if rows < 60 {
		t.Errorf("the table has %d rows, fewer than 60", rows)
	}
}

func isPKCS8(file []byte) bool {
	_, err := readPKCS8(file, 0)
	return err == nil
}

// publicDigest returns the SHA-256 of a key's SubjectPublicKeyInfo (RFC 5280), which is made here from the numbers of its PKCS#8.
func publicDigest(t *testing.T, key *PrivateKey) string {
	t.Helper()
	var info, algorithm, inner, body, skipped, n, e, tagged, bits cryptobyte.String
	s := cryptobyte.String(key.PKCS8)
	if !s.ReadASN1(&info, casn1.SEQUENCE) || !info.SkipASN1(casn1.INTEGER) || !info.ReadASN1Element(&algorithm, casn1.SEQUENCE) ||
		!info.ReadASN1(&inner, casn1.OCTET_STRING) || !inner.ReadASN1(&body, casn1.SEQUENCE) || !body.SkipASN1(casn1.INTEGER) {
		t.Fatal("not PKCS#8")
	}
	var public []byte
	if driver.SpecOf(key.Spec).Family == driver.RSA {
		if !body.ReadASN1Element(&n, casn1.INTEGER) || !body.ReadASN1Element(&e, casn1.INTEGER) {
			t.Fatal("not PKCS#1")
		}
		var b cryptobyte.Builder
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(n); b.AddBytes(e) })
		public = b.BytesOrPanic()
	} else {
		if !body.ReadASN1(&skipped, casn1.OCTET_STRING) || !body.ReadASN1(&tagged, casn1.Tag(1).ContextSpecific().Constructed()) ||
			!tagged.ReadASN1(&bits, casn1.BIT_STRING) {
			t.Fatal("not SEC 1 with a public point")
		}
		public = bits[1:]
	}
	var spki cryptobyte.Builder
	spki.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(algorithm); b.AddASN1BitString(public) })
	sum := sha256.Sum256(spki.BytesOrPanic())
	return hex.EncodeToString(sum[:])
}
