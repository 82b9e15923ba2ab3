package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// ciphertextOverhead is by how many bytes a ciphertext is longer than its plaintext: ARCHITECTURE.md, Formats.
const ciphertextOverhead = 140

func dataKeyCommand() *cobra.Command {
	var req client.DataKeyRequest
	var key string
	var withoutPlaintext bool
	var out outputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "datakey --key KEY",
		Short: "make a data key; prints it plain and encrypted, in hex",
		Long: `Make a data key: encrypt with it where the data is, keep the encrypted data key beside the data, and forget the plain one.
keyside file does all of that for files.`,
		Example: `  keyside datakey --key app
  keyside datakey --key app --bytes 64 --without-plaintext --out datakey.sealed`,
		Args: cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	b.add(cmd)
	cmd.Flags().IntVar(&req.Bytes, "bytes", 32, "its length, 1 to 1024")
	cmd.Flags().BoolVar(&withoutPlaintext, "without-plaintext", false, "print it encrypted only")
	out.add(cmd)
	cmd.AddCommand(dataKeyEncrypt(), dataKeyDecrypt(), dataKeyPair())
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) (err error) {
		if req.KeyID, err = s.resolve(ctx, c, key); err != nil {
			return err
		}
		req.Bound = b.bound
		create := c.CreateDataKey
		if withoutPlaintext {
			create = c.CreateDataKeyWithoutPlaintext
		}
		ctx, cancel := s.request(ctx)
		defer cancel()
		made, err := create(ctx, req)
		if err != nil {
			return err
		}
		defer clear(made.Plaintext)
		plaintext, ciphertext := hex.EncodeToString(made.Plaintext), hex.EncodeToString(made.Ciphertext)
		if s.json {
			return out.json(cmd, struct {
				KeyID      string `json:"key_id"`
				Plaintext  string `json:"plaintext,omitempty"`
				Ciphertext string `json:"ciphertext"`
			}{made.KeyID, plaintext, ciphertext})
		}
		if withoutPlaintext {
			return out.write(cmd, []byte(ciphertext+"\n"))
		}
		return out.write(cmd, fmt.Appendf(nil, "plaintext   %s\nciphertext  %s\n", plaintext, ciphertext))
	})
}

func dataKeyEncrypt() *cobra.Command {
	var key string
	var in inputFlags
	var out outputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:     "encrypt --key KEY",
		Short:   "encrypt a data key of your own, given in hex; prints it in hex",
		Example: `  keyside random 32 | keyside datakey encrypt --key app`,
		Args:    cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	in.add(cmd, "the data key in hex")
	out.add(cmd)
	b.add(cmd)
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		req := client.EncryptDataKeyRequest{Bound: b.bound}
		var err error
		if req.KeyID, err = s.resolve(ctx, c, key); err != nil {
			return err
		}
		text, err := in.read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		defer clear(text)
		req.Plaintext = make([]byte, hex.DecodedLen(len(text)))
		defer clear(req.Plaintext)
		n, err := hex.Decode(req.Plaintext, bytes.TrimSpace(text))
		if err != nil || n == 0 {
			return failf(ExitUsage, "the data key is not hexadecimal")
		}
		req.Plaintext = req.Plaintext[:n]
		ctx, cancel := s.request(ctx)
		defer cancel()
		ciphertext, err := c.EncryptDataKey(ctx, req)
		if err != nil {
			return err
		}
		if s.json {
			return out.json(cmd, map[string]string{"key_id": req.KeyID, "ciphertext": hex.EncodeToString(ciphertext)})
		}
		return out.write(cmd, []byte(hex.EncodeToString(ciphertext)+"\n"))
	})
}

func dataKeyDecrypt() *cobra.Command {
	var req client.DecryptDataKeyRequest
	var key string
	var asPEM bool
	var yes yesFlag
	var in inputFlags
	var out outputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "decrypt --key KEY",
		Short: "decrypt a data key; prints it in hex, or a pair's private key as PEM",
		Example: `  keyside datakey decrypt --key app --in datakey.sealed
  keyside datakey decrypt --key app --in web.sealed --pem --out web.again`,
		Args: cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	in.add(cmd, "the encrypted data key, in hex or base64")
	out.add(cmd)
	b.add(cmd)
	yes.add(cmd)
	cmd.Flags().IntVar(&req.Bytes, "bytes", 0, "refuse a data key of another length")
	cmd.Flags().BoolVar(&asPEM, "pem", false, "it is the private key of a pair: PEM, which a terminal shows only after asking")
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) (err error) {
		if req.KeyID, err = s.resolve(ctx, c, key); err != nil {
			return err
		}
		text, err := in.read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		text = bytes.TrimSpace(text)
		if req.Ciphertext, err = hex.DecodeString(string(text)); err != nil {
			req.Ciphertext = decodeBase64(text)
		}
		if len(req.Ciphertext) <= ciphertextOverhead {
			return failf(ExitBadData, "that is too short for an encrypted data key: give the whole of it, in hex or base64")
		}
		if req.Bytes == 0 {
			req.Bytes = len(req.Ciphertext) - ciphertextOverhead
		}
		req.Bound = b.bound
		if asPEM {
			if err := out.askToShow(cmd, yes); err != nil {
				return err
			}
		}
		opened, err := once(ctx, s, func(ctx context.Context) ([]byte, error) { return c.DecryptDataKey(ctx, req) })
		if err != nil {
			return err
		}
		defer clear(opened)
		switch {
		case s.json && asPEM:
			return out.json(cmd, map[string]string{"private_key": string(privatePEM(opened))})
		case s.json:
			return out.json(cmd, map[string]string{"plaintext": hex.EncodeToString(opened)})
		case asPEM:
			return out.write(cmd, privatePEM(opened))
		}
		return out.write(cmd, []byte(hex.EncodeToString(opened)+"\n"))
	})
}

func publicPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func privatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
