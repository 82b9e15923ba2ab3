package test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// offered is what a node on SoftHSM makes keys of, each with the check of what it does against openssl. The specs and
// usages that are not here must be refused.
var offered = map[[2]string]func(*openssl, string){
	{"AES_128", "ENCRYPT_DECRYPT"}:      (*openssl).dataKeyPairs,
	{"AES_192", "ENCRYPT_DECRYPT"}:      (*openssl).dataKeyPairs,
	{"AES_256", "ENCRYPT_DECRYPT"}:      (*openssl).dataKeyPairs,
	{"RSA_2048", "SIGN_VERIFY"}:         (*openssl).signs,
	{"RSA_3072", "SIGN_VERIFY"}:         (*openssl).signs,
	{"RSA_4096", "SIGN_VERIFY"}:         (*openssl).signs,
	{"RSA_2048", "ENCRYPT_DECRYPT"}:     (*openssl).decrypts,
	{"RSA_3072", "ENCRYPT_DECRYPT"}:     (*openssl).decrypts,
	{"RSA_4096", "ENCRYPT_DECRYPT"}:     (*openssl).decrypts,
	{"EC_P256", "SIGN_VERIFY"}:          (*openssl).signs,
	{"EC_P384", "SIGN_VERIFY"}:          (*openssl).signs,
	{"EC_P521", "SIGN_VERIFY"}:          (*openssl).signs,
	{"SECP256K1", "SIGN_VERIFY"}:        (*openssl).signs,
	{"EC_P256", "KEY_AGREEMENT"}:        (*openssl).agrees,
	{"EC_P384", "KEY_AGREEMENT"}:        (*openssl).agrees,
	{"EC_P521", "KEY_AGREEMENT"}:        (*openssl).agrees,
	{"SECP256K1", "KEY_AGREEMENT"}:      (*openssl).agrees,
	{"HMAC_256", "GENERATE_VERIFY_MAC"}: (*openssl).authenticates,
	{"HMAC_384", "GENERATE_VERIFY_MAC"}: (*openssl).authenticates,
	{"HMAC_512", "GENERATE_VERIFY_MAC"}: (*openssl).authenticates,
}

// TestAgainstOpenSSL checks every kind of key that a node offers against an implementation that knows nothing of ours.
func TestAgainstOpenSSL(t *testing.T) {
	options := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm"}
	// An RSA-4096 key may take long to make on a busy machine.
	if err := node.Edit(t.Context(), options, func(config map[string]any) { config["request_timeout"] = "90s" }); err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		_ = n.Stop(ctx)
	})
	c := client.New(n.Socket)
	defer c.Close()
	specs := []string{"AES_128", "AES_192", "AES_256", "RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "EC_P521",
		"SECP256K1", "HMAC_256", "HMAC_384", "HMAC_512", "SM2", "SM4", "HMAC_SM3"}
	for _, spec := range specs {
		for _, usage := range []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"} {
			t.Run(spec+"/"+usage, func(t *testing.T) {
				key, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: spec + ":" + usage, Spec: spec, Usage: usage})
				check := offered[[2]string{spec, usage}]
				var refused *client.Error
				switch {
				case check == nil && !errors.As(err, &refused):
					t.Errorf("is offered and has no check here (%v)", err)
				case check == nil && refused.Status != 400:
					t.Error(err)
				case check != nil && err != nil:
					t.Error(err)
				case check != nil:
					check(&openssl{T: t, Client: c, ctx: t.Context(), dir: t.TempDir()}, key.ID)
				}
			})
		}
	}
}

// openssl runs the program on files in a folder.
type openssl struct {
	*testing.T
	*client.Client
	ctx context.Context
	dir string
}

// write puts a file into the folder, where run finds it by name.
func (o *openssl) write(name string, content []byte) {
	o.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), content, 0o600); err != nil {
		o.Fatal(err)
	}
}

// run runs openssl, which must succeed, and returns what it printed.
func (o *openssl) run(args string) []byte {
	o.Helper()
	cmd := exec.CommandContext(o.ctx, "openssl", strings.Fields(args)...)
	cmd.Dir = o.dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		o.Fatalf("openssl %s: %v\n%s%s", args, err, out, &said)
	}
	return out
}

// ok returns a value that came without an error.
func ok[T any](v T, err error) func(*openssl) T {
	return func(o *openssl) T {
		o.Helper()
		if err != nil {
			o.Fatal(err)
		}
		return v
	}
}

// public writes the public half of a key to public.pem.
func (o *openssl) public(key string) {
	o.Helper()
	o.write("public.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: ok(o.GetPublicKey(o.ctx, key))(o).DER}))
}

// signatures are the algorithms, each with how openssl is told of it.
var signatures = map[string]string{
	"RSASSA_PSS_SHA_256":        "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
	"RSASSA_PSS_SHA_384":        "-sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
	"RSASSA_PSS_SHA_512":        "-sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
	"RSASSA_PKCS1_V1_5_SHA_256": "-sha256", "RSASSA_PKCS1_V1_5_SHA_384": "-sha384", "RSASSA_PKCS1_V1_5_SHA_512": "-sha512",
	"ECDSA_SHA_256": "-sha256", "ECDSA_SHA_384": "-sha384", "ECDSA_SHA_512": "-sha512",
}

// signs has a key sign by every algorithm. openssl must verify what the key's kind can do, whether the
// service hashed the message or was given the digest that openssl computes.
func (o *openssl) signs(key string) {
	o.public(key)
	message := []byte("what openssl shall verify")
	o.write("message", message)
	family := "RSASSA_"
	if bytes.Contains(o.run("pkey -pubin -in public.pem -noout -text"), []byte("ASN1 OID")) {
		family = "ECDSA_"
	}
	for algorithm, options := range signatures {
		hash := strings.Fields(options)[0]
		for _, req := range []client.SignRequest{
			{KeyID: key, Algorithm: algorithm, Message: message},
			{KeyID: key, Algorithm: algorithm, Message: o.run("dgst -binary " + hash + " message"), Digest: true},
		} {
			signature, err := o.Sign(o.ctx, req)
			if !strings.HasPrefix(algorithm, family) {
				if refused := new(client.Error); !errors.As(err, &refused) || refused.Code != "InvalidAlgorithm" {
					o.Errorf("%s: %v, want a refusal", algorithm, err)
				}
				continue
			}
			if err != nil {
				o.Fatalf("%s: %v", algorithm, err)
			}
			o.write("signature", signature)
			o.run("dgst " + options + " -verify public.pem -signature signature message")
		}
	}
}

// decrypts opens what openssl encrypted with the public key. SHA-1 is for what was encrypted long ago: such a block opens
// nowhere but on its way to a better key.
func (o *openssl) decrypts(key string) {
	o.public(key)
	encrypt := func(plain []byte, hash string) []byte {
		o.write("plain", plain)
		return o.run("pkeyutl -encrypt -pubin -inkey public.pem -in plain" +
			" -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:" + hash + " -pkeyopt rsa_mgf1_md:" + hash)
	}
	for _, plain := range [][]byte{[]byte("x"), bytes.Repeat([]byte{0xff, 0}, 95)} {
		moved := ok(o.ReEncrypt(o.ctx, client.ReEncryptRequest{
			Ciphertext: encrypt(plain, "sha1"), SourceKeyID: key, SourceAlgorithm: client.RSAOAEPSHA1,
			DestinationKeyID: key, DestinationAlgorithm: client.RSAOAEPSHA256,
		}))(o)
		for _, sealed := range [][]byte{encrypt(plain, "sha256"), moved.Ciphertext} {
			opened := ok(o.Decrypt(o.ctx, client.DecryptRequest{Ciphertext: sealed, KeyID: key, Algorithm: client.RSAOAEPSHA256}))(o)
			if !bytes.Equal(opened.Plaintext, plain) {
				o.Errorf("opened %x, want %x", opened.Plaintext, plain)
			}
		}
	}
}

// agrees derives a secret with a key pair of openssl's, which must derive the same.
func (o *openssl) agrees(key string) {
	o.public(key)
	curve := ""
	for _, line := range strings.Split(string(o.run("pkey -pubin -in public.pem -noout -text")), "\n") {
		if name, found := strings.CutPrefix(line, "ASN1 OID: "); found {
			curve = name
		}
	}
	o.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:" + curve + " -out own.pem")
	der := o.run("pkey -in own.pem -pubout -outform DER")
	want := o.run("pkeyutl -derive -inkey own.pem -peerkey public.pem")
	if got := ok(o.DeriveSharedSecret(o.ctx, key, der))(o); !bytes.Equal(got, want) {
		o.Errorf("agreed on %x, openssl on %x", got, want)
	}
}

// dataKeyPairs makes key pairs of every spec: openssl must find the private half whole, and get its public half from it,
// from the plain one and from what decrypt-data-key opens.
func (o *openssl) dataKeyPairs(key string) {
	for _, spec := range []string{"RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "EC_P521"} {
		bound := client.Bound{AAD: []byte("a pair of " + spec)}
		pair, err := o.GenerateDataKeyPair(o.ctx, client.DataKeyPairRequest{KeyID: key, Spec: spec, Bound: bound})
		if err != nil {
			o.Errorf("%s: %v", spec, err)
			continue
		}
		opened := ok(o.DecryptDataKey(o.ctx, client.DecryptDataKeyRequest{KeyID: key, Ciphertext: pair.Ciphertext, Bound: bound}))(o).Plaintext
		for _, private := range [][]byte{pair.PrivateKey, opened} {
			o.write("private.der", private)
			o.run("pkey -inform DER -in private.der -check -noout")
			if public := o.run("pkey -inform DER -in private.der -pubout -outform DER"); !bytes.Equal(public, pair.PublicKey) {
				o.Errorf("%s: public half is %x, openssl makes %x", spec, pair.PublicKey, public)
			}
		}
	}
}

// authenticates: openssl has no way to the key, so that here is only what one can know without it. That the algorithm is
// HMAC is checked where the key is known, in the tests of the drivers.
func (o *openssl) authenticates(key string) {
	seen := map[string]bool{}
	for _, size := range []int{256, 384, 512} {
		req := client.MACRequest{KeyID: key, Algorithm: fmt.Sprintf("HMAC_SHA_%d", size), Message: []byte("a message")}
		mac, err := o.GenerateMAC(o.ctx, req)
		if refused := new(client.Error); errors.As(err, &refused) && refused.Code == "InvalidAlgorithm" {
			continue // of another spec
		} else if err != nil || len(mac) != size/8 {
			o.Fatalf("%s: %d bytes, %v", req.Algorithm, len(mac), err)
		}
		seen[string(mac)] = true
		if again := ok(o.GenerateMAC(o.ctx, req))(o); !bytes.Equal(again, mac) || !ok(o.VerifyMAC(o.ctx, req, mac))(o) {
			o.Error("the same message has another mac")
		}
		for i := range mac {
			mac[i] ^= 1
			if ok(o.VerifyMAC(o.ctx, req, mac))(o) {
				o.Errorf("byte %d may be wrong", i)
			}
			mac[i] ^= 1
		}
		req.Message = []byte("another message")
		if ok(o.VerifyMAC(o.ctx, req, mac))(o) {
			o.Error("another message has the same mac")
		}
	}
	if len(seen) != 1 {
		o.Errorf("a key makes %d kinds of mac", len(seen))
	}
}
