package soft

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/plugins/driver"
)

// hexBytes is a byte string that JSON carries in hex.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// vectorFile is a file of Project Wycheproof's test vectors, as far as it is used here.
type vectorFile struct {
	TestGroups []struct {
		IVSize          int      `json:"ivSize"`
		TagSize         int      `json:"tagSize"`
		PrivateKeyPKCS8 hexBytes `json:"privateKeyPkcs8"`
		Tests           []vector `json:"tests"`
	} `json:"testGroups"`
}

type vector struct {
	TcID                              int    `json:"tcId"`
	Comment                           string `json:"comment"`
	Key, IV, AAD, Msg, Ct, Tag, Label hexBytes
	Result                            string `json:"result"`
}

// vectors reads a Wycheproof file from the folder beside the checkout. Without that folder the test says so and has
// nothing more to do; what it would have covered is covered by the RFC's vectors and the conformance kit.
func vectors(t *testing.T, name string) *vectorFile {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "vectors", name))
	if errors.Is(err, fs.ErrNotExist) {
		t.Logf("shared/vectors/%s is not beside the checkout: Wycheproof's vectors are left out", name)
		return &vectorFile{}
	}
	if err != nil {
		t.Fatal(err)
	}
	file := new(vectorFile)
	if err := json.Unmarshal(data, file); err != nil {
		t.Fatal(err)
	}
	if len(file.TestGroups) == 0 {
		t.Fatalf("%s holds no vectors", name)
	}
	return file
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkWrap(t *testing.T, key, material, wrapped []byte) {
	t.Helper()
	w, err := newKeyWrap(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.wrap(material); err != nil || !bytes.Equal(got, wrapped) {
		t.Errorf("wrap: %x, %v, want %x", got, err, wrapped)
	}
	if got, ok := w.unwrap(wrapped); !ok || !bytes.Equal(got, material) {
		t.Errorf("unwrap: %x, %v, want %x", got, ok, material)
	}
}

// The two examples of RFC 5649, section 6.
func TestKeyWrapRFC5649(t *testing.T) {
	key := unhex(t, "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8")
	checkWrap(t, key, unhex(t, "c37b7e6492584340bed12207808941155068f738"), unhex(t, "138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"))
	checkWrap(t, key, unhex(t, "466f7250617369"), unhex(t, "afbeb0f07dfbf5419200f2ccb50bb24f"))
}

func TestKeyWrapWycheproof(t *testing.T) {
	for _, group := range vectors(t, "aes_kwp_test.json").TestGroups {
		for _, v := range group.Tests {
			if v.Result != "invalid" {
				checkWrap(t, v.Key, v.Msg, v.Ct)
				continue
			}
			w, err := newKeyWrap(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := w.unwrap(v.Ct); ok {
				t.Errorf("%d (%s): unwrapped %x", v.TcID, v.Comment, got)
			}
		}
	}
}

func TestKeyWrapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := newKeyWrap(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		if err != nil {
			t.Fatal(err)
		}
		material := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "material")
		wrapped, err := w.wrap(material)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := w.unwrap(wrapped); !ok || !bytes.Equal(got, material) {
			t.Fatalf("unwrap: %v", ok)
		}
		at := rapid.IntRange(0, len(wrapped)-1).Draw(t, "at")
		wrapped[at] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if _, ok := w.unwrap(wrapped); ok {
			t.Fatalf("unwrapped with byte %d changed", at)
		}
	})
}

func TestKeyWrapRefuses(t *testing.T) {
	w, err := newKeyWrap(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, maxWrappedMaterial + 1} {
		if _, err := w.wrap(make([]byte, n)); err == nil {
			t.Errorf("wrapped %d bytes", n)
		}
	}
	for _, n := range []int{0, 7, 8, 15, 17, 23, maxWrappedMaterial + 16} {
		if _, ok := w.unwrap(make([]byte, n)); ok {
			t.Errorf("unwrapped %d bytes", n)
		}
	}
	if _, err := newKeyWrap(make([]byte, 17)); err == nil {
		t.Error("took a key of 17 bytes")
	}
}

// NIST SP 800-38B, appendix D.1, AES-128.
func TestCMAC(t *testing.T) {
	key := unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	message := unhex(t, "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710")
	for n, want := range map[int]string{
		16: "070a16b46b4d4144f79bdd9dd04a287c", 40: "dfa66747de9ae63030ca32611497c827", 64: "51f0bebf7e3b9d92fc49741779363cfe",
	} {
		if got, err := cmac(key, message[:n]); err != nil || hex.EncodeToString(got) != want {
			t.Errorf("%d bytes: %x, %v, want %s", n, got, err, want)
		}
	}
}

func TestDecryptWycheproof(t *testing.T) {
	specs := map[int]driver.KeySpec{16: driver.AES128, 24: driver.AES192, 32: driver.AES256}
	for _, group := range vectors(t, "aes_gcm_test.json").TestGroups {
		for _, v := range group.Tests {
			key, err := open(&driver.KeyIdentity{Spec: specs[len(v.Key)]}, v.Key)
			if err != nil {
				t.Fatal(err)
			}
			res, err := decrypt(nil, key, &driver.Op{Iv: v.IV, Data: append(v.Ct, v.Tag...), Aad: v.AAD})
			// The contract knows one length of IV and tag; of the rest it refuses what is valid elsewhere.
			valid := v.Result == "valid" && group.IVSize == 8*driver.GCMIVSize && group.TagSize == 8*driver.GCMTagSize
			if valid && (err != nil || !bytes.Equal(res.GetData(), v.Msg)) {
				t.Errorf("%d (%s): %v", v.TcID, v.Comment, err)
			}
			if !valid && driver.CodeOf(err) != driver.BadCiphertext {
				t.Errorf("%d (%s): %v, want refusal", v.TcID, v.Comment, err)
			}
		}
	}
}

func TestOpenMaterialWycheproof(t *testing.T) {
	for name, algorithm := range map[string]driver.Algorithm{
		"rsa_oaep_2048_sha1_mgf1sha1_test.json":     driver.OAEPSHA1,
		"rsa_oaep_2048_sha256_mgf1sha256_test.json": driver.OAEPSHA256,
		"rsa_pkcs1_2048_test.json":                  driver.PKCS1v15,
	} {
		for _, group := range vectors(t, name).TestGroups {
			parsed, err := x509.ParsePKCS8PrivateKey(group.PrivateKeyPKCS8)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range group.Tests {
				req := &driver.ImportKeyRequest{Algorithm: algorithm, EncryptedMaterial: v.Ct}
				got, ok := openMaterial(parsed.(*rsa.PrivateKey), req)
				if want := v.Result == "valid" && len(v.Label) == 0; ok != want || ok && !bytes.Equal(got, v.Msg) {
					t.Errorf("%s %d (%s): opened %v, want %v", name, v.TcID, v.Comment, ok, want)
				}
			}
		}
	}
}
