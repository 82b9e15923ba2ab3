package imports

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// materialFlags are the flags of import material.
type materialFlags struct {
	importFlags
	wrappingFlags
	from, keep      string
	generate, force bool
}

func (m *materialFlags) add(cmd *cobra.Command) {
	m.importFlags.add(cmd)
	m.wrappingFlags.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&m.generate, "generate", false, "generate new material")
	f.StringVar(&m.from, "from", "", "file with material of your own")
	f.StringVar(&m.keep, "keep", "", "file for the generated material, readable only by you")
	f.BoolVar(&m.force, "force", false, "replace the file of --keep")
}

func (m *materialFlags) check() error {
	switch {
	case m.generate == (m.from != ""):
		return verb.Failf(verb.ExitUsage, "give --generate for new material, or --from FILE for your own")
	case m.from != "" && m.keep != "":
		return verb.Failf(verb.ExitUsage, "--keep needs --generate: %s exists already", m.from)
	}
	return m.wrappingFlags.check()
}

func importMaterial() *cobra.Command {
	var flags materialFlags
	cmd := &cobra.Command{
		Use:   "material KEY --generate | --from FILE",
		Short: "Import new material, or your own, in one step",
		Long: `Import new material, or your own, in one step: get the wrapping key, wrap on this machine, import. --generate generates material of
the key's spec. --keep writes it to a file before the import: AES keys as bytes, private keys as PEM. Without --keep only Keyside
has the material; once it is deleted or expires, it cannot be imported again. --from reads an AES key (raw, base64 or hex) or a
private key (PKCS #8, PKCS #1 or SEC 1; PEM or DER).`,
		Example: `  keyside import material own-new --generate --keep own-new.bin --expires 30d
  keyside import material own-old --from my-key.bin`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	flags.add(cmd)
	return verb.GeneratesKeys(verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		req, p, err := flags.request(cmd)
		if err = errors.Join(err, flags.check()); err != nil {
			return err
		}
		key, err := s.Lookup(ctx, args[0])
		if err != nil {
			return err
		}
		m, err := flags.material(key)
		if err != nil {
			return err
		}
		defer clear(m.plain)
		req.KeyID = key.ID
		if err := wrapFor(ctx, s, &req, m, flags.wrappingFlags, p.OnlyLast); err != nil {
			return err
		}
		// Write the file before the import: a key must not be bound to material that is lost.
		if flags.keep != "" {
			if err := m.keep(flags.keep, flags.force); err != nil {
				return err
			}
		}
		if req.Expires, err = verb.ParseExpiry(flags.expires, time.Now()); err != nil { // count from now, not from before the wrapping
			return err
		}
		if err = importInto(ctx, s, req); err != nil && flags.keep != "" {
			return fmt.Errorf("%w; the material is in %s: --from %s imports that", verb.Explain(err), flags.keep, verb.ShellQuote(flags.keep))
		}
		return err
	}))
}

// material generates or reads the material for a key.
func (m *materialFlags) material(key *client.Key) (*material, error) {
	switch {
	case strings.HasPrefix(key.Spec, "HMAC_"):
		return nil, verb.Failf(verb.ExitUsage, "material of HMAC keys cannot be imported: keyside key create generates it in the HSM")
	case m.generate && key.CheckValue != nil:
		return nil, verb.Failf(verb.ExitRefused, "this key is bound to the material of its first import: give that with --from, or create a new key with keyside key create --origin external")
	case m.generate:
		return newMaterial(key.Spec)
	}
	own, err := readMaterial(m.from, key.Spec)
	if err == nil && own.spec != key.Spec {
		clear(own.plain)
		return nil, verb.Failf(verb.ExitUsage, "%s holds a key of spec %s, and %s is of spec %s", m.from, own.spec, key.Alias, key.Spec)
	}
	return own, err
}

// wrapFor gets a wrapping key and its token for an import, and wraps material under it.
func wrapFor(ctx context.Context, s *verb.Session, req *client.ImportRequest, m *material, w wrappingFlags, onlyLast bool) error {
	params, err := s.GetImportParameters(ctx, client.ImportParametersRequest{
		KeyID: req.KeyID, Algorithm: w.algorithm, WrappingSpec: w.spec, OnlyLast: onlyLast, Repeat: req.Repeat,
	})
	if err != nil {
		return err
	}
	if params.Warning != "" {
		s.Note("warning: %s", params.Warning)
	}
	under, err := parseWrappingKey(params.PublicKey, "the wrapping key from the sidecar")
	if err != nil {
		return err
	}
	sealed, err := wrap(under, w.algorithm, m)
	if err != nil {
		return err
	}
	req.Token, req.Material, req.PrivateKey = params.Token, sealed.material, sealed.privateKey
	return nil
}

// newMaterial generates material of a spec.
func newMaterial(spec string) (*material, error) {
	var key any
	var err error
	switch s := driver.SpecNamed(spec); {
	case s.Family == driver.AES:
		plain := make([]byte, s.Size())
		_, _ = rand.Read(plain) // never fails
		return &material{plain, spec}, nil
	case s.Family == driver.RSA:
		key, err = rsa.GenerateKey(rand.Reader, s.Bits)
	case s.Curve != nil:
		key, err = ecdsa.GenerateKey(s.Curve, rand.Reader)
	default:
		return nil, verb.Failf(verb.ExitUsage, "cannot generate material of spec %s: generate it with openssl, and give it with --from", spec)
	}
	if err != nil {
		return nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	return &material{plain, spec}, err
}

// keep writes material to a file that only its owner can read.
func (m *material) keep(path string, force bool) error {
	content := m.plain
	if m.private() {
		content = verb.PrivatePEM(m.plain)
		defer clear(content)
	}
	return verb.WriteFile(path, content, force)
}
