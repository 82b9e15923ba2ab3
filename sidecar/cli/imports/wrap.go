package imports

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	container "github.com/keyside/keyside/plugins/material"
	"github.com/keyside/keyside/sidecar/cli/verb"
)

// temporarySize is the length in bytes of the temporary AES key that wraps material longer than an RSA block.
const temporarySize = 32

// wrapped is wrapped material.
type wrapped struct {
	material   []byte
	privateKey []byte // only of private keys under OAEP or PKCS #1 v1.5
}

// wrap wraps material. An AES key goes into an RSA block. A private key, and all material under RSA_AES_KEY_WRAP, is wrapped
// by AES key wrap with padding (RFC 5649) under a temporary key, which goes into the RSA block (PKCS#11: CKM_RSA_AES_KEY_WRAP).
func wrap(under *rsa.PublicKey, algorithm string, m *material) (*wrapped, error) {
	if !m.private() && !keyWrap(algorithm) {
		block, err := rsaBlock(under, algorithm, m.plain)
		return &wrapped{material: block}, err
	}
	temporary := make([]byte, temporarySize)
	defer clear(temporary)
	_, _ = rand.Read(temporary) // never fails
	w, err := container.NewKeyWrap(temporary)
	if err != nil {
		return nil, err
	}
	inner, err := w.Wrap(m.plain)
	if err != nil {
		return nil, verb.Failf(verb.ExitUsage, "%w: it is too long for a key", err)
	}
	block, err := rsaBlock(under, algorithm, temporary)
	if err != nil {
		return nil, err
	}
	if keyWrap(algorithm) {
		return &wrapped{material: append(block, inner...)}, nil
	}
	return &wrapped{material: block, privateKey: inner}, nil
}

// rsaBlock encrypts a key as the algorithm says.
func rsaBlock(under *rsa.PublicKey, algorithm string, plain []byte) ([]byte, error) {
	switch algorithm {
	case "RSAES_PKCS1_V1_5":
		//lint:ignore SA1019 the guides of some clouds prefer it, and only decryption is dangerous
		return rsa.EncryptPKCS1v15(rand.Reader, under, plain)
	case "RSAES_OAEP_SHA_1", "RSA_AES_KEY_WRAP_SHA_1":
		return rsa.EncryptOAEP(sha1.New(), rand.Reader, under, plain, nil)
	case "RSAES_OAEP_SHA_256", "RSA_AES_KEY_WRAP_SHA_256":
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, under, plain, nil)
	}
	return nil, fmt.Errorf("no algorithm %q", algorithm)
}

func importWrap() *cobra.Command {
	var w wrappingFlags
	var from, key, dir, spec string
	var force bool
	cmd := &cobra.Command{
		Use:   "wrap --from FILE --wrapping-key FILE",
		Short: "Wrap a key of your own for its import, without openssl",
		Long: `Wrap a key of your own for its import, on this machine: nothing is sent. The result is EncryptedKeyMaterial.bin and, for private
keys under OAEP or PKCS1, out_rsa_private_key.der or out_ec_private_key.der. The key is an AES key (16, 24 or 32 bytes, raw, base64 or
hex) or a private RSA or EC key (PKCS #8, PKCS #1 or SEC 1; PEM or DER, without a passphrase). 32 bytes that are also the hex or base64
of a shorter key need --spec.`,
		Example: `  keyside import wrap --from my-key.bin --wrapping-key own/WrappingPublicKey.pem --out wrapped
  keyside import wrap --from my-key.pem --wrapping-key signer/WrappingPublicKey.b64 --algorithm RSA_AES_KEY_WRAP_SHA_256 --out wrapped-rsa`,
		Args: cobra.NoArgs,
	}
	w.addAlgorithm(cmd)
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "file with the key to import (required)")
	f.StringVar(&key, "wrapping-key", "", "file with the wrapping key: DER, base64 or PEM (required)")
	f.StringVar(&spec, "spec", "", "spec of an AES key whose file can be read in two ways: "+strings.Join(aesSpecs, ", "))
	f.StringVar(&dir, "out", ".", "directory for the results, created if it does not exist")
	f.BoolVar(&force, "force", false, "replace the files")
	verb.CompleteFlag(cmd, "spec", aesSpecs)
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if from == "" {
			return verb.Failf(verb.ExitUsage, "--from is missing: give the file with the key to import")
		}
		if spec, err = verb.Optional("--spec", spec, aesSpecs); err != nil {
			return err
		}
		if err := w.check(); err != nil {
			return err
		}
		under, err := readWrappingKey(key)
		if err != nil {
			return verb.Explain(err)
		}
		m, err := readMaterial(from, spec)
		if err != nil {
			return verb.Explain(err)
		}
		defer clear(m.plain)
		if spec != "" && m.spec != spec {
			return verb.Failf(verb.ExitUsage, "%s holds %s, not %s", from, m.what(), spec)
		}
		if err := wrapFiles(w.algorithm, under, m, dir, force); err != nil {
			return verb.Explain(err)
		}
		cmd.PrintErrf("wrapped %s: %s\n", m.what(), filepath.Join(dir, wrappedFile))
		return nil
	}
	return cmd
}

// wrapFiles wraps a key for import wrap.
func wrapFiles(algorithm string, under *rsa.PublicKey, m *material, dir string, force bool) error {
	w, err := wrap(under, algorithm, m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	paths := map[string]string{"material": filepath.Join(dir, wrappedFile)}
	if w.privateKey != nil {
		paths["private"] = filepath.Join(dir, privateFile(m.spec))
	}
	files, err := verb.CreateFiles(paths, force)
	if err != nil {
		return err
	}
	return files.Commit(map[string][]byte{"material": w.material, "private": w.privateKey})
}
