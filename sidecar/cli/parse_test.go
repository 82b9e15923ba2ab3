package cli

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	client "github.com/keyside/keyside/sidecar/client/old"
)

func TestParseTags(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []client.Tag
	}{
		{nil, []client.Tag{}},
		{[]string{"a=b", "c=", "d=e=f", "ü=x y"}, []client.Tag{{Key: "a", Value: "b"}, {Key: "c"}, {Key: "d", Value: "e=f"}, {Key: "ü", Value: "x y"}}},
		{[]string{"a"}, nil},
		{[]string{"=b"}, nil},
		{[]string{""}, nil},
		{[]string{"a=1", "b=1", "a=1"}, nil},
	} {
		got, err := parseTags(c.words)
		if !reflect.DeepEqual(got, c.want) || (c.want == nil) != (ExitCode(err) == ExitUsage) {
			t.Errorf("%q: %v, %v", c.words, got, err)
		}
	}
}

func TestParseConditions(t *testing.T) {
	for _, c := range []struct {
		words []string
		want  []client.TagValues
	}{
		{[]string{"a=1", "b", "c="}, []client.TagValues{{Key: "a", Values: []string{"1"}}, {Key: "b", Values: []string{}}, {Key: "c", Values: []string{""}}}},
		{[]string{"a=1", "b=1", "a=2"}, []client.TagValues{{Key: "a", Values: []string{"1", "2"}}, {Key: "b", Values: []string{"1"}}}},
		{[]string{"a=1", "a", "a=2"}, []client.TagValues{{Key: "a", Values: []string{}}}}, // any value is any value
		{[]string{"=1"}, nil},
		{[]string{""}, nil},
	} {
		got, err := parseConditions(c.words)
		if !reflect.DeepEqual(got, c.want) || (c.want == nil) != (ExitCode(err) == ExitUsage) {
			t.Errorf("%q: %v, %v", c.words, got, err)
		}
	}
}

// TestDecodeBase64 takes what is binary in each form that people have it in.
func TestDecodeBase64(t *testing.T) {
	raw := string([]byte{0, 1, 0xfe, '\n', 0xff})
	for in, want := range map[string]string{
		"AAH+Cv8=\n": raw, " AAH+\nCv8= ": raw, raw: raw, "": "", "not base64!": "not base64!",
	} {
		if got := string(decodeBase64([]byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// TestCiphertextForms takes a ciphertext in each form that people have it in.
func TestCiphertextForms(t *testing.T) {
	raw := string([]byte{0, 1, 0xfe, '\n', 0xff})
	for in, want := range map[string]string{"DEADbeef\n": "DEADbeef", "AAH+Cv8=\n": "AAH+Cv8=", raw: "AAH+Cv8="} {
		if got := ciphertextText([]byte(in)); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// TestReadFiles reads public keys and MACs from files, and says what is in them else.
func TestReadFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) string {
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for content, want := range map[string]string{
		"0\x82": "0\x82",
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte("der")})): "der",
	} {
		if got, err := readPublicKey(file(content)); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", content, got, err)
		}
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	if _, err := readPublicKey(file(string(private))); ExitCode(err) != ExitUsage || strings.Contains(err.Error(), "secret") {
		t.Errorf("a private key: %v", err)
	}
	for arg, want := range map[string]string{"00fF": "\x00\xff", file("00ff\n"): "\x00\xff"} {
		if got, err := readMAC(arg); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", arg, got, err)
		}
	}
	for _, arg := range []string{"", "xyz", file("xyz")} {
		if _, err := readMAC(arg); ExitCode(err) != ExitUsage {
			t.Errorf("%q: %v", arg, err)
		}
	}
}
