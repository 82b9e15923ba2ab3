package test

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
)

// openssl runs openssl in a folder and returns what it prints.
func openssl(t *testing.T, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %v: %v\n%s%s", args, err, out, stderr.String())
	}
	return out
}

// outside is a node on SoftHSM, and a folder where openssl works with what comes from it.
type outside struct {
	*client.Client
	dir string
}

func (o *outside) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// key makes a key and leaves its public half in pub.pem.
func (o *outside) key(t *testing.T, spec, usage string) string {
	t.Helper()
	id, err := o.CreateKey(t.Context(), client.CreateKeyRequest{Alias: spec + "-" + strings.ToLower(usage), Spec: spec, Usage: usage})
	if err != nil {
		t.Fatal(err)
	}
	public, err := o.PublicKey(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	o.write(t, "pub.pem", []byte(public))
	return id
}

// TestOpenSSLAgrees holds what the HSM does with asymmetric keys against openssl: signatures of every algorithm, blocks
// that openssl encrypted, secrets that it derived, pairs that it checks.
func TestOpenSSLAgrees(t *testing.T) {
	n := startNode(t, "softhsm", "via-hsmd")
	c := client.New(n.Socket)
	t.Cleanup(c.Close)
	o := &outside{c, t.TempDir()}
	t.Run("sign", func(t *testing.T) { o.signatures(t) })
	t.Run("decrypt", func(t *testing.T) { o.blocks(t) })
	t.Run("derive", func(t *testing.T) { o.secrets(t) })
	t.Run("pairs", func(t *testing.T) { o.pairs(t) })
}

func (o *outside) signatures(t *testing.T) {
	o.write(t, "message", []byte("what is signed"))
	for _, spec := range []string{"RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384"} {
		id := o.key(t, spec, "SIGN_VERIFY")
		schemes := []string{"ECDSA"}
		if strings.HasPrefix(spec, "RSA") {
			schemes = []string{"RSASSA_PSS", "RSASSA_PKCS1_V1_5"}
		}
		for _, scheme := range schemes {
			for _, bits := range []string{"256", "384", "512"} {
				signature, err := o.Sign(t.Context(), client.SignRequest{
					KeyID: id, Algorithm: scheme + "_SHA_" + bits, Message: []byte("what is signed"),
				})
				if err != nil {
					t.Fatal(err)
				}
				o.write(t, "signature", signature)
				args := []string{"dgst", "-sha" + bits, "-verify", "pub.pem", "-signature", "signature"}
				if scheme == "RSASSA_PSS" {
					args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest")
				}
				openssl(t, o.dir, append(args, "message")...)
			}
		}
	}
}

func (o *outside) blocks(t *testing.T) {
	const text = "what only the HSM reads"
	o.write(t, "plain", []byte(text))
	for _, spec := range []string{"RSA_2048", "RSA_3072", "RSA_4096"} {
		id := o.key(t, spec, "ENCRYPT_DECRYPT")
		block := openssl(t, o.dir, "pkeyutl", "-encrypt", "-pubin", "-inkey", "pub.pem", "-in", "plain",
			"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256")
		got, err := o.Decrypt(t.Context(), client.DecryptRequest{
			Ciphertext: base64.StdEncoding.EncodeToString(block), KeyID: id, Algorithm: client.RSAOAEPSHA256,
		})
		if err != nil || string(got.Plaintext) != text {
			t.Errorf("%s: openssl's block: %v", spec, err)
		}
		// SHA-1 is for what was encrypted long ago: such a block can be moved to a better key.
		old := openssl(t, o.dir, "pkeyutl", "-encrypt", "-pubin", "-inkey", "pub.pem", "-in", "plain",
			"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha1", "-pkeyopt", "rsa_mgf1_md:sha1")
		moved, err := o.ReEncrypt(t.Context(), client.ReEncryptRequest{
			Ciphertext: base64.StdEncoding.EncodeToString(old), SourceKeyID: id, SourceAlgorithm: client.RSAOAEPSHA1,
			DestinationKeyID: id, DestinationAlgorithm: client.RSAOAEPSHA256,
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err = o.Decrypt(t.Context(), client.DecryptRequest{Ciphertext: moved.Ciphertext, KeyID: id, Algorithm: client.RSAOAEPSHA256})
		if err != nil || string(got.Plaintext) != text {
			t.Errorf("%s: openssl's block with SHA-1: %v", spec, err)
		}
	}
}

func (o *outside) secrets(t *testing.T) {
	for spec, curve := range map[string]string{"EC_P256": "P-256", "EC_P384": "P-384"} {
		id := o.key(t, spec, "KEY_AGREEMENT")
		openssl(t, o.dir, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:"+curve, "-out", "peer.pem")
		peer := openssl(t, o.dir, "pkey", "-in", "peer.pem", "-pubout", "-outform", "DER")
		got, err := o.DeriveSharedSecret(t.Context(), id, peer)
		want := openssl(t, o.dir, "pkeyutl", "-derive", "-inkey", "peer.pem", "-peerkey", "pub.pem")
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the two sides do not agree: %v", spec, err)
		}
	}
}

func (o *outside) pairs(t *testing.T) {
	id, err := o.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "pairs"})
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521"} {
		pair, err := o.CreateDataKeyPair(t.Context(), client.DataKeyPairRequest{KeyID: id, Spec: spec})
		if err != nil {
			t.Fatalf("%s: %v", spec, err)
		}
		o.write(t, "private.der", pair.PrivateKey)
		openssl(t, o.dir, "pkey", "-inform", "DER", "-in", "private.der", "-check", "-noout")
		if public := openssl(t, o.dir, "pkey", "-inform", "DER", "-in", "private.der", "-pubout", "-outform", "DER"); !bytes.Equal(public, pair.PublicKey) {
			t.Errorf("%s: the halves are of two keys", spec)
		}
		opened, err := o.DecryptDataKey(t.Context(), client.DecryptDataKeyRequest{KeyID: id, Ciphertext: pair.Ciphertext, Bytes: len(pair.PrivateKey)})
		if err != nil || !bytes.Equal(opened, pair.PrivateKey) {
			t.Errorf("%s: the encrypted half: %v", spec, err)
		}
	}
}
