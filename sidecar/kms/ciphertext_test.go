package kms

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"testing"

	"github.com/google/uuid"
)

var update = flag.Bool("update", false, "write golden files anew")

var golden = header{
	Purpose: PurposeDataKey, KeyID: uuid.MustParse("00112233-4455-6677-8899-aabbccddeeff"), Version: 0x01020304,
	Message: 0x05060708090a0b0c,
}

// TestCiphertextFormat holds the format's bytes: a change of this file breaks every existing ciphertext.
func TestCiphertextFormat(t *testing.T) {
	var got bytes.Buffer
	got.WriteString("header " + hex.EncodeToString(golden.appendTo(nil)) + "\n")
	bound := golden.boundTo(map[string]string{"b": "2", "": "x", "a": "1"}, []byte("aad"))
	got.WriteString("bound " + hex.EncodeToString(bound) + "\n")
	text := golden
	text.Purpose, text.Text = PurposeData, true
	got.WriteString("text " + hex.EncodeToString(text.appendTo(nil)) + "\n")
	const file = "testdata/ciphertext.golden"
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got\n%swant\n%s", got.Bytes(), want)
	}
}

// TestBoundToIsInjective holds that different contexts and data never bind alike.
func TestBoundToIsInjective(t *testing.T) {
	seen := map[string]int{}
	for i, c := range []struct {
		context map[string]string
		aad     string
	}{
		{nil, ""}, {nil, "a"}, {map[string]string{"a": ""}, ""}, {map[string]string{"": "a"}, ""},
		{map[string]string{"a": "b"}, ""}, {map[string]string{"ab": ""}, ""}, {map[string]string{"a": "", "b": ""}, ""},
		{map[string]string{"a": "b"}, "c"}, {nil, "\x00\x00\x00\x00"}, {map[string]string{"a": "b", "c": "d"}, ""},
	} {
		b := string(golden.boundTo(c.context, []byte(c.aad)))
		if j, ok := seen[b]; ok {
			t.Errorf("cases %d and %d bind alike", i, j)
		}
		seen[b] = i
	}
}

// FuzzCiphertext holds that whatever parses is exactly what its parts make, and that nothing crashes.
func FuzzCiphertext(f *testing.F) {
	whole := append(golden.appendTo(nil), bytes.Repeat([]byte{7}, ivSize+tagSize+1)...)
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0}, 200))
	f.Fuzz(func(t *testing.T, c []byte) {
		h, iv, body, err := parseCiphertext(c)
		if err != nil {
			if AsError(err).Code != CodeInvalidCiphertext {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		again := append(append(h.appendTo(nil), iv...), body...)
		if !bytes.Equal(again, c) || len(iv) != ivSize || len(body) <= tagSize {
			t.Fatalf("%x is accepted as %x", c, again)
		}
	})
}
