package crypto

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// pairSpecs are the specs of data key pairs, and the API's words for them.
var pairSpecs = map[string]string{
	"RSA_2048": "RSA_2048", "RSA_3072": "RSA_3072", "RSA_4096": "RSA_4096",
	"EC_P256": "ECC_NIST_P256", "EC_P384": "ECC_NIST_P384", "EC_P521": "ECC_NIST_P521",
}

func dataKeyPair() *cobra.Command {
	var req client.DataKeyPairRequest
	var key, spec, prefix string
	var force bool
	var yes verb.YesFlag
	cmd := &cobra.Command{
		Use:   "pair --key KEY --spec SPEC --out NAME",
		Short: "make an asymmetric key pair of your own, its private key encrypted under a key",
		Long: `Make an asymmetric key pair of your own. NAME.pub is its public key (PEM), NAME.key the private key (PEM, PKCS #8, for you
alone to read), and NAME.sealed the private key encrypted under KEY, in base64; datakey decrypt --pem opens that.
With --json for --out, all of it goes to standard output.`,
		Example: `  keyside datakey pair --key app --spec EC_P256 --out tls
  keyside datakey pair --key app --spec RSA_2048 --without-plaintext --json`,
		Args: cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	aadFlag(cmd, &req.AAD)
	yes.Add(cmd)
	f := cmd.Flags()
	f.StringVar(&spec, "spec", "", strings.Join(verb.Words(pairSpecs), ", "))
	f.StringVar(&prefix, "out", "", "name of the files, without .pub, .key and .sealed")
	f.BoolVar(&req.WithoutPlaintext, "without-plaintext", false, "the private key encrypted only")
	f.BoolVar(&force, "force", false, "replace the files")
	verb.CompleteFlag(cmd, "spec", verb.Words(pairSpecs))
	return verb.MakesKeys(verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		req.Spec = pairSpecs[spec]
		switch {
		case req.Spec == "":
			return verb.Failf(verb.ExitUsage, "--spec %q is none of: %s", spec, strings.Join(verb.Words(pairSpecs), ", "))
		case prefix == "" && !s.JSON:
			return verb.Failf(verb.ExitUsage, "--out is missing: name the files that the pair goes to, or use --json")
		case prefix == "" && !req.WithoutPlaintext:
			if err := (&verb.OutputFlags{File: "-"}).AskToShow(cmd, yes); err != nil {
				return err
			}
		}
		var err error
		if req.KeyID, err = s.Resolve(ctx, c, key); err != nil {
			return err
		}
		var files verb.FileSet
		if prefix != "" {
			if files, err = createPair(prefix, req.WithoutPlaintext, force); err != nil {
				return err
			}
		}
		pair, err := verb.Once(ctx, s, func(ctx context.Context) (*client.DataKeyPair, error) { return c.CreateDataKeyPair(ctx, req) })
		if err != nil {
			return errors.Join(err, files.Discard())
		}
		defer clear(pair.PrivateKey)
		if err := commitPair(files, pair); err != nil || !s.JSON {
			return err
		}
		view := pairView{KeyID: pair.KeyID, Spec: spec, PublicKey: string(verb.PublicPEM(pair.PublicKey)), Ciphertext: base64.StdEncoding.EncodeToString(pair.Ciphertext)}
		if prefix == "" && !req.WithoutPlaintext {
			view.PrivateKey = string(verb.PrivatePEM(pair.PrivateKey))
		}
		return verb.PrintJSON(cmd.OutOrStdout(), view)
	}))
}

// pairView is a pair as --json shows it. The private key is in it only where it went to no file.
type pairView struct {
	KeyID      string `json:"key_id"`
	Spec       string `json:"spec"`
	PublicKey  string `json:"public_key"`            // PEM
	PrivateKey string `json:"private_key,omitempty"` // PEM
	Ciphertext string `json:"ciphertext"`            // base64
}

// createPair begins all files before the pair exists, so that nothing is made which cannot be kept.
func createPair(prefix string, withoutPlaintext, force bool) (verb.FileSet, error) {
	paths := map[string]string{"public": prefix + ".pub", "sealed": prefix + ".sealed"}
	if !withoutPlaintext {
		paths["private"] = prefix + ".key"
	}
	return verb.CreateFiles(paths, force)
}

// commitPair writes the files of a pair.
func commitPair(files verb.FileSet, pair *client.DataKeyPair) error {
	private := verb.PrivatePEM(pair.PrivateKey)
	defer clear(private)
	return files.Commit(map[string][]byte{"private": private, "public": verb.PublicPEM(pair.PublicKey), "sealed": verb.Base64Line(pair.Ciphertext)})
}
