package imports

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// materialFlags are those of import material.
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
	f.BoolVar(&m.generate, "generate", false, "make new material")
	f.StringVar(&m.from, "from", "", "file with material of your own")
	f.StringVar(&m.keep, "keep", "", "file for the material that is made, for you alone to read")
	f.BoolVar(&m.force, "force", false, "replace the file of --keep")
}

func (m *materialFlags) check() error {
	switch {
	case m.generate == (m.from != ""):
		return verb.Failf(verb.ExitUsage, "give --generate for new material, or --from FILE for your own")
	case m.from != "" && m.keep != "":
		return verb.Failf(verb.ExitUsage, "--keep goes with --generate: %s is kept already", m.from)
	}
	return m.wrappingFlags.check()
}

func importMaterial() *cobra.Command {
	var flags materialFlags
	cmd := &cobra.Command{
		Use:   "material KEY --generate | --from FILE",
		Short: "import a new key, or one of your own, in one go",
		Long: `Import material in one go: get the wrapping key, wrap on this machine, import. --generate makes new material of the key's spec,
which --keep writes to a file before it is imported, AES keys as bytes and private keys as PEM: without it nothing but Keyside has
the material, and material that is deleted or expires cannot come back. --from takes an AES key (raw, base64 or hex) or a private
key (PKCS#8, PKCS#1 or SEC 1; PEM or DER).`,
		Example: `  keyside import material own-new --generate --keep own-new.bin --expires 30d
  keyside import material own-old --from my-key.bin`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	flags.add(cmd)
	return verb.MakesKeys(verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		req, p, err := flags.request(cmd)
		if err = errors.Join(err, flags.check()); err != nil {
			return err
		}
		key, err := s.Lookup(ctx, c, args[0])
		if err != nil {
			return err
		}
		m, err := flags.material(key)
		if err != nil {
			return err
		}
		defer clear(m.plain)
		req.KeyID = key.ID
		if err := wrapFor(s, ctx, cmd, c, &req, m, flags.wrappingFlags, p.OnlyLast); err != nil {
			return err
		}
		// Kept before it is imported: a key must not be bound to material that nobody has.
		if flags.keep != "" {
			if err := m.keep(flags.keep, flags.force); err != nil {
				return err
			}
		}
		if req.Expires, err = verb.ParseExpiry(flags.expires, time.Now()); err != nil { // from now, not from before the wrapping
			return err
		}
		if err = importInto(s, ctx, cmd, c, req); err != nil && flags.keep != "" {
			return fmt.Errorf("%w; the material is in %s: --from %s imports that", verb.Explain(err), flags.keep, verb.ShellQuote(flags.keep))
		}
		return err
	}))
}

// material makes or reads what is to be imported into a key.
func (m *materialFlags) material(key *client.Key) (*material, error) {
	switch {
	case strings.HasPrefix(key.Spec, "HMAC_"):
		return nil, verb.Failf(verb.ExitUsage, "HMAC keys take no imports: keyside key create makes one in the HSM")
	case m.generate && key.CheckValue != "":
		return nil, verb.Failf(verb.ExitRefused, "this key is bound to the material of its first import: give that with --from, or make a new key with keyside key create --origin external")
	case m.generate:
		return newMaterial(key.Spec)
	}
	own, err := readMaterial(m.from)
	if err == nil && own.spec != key.Spec {
		clear(own.plain)
		return nil, verb.Failf(verb.ExitUsage, "%s holds a key of spec %s, and %s is of spec %s", m.from, own.spec, key.Alias, key.Spec)
	}
	return own, err
}

// wrapFor gets a wrapping key and its token for an import, and wraps material under it.
func wrapFor(s *verb.Session, ctx context.Context, cmd *cobra.Command, c *client.Client, req *client.ImportRequest, m *material, w wrappingFlags, onlyLast bool) error {
	params, err := verb.Once(ctx, s, func(ctx context.Context) (*client.ImportParameters, error) {
		return c.GetImportParameters(ctx, client.ImportParametersRequest{
			KeyID: req.KeyID, Algorithm: w.algorithm, WrappingSpec: w.spec, OnlyLast: onlyLast, Repeat: req.Repeat,
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
	req.Token, req.Material, req.PrivateKey = params.Token, sealed.material, sealed.privateKey
	return nil
}

var curvesByName = map[string]elliptic.Curve{"EC_P256": elliptic.P256(), "EC_P384": elliptic.P384(), "EC_P521": elliptic.P521()}

// specBits is the size of an AES or RSA spec in bits, which its name ends with.
func specBits(spec string) int {
	_, bits, _ := strings.Cut(spec, "_")
	n, _ := strconv.Atoi(bits) // others have no number
	return n
}

// newMaterial makes material of a spec.
func newMaterial(spec string) (*material, error) {
	var key any
	var err error
	switch curve := curvesByName[spec]; {
	case symmetric(spec):
		plain := make([]byte, specBits(spec)/8)
		_, _ = rand.Read(plain) // never fails
		return &material{plain, spec}, nil
	case strings.HasPrefix(spec, "RSA_"):
		key, err = rsa.GenerateKey(rand.Reader, specBits(spec))
	case curve != nil:
		key, err = ecdsa.GenerateKey(curve, rand.Reader)
	default:
		return nil, verb.Failf(verb.ExitUsage, "no material of spec %s can be made here: make it with openssl, and give it with --from", spec)
	}
	if err != nil {
		return nil, err
	}
	plain, err := x509.MarshalPKCS8PrivateKey(key)
	return &material{plain, spec}, err
}

// keep writes material to a file that appears whole, on disk, and for its owner alone.
func (m *material) keep(path string, force bool) error {
	content := m.plain
	if m.private() {
		content = verb.PrivatePEM(m.plain)
		defer clear(content)
	}
	f, err := verb.CreateOutput(path, force)
	if err != nil {
		return err
	}
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit()
}
