package kms_test

import (
	"bytes"
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/sidecar/kms"
)

// rotate gives a key another version behind the service's back.
func (w *world) rotate(rt *rapid.T, id kms.KeyID) {
	key, err := w.store.Store.Key(admin, id)
	if err != nil {
		rt.Fatal(err)
	}
	next := key.Current().Number + 1
	made, err := w.hsm.MakeKey(context.Background(), kms.KeyRef{ID: id, Version: next, Spec: key.Spec, Usage: key.Usage})
	if err != nil {
		rt.Fatal(err)
	}
	w.set(id, func(k *kms.Key) {
		k.Versions = append(k.Versions[:len(k.Versions):len(k.Versions)], kms.KeyVersion{
			Number: next, CreatedAt: k.CreatedAt, Sealed: made.Sealed, Root: made.Root, Protection: made.Protection,
		})
	})
}

// TestWhatWasEncryptedDecrypts encrypts data, data keys and key pairs in every way, rotates and re-encrypts in between, and
// at the end wants each plaintext back.
func TestWhatWasEncryptedDecrypts(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, kms.Limits{})
		aes := []*kms.Key{w.create(t, kms.CreateKeyInput{Alias: "a"}), w.create(t, kms.CreateKeyInput{Alias: "b", Spec: kms.AES128})}
		rsa := w.create(t, kms.CreateKeyInput{Alias: "rsa", Spec: kms.RSA2048, Usage: kms.EncryptDecrypt})
		type sealed struct {
			in      kms.DecryptInput
			dataKey bool
			text    []byte
		}
		var all []sealed
		context := func() map[string]string {
			return rapid.MapOfN(rapid.StringMatching("[a-c]"), rapid.StringMatching("[a-c]?"), 0, 2).Draw(rt, "context")
		}
		draw := func() *kms.Key { return rapid.SampledFrom(aes).Draw(rt, "key") }
		text := func() []byte { return rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(rt, "text") }
		algorithm := func() kms.EncryptionAlgorithm {
			return rapid.SampledFrom([]kms.EncryptionAlgorithm{kms.RSAOAEPSHA1, kms.RSAOAEPSHA256}).Draw(rt, "algorithm")
		}
		must := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"rotate": func(rt *rapid.T) { w.rotate(rt, draw().ID) },
			"data": func(*rapid.T) {
				in := kms.EncryptInput{KeyID: draw().ID, Plaintext: text(), Context: context()}
				out, err := w.Encrypt(admin, in)
				must(err)
				all = append(all, sealed{kms.DecryptInput{Ciphertext: out.Ciphertext, Context: in.Context}, false, in.Plaintext})
			},
			"data key": func(*rapid.T) {
				in := kms.DataKeyInput{KeyID: draw().ID, Bytes: rapid.IntRange(1, 64).Draw(rt, "bytes"), Context: context()}
				out, err := w.GenerateDataKey(admin, in)
				must(err)
				all = append(all, sealed{kms.DecryptInput{Ciphertext: out.Ciphertext, Context: in.Context}, true, out.Plaintext})
			},
			"pair": func(*rapid.T) {
				in := kms.DataKeyPairInput{KeyID: draw().ID, Spec: kms.ECP256, Context: context()}
				out, err := w.GenerateDataKeyPair(admin, in)
				must(err)
				all = append(all, sealed{kms.DecryptInput{Ciphertext: out.Ciphertext, Context: in.Context}, true, out.PrivateKey})
			},
			"rsa": func(*rapid.T) {
				in := kms.EncryptInput{KeyID: rsa.ID, Plaintext: text(), Algorithm: algorithm()}
				out, err := w.Encrypt(admin, in)
				must(err)
				all = append(all, sealed{kms.DecryptInput{Ciphertext: out.Ciphertext, KeyID: &rsa.ID, Algorithm: in.Algorithm}, false, in.Plaintext})
			},
			"move": func(*rapid.T) {
				if len(all) == 0 {
					rt.Skip("nothing is encrypted yet")
				}
				s := &all[rapid.IntRange(0, len(all)-1).Draw(rt, "which")]
				to := kms.EncryptInput{KeyID: draw().ID, Context: context()}
				out, err := w.ReEncrypt(admin, kms.ReEncryptInput{Source: s.in, Destination: to})
				must(err)
				s.in = kms.DecryptInput{Ciphertext: out.Ciphertext, Context: to.Context}
			},
		})
		for _, s := range all {
			open := w.Decrypt
			if s.dataKey {
				open = w.DecryptDataKey
			}
			out, err := open(admin, s.in)
			must(err)
			if !bytes.Equal(out.Plaintext, s.text) {
				rt.Fatalf("came back as %x, want %x", out.Plaintext, s.text)
			}
		}
	})
}
