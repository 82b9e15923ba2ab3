package envelope

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

var (
	testKey    = bytes.Repeat([]byte{7}, KeySize)
	testHeader = Header{KeyID: "0d0466b0-e727-4d9c-b35d-f84bb474a37f", DataKey: []byte("sealed"), Context: map[string]string{"b": "<2>", "a": "1"}}
)

func encrypted(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Encrypt(&b, bytes.NewReader(content), testHeader, testKey); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func decrypt(file []byte, key []byte) ([]byte, error) {
	f, err := Open(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = f.Decrypt(&b, key)
	return b.Bytes(), err
}

func TestRoundTrip(t *testing.T) {
	for _, size := range []int{0, 1, 15, segmentSize - 57, segmentSize - 56, segmentSize - 16, segmentSize, 3*segmentSize + 5} {
		content := bytes.Repeat([]byte("x"), size)
		file := encrypted(t, content)
		if got, err := decrypt(file, testKey); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes: %d came back, %v", size, len(got), err)
		}
		if limit := size + maxHeader + 40 + 16*(1+(size+40)/(segmentSize-16)); len(file) > limit {
			t.Errorf("%d bytes became %d, more than FORMAT.md's %d", size, len(file), limit)
		}
	}
}

// TestChange changes, truncates and extends a file at many places. Decrypt must return an error, and write nothing but a prefix of
// the plaintext.
func TestChange(t *testing.T) {
	content := make([]byte, 2*segmentSize+100)
	for i := range content {
		content[i] = byte(i * 31 >> 3)
	}
	file := encrypted(t, content)
	head := bytes.IndexByte(file[len(magic):], '\n') + len(magic) + 1
	var cases [][]byte
	for i := range head + 64 {
		cases = append(cases, flipped(file, i))
	}
	for _, i := range []int{head + segmentSize - 1, head + segmentSize, head + 2*segmentSize, len(file) - 17, len(file) - 1} {
		cases = append(cases, flipped(file, i), file[:i])
	}
	cases = append(cases, file[:head], file[:head+1], append(bytes.Clone(file), 0))
	swapped := bytes.Clone(file)
	copy(swapped[head+segmentSize:head+2*segmentSize], file[head+40:])
	cases = append(cases, swapped)
	for i, c := range cases {
		got, err := decrypt(c, testKey)
		if !errors.Is(err, ErrContent) && !errors.Is(err, ErrFormat) {
			t.Errorf("case %d: %v", i, err)
		}
		if !bytes.HasPrefix(content, got) {
			t.Errorf("case %d: wrong content came out", i)
		}
	}
	if _, err := decrypt(file, bytes.Repeat([]byte{8}, KeySize)); !errors.Is(err, ErrContent) {
		t.Errorf("another key: %v", err)
	}
}

func flipped(file []byte, at int) []byte {
	c := bytes.Clone(file)
	c[at] ^= 1
	return c
}

func TestForeignFiles(t *testing.T) {
	line := string(encrypted(t, nil)[len(magic):])
	line = line[:strings.IndexByte(line, '\n')]
	for name, file := range map[string]string{
		"empty":         "",
		"other":         "age-encryption.org/v1\n",
		"later version": "keyside-file/2\n" + line + "\n",
		"no header":     magic,
		"endless":       magic + strings.Repeat("a", 2*maxHeader),
		"no JSON":       magic + "hello\n",
		"unknown field": magic + strings.Replace(line, "{", `{"x":1,`, 1) + "\n",
		"blanks":        magic + strings.Replace(line, ":", ": ", 1) + "\n",
		"escaped":       magic + strings.Replace(line, "<", `\u003c`, 1) + "\n",
		"two objects":   magic + line + line + "\n",
		"no key":        magic + `{"key_id":"","data_key":"AA=="}` + "\n",
	} {
		if _, err := Open(strings.NewReader(file)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestErrorsOfTheWorld(t *testing.T) {
	file := encrypted(t, make([]byte, 2*segmentSize))
	broken := errors.New("disk")
	f, err := Open(io.MultiReader(bytes.NewReader(file[:segmentSize+500]), iotest.ErrReader(broken)))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Decrypt(io.Discard, testKey); !errors.Is(err, broken) {
		t.Errorf("failed read: %v", err)
	}
	if f, err = Open(bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if err := f.Decrypt(failingWriter{broken}, testKey); !errors.Is(err, broken) {
		t.Errorf("failed write: %v", err)
	}
	if err := Encrypt(io.Discard, iotest.ErrReader(broken), testHeader, testKey); !errors.Is(err, broken) {
		t.Errorf("failed source: %v", err)
	}
}

type failingWriter struct{ err error }

func (w failingWriter) Write([]byte) (int, error) { return 0, w.err }

// version1 returns a file of the first release.
func version1(t testing.TB) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/v1.keyside.b64")
	if err != nil {
		t.Fatal(err)
	}
	file, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestVersion1(t *testing.T) {
	got, err := decrypt(version1(t), testKey)
	if err != nil || string(got) != "attack at dawn\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	good := version1(f) // the same in all processes of the fuzzer
	f.Add(good)
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, file []byte) {
		if _, err := decrypt(file, testKey); err == nil && !bytes.Equal(file, good) {
			t.Fatal("a forged file verifies")
		}
	})
}
