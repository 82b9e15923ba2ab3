package test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// specsToGo are the keys of the test by alias.
var specsToGo = map[string]string{
	"kept": "AES_256", "kept-rsa": "RSA_2048", "doomed": "AES_256", "doomed-rsa": "RSA_2048", "doomed-ec": "EC_P384",
	"doomed-mac": "HMAC_512",
}

func stays(alias string) bool { return strings.HasPrefix(alias, "kept") }

// TestDestroyedMeansGone has keys destroyed when their time comes, of several kinds and with several versions, and looks
// for their sealed bytes in every file of the node's folder, while the node runs and after it.
func TestDestroyedMeansGone(t *testing.T) {
	n := startClocked(t, stoppedNode(t))
	ids := makeKeysToGo(n)
	text, err := n.Encrypt(t.Context(), client.EncryptRequest{KeyID: ids["kept"], Plaintext: []byte("stays")})
	if err != nil {
		t.Fatal(err)
	}
	n.stop()
	doomed, kept := map[string][]byte{}, map[string][]byte{}
	for _, k := range storedKeys(t, n.dir) {
		into := doomed
		if stays(k.Alias) {
			into = kept
		}
		for _, v := range k.Versions {
			into[fmt.Sprint(k.Alias, " version ", v.Number)] = v.Sealed
		}
	}
	if len(doomed) != 5 || len(kept) != 3 {
		t.Fatalf("%d sealed versions are doomed, %d kept", len(doomed), len(kept))
	}
	if found := findSealed(t, n.dir, doomed); len(found) != len(doomed) {
		t.Fatalf("the search is no good: before they are destroyed there are %v", found)
	}

	n.start()
	destroyDoomed(n, ids)
	waitFor(t, "the end of the sealed bytes", func() bool { return len(findSealed(t, n.dir, doomed)) == 0 })
	n.stop()
	if found := findSealed(t, n.dir, doomed); len(found) > 0 {
		t.Errorf("after the node's end there are %v", found)
	}
	if found := findSealed(t, n.dir, kept); len(found) != len(kept) {
		t.Errorf("of the keys that stay there are %v", found)
	}
	checkKept(t, n.dir, text.Ciphertext)
}

// makeKeysToGo makes the keys, and a second version of two of them.
func makeKeysToGo(n *clocked) map[string]string {
	n.Helper()
	ids := map[string]string{}
	for alias, spec := range specsToGo {
		key, err := n.CreateKey(n.Context(), client.CreateKeyRequest{Alias: alias, Spec: spec})
		if err != nil {
			n.Fatal(err)
		}
		ids[alias] = key.ID
		_, err = n.CreateAlias(n.Context(), key.ID, "alias/"+alias)
		if err := errors.Join(err, n.TagKey(n.Context(), key.ID, client.Tag{Key: "of", Value: alias})); err != nil {
			n.Error(err)
		}
	}
	for _, alias := range []string{"kept", "doomed"} {
		err := n.EnableKeyRotation(n.Context(), ids[alias], interval)
		if err != nil {
			n.Fatal(err)
		}
	}
	n.move(leap)
	for _, alias := range []string{"kept", "doomed"} {
		waitFor(n.T, "the rotation of "+alias, func() bool {
			r, err := n.GetKeyRotation(n.Context(), ids[alias])
			return err == nil && r.Count == 1
		})
	}
	return ids
}

// destroyDoomed schedules the deletions and waits until all have come.
func destroyDoomed(n *clocked, ids map[string]string) {
	n.Helper()
	for alias, id := range ids {
		if stays(alias) {
			continue
		}
		if _, err := n.ScheduleKeyDeletion(n.Context(), id, wait); err != nil {
			n.Fatal(err)
		}
	}
	n.move((wait + 1) * 24 * time.Hour)
	for alias, id := range ids {
		if stays(alias) {
			continue
		}
		waitFor(n.T, "the end of "+alias, func() bool {
			_, err := n.DescribeKey(n.Context(), id)
			return errors.Is(err, client.ErrNotFound)
		})
		if _, err := n.DescribeKey(n.Context(), "alias/"+alias); !errors.Is(err, client.ErrNotFound) {
			n.Errorf("alias/%s answers %v", alias, err)
		}
	}
}

// checkKept holds that the folder carries on under `keyside up`, and that what stayed is whole.
func checkKept(t *testing.T, dir string, text []byte) {
	t.Helper()
	n, err := node.Start(t.Context(), node.Options{Binary: binary, Dir: dir, Driver: "softhsm", Mode: "via-hsmd"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Stop(t.Context()) }()
	c := client.New(n.Socket)
	defer c.Close()
	if opened, err := c.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: text}); err != nil || string(opened.Plaintext) != "stays" {
		t.Errorf("what was encrypted before: %v", err)
	}
	if page, err := c.ListKeys(t.Context(), client.ListKeysRequest{}); err != nil || page.Total != 2 {
		t.Errorf("keys are %+v (%v)", page, err)
	}
}

// findSealed searches every file below dir for sealed bytes, as they are and in the encodings that a record or a log could
// hold them in, and returns the file where each was found.
func findSealed(t *testing.T, dir string, sealed map[string][]byte) map[string]string {
	t.Helper()
	needles := map[string][][]byte{}
	for name, b := range sealed {
		forms := [][]byte{b, []byte(hex.EncodeToString(b))}
		for shift := range 3 { // Base64 depends on where in a group of three the bytes begin
			whole := b[shift : shift+(len(b)-shift)/3*3]
			forms = append(forms, []byte(base64.StdEncoding.EncodeToString(whole)), []byte(base64.URLEncoding.EncodeToString(whole)))
		}
		needles[name] = forms
	}
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running node removes files
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		for name, forms := range needles {
			for _, form := range forms {
				if bytes.Contains(content, form) {
					found[name] = path
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
