package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/spf13/cobra"

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
	var yes yesFlag
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
	yes.add(cmd)
	f := cmd.Flags()
	f.StringVar(&spec, "spec", "", strings.Join(words(pairSpecs), ", "))
	f.StringVar(&prefix, "out", "", "name of the files, without .pub, .key and .sealed")
	f.BoolVar(&req.WithoutPlaintext, "without-plaintext", false, "the private key encrypted only")
	f.BoolVar(&force, "force", false, "replace the files")
	completeFlag(cmd, "spec", words(pairSpecs))
	return makesKeys(talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		req.Spec = pairSpecs[spec]
		switch {
		case req.Spec == "":
			return failf(ExitUsage, "--spec %q is none of: %s", spec, strings.Join(words(pairSpecs), ", "))
		case prefix == "" && !s.json:
			return failf(ExitUsage, "--out is missing: name the files that the pair goes to, or use --json")
		case prefix == "" && !req.WithoutPlaintext:
			if err := (&outputFlags{file: "-"}).askToShow(cmd, yes); err != nil {
				return err
			}
		}
		var err error
		if req.KeyID, err = s.resolve(ctx, c, key); err != nil {
			return err
		}
		var files fileSet
		if prefix != "" {
			if files, err = createPair(prefix, req.WithoutPlaintext, force); err != nil {
				return err
			}
		}
		pair, err := once(ctx, s, func(ctx context.Context) (*client.DataKeyPair, error) { return c.CreateDataKeyPair(ctx, req) })
		if err != nil {
			return errors.Join(err, files.discard())
		}
		defer clear(pair.PrivateKey)
		if err := commitPair(files, pair); err != nil || !s.json {
			return err
		}
		view := pairView{KeyID: pair.KeyID, Spec: spec, PublicKey: string(publicPEM(pair.PublicKey)), Ciphertext: base64.StdEncoding.EncodeToString(pair.Ciphertext)}
		if prefix == "" && !req.WithoutPlaintext {
			view.PrivateKey = string(privatePEM(pair.PrivateKey))
		}
		return printJSON(cmd.OutOrStdout(), view)
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
func createPair(prefix string, withoutPlaintext, force bool) (fileSet, error) {
	paths := map[string]string{"public": prefix + ".pub", "sealed": prefix + ".sealed"}
	if !withoutPlaintext {
		paths["private"] = prefix + ".key"
	}
	return createFiles(paths, force)
}

// commitPair writes the files of a pair.
func commitPair(files fileSet, pair *client.DataKeyPair) error {
	private := privatePEM(pair.PrivateKey)
	defer clear(private)
	return files.commit(map[string][]byte{"private": private, "public": publicPEM(pair.PublicKey), "sealed": base64Line(pair.Ciphertext)})
}
