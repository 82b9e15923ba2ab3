package crypto

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// pairSpecs are the specs of data key pairs: those of which Go can generate keys.
var pairSpecs = slices.DeleteFunc(kms.SpecNames(kms.RSA, kms.EC), func(spec string) bool { return spec == string(kms.Secp256k1) })

func dataKeyPair() *cobra.Command {
	var req client.DataKeyPairRequest
	var key, aad, prefix string
	var force bool
	var yes verb.YesFlag
	cmd := &cobra.Command{
		Use:   "pair --key KEY --spec SPEC --out NAME",
		Short: "Create an asymmetric key pair of your own, its private key encrypted under a key",
		Long: `Create an asymmetric key pair of your own. NAME.pub is its public key (PEM), NAME.key its private key (PEM, PKCS #8, readable
only by you), and NAME.sealed its private key encrypted under KEY, in base64; datakey decrypt --pem decrypts it. With --json and
without --out, everything is printed.`,
		Example: `  keyside datakey pair --key app --spec EC_P256 --out tls
  keyside datakey pair --key app --spec RSA_2048 --without-plaintext --json`,
	}
	keyFlag(cmd, &key)
	aadFlag(cmd, &aad)
	yes.Add(cmd)
	f := cmd.Flags()
	f.StringVar(&req.Spec, "spec", "", strings.Join(pairSpecs, ", ")+" (required)")
	f.StringVar(&prefix, "out", "", "name of the files, without .pub, .key and .sealed")
	f.BoolVar(&req.WithoutPlaintext, "without-plaintext", false, "return only the encrypted private key")
	f.BoolVar(&force, "force", false, "replace the files")
	verb.CompleteFlag(cmd, "spec", pairSpecs)
	return verb.GeneratesKeys(verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) (err error) {
		shown := prefix == "" && !req.WithoutPlaintext // the private key goes to standard output
		if req.Spec, err = verb.OneOf("--spec", req.Spec, pairSpecs); err != nil {
			return err
		}
		switch {
		case prefix == "" && !s.JSON:
			return verb.Failf(verb.ExitUsage, "--out is missing: name the files for the pair, or use --json")
		case shown:
			if err := (&verb.OutputFlags{File: "-"}).AskToShow(cmd, yes); err != nil {
				return err
			}
		}
		if req.KeyID, err = s.Resolve(ctx, key); err != nil {
			return err
		}
		files := verb.FileSet{}
		if prefix != "" {
			if files, err = createPair(prefix, req.WithoutPlaintext, force); err != nil {
				return err
			}
		}
		req.AAD = []byte(aad)
		pair, err := s.GenerateDataKeyPair(ctx, req)
		if err != nil {
			return errors.Join(err, files.Discard())
		}
		defer clear(pair.PrivateKey)
		private := verb.PrivatePEM(pair.PrivateKey)
		defer clear(private)
		public := verb.PublicPEM(pair.PublicKey)
		if err := files.Commit(map[string][]byte{"private": private, "public": public, "sealed": verb.Base64Line(pair.Ciphertext)}); err != nil {
			return err
		}
		view := pairView{KeyID: pair.KeyID, Spec: req.Spec, PublicKey: string(public), Ciphertext: pair.Ciphertext}
		if shown {
			view.PrivateKey = string(private)
		}
		if s.JSON {
			return verb.PrintJSON(s.Out(), view)
		}
		s.Note("created a key pair of spec %s: %s.*", req.Spec, prefix)
		return nil
	}))
}

// pairView is a pair as --json shows it.
type pairView struct {
	KeyID      string `json:"key_id"`
	Spec       string `json:"spec"`
	PublicKey  string `json:"public_key"`            // PEM
	PrivateKey string `json:"private_key,omitempty"` // PEM; empty if it is in a file
	Ciphertext []byte `json:"ciphertext"`            // base64
}

// createPair begins the files before the pair exists, so that no pair is created that cannot be stored.
func createPair(prefix string, withoutPlaintext, force bool) (verb.FileSet, error) {
	paths := map[string]string{"public": prefix + ".pub", "sealed": prefix + ".sealed"}
	if !withoutPlaintext {
		paths["private"] = prefix + ".key"
	}
	return verb.CreateFiles(paths, force)
}
