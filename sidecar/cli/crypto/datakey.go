package crypto

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// ciphertextOverhead is by how many bytes a ciphertext is longer than its plaintext: ARCHITECTURE.md, Formats.
const ciphertextOverhead = 140

func dataKeyCommand() *cobra.Command {
	var req client.DataKeyRequest
	var key string
	var withoutPlaintext bool
	var out verb.OutputFlags
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
	out.Add(cmd)
	cmd.AddCommand(dataKeyEncrypt(), dataKeyDecrypt(), dataKeyPair())
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) (err error) {
		if req.KeyID, err = s.Resolve(ctx, c, key); err != nil {
			return err
		}
		req.Bound = b.bound
		create := c.CreateDataKey
		if withoutPlaintext {
			create = c.CreateDataKeyWithoutPlaintext
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		made, err := create(ctx, req)
		if err != nil {
			return err
		}
		defer clear(made.Plaintext)
		plaintext, ciphertext := hex.EncodeToString(made.Plaintext), hex.EncodeToString(made.Ciphertext)
		if s.JSON {
			return out.JSON(cmd, struct {
				KeyID      string `json:"key_id"`
				Plaintext  string `json:"plaintext,omitempty"`
				Ciphertext string `json:"ciphertext"`
			}{made.KeyID, plaintext, ciphertext})
		}
		if withoutPlaintext {
			return out.Write(cmd, []byte(ciphertext+"\n"))
		}
		return out.Write(cmd, fmt.Appendf(nil, "plaintext   %s\nciphertext  %s\n", plaintext, ciphertext))
	})
}

func dataKeyEncrypt() *cobra.Command {
	var key string
	var in verb.InputFlags
	var out verb.OutputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:     "encrypt --key KEY",
		Short:   "encrypt a data key of your own, given in hex; prints it in hex",
		Example: `  keyside random 32 | keyside datakey encrypt --key app`,
		Args:    cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	in.Add(cmd, "the data key in hex")
	out.Add(cmd)
	b.add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		req := client.EncryptDataKeyRequest{Bound: b.bound}
		var err error
		if req.KeyID, err = s.Resolve(ctx, c, key); err != nil {
			return err
		}
		text, err := in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		defer clear(text)
		req.Plaintext = make([]byte, hex.DecodedLen(len(text)))
		defer clear(req.Plaintext)
		n, err := hex.Decode(req.Plaintext, bytes.TrimSpace(text))
		if err != nil || n == 0 {
			return verb.Failf(verb.ExitUsage, "the data key is not hexadecimal")
		}
		req.Plaintext = req.Plaintext[:n]
		ctx, cancel := s.Request(ctx)
		defer cancel()
		ciphertext, err := c.EncryptDataKey(ctx, req)
		if err != nil {
			return err
		}
		if s.JSON {
			return out.JSON(cmd, map[string]string{"key_id": req.KeyID, "ciphertext": hex.EncodeToString(ciphertext)})
		}
		return out.Write(cmd, []byte(hex.EncodeToString(ciphertext)+"\n"))
	})
}

func dataKeyDecrypt() *cobra.Command {
	var req client.DecryptDataKeyRequest
	var key string
	var asPEM bool
	var yes verb.YesFlag
	var in verb.InputFlags
	var out verb.OutputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "decrypt --key KEY",
		Short: "decrypt a data key; prints it in hex, or a pair's private key as PEM",
		Example: `  keyside datakey decrypt --key app --in datakey.sealed
  keyside datakey decrypt --key app --in web.sealed --pem --out web.again`,
		Args: cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	in.Add(cmd, "the encrypted data key, in hex or base64")
	out.Add(cmd)
	b.add(cmd)
	yes.Add(cmd)
	cmd.Flags().IntVar(&req.Bytes, "bytes", 0, "refuse a data key of another length")
	cmd.Flags().BoolVar(&asPEM, "pem", false, "it is the private key of a pair: PEM, which a terminal shows only after asking")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) (err error) {
		if req.KeyID, err = s.Resolve(ctx, c, key); err != nil {
			return err
		}
		text, err := in.Read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		text = bytes.TrimSpace(text)
		if req.Ciphertext, err = hex.DecodeString(string(text)); err != nil {
			req.Ciphertext = verb.DecodeBase64(text)
		}
		if len(req.Ciphertext) <= ciphertextOverhead {
			return verb.Failf(verb.ExitBadData, "that is too short for an encrypted data key: give the whole of it, in hex or base64")
		}
		if req.Bytes == 0 {
			req.Bytes = len(req.Ciphertext) - ciphertextOverhead
		}
		req.Bound = b.bound
		if asPEM {
			if err := out.AskToShow(cmd, yes); err != nil {
				return err
			}
		}
		opened, err := verb.Once(ctx, s, func(ctx context.Context) ([]byte, error) { return c.DecryptDataKey(ctx, req) })
		if err != nil {
			return err
		}
		defer clear(opened)
		switch {
		case s.JSON && asPEM:
			return out.JSON(cmd, map[string]string{"private_key": string(verb.PrivatePEM(opened))})
		case s.JSON:
			return out.JSON(cmd, map[string]string{"plaintext": hex.EncodeToString(opened)})
		case asPEM:
			return out.Write(cmd, verb.PrivatePEM(opened))
		}
		return out.Write(cmd, []byte(hex.EncodeToString(opened)+"\n"))
	})
}
