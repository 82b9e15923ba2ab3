package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

func importMaterial() *cobra.Command {
	var flags importFlags
	var w wrappingFlags
	var from, keep string
	var generate, force bool
	cmd := &cobra.Command{
		Use:   "material KEY --generate | --from FILE",
		Short: "import a new key, or one of your own, in one go",
		Long: `Import material in one go: get the wrapping key, wrap on this machine, import. --generate makes new material of the key's spec,
which --keep writes to a file before it is imported, AES keys as bytes and private keys as PEM: without it nothing but Keyside has
the material, and material that is lost or expires cannot come back. --from takes an AES key (raw, base64 or hex) or a private key
(PKCS#8, PKCS#1 or SEC 1; PEM or DER).`,
		Example: `  keyside import material own-new --generate --keep own-new.bin --expires 30d
  keyside import material own-old --from my-key.bin`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeKeys(1),
	}
	flags.add(cmd)
	w.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&generate, "generate", false, "make new material")
	f.StringVar(&from, "from", "", "file with material of your own")
	f.StringVar(&keep, "keep", "", "file for the material that is made, for you alone to read")
	f.BoolVar(&force, "force", false, "replace the file of --keep")
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, args []string) error {
		req, p, err := flags.request(cmd)
		if err = errors.Join(err, w.check()); err != nil {
			return err
		}
		switch {
		case generate == (from != ""):
			return failf(ExitUsage, "give --generate for new material, or --from FILE for your own")
		case from != "" && keep != "":
			return failf(ExitUsage, "--keep goes with --generate: %s is kept already", from)
		}
		key, err := s.lookup(ctx, c, args[0])
		if err != nil {
			return err
		}
		req.KeyID = key.ID
		if strings.HasPrefix(key.Spec, "HMAC_") {
			return failf(ExitUsage, "HMAC keys take no imports: keyside key create makes one in the HSM")
		}
		var m *material
		if generate {
			if key.CheckValue != "" {
				return failf(ExitRefused, "this key is bound to the material of its first import: give that with --from, or make a new key with keyside key create --origin external")
			}
			m, err = newMaterial(key.Spec)
		} else {
			m, err = readMaterial(from)
		}
		if err != nil {
			return err
		}
		defer clear(m.plain)
		if err := m.fits(key.Spec); err != nil {
			return err
		}
		params, err := once(ctx, s, func(ctx context.Context) (*client.ImportParameters, error) {
			return c.GetImportParameters(ctx, client.ImportParametersRequest{
				KeyID: key.ID, Algorithm: w.algorithm, WrappingSpec: w.spec, OnlyLast: p.onlyLast, Repeat: req.Repeat,
			})
		})
		if err != nil {
			return err
		}
		if params.Warning != "" {
			cmd.PrintErrln("warning: " + params.Warning)
		}
		under, err := parseWrappingKey(params.PublicKey, "what the sidecar sent")
		if err != nil {
			return err
		}
		sealed, err := wrap(under, w.algorithm, m)
		if err != nil {
			return err
		}
		// Kept before it is imported: a key must not be bound to material that nobody has.
		if keep != "" {
			if err := m.keep(keep, force); err != nil {
				return err
			}
		}
		req.Token, req.Material, req.PrivateKey = params.Token, sealed.material, sealed.privateKey
		if err = s.importInto(ctx, cmd, c, req); err != nil && keep != "" {
			return fmt.Errorf("%w; the material is in %s: --from %s imports that", explain(err), keep, shellQuote(keep))
		}
		return err
	})
}

var curvesByName = map[string]elliptic.Curve{"EC_P256": elliptic.P256(), "EC_P384": elliptic.P384(), "EC_P521": elliptic.P521()}

// aesBytes and rsaBits are the sizes of specs.
var (
	aesBytes = map[string]int{"AES_128": 16, "AES_192": 24, "AES_256": 32}
	rsaBits  = map[string]int{"RSA_2048": 2048, "RSA_3072": 3072, "RSA_4096": 4096}
)

// newMaterial makes material of a spec.
func newMaterial(spec string) (*material, error) {
	if n := aesBytes[spec]; n > 0 {
		plain := make([]byte, n)
		_, _ = rand.Read(plain) // never fails
		return &material{plain, kindAES}, nil
	}
	var key any
	var err error
	kind := kindRSA
	switch {
	case rsaBits[spec] > 0:
		key, err = rsa.GenerateKey(rand.Reader, rsaBits[spec])
	case curvesByName[spec] != nil:
		kind = kindEC
		key, err = ecdsa.GenerateKey(curvesByName[spec], rand.Reader)
	default:
		return nil, failf(ExitUsage, "no material of spec %s can be made here: make it with openssl, and give it with --from", spec)
	}
	if err != nil {
		return nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	return &material{plain, kind}, err
}

// fits reports material that cannot be meant for a key, before it is sent. The HSM looks closer.
func (m *material) fits(spec string) error {
	want := kindEC
	switch {
	case symmetric(spec):
		want = kindAES
	case strings.HasPrefix(spec, "RSA_"):
		want = kindRSA
	}
	if m.kind != want {
		return failf(ExitUsage, "the file holds an %s, and the key is of spec %s", m.kind, spec)
	}
	if n := aesBytes[spec]; n > 0 && n != len(m.plain) {
		return failf(ExitUsage, "the file holds %d bytes, and a key of spec %s has %d", len(m.plain), spec, n)
	}
	return nil
}

// keep writes material to a file that appears whole, on disk, and for its owner alone.
func (m *material) keep(path string, force bool) error {
	content := m.plain
	if m.private() {
		content = privatePEM(m.plain)
		defer clear(content)
	}
	f, err := createOutput(path, force)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.discard())
	}
	return f.commit()
}
