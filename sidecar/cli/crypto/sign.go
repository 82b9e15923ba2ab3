package crypto

import (
	"bytes"
	"context"
	"crypto"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// signFlags are what sign and verify share.
type signFlags struct {
	key, algorithm string
	digest         bool
	in             verb.InputFlags
}

func (f *signFlags) add(cmd *cobra.Command) {
	keyFlag(cmd, &f.key)
	f.in.Add(cmd, "the message")
	cmd.Flags().StringVar(&f.algorithm, "algorithm", "", `RSASSA_PSS_SHA_n, RSASSA_PKCS1_V1_5_SHA_n or ECDSA_SHA_n with n 256, 384 or 512
(default: RSASSA_PSS or ECDSA with the hash that fits the key)`)
	cmd.Flags().BoolVar(&f.digest, "digest", false, "the input is the message's digest, raw, and not the message")
	verb.CompleteFlag(cmd, "algorithm", algorithms)
}

// defaultAlgorithms go with a key's spec.
var defaultAlgorithms = map[string]string{
	"RSA_2048": "RSASSA_PSS_SHA_256", "RSA_3072": "RSASSA_PSS_SHA_256", "RSA_4096": "RSASSA_PSS_SHA_384",
	"EC_P256": "ECDSA_SHA_256", "EC_P384": "ECDSA_SHA_384", "EC_P521": "ECDSA_SHA_512", "SECP256K1": "ECDSA_SHA_256",
}

// choose returns the key's id and the algorithm, by default one that goes with the key.
func (f *signFlags) choose(ctx context.Context, c *client.Client, s *verb.Session) (id, algorithm string, err error) {
	if f.algorithm != "" {
		id, err = s.Resolve(ctx, c, f.key)
		return id, f.algorithm, err
	}
	key, err := s.Lookup(ctx, c, f.key)
	if err != nil {
		return "", "", err
	}
	if algorithm = defaultAlgorithms[key.Spec]; algorithm == "" {
		return "", "", verb.Failf(verb.ExitUsage, "a key of spec %s does not sign: make one with keyside key create --spec EC_P256", key.Spec)
	}
	return key.ID, algorithm, nil
}

// hashes are named by the end of an algorithm's name.
var hashes = map[string]crypto.Hash{"SHA_256": crypto.SHA256, "SHA_384": crypto.SHA384, "SHA_512": crypto.SHA512}

// request prepares the call. The message is hashed here, so it may have any size and does not travel.
func (f *signFlags) request(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command) (client.SignRequest, error) {
	req := client.SignRequest{Digest: true}
	var err error
	if req.KeyID, req.Algorithm, err = f.choose(ctx, c, s); err != nil {
		return req, err
	}
	if f.digest {
		req.Message, err = f.in.Read(cmd, 64)
		return req, err
	}
	hash, ok := hashes[req.Algorithm[max(0, len(req.Algorithm)-len("SHA_256")):]]
	if !ok {
		return req, verb.Failf(verb.ExitUsage, "--algorithm %q is none of: %s", req.Algorithm, strings.Join(algorithms, ", "))
	}
	message, err := f.in.Open(cmd)
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
		Short: "sign a message of any size; prints the signature in base64, or writes it raw to --out",
		Example: `  keyside sign --key signer --in report --out report.sig
  keyside sign --key rsa --algorithm RSASSA_PKCS1_V1_5_SHA_512 --in report`,
		Args: cobra.NoArgs,
	}
	f.add(cmd)
	out.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		req, err := f.request(ctx, c, s, cmd)
		if err != nil {
			return err
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		signature, err := c.Sign(ctx, req)
		if err != nil {
			return err
		}
		text := base64.StdEncoding.EncodeToString(signature)
		switch {
		case s.JSON:
			return out.JSON(cmd, map[string]string{"key_id": req.KeyID, "algorithm": req.Algorithm, "signature": text})
		case out.File != "-":
			return out.Write(cmd, signature)
		}
		return out.Write(cmd, []byte(text+"\n"))
	})
}

func verifyCommand() *cobra.Command {
	var f signFlags
	var signature string
	cmd := &cobra.Command{
		Use:   "verify --key KEY --signature FILE",
		Short: "check a signature; ends with 6 when it is not valid",
		Example: `  keyside sign --key signer --in report --out report.sign
  keyside verify --key signer --in report --signature report.sign`,
		Args: cobra.NoArgs,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&signature, "signature", "", "the signature: a file, raw or base64, or the base64 itself")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		sig, err := readSignature(signature)
		if err != nil {
			return err
		}
		req, err := f.request(ctx, c, s, cmd)
		if err != nil {
			return err
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		valid, err := c.Verify(ctx, req, sig)
		if err != nil {
			return err
		}
		return verdict(s, cmd, valid, "the signature is not valid for this message and key")
	})
}

// fileOrText returns the content of the file that a flag names, or, where no file has that name, what the flag says itself.
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

// readSignature takes a signature in any of its forms. Signatures are binary, so what decodes as base64 is base64.
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
		Short: "the public half of an asymmetric key, as PEM",
		Example: `  keyside public-key signer --out signer.pem
  keyside public-key signer --der --out signer.der`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	out.Add(cmd)
	cmd.Flags().BoolVar(&der, "der", false, "DER instead of PEM")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		id, err := s.Resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		text, err := verb.Once(ctx, s, func(ctx context.Context) (string, error) { return c.PublicKey(ctx, id) })
		if err != nil {
			return err
		}
		block, _ := pem.Decode([]byte(text))
		if block == nil {
			return errors.New("the sidecar answered what is not PEM")
		}
		switch {
		case s.JSON:
			return out.JSON(cmd, map[string]string{"key_id": id, "public_key": string(verb.PublicPEM(block.Bytes))})
		case der:
			return out.Write(cmd, block.Bytes)
		}
		return out.Write(cmd, verb.PublicPEM(block.Bytes))
	})
}

// algorithms are those of signatures.
var algorithms = []string{
	"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
	"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
	"ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512",
}
