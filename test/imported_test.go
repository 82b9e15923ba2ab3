package test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// tokenPair is where an import token has the id of its wrapping pair.
const tokenPair = 25

// wrapFor encrypts material under a wrapping key.
func wrapFor(t *testing.T, p *client.ImportParameters, material []byte) []byte {
	t.Helper()
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// proof is what a client can say of symmetric material before the KMS binds a key to it.
func proof(t *testing.T, material []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(material)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, aead.NonceSize())
	rand.Read(iv)
	return append(iv, aead.Seal(nil, iv, make([]byte, 16), []byte(kms.ProofLabel))...)
}

// imports gets a wrapping key for a key of the user's own.
func (n *clocked) imports(id string) *client.ImportParameters {
	n.Helper()
	p, err := n.GetImportParameters(n.Context(), client.ImportParametersRequest{KeyID: id, Algorithm: "RSAES_OAEP_SHA_256"})
	if err != nil {
		n.Fatal(err)
	}
	return p
}

func (n *clocked) waitForState(id string, want client.KeyState) {
	n.Helper()
	waitFor(n.T, "state "+string(want), func() bool {
		key, err := n.DescribeKey(n.Context(), id)
		return err == nil && key.State == want
	})
}

// TestImportedMaterialGoes imports material with the sidecar killed in between, has it deleted and expire, and looks for its
// sealed bytes and those of the wrapping keys in every file of the node's folder. The same material then opens what was
// encrypted at first, and no other does.
func TestImportedMaterialGoes(t *testing.T) {
	n := startClocked(t, stoppedNode(t))
	material := map[string][]byte{"deleted": nil, "expiring": nil, "kept": nil}
	ids, texts, pairs := map[string]string{}, map[string][]byte{}, map[string]uuid.UUID{}
	for alias := range material {
		material[alias] = make([]byte, 32)
		rand.Read(material[alias])
	}
	for alias := range material {
		key, err := n.CreateKey(t.Context(), client.CreateKeyRequest{Alias: alias, Origin: "external"})
		if err != nil {
			t.Fatal(err)
		}
		id := key.ID
		ids[alias] = id
		p := n.imports(id)
		pairs[alias] = uuid.UUID(p.Token[tokenPair:])
		in := client.ImportRequest{KeyID: id, Token: p.Token, Material: wrapFor(t, p, material[alias])}
		if alias == "kept" {
			in.CheckValue = proof(t, material["deleted"])
			if _, err := n.ImportKeyMaterial(t.Context(), in); !errors.Is(err, client.ErrKeyMaterialMismatch) {
				t.Errorf("with a proof of other material: %v", err)
			}
			in.CheckValue = proof(t, material[alias])
		}
		if alias == "expiring" {
			in.Expires = time.Now().Add(n.ahead + 25*time.Hour)
			n.kill("sidecar")
			n.kill("driver")
		}
		waitFor(t, "the import", func() bool { // the driver may be on its way
			_, err := n.ImportKeyMaterial(t.Context(), in)
			if err != nil && !errors.Is(err, client.ErrBusy) && !errors.Is(err, client.ErrKeyUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
		out, err := n.Encrypt(t.Context(), client.EncryptRequest{KeyID: id, Plaintext: []byte("under " + alias)})
		if err != nil {
			t.Fatal(err)
		}
		texts[alias] = out.Ciphertext
	}

	n.stop()
	gone, kept := map[string][]byte{}, map[string][]byte{}
	for _, k := range storedKeys(t, n.dir) {
		if k.Alias == "kept" {
			kept[k.Alias] = k.Current().Sealed
		} else {
			gone[k.Alias] = k.Current().Sealed
		}
	}
	s := openStore(t, n.dir)
	for alias, id := range pairs {
		p, err := s.Pair(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		gone["wrapping key of "+alias] = p.Sealed
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if found := findSealed(t, n.dir, gone); len(gone) != 5 || len(found) != len(gone) {
		t.Fatalf("of %d sealed keys %d are found before they are destroyed: the search is no good", len(gone), len(found))
	}

	n.start()
	if _, err := n.DeleteKeyMaterial(t.Context(), ids["deleted"]); err != nil {
		t.Fatal(err)
	}
	if found := findSealed(t, n.dir, map[string][]byte{"deleted": gone["deleted"]}); len(found) > 0 {
		t.Errorf("deleted material is in %v", found)
	}
	n.move(26 * time.Hour)
	n.waitForState(ids["expiring"], client.PendingImport)
	waitFor(t, "the end of the sealed bytes", func() bool { return len(findSealed(t, n.dir, gone)) == 0 })
	if found := findSealed(t, n.dir, kept); len(found) != 1 {
		t.Error("the material that stays is gone")
	}
	for _, alias := range []string{"deleted", "expiring"} {
		if _, err := n.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: texts[alias]}); !errors.Is(err, client.ErrKeyPendingImport) {
			t.Errorf("%s: without its material, a ciphertext answers %v", alias, err)
		}
		p := n.imports(ids[alias])
		in := client.ImportRequest{KeyID: ids[alias], Token: p.Token, Material: wrapFor(t, p, material["kept"])}
		if _, err := n.ImportKeyMaterial(t.Context(), in); !errors.Is(err, client.ErrKeyMaterialMismatch) {
			t.Errorf("%s: other material answers %v", alias, err)
		}
		in.Material = wrapFor(t, p, material[alias])
		if _, err := n.ImportKeyMaterial(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	for alias, text := range texts {
		if out, err := n.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: text}); err != nil || string(out.Plaintext) != "under "+alias {
			t.Errorf("%s: what was encrypted at first: %v", alias, err)
		}
	}
}
