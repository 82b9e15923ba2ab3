package sidecar

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
)

// TestManagement goes through client, socket, dialect, core, database and back with what changes keys and finds them.
func TestManagement(t *testing.T) {
	n := newNode(t)
	c, stop := n.run()
	ctx := t.Context()
	one := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "one"})).ID
	two := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "two"})).ID
	for what, err := range map[string]error{
		"tag":      c.TagKey(ctx, one, client.Tag{Key: "team", Value: "shop"}),
		"tags":     c.TagKey(ctx, one, client.Tag{Key: "team", Value: "bank"}, client.Tag{Key: "stage"}),
		"describe": c.SetKeyDescription(ctx, one, "for tests"),
		"rename":   c.RenameKey(ctx, one, "uno"),
		"rotate":   errors.Join(c.EnableKeyRotation(ctx, one, 0), c.SetKeyRotationInterval(ctx, one, 30)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	alias := must(c.CreateAlias(ctx, one, "alias/live"))
	moved := must(c.MoveAlias(ctx, "alias/live", two))
	if alias.KeyID != one || moved.KeyID != two || moved.Created != alias.Created {
		t.Errorf("alias %+v moved %+v", alias, moved)
	}
	if status := must(c.ScheduleKeyDeletion(ctx, two, 7)); status.State != client.PendingDeletion || status.Deletion.IsZero() {
		t.Errorf("status %+v", status)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	c, stop = n.run()
	tags := []client.Tag{{Key: "stage"}, {Key: "team", Value: "bank"}}
	search := client.FindKeysRequest{Tags: []client.TagValues{{Key: "team", Values: []string{"shop", "bank"}}}, Alias: "UN", Page: client.Page{Limit: 5}}
	found := must(c.FindKeys(ctx, search))
	if found.Total != 1 || found.Keys[0].ID != one || found.Keys[0].Description != "for tests" || !reflect.DeepEqual(found.Keys[0].Tags, tags) {
		t.Errorf("found %+v", found)
	}
	search.CountOnly = true
	if got := must(c.ListKeyTags(ctx, one)); must(c.FindKeys(ctx, search)).Total != 1 || !reflect.DeepEqual(got, tags) {
		t.Errorf("tags %v", got)
	}
	if got := must(c.GetKeyRotation(ctx, one)); !got.Enabled || got.Interval != 30 || got.Next.IsZero() || !got.Last.IsZero() {
		t.Errorf("rotation %+v", got)
	}
	if got := must(c.ListTags(ctx)); len(got) != 2 || got[1].Values[0] != "bank" {
		t.Errorf("all tags %v", got)
	}
	if err := errors.Join(c.UntagKey(ctx, client.UntagKeyRequest{KeyID: one, TagKeys: []string{"stage"}}),
		c.UntagKey(ctx, client.UntagKeyRequest{KeyID: one, TagKeys: []string{"stage", "team"}, IgnoreMissing: true}), c.DisableKeyRotation(ctx, one)); err != nil {
		t.Error(err)
	}
	if err := c.UntagKey(ctx, client.UntagKeyRequest{KeyID: one, TagKeys: []string{"stage"}}); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a tag that is gone: %v", err)
	}
	if key := must(c.DescribeKey(ctx, "alias/live")); key.ID != two || key.Deletion.IsZero() {
		t.Errorf("by its alias %+v", key)
	}
	if status := must(c.CancelKeyDeletion(ctx, two)); status.State != client.Disabled || !status.Deletion.IsZero() {
		t.Errorf("status %+v", status)
	}
	if err := c.DeleteAliases(ctx, two, []string{"alias/live"}); err != nil || len(must(c.ListAliases(ctx, client.ListAliasesRequest{})).Aliases) != 0 {
		t.Errorf("aliases: %v", err)
	}
	if quotas := must(c.GetQuotas(ctx)); quotas.Keys != (client.Quota{Used: 2, Limit: 100}) || must(c.CountKeys(ctx)) != 2 {
		t.Errorf("quotas %+v", quotas)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestAsymmetricAndMACs does what such keys can do, with Go's cryptography on the other side, and looks for secrets in
// the logs.
func TestAsymmetricAndMACs(t *testing.T) {
	n := newNode(t)
	c, stop := n.run()
	ctx := t.Context()
	aes := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "aes"})).ID
	mailbox := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "mailbox", Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"})).ID
	macs := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "macs", Spec: "HMAC_256"})).ID
	agreement := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "agreement", Spec: "EC_P256", Usage: "KEY_AGREEMENT"})).ID

	public := must(x509.ParsePKIXPublicKey(must(c.GetPublicKey(ctx, mailbox)).DER)).(*rsa.PublicKey)
	letter := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("a secret letter"), nil))
	opened := must(c.Decrypt(ctx, client.DecryptRequest{KeyID: mailbox, Algorithm: client.RSAOAEPSHA256, Ciphertext: letter}))
	moved := must(c.ReEncrypt(ctx, client.ReEncryptRequest{Ciphertext: letter, SourceKeyID: mailbox, SourceAlgorithm: client.RSAOAEPSHA256, DestinationKeyID: aes}))
	again := must(c.Decrypt(ctx, client.DecryptRequest{Ciphertext: moved.Ciphertext}))
	if string(opened.Plaintext) != "a secret letter" || string(again.Plaintext) != "a secret letter" || moved.SourceKeyID != mailbox {
		t.Errorf("opened %q, moved %+v, opened %q", opened.Plaintext, moved, again.Plaintext)
	}

	message := client.MACRequest{KeyID: macs, Algorithm: "HMAC_SHA_256", Message: []byte("message")}
	mac := must(c.GenerateMAC(ctx, message))
	if !must(c.VerifyMAC(ctx, message, mac)) {
		t.Error("a MAC does not verify")
	}
	if mac[0] ^= 1; must(c.VerifyMAC(ctx, message, mac)) {
		t.Error("a changed MAC verifies")
	}

	peer := must(ecdh.P256().GenerateKey(rand.Reader))
	secret := must(c.DeriveSharedSecret(ctx, agreement, must(x509.MarshalPKIXPublicKey(peer.PublicKey()))))
	ours := must(x509.ParsePKIXPublicKey(must(c.GetPublicKey(ctx, agreement)).DER)).(interface {
		ECDH() (*ecdh.PublicKey, error)
	})
	if want := must(peer.ECDH(must(ours.ECDH()))); !bytes.Equal(secret, want) {
		t.Errorf("derived %x, want %x", secret, want)
	}

	pair := must(c.GenerateDataKeyPair(ctx, client.DataKeyPairRequest{KeyID: aes, Spec: "EC_P256", Bound: client.Bound{AAD: []byte("bound")}}))
	open := client.DecryptDataKeyRequest{KeyID: aes, Ciphertext: pair.Ciphertext, Bound: client.Bound{AAD: []byte("bound")}}
	if got := must(c.DecryptDataKey(ctx, open)).Plaintext; !bytes.Equal(got, pair.PrivateKey) {
		t.Error("the sealed private key is another")
	}
	private := must(x509.ParsePKCS8PrivateKey(pair.PrivateKey)).(interface {
		ECDH() (*ecdh.PrivateKey, error)
	})
	if got := must(x509.MarshalPKIXPublicKey(must(private.ECDH()).PublicKey())); !bytes.Equal(got, pair.PublicKey) {
		t.Error("the halves of a pair do not belong together")
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	logs := n.log.String() + n.audit()
	for _, b := range [][]byte{secret, pair.PrivateKey, opened.Plaintext} {
		for _, text := range []string{string(b), hex.EncodeToString(b), base64.StdEncoding.EncodeToString(b)} {
			if strings.Contains(logs, text) {
				t.Errorf("%q is in a log", text)
			}
		}
	}
}
