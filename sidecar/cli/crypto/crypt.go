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
	"github.com/keyside/keyside/sidecar/client"
)

// Commands returns the verbs that use keys.
func Commands() []*cobra.Command {
	return []*cobra.Command{encryptCommand(), decryptCommand(), reEncryptCommand(), dataKeyCommand(), fileCommand(), randomCommand(),
		signCommand(), verifyCommand(), publicKeyCommand(), macCommand(), deriveCommand()}
}

// maxText is the length limit of encrypt, and maxCiphertext exceeds the length of its ciphertexts in base64; in bytes.
const (
	maxText       = 4096
	maxCiphertext = 8192
)

// boundFlags are what a ciphertext is bound to.
type boundFlags struct {
	context map[string]string
	aad     string
}

func (b *boundFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringToStringVar(&b.context, "context", nil, "encryption context, name=value[,name=value]: decryption needs the same")
	aadFlag(cmd, &b.aad)
}

func (b *boundFlags) bound() client.Bound {
	return client.Bound{Context: b.context, AAD: []byte(b.aad)}
}

// cryptFlags are the flags of verbs that encrypt or decrypt their input.
type cryptFlags struct {
	boundFlags
	in  verb.InputFlags
	out verb.OutputFlags
}

// add adds the flags to cmd. what names the input.
func (f *cryptFlags) add(cmd *cobra.Command, what string) {
	f.boundFlags.add(cmd)
	f.in.Add(cmd, what)
	f.out.Add(cmd)
}

func aadFlag(cmd *cobra.Command, aad *string) {
	cmd.Flags().StringVar(aad, "aad", "", "additional authenticated data, at most 128 bytes: decryption needs the same")
}

func keyFlag(cmd *cobra.Command, key *string) {
	cmd.Flags().StringVar(key, "key", "", "the key's id or alias (default $KEYSIDE_KEY)")
	verb.CompleteKeyFlag(cmd, "key")
}

// withKey makes cmd a verb that uses the key that --key names.
func withKey(cmd *cobra.Command, run func(ctx context.Context, s *verb.Session, id string, args []string) error) *cobra.Command {
	var key string
	keyFlag(cmd, &key)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		id, err := s.Resolve(ctx, key)
		if err != nil {
			return err
		}
		return run(ctx, s, id, args)
	})
}

// algorithmFlag adds a flag for the algorithm of an RSA key. AES keys have one algorithm, which is the default.
func algorithmFlag(cmd *cobra.Command, algorithm *string, name, of string, algorithms ...string) {
	cmd.Flags().StringVar(algorithm, name, "", of+": "+strings.Join(algorithms, " or "))
	verb.CompleteFlag(cmd, name, algorithms)
}

// checkAlgorithms gives the values of flags the spelling of algorithms for encryption.
func checkAlgorithms(flags map[string]*string) (err error) {
	for name, value := range flags {
		if *value, err = verb.Optional("--"+name, *value, []string{client.RSAOAEPSHA256, client.RSAOAEPSHA1, client.SymmetricDefault}); err != nil {
			return err
		}
	}
	return nil
}

func encryptCommand() *cobra.Command {
	var req client.EncryptRequest
	var key string
	f := cryptFlags{in: verb.InputFlags{More: "; keyside file encrypt takes files of any size", Secret: true}}
	cmd := &cobra.Command{
		Use:   "encrypt [KEY]",
		Short: "Encrypt up to 4096 bytes; print base64",
		Example: `  echo 'attack at dawn' | keyside encrypt app --context mission=7 --out sealed
  keyside encrypt --key mailbox --algorithm RSAES_OAEP_SHA_256 --text 'attack at dawn'`,
	}
	algorithmFlag(cmd, &req.Algorithm, "algorithm", "algorithm of an RSA key", client.RSAOAEPSHA256)
	keyFlag(cmd, &key)
	f.add(cmd, "the text")
	cmd.Args, cmd.ValidArgsFunction = cobra.MaximumNArgs(1), verb.CompleteKeys(1)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) (err error) {
		if len(args) > 0 && key != "" {
			return verb.Failf(verb.ExitUsage, "the key is given twice: as %s and with --key", args[0])
		}
		id, err := s.Resolve(ctx, strings.Join(args, "")+key)
		if err != nil {
			return err
		}
		if err := checkAlgorithms(map[string]*string{"algorithm": &req.Algorithm}); err != nil {
			return err
		}
		if req.Plaintext, err = f.in.Read(cmd, maxText); err != nil {
			return err
		}
		defer clear(req.Plaintext)
		if len(req.Plaintext) == 0 {
			return verb.Failf(verb.ExitUsage, "nothing to encrypt: the input is empty")
		}
		if !utf8.Valid(req.Plaintext) {
			return verb.Failf(verb.ExitUsage, "the input is not UTF-8 text: use keyside file encrypt")
		}
		req.KeyID, req.Bound = id, f.bound()
		made, err := s.Encrypt(ctx, req)
		if err != nil {
			return err
		}
		ciphertext := base64.StdEncoding.EncodeToString(made.Ciphertext)
		return f.out.Print(s, map[string]string{"key_id": req.KeyID, "ciphertext": ciphertext}, ciphertext)
	})
}

func decryptCommand() *cobra.Command {
	var req client.DecryptRequest
	var key string
	var f cryptFlags
	cmd := &cobra.Command{
		Use:   "decrypt",
		Short: "Decrypt a ciphertext (RSA: also --key and --algorithm)",
		Example: `  keyside decrypt --in sealed --context mission=7
  keyside decrypt --key mailbox --algorithm RSAES_OAEP_SHA_256 --in letter`,
	}
	keyFlag(cmd, &key)
	cmd.Flags().Lookup("key").Usage = "the RSA key's id or alias; for others: refuse a ciphertext of another key"
	algorithmFlag(cmd, &req.Algorithm, "algorithm", "algorithm of an RSA key", client.RSAOAEPSHA256)
	f.add(cmd, "the ciphertext, in base64 or binary")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) (err error) {
		if err := checkAlgorithms(map[string]*string{"algorithm": &req.Algorithm}); err != nil {
			return err
		}
		if key == "" && req.Algorithm != "" && req.Algorithm != client.SymmetricDefault {
			return verb.Failf(verb.ExitUsage, "--key is missing: an RSA ciphertext does not name its key")
		}
		if key != "" {
			if req.KeyID, err = s.Resolve(ctx, key); err != nil {
				return err
			}
		}
		ciphertext, err := f.in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		req.Ciphertext, req.Bound = verb.DecodeBase64(ciphertext), f.bound()
		opened, err := s.Decrypt(ctx, req)
		if err != nil {
			return err
		}
		return f.out.PrintRaw(s, map[string]any{"key_id": opened.KeyID, "plaintext_base64": opened.Plaintext}, opened.Plaintext)
	})
}

func reEncryptCommand() *cobra.Command {
	var req client.ReEncryptRequest
	var from, to, fromAAD, toAAD string
	var in verb.InputFlags
	var out verb.OutputFlags
	cmd := &cobra.Command{
		Use:   "reencrypt --to KEY",
		Short: "Re-encrypt a ciphertext under another key",
		Long: `Re-encrypt a ciphertext under another key. The plaintext does not leave the sidecar. The result of encrypt is printed in base64,
an encrypted data key in hex.`,
		Example: `  keyside encrypt --key app --text hello | keyside reencrypt --to other
  keyside reencrypt --from mailbox --algorithm RSAES_OAEP_SHA_256 --to app --in letter`,
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "the new key's id or alias (required)")
	f.StringVar(&from, "from", "", "the RSA key's id or alias; for others: refuse a ciphertext of another key")
	verb.CompleteKeyFlag(cmd, "to")
	verb.CompleteKeyFlag(cmd, "from")
	algorithmFlag(cmd, &req.SourceAlgorithm, "algorithm", "algorithm of the ciphertext of an RSA key", client.RSAOAEPSHA256, client.RSAOAEPSHA1)
	algorithmFlag(cmd, &req.DestinationAlgorithm, "to-algorithm", "algorithm of a new RSA key", client.RSAOAEPSHA256)
	f.StringVar(&fromAAD, "aad", "", "additional authenticated data of the ciphertext")
	f.StringVar(&toAAD, "to-aad", "", "additional authenticated data of the new ciphertext, at most 128 bytes")
	in.Add(cmd, "the ciphertext, in base64, hex or binary")
	out.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) (err error) {
		if err := checkAlgorithms(map[string]*string{"algorithm": &req.SourceAlgorithm, "to-algorithm": &req.DestinationAlgorithm}); err != nil {
			return err
		}
		if to == "" {
			return verb.Failf(verb.ExitUsage, "--to is missing: give the new key's id or alias (keyside key list shows them)")
		}
		if req.DestinationKeyID, err = s.Resolve(ctx, to); err != nil {
			return err
		}
		if from != "" {
			if req.SourceKeyID, err = s.Resolve(ctx, from); err != nil {
				return err
			}
		}
		ciphertext, err := in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		req.Ciphertext, req.SourceAAD, req.DestinationAAD = decodeCiphertext(ciphertext), []byte(fromAAD), []byte(toAAD)
		made, err := s.ReEncrypt(ctx, req)
		if err != nil {
			return err
		}
		text := base64.StdEncoding.EncodeToString(made.Ciphertext)
		if made.Purpose == client.PurposeDataKey {
			text = hex.EncodeToString(made.Ciphertext)
		}
		return out.Print(s, map[string]string{"key_id": made.KeyID, "source_key_id": made.SourceKeyID, "ciphertext": text}, text)
	})
}

// decodeCiphertext decodes hex or base64. It returns b itself if it is neither.
func decodeCiphertext(b []byte) []byte {
	text := bytes.TrimSpace(b)
	decoded := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(decoded, text); err == nil {
		return decoded
	}
	return verb.DecodeBase64(b)
}

func randomCommand() *cobra.Command {
	var out verb.OutputFlags
	var raw bool
	cmd := &cobra.Command{
		Use:     "random BYTES",
		Short:   "Print random bytes from the HSM in hex",
		Example: `  keyside random 32`,
		Args:    cobra.ExactArgs(1),
	}
	out.Add(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "print the bytes instead of hex")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 || n > 1024 {
			return verb.Failf(verb.ExitUsage, "%q is not a number from 1 to 1024", args[0])
		}
		random, err := s.GenerateRandom(ctx, n)
		if err != nil {
			return err
		}
		defer clear(random)
		text := hex.EncodeToString(random)
		if raw {
			return out.PrintRaw(s, map[string]string{"random": text}, random)
		}
		return out.Print(s, map[string]string{"random": text}, text)
	})
}
