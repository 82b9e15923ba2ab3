package material

import (
	"bytes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/plugins/internal/wycheproof"
)

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
	w, err := NewKeyWrap(key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Wrap(material); err != nil || !bytes.Equal(got, wrapped) {
		t.Errorf("wrap: %x, %v, want %x", got, err, wrapped)
	}
	if got, ok := w.Unwrap(wrapped); !ok || !bytes.Equal(got, material) {
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
	for _, group := range wycheproof.Load(t, "aes_kwp") {
		for _, v := range group.Tests {
			if v.Result != "invalid" {
				checkWrap(t, v.Key, v.Msg, v.Ct)
				continue
			}
			w, err := NewKeyWrap(v.Key)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := w.Unwrap(v.Ct); ok {
				t.Errorf("%d (%s): unwrapped %x", v.TcID, v.Comment, got)
			}
		}
	}
}

func TestKeyWrapRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, err := NewKeyWrap(rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "key"))
		if err != nil {
			t.Fatal(err)
		}
		material := rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "material")
		wrapped, err := w.Wrap(material)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := w.Unwrap(wrapped); !ok || !bytes.Equal(got, material) {
			t.Fatalf("unwrap: %v", ok)
		}
		at := rapid.IntRange(0, len(wrapped)-1).Draw(t, "at")
		wrapped[at] ^= byte(1 << rapid.IntRange(0, 7).Draw(t, "bit"))
		if _, ok := w.Unwrap(wrapped); ok {
			t.Fatalf("unwrapped with byte %d changed", at)
		}
	})
}

func TestKeyWrapRefuses(t *testing.T) {
	w, err := NewKeyWrap(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, MaxWrapped + 1} {
		if _, err := w.Wrap(make([]byte, n)); err == nil {
			t.Errorf("wrapped %d bytes", n)
		}
	}
	for _, n := range []int{0, 7, 8, 15, 17, 23, MaxWrapped + 16} {
		if _, ok := w.Unwrap(make([]byte, n)); ok {
			t.Errorf("unwrapped %d bytes", n)
		}
	}
	if _, err := NewKeyWrap(make([]byte, 17)); err == nil {
		t.Error("took a key of 17 bytes")
	}
}
