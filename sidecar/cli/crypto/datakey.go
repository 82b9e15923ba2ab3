package crypto

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func dataKeyCommand() *cobra.Command {
	var req client.DataKeyRequest
	var withoutPlaintext bool
	var out verb.OutputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "datakey --key KEY",
		Short: "Create a data key; print it in plaintext and encrypted, in hex",
		Long: `Create a data key; print it in plaintext and encrypted, in hex. Encrypt your data with the plaintext, store the encrypted data key
with the data, and forget the plaintext. keyside file does all of that for files.`,
		Example: `  keyside datakey --key app
  keyside datakey --key app --bytes 64 --without-plaintext --out datakey.sealed`,
	}
	b.add(cmd)
	cmd.Flags().IntVar(&req.Length, "bytes", 32, "length in bytes, 1 to 1024")
	cmd.Flags().BoolVar(&withoutPlaintext, "without-plaintext", false, "print only the encrypted data key")
	out.Add(cmd)
	cmd.AddCommand(dataKeyEncrypt(), dataKeyDecrypt(), dataKeyPair())
	return withKey(cmd, func(ctx context.Context, s *verb.Session, id string, _ []string) error {
		if req.Length < 1 {
			return verb.Failf(verb.ExitUsage, "--bytes %d is not a number from 1 to 1024", req.Length)
		}
		req.KeyID, req.Bound = id, b.bound()
		if withoutPlaintext {
			made, err := s.GenerateDataKeyWithoutPlaintext(ctx, req)
			return printCiphertext(s, &out, made, err)
		}
		made, err := s.GenerateDataKey(ctx, req)
		if err != nil {
			return err
		}
		defer clear(made.Plaintext)
		plaintext, ciphertext := hex.EncodeToString(made.Plaintext), hex.EncodeToString(made.Ciphertext)
		return out.Print(s, map[string]string{"key_id": made.KeyID, "plaintext": plaintext, "ciphertext": ciphertext},
			fmt.Sprintf("plaintext   %s\nciphertext  %s", plaintext, ciphertext))
	})
}

// printCiphertext prints an encrypted data key.
func printCiphertext(s *verb.Session, out *verb.OutputFlags, made *client.Encrypted, err error) error {
	if err != nil {
		return err
	}
	ciphertext := hex.EncodeToString(made.Ciphertext)
	return out.Print(s, map[string]string{"key_id": made.KeyID, "ciphertext": ciphertext}, ciphertext)
}

func dataKeyEncrypt() *cobra.Command {
	var f cryptFlags
	cmd := &cobra.Command{
		Use:     "encrypt --key KEY",
		Short:   "Encrypt a data key of your own, given in hex; print hex",
		Example: `  keyside random 32 | keyside datakey encrypt --key app`,
	}
	f.add(cmd, "the data key in hex")
	return withKey(cmd, func(ctx context.Context, s *verb.Session, id string, _ []string) error {
		text, err := f.in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		defer clear(text)
		plaintext := make([]byte, hex.DecodedLen(len(text)))
		defer clear(plaintext)
		n, err := hex.Decode(plaintext, bytes.TrimSpace(text))
		if err != nil || n == 0 {
			return verb.Failf(verb.ExitUsage, "the data key is not hexadecimal")
		}
		made, err := s.EncryptDataKey(ctx, client.EncryptDataKeyRequest{KeyID: id, Plaintext: plaintext[:n], Bound: f.bound()})
		return printCiphertext(s, &f.out, made, err)
	})
}

func dataKeyDecrypt() *cobra.Command {
	var f cryptFlags
	var length int
	var asPEM bool
	var yes verb.YesFlag
	cmd := &cobra.Command{
		Use:   "decrypt --key KEY",
		Short: "Decrypt a data key; print hex, or a pair's private key as PEM",
		Example: `  keyside datakey decrypt --key app --in datakey.sealed
  keyside datakey decrypt --key app --in web.sealed --pem --out web.again`,
	}
	f.add(cmd, "the encrypted data key, in hex or base64")
	yes.Add(cmd)
	cmd.Flags().IntVar(&length, "bytes", 0, "refuse a data key of another length in bytes (default: any length)")
	cmd.Flags().BoolVar(&asPEM, "pem", false, "print the private key of a pair as PEM, on a terminal only after confirmation")
	return withKey(cmd, func(ctx context.Context, s *verb.Session, id string, _ []string) error {
		text, err := f.in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		if asPEM {
			if err := f.out.AskToShow(cmd, yes); err != nil {
				return err
			}
		}
		opened, err := s.DecryptDataKey(ctx, client.DecryptDataKeyRequest{KeyID: id, Ciphertext: decodeCiphertext(text), Bound: f.bound()})
		if err != nil {
			return err
		}
		defer clear(opened.Plaintext)
		switch n := len(opened.Plaintext); {
		case length != 0 && length != n:
			return verb.Failf(verb.ExitUsage, "the data key has %d bytes and not %d: leave --bytes out, or give its own length", n, length)
		case asPEM:
			private := verb.PrivatePEM(opened.Plaintext)
			return f.out.PrintRaw(s, map[string]string{"private_key": string(private)}, private)
		}
		plaintext := hex.EncodeToString(opened.Plaintext)
		return f.out.Print(s, map[string]string{"plaintext": plaintext}, plaintext)
	})
}
