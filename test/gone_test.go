package test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/client"
)

// TestDestroyedMeansGone has keys destroyed when their time comes, of several kinds and with several versions, and looks
// for their sealed bytes in every file of the node's folder, while the node runs and after it.
func TestDestroyedMeansGone(t *testing.T) {
	n := startClocked(t, stoppedNode(t))
	stays := func(alias string) bool { return strings.HasPrefix(alias, "kept") }
	ids := map[string]string{}
	for alias, spec := range map[string]string{
		"kept": "AES_256", "kept-rsa": "RSA_2048", "doomed": "AES_256", "doomed-rsa": "RSA_2048", "doomed-ec": "EC_P384",
		"doomed-mac": "HMAC_512",
	} {
		id, err := n.CreateKey(t.Context(), client.CreateKeyRequest{Alias: alias, Spec: spec})
		if err != nil {
			t.Fatal(err)
		}
		ids[alias] = id
		if err := n.CreateTag(t.Context(), id, client.Tag{Key: "of", Value: alias}); err != nil {
			t.Error(err)
		}
		if _, err := n.CreateAlias(t.Context(), id, "alias/"+alias); err != nil {
			t.Error(err)
		}
	}
	for _, alias := range []string{"kept", "doomed"} {
		err := errors.Join(n.EnableKeyRotation(t.Context(), ids[alias]), n.UpdateKeyRotationInterval(t.Context(), ids[alias], interval))
		if err != nil {
			t.Fatal(err)
		}
	}
	n.move(leap)
	for _, alias := range []string{"kept", "doomed"} {
		waitFor(t, "a rotation", func() bool {
			r, err := n.RotationStatus(t.Context(), ids[alias])
			return err == nil && r.Count == 1
		})
	}
	text, err := n.Encrypt(t.Context(), client.EncryptRequest{KeyID: ids["kept"], Plaintext: "stays"})
	if err != nil {
		t.Fatal(err)
	}

	n.stop()
	doomed, kept := map[string][]byte{}, map[string][]byte{}
	for _, k := range storedKeys(t, n.dir) {
		into := kept
		if !stays(k.Alias) {
			into = doomed
		}
		for _, v := range k.Versions {
			into[k.Alias+"/"+string(rune('0'+v.Number))] = v.Sealed
		}
	}
	if len(doomed) != 5 || len(kept) != 3 {
		t.Fatalf("%d sealed versions are doomed, %d kept", len(doomed), len(kept))
	}
	everything := func(m map[string][]byte) int { return len(findSealed(t, n.dir, m)) }
	if got := everything(doomed); got != len(doomed) {
		t.Fatalf("of %d sealed versions %d are found before they are destroyed: the search is no good", len(doomed), got)
	}

	n.start()
	for alias, id := range ids {
		if stays(alias) {
			continue
		}
		if _, err := n.ScheduleKeyDeletion(t.Context(), id, wait); err != nil {
			t.Fatal(err)
		}
	}
	n.move((wait + 1) * 24 * time.Hour)
	for alias, id := range ids {
		if stays(alias) {
			continue
		}
		waitFor(t, "the end of "+alias, func() bool {
			_, err := n.DescribeKey(t.Context(), id)
			return errors.Is(err, client.ErrNotFound)
		})
		if _, err := n.DescribeKey(t.Context(), "alias/"+alias); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("its alias answers %v", err)
		}
	}
	waitFor(t, "the end of the sealed bytes", func() bool { return everything(doomed) == 0 })
	n.stop()
	if found := findSealed(t, n.dir, doomed); len(found) > 0 {
		t.Errorf("after the node's end there are %v", found)
	}
	if got := everything(kept); got != len(kept) {
		t.Errorf("%d of %d versions of the keys that stay are there", got, len(kept))
	}

	// The folder carries on under the binary that users have, and what stayed is whole.
	n.start()
	if opened, err := n.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: text}); err != nil || string(opened.Plaintext) != "stays" {
		t.Errorf("what was encrypted before: %v", err)
	}
	if page, err := n.ListKeys(t.Context(), client.ListKeysRequest{}); err != nil || page.Total != 2 {
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
