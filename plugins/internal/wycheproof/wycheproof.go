// Package wycheproof reads Project Wycheproof's test vectors from the folder shared/vectors beside the repository. They are
// not part of it.
package wycheproof

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Bytes is a byte string that JSON carries in hex.
type Bytes []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// Group is a group of vectors, as far as it is used here.
type Group struct {
	IVSize          int      `json:"ivSize"`
	TagSize         int      `json:"tagSize"`
	PrivateKeyPKCS8 Bytes    `json:"privateKeyPkcs8"`
	Tests           []Vector `json:"tests"`
}

// Vector is one test. Valid it is if Result is "valid".
type Vector struct {
	TcID                              int    `json:"tcId"`
	Comment                           string `json:"comment"`
	Key, IV, AAD, Msg, Ct, Tag, Label Bytes
	Result                            string `json:"result"`
}

// Load reads a file, "aes_kwp" for example. Without the folder it skips the test and says so: that is the one skip that
// tests are allowed, and CI has the folder.
func Load(t *testing.T, name string) []Group {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for !exists(filepath.Join(dir, "go.mod")) && dir != "/" {
		dir = filepath.Dir(dir)
	}
	data, err := os.ReadFile(filepath.Join(dir, "..", "shared", "vectors", name+"_test.json"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("../shared/vectors is not beside the repository: Wycheproof's %s is left out", name)
	}
	var file struct {
		TestGroups []Group `json:"testGroups"`
	}
	if err == nil {
		err = json.Unmarshal(data, &file)
	}
	if err != nil || len(file.TestGroups) == 0 {
		t.Fatalf("vectors %s: %d groups, %v", name, len(file.TestGroups), err)
	}
	return file.TestGroups
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
