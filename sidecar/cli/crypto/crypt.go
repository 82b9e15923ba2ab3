// Package crypto has the verbs that use keys: encrypt, decrypt, sign, verify, compute MACs, derive secrets.
package crypto

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// Commands returns the verbs that use keys.
func Commands() []*cobra.Command {
	return []*cobra.Command{encryptCommand(), decryptCommand(), reEncryptCommand(), dataKeyCommand(), fileCommand(), randomCommand(),
		signCommand(), verifyCommand(), publicKeyCommand(), macCommand(), deriveCommand()}
}

// Limits of short data, bytes: what encrypt-data takes, and more than its ciphertext in base64 has.
const (
	maxText       = 4096
	maxCiphertext = 8192
)

// boundFlags are what a ciphertext is bound to.
type boundFlags struct {
	bound client.Bound
}

func (b *boundFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringToStringVar(&b.bound.Context, "context", nil, "encryption context, name=value[,name=value]: decryption needs the same")
	aadFlag(cmd, &b.bound.AAD)
}

func aadFlag(cmd *cobra.Command, aad *string) {
	cmd.Flags().StringVar(aad, "aad", "", "additional authenticated data, at most 128 bytes: decryption needs the same")
}

func keyFlag(cmd *cobra.Command, key *string) {
	cmd.Flags().StringVar(key, "key", "", "the key's id or alias")
	verb.CompleteKeyFlag(cmd, "key")
}

// algorithmFlag names the algorithm of an RSA key. Symmetric keys have one alone, which is the default.
func algorithmFlag(cmd *cobra.Command, algorithm *string, name, of string, algorithms ...string) {
	cmd.Flags().StringVar(algorithm, name, "", of+": "+strings.Join(algorithms, " or "))
	verb.CompleteFlag(cmd, name, algorithms)
}

func encryptCommand() *cobra.Command {
	var key, algorithm string
	in := verb.InputFlags{More: "; keyside file encrypt takes files of any size"}
	var out verb.OutputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "encrypt --key KEY",
		Short: "encrypt a text of up to 4096 bytes; prints the ciphertext in base64",
		Example: `  echo 'attack at dawn' | keyside encrypt --key app --context mission=7 --out sealed
  keyside encrypt --key mailbox --algorithm RSAES_OAEP_SHA_256 --text 'attack at dawn'`,
		Args: cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	algorithmFlag(cmd, &algorithm, "algorithm", "of an RSA key", client.RSAOAEPSHA256)
	in.Add(cmd, "the text")
	out.Add(cmd)
	b.add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		id, err := s.Resolve(ctx, c, key)
		if err != nil {
			return err
		}
		text, err := in.Read(cmd, maxText)
		if err != nil {
			return err
		}
		defer clear(text)
		if len(text) == 0 {
			return verb.Failf(verb.ExitUsage, "nothing to encrypt: the input is empty")
		}
		if !utf8.Valid(text) {
			return verb.Failf(verb.ExitUsage, "the input is not UTF-8 text, which is all that encrypt-data takes: use keyside file encrypt")
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		ciphertext, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: id, Plaintext: string(text), Algorithm: algorithm, Bound: b.bound})
		if err != nil {
			return err
		}
		if s.JSON {
			return out.JSON(cmd, map[string]string{"key_id": id, "ciphertext": ciphertext})
		}
		return out.Write(cmd, []byte(ciphertext+"\n"))
	})
}

func decryptCommand() *cobra.Command {
	var req client.DecryptRequest
	var key string
	var in verb.InputFlags
	var out verb.OutputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "decrypt",
		Short: "decrypt what encrypt made; the ciphertext names its key, unless that is an RSA key",
		Example: `  keyside decrypt --in sealed --context mission=7
  keyside decrypt --key mailbox --algorithm RSAES_OAEP_SHA_256 --in letter`,
		Args: cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	cmd.Flags().Lookup("key").Usage = "the RSA key's id or alias; else: refuse a ciphertext of another key"
	algorithmFlag(cmd, &req.Algorithm, "algorithm", "of an RSA key", client.RSAOAEPSHA256)
	in.Add(cmd, "the ciphertext, in base64 or as it is")
	out.Add(cmd)
	b.add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		req.Bound = b.bound
		if key == "" && req.Algorithm != "" && req.Algorithm != client.SymmetricDefault {
			return verb.Failf(verb.ExitUsage, "--key is missing: an RSA ciphertext does not say whose it is")
		}
		if key != "" {
			id, err := s.Resolve(ctx, c, key)
			if err != nil {
				return err
			}
			req.KeyID = id
		}
		ciphertext, err := in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		req.Ciphertext = base64.StdEncoding.EncodeToString(verb.DecodeBase64(ciphertext))
		ctx, cancel := s.Request(ctx)
		defer cancel()
		opened, err := c.Decrypt(ctx, req)
		if err != nil {
			return err
		}
		defer clear(opened.Plaintext)
		if s.JSON {
			return out.JSON(cmd, map[string]string{
				"key_id": opened.KeyID, "plaintext_base64": base64.StdEncoding.EncodeToString(opened.Plaintext),
			})
		}
		return out.Write(cmd, opened.Plaintext)
	})
}

func reEncryptCommand() *cobra.Command {
	var req client.ReEncryptRequest
	var from, to string
	var in verb.InputFlags
	var out verb.OutputFlags
	cmd := &cobra.Command{
		Use:   "reencrypt --to KEY",
		Short: "encrypt under another key what is encrypted, without seeing it; prints it in the same form",
		Long: `Encrypt under another key what is encrypted. The plaintext does not leave the sidecar. What encrypt made comes in base64 and
stays that, an encrypted data key in hex likewise.`,
		Example: `  keyside encrypt --key app --text hello | keyside reencrypt --to other
  keyside reencrypt --from mailbox --algorithm RSAES_OAEP_SHA_256 --to app --in letter`,
		Args: cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the new key's id or alias")
	f.StringVar(&from, "from", "", "the RSA key's id or alias; else: refuse a ciphertext of another key")
	verb.CompleteKeyFlag(cmd, "to")
	verb.CompleteKeyFlag(cmd, "from")
	algorithmFlag(cmd, &req.SourceAlgorithm, "algorithm", "of the ciphertext, if it is an RSA key's", client.RSAOAEPSHA256, client.RSAOAEPSHA1)
	algorithmFlag(cmd, &req.DestinationAlgorithm, "to-algorithm", "of the new key, if it is an RSA key", client.RSAOAEPSHA256)
	f.StringVar(&req.SourceAAD, "aad", "", "additional authenticated data that the ciphertext is bound to")
	f.StringVar(&req.DestinationAAD, "to-aad", "", "additional authenticated data to bind the new one to, at most 128 bytes")
	in.Add(cmd, "the ciphertext")
	out.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) (err error) {
		if to == "" {
			return verb.Failf(verb.ExitUsage, "--to is missing: give the new key's id or alias (keyside key list shows them)")
		}
		if req.DestinationKeyID, err = s.Resolve(ctx, c, to); err != nil {
			return err
		}
		if from != "" {
			if req.SourceKeyID, err = s.Resolve(ctx, c, from); err != nil {
				return err
			}
		}
		ciphertext, err := in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		req.Ciphertext = ciphertextText(ciphertext)
		made, err := verb.Once(ctx, s, func(ctx context.Context) (*client.ReEncrypted, error) { return c.ReEncrypt(ctx, req) })
		if err != nil {
			return err
		}
		if s.JSON {
			return out.JSON(cmd, map[string]string{"key_id": made.KeyID, "source_key_id": made.SourceKeyID, "ciphertext": made.Ciphertext})
		}
		return out.Write(cmd, []byte(made.Ciphertext+"\n"))
	})
}

// ciphertextText returns a ciphertext in hex or base64 as it is, and a raw one in base64.
func ciphertextText(b []byte) string {
	text := string(bytes.TrimSpace(b))
	if _, err := hex.DecodeString(text); err == nil {
		return text
	}
	return base64.StdEncoding.EncodeToString(verb.DecodeBase64(b))
}

func randomCommand() *cobra.Command {
	var out verb.OutputFlags
	var raw bool
	cmd := &cobra.Command{
		Use:     "random BYTES",
		Short:   "random bytes of the HSM, in hex",
		Example: `  keyside random 32`,
		Args:    cobra.ExactArgs(1),
	}
	out.Add(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "the bytes themselves instead of hex")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 || n > 1024 {
			return verb.Failf(verb.ExitUsage, "%q is not a number from 1 to 1024", args[0])
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		random, err := c.Random(ctx, n)
		if err != nil {
			return err
		}
		defer clear(random)
		switch {
		case s.JSON:
			return out.JSON(cmd, map[string]string{"random": hex.EncodeToString(random)})
		case raw:
			return out.Write(cmd, random)
		}
		return out.Write(cmd, []byte(hex.EncodeToString(random)+"\n"))
	})
}
