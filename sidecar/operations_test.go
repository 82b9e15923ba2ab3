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
	"encoding/pem"
	"errors"
	"reflect"
	"strings"
	"testing"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// TestManagement goes through client, socket, dialect, core, database and back with what changes keys and finds them.
func TestManagement(t *testing.T) {
	n := newNode(t)
	c, stop := n.run()
	ctx := t.Context()
	one := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "one"}))
	two := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "two"}))
	for what, err := range map[string]error{
		"tag":      c.CreateTag(ctx, one, client.Tag{Key: "team", Value: "shop"}),
		"tags":     c.CreateTags(ctx, one, []client.Tag{{Key: "team", Value: "bank"}, {Key: "stage"}}),
		"describe": c.UpdateKeyDescription(ctx, one, "for tests"),
		"rename":   c.UpdateKeyAlias(ctx, one, "uno"),
		"rotate":   errors.Join(c.EnableKeyRotation(ctx, one), c.UpdateKeyRotationInterval(ctx, one, 30)),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	alias := must(c.CreateAlias(ctx, one, "alias/live"))
	moved := must(c.AssociateAlias(ctx, "alias/live", two))
	if alias.KeyID != one || moved.KeyID != two || moved.Created != alias.Created {
		t.Errorf("alias %+v moved %+v", alias, moved)
	}
	if state := must(c.ScheduleKeyDeletion(ctx, two, 7)); state != client.PendingDeletion {
		t.Errorf("state %s", state)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}

	c, stop = n.run()
	tags := []client.Tag{{Key: "stage"}, {Key: "team", Value: "bank"}}
	search := client.FindKeysRequest{Tags: []client.TagValues{{Key: "team", Values: []string{"shop", "bank"}}}, Alias: "UN", Limit: 5}
	found := must(c.FindKeys(ctx, search))
	if found.Total != 1 || found.Keys[0].Key.ID != one || found.Keys[0].Key.Description != "for tests" || !reflect.DeepEqual(found.Keys[0].Tags, tags) {
		t.Errorf("found %+v", found)
	}
	if got := must(c.KeyTags(ctx, one)); must(c.CountFoundKeys(ctx, search)) != 1 || !reflect.DeepEqual(got, tags) {
		t.Errorf("tags %v", got)
	}
	if got := must(c.RotationStatus(ctx, one)); *got != (client.Rotation{Enabled: true, Interval: 30}) {
		t.Errorf("rotation %+v", got)
	}
	if got := must(c.ListTags(ctx)); len(got) != 2 || got[1].Values[0] != "bank" {
		t.Errorf("all tags %v", got)
	}
	if err := errors.Join(c.DeleteTag(ctx, one, "stage"), c.DeleteTags(ctx, one, tags), c.DisableKeyRotation(ctx, one)); err != nil {
		t.Error(err)
	}
	if err := c.DeleteTag(ctx, one, "stage"); !errors.Is(err, client.ErrTagNotFound) {
		t.Errorf("a tag that is gone: %v", err)
	}
	if key := must(c.DescribeKey(ctx, "alias/live")); key.ID != two || key.Deletion.Time().IsZero() {
		t.Errorf("by its alias %+v", key)
	}
	if state := must(c.CancelKeyDeletion(ctx, two)); state != client.Disabled {
		t.Errorf("state %s", state)
	}
	if err := c.DeleteAliases(ctx, two, []string{"alias/live"}); err != nil || len(must(c.ListAliases(ctx, client.ListAliasesRequest{})).Aliases) != 0 {
		t.Errorf("aliases: %v", err)
	}
	if quotas := must(c.Quotas(ctx)); quotas[0] != (client.Quota{Kind: "CMK", Used: 2, Limit: 100}) || must(c.CountKeys(ctx)) != 2 {
		t.Errorf("quotas %+v", quotas)
	}
	if versions := must(c.Versions(ctx)); len(versions) != 1 || *must(c.Version(ctx, versions[0].ID)) != versions[0] {
		t.Errorf("versions %+v", versions)
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
	aes := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "aes"}))
	mailbox := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "mailbox", Spec: "RSA_2048", Usage: "ENCRYPT_DECRYPT"}))
	macs := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "macs", Spec: "HMAC_256"}))
	agreement := must(c.CreateKey(ctx, client.CreateKeyRequest{Alias: "agreement", Spec: "EC_P256", Usage: "KEY_AGREEMENT"}))

	public := must(x509.ParsePKIXPublicKey(decodePEM(must(c.PublicKey(ctx, mailbox))))).(*rsa.PublicKey)
	letter := base64.StdEncoding.EncodeToString(must(rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("a secret letter"), nil)))
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
	ours := must(x509.ParsePKIXPublicKey(decodePEM(must(c.PublicKey(ctx, agreement))))).(interface {
		ECDH() (*ecdh.PublicKey, error)
	})
	if want := must(peer.ECDH(must(ours.ECDH()))); !bytes.Equal(secret, want) {
		t.Errorf("derived %x, want %x", secret, want)
	}

	pair := must(c.CreateDataKeyPair(ctx, client.DataKeyPairRequest{KeyID: aes, Spec: "ECC_NIST_P256", AAD: "bound"}))
	open := client.DecryptDataKeyRequest{KeyID: aes, Ciphertext: pair.Ciphertext, Bytes: len(pair.PrivateKey), Bound: client.Bound{AAD: "bound"}}
	if got := must(c.DecryptDataKey(ctx, open)); !bytes.Equal(got, pair.PrivateKey) {
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

func decodePEM(text string) []byte {
	block, _ := pem.Decode([]byte(text))
	return block.Bytes
}
