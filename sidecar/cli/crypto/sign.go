package crypto

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha256" // for hashes
	_ "crypto/sha512"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// signFlags are the flags of sign and verify.
type signFlags struct {
	key, algorithm string
	digest         bool
	in             verb.InputFlags
}

func (f *signFlags) add(cmd *cobra.Command) {
	keyFlag(cmd, &f.key)
	f.in.Add(cmd, "the message")
	cmd.Flags().StringVar(&f.algorithm, "algorithm", "", `RSASSA_PSS_SHA_n, RSASSA_PKCS1_V1_5_SHA_n or ECDSA_SHA_n with n 256, 384 or 512
(default: RSASSA_PSS or ECDSA with the hash function for the key's size)`)
	cmd.Flags().BoolVar(&f.digest, "digest", false, "the input is the raw digest of the message")
	verb.CompleteFlag(cmd, "algorithm", kms.SigningNames())
}

// defaultAlgorithms are the algorithms of the key specs.
var defaultAlgorithms = map[string]string{
	"RSA_2048": "RSASSA_PSS_SHA_256", "RSA_3072": "RSASSA_PSS_SHA_256", "RSA_4096": "RSASSA_PSS_SHA_384",
	"EC_P256": "ECDSA_SHA_256", "EC_P384": "ECDSA_SHA_384", "EC_P521": "ECDSA_SHA_512", "SECP256K1": "ECDSA_SHA_256",
}

// choose returns the key's id and the algorithm, by default that of the key's spec.
func (f *signFlags) choose(ctx context.Context, s *verb.Session) (id, algorithm string, err error) {
	if f.algorithm, err = verb.Optional("--algorithm", f.algorithm, kms.SigningNames()); err != nil {
		return "", "", err
	}
	if f.algorithm != "" {
		id, err = s.Resolve(ctx, f.key)
		return id, f.algorithm, err
	}
	key, err := s.Lookup(ctx, f.key)
	if err != nil {
		return "", "", err
	}
	if algorithm = defaultAlgorithms[key.Spec]; algorithm == "" {
		return "", "", verb.Failf(verb.ExitUsage, "a key of spec %s does not sign: create one with keyside key create --spec EC_P256", key.Spec)
	}
	return key.ID, algorithm, nil
}

// hashes maps the end of an algorithm's name to its hash function.
var hashes = map[string]crypto.Hash{"SHA_256": crypto.SHA256, "SHA_384": crypto.SHA384, "SHA_512": crypto.SHA512}

// request returns the request. The message is hashed here, so that it may have any size.
func (f *signFlags) request(ctx context.Context, s *verb.Session) (client.SignRequest, error) {
	req := client.SignRequest{Digest: true}
	var err error
	if req.KeyID, req.Algorithm, err = f.choose(ctx, s); err != nil {
		return req, err
	}
	if f.digest {
		req.Message, err = f.in.Read(s.Cmd, 64)
		return req, err
	}
	hash := hashes[req.Algorithm[max(0, len(req.Algorithm)-len("SHA_256")):]]
	message, err := f.in.Open(s.Cmd)
	if err != nil {
		return req, err
	}
	h := hash.New()
	_, err = io.Copy(h, message)
	req.Message = h.Sum(nil)
	return req, errors.Join(err, message.Close())
}

func signCommand() *cobra.Command {
	var f signFlags
	var out verb.OutputFlags
	cmd := &cobra.Command{
		Use:   "sign --key KEY",
		Short: "Sign a message of any size; print base64",
		Long:  `Sign a message of any size. The signature is printed in base64, or written in binary to --out.`,
		Example: `  keyside sign --key signer --in report --out report.sig
  keyside sign --key rsa --algorithm RSASSA_PKCS1_V1_5_SHA_512 --in report`,
	}
	f.add(cmd)
	out.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		req, err := f.request(ctx, s)
		if err != nil {
			return err
		}
		signature, err := s.Sign(ctx, req)
		if err != nil {
			return err
		}
		return out.PrintBinary(s, map[string]any{"key_id": req.KeyID, "algorithm": req.Algorithm, "signature": signature}, signature)
	})
}

func verifyCommand() *cobra.Command {
	var f signFlags
	var signature string
	cmd := &cobra.Command{
		Use:   "verify --key KEY --signature FILE",
		Short: "Verify a signature; exit code 6 if invalid",
		Example: `  keyside sign --key signer --in report --out report.sign
  keyside verify --key signer --in report --signature report.sign`,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&signature, "signature", "", "the signature in base64, or a file with it in base64 or binary (required)")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		sig, err := readSignature(signature)
		if err != nil {
			return err
		}
		req, err := f.request(ctx, s)
		if err != nil {
			return err
		}
		valid, err := s.Verify(ctx, req, sig)
		return printValid(s, "signature", valid, err)
	})
}

// fileOrText returns the content of the file that a flag names, or the value of the flag if no such file exists.
func fileOrText(flag, arg string) ([]byte, error) {
	if arg == "" {
		return nil, verb.Failf(verb.ExitUsage, "--%s is missing", flag)
	}
	content, err := os.ReadFile(arg)
	if errors.Is(err, os.ErrNotExist) {
		return []byte(arg), nil
	}
	return content, err
}

// readSignature returns a signature from its flag. A binary signature does not decode as base64.
func readSignature(arg string) ([]byte, error) {
	content, err := fileOrText("signature", arg)
	if err != nil {
		return nil, err
	}
	signature := verb.DecodeBase64(content)
	if bytes.Equal(signature, []byte(arg)) {
		return nil, verb.Failf(verb.ExitUsage, "--signature is neither a file nor base64")
	}
	return signature, nil
}

func publicKeyCommand() *cobra.Command {
	var out verb.OutputFlags
	var der bool
	cmd := &cobra.Command{
		Use:   "public-key KEY",
		Short: "Print the public key of an asymmetric key as PEM",
		Example: `  keyside public-key signer --out signer.pem
  keyside public-key signer --der --out signer.der`,
		Args: cobra.ExactArgs(1),
	}
	out.Add(cmd)
	cmd.Flags().BoolVar(&der, "der", false, "DER instead of PEM")
	return verb.OnKey(cmd, func(ctx context.Context, s *verb.Session, id string, _ []string) error {
		public, err := s.GetPublicKey(ctx, id)
		if err != nil {
			return err
		}
		text := verb.PublicPEM(public.DER)
		view := map[string]string{"key_id": id, "public_key": string(text)}
		if der {
			text = public.DER
		}
		return out.PrintRaw(s, view, text)
	})
}
