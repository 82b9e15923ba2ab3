package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

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
	cmd.Flags().StringVar(&b.bound.AAD, "aad", "", "additional authenticated data, at most 128 bytes: decryption needs the same")
}

func keyFlag(cmd *cobra.Command, key *string) {
	cmd.Flags().StringVar(key, "key", "", "the key's id or alias")
}

func encryptCommand() *cobra.Command {
	var key string
	var in inputFlags
	var out outputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "encrypt --key KEY",
		Short: "encrypt a text of up to 4096 bytes; prints the ciphertext in base64",
		Args:  cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	in.add(cmd, "the text")
	out.add(cmd)
	b.add(cmd)
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		id, err := s.resolve(ctx, c, key)
		if err != nil {
			return err
		}
		text, err := in.read(cmd, maxText)
		if err != nil {
			return err
		}
		defer clear(text)
		if len(text) == 0 {
			return failf(ExitUsage, "nothing to encrypt: the input is empty")
		}
		if !utf8.Valid(text) {
			return failf(ExitUsage, "the input is not UTF-8 text, which is all that encrypt-data takes: use keyside file encrypt")
		}
		ctx, cancel := s.request(ctx)
		defer cancel()
		ciphertext, err := c.Encrypt(ctx, client.EncryptRequest{KeyID: id, Plaintext: string(text), Bound: b.bound})
		if err != nil {
			return err
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), map[string]string{"key_id": id, "ciphertext": ciphertext})
		}
		return out.write(cmd, []byte(ciphertext+"\n"))
	})
}

func decryptCommand() *cobra.Command {
	var key string
	var in inputFlags
	var out outputFlags
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "decrypt",
		Short: "decrypt what encrypt made; the ciphertext names its key",
		Args:  cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	cmd.Flags().Lookup("key").Usage = "refuse a ciphertext of another key than this id or alias"
	in.add(cmd, "the ciphertext")
	out.add(cmd)
	b.add(cmd)
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		req := client.DecryptRequest{Bound: b.bound}
		if key != "" {
			id, err := s.resolve(ctx, c, key)
			if err != nil {
				return err
			}
			req.KeyID = id
		}
		ciphertext, err := in.read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		req.Ciphertext = string(bytes.TrimSpace(ciphertext))
		ctx, cancel := s.request(ctx)
		defer cancel()
		opened, err := c.Decrypt(ctx, req)
		if err != nil {
			return err
		}
		defer clear(opened.Plaintext)
		if s.json {
			return printJSON(cmd.OutOrStdout(), map[string]string{
				"key_id": opened.KeyID, "plaintext_base64": base64.StdEncoding.EncodeToString(opened.Plaintext),
			})
		}
		return out.write(cmd, opened.Plaintext)
	})
}

func dataKeyCommand() *cobra.Command {
	var req client.DataKeyRequest
	var key string
	var withoutPlaintext bool
	var b boundFlags
	cmd := &cobra.Command{
		Use:   "datakey --key KEY",
		Short: "make a data key; prints it plain and encrypted, in hex",
		Args:  cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	b.add(cmd)
	cmd.Flags().IntVar(&req.Bytes, "bytes", 32, "its length, 1 to 1024")
	cmd.Flags().BoolVar(&withoutPlaintext, "without-plaintext", false, "print it encrypted only")
	cmd.AddCommand(dataKeyDecrypt())
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
			return printJSON(cmd.OutOrStdout(), struct {
				KeyID      string `json:"key_id"`
				Plaintext  string `json:"plaintext,omitempty"`
				Ciphertext string `json:"ciphertext"`
			}{made.KeyID, plaintext, ciphertext})
		}
		if withoutPlaintext {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), ciphertext)
			return err
		}
		return table(cmd.OutOrStdout(), [][]string{{"plaintext", plaintext}, {"ciphertext", ciphertext}})
	})
}

func dataKeyDecrypt() *cobra.Command {
	var req client.DecryptDataKeyRequest
	var key string
	var in inputFlags
	var out outputFlags
	var b boundFlags
	cmd := &cobra.Command{Use: "decrypt --key KEY", Short: "decrypt a data key given in hex; prints it in hex", Args: cobra.NoArgs}
	keyFlag(cmd, &key)
	in.add(cmd, "the encrypted data key in hex")
	out.add(cmd)
	b.add(cmd)
	cmd.Flags().IntVar(&req.Bytes, "bytes", 32, "the plain key's length")
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) (err error) {
		if req.KeyID, err = s.resolve(ctx, c, key); err != nil {
			return err
		}
		text, err := in.read(cmd, maxCiphertext)
		if err != nil {
			return err
		}
		if req.Ciphertext, err = hex.DecodeString(string(bytes.TrimSpace(text))); err != nil {
			return failf(ExitUsage, "the encrypted data key is not hexadecimal")
		}
		req.Bound = b.bound
		ctx, cancel := s.request(ctx)
		defer cancel()
		opened, err := c.DecryptDataKey(ctx, req)
		if err != nil {
			return err
		}
		defer clear(opened)
		if s.json {
			return printJSON(cmd.OutOrStdout(), map[string]string{"plaintext": hex.EncodeToString(opened)})
		}
		return out.write(cmd, []byte(hex.EncodeToString(opened)+"\n"))
	})
}

func randomCommand() *cobra.Command {
	var out outputFlags
	var raw bool
	cmd := &cobra.Command{Use: "random BYTES", Short: "random bytes of the HSM, in hex", Args: cobra.ExactArgs(1)}
	out.add(cmd)
	cmd.Flags().BoolVar(&raw, "raw", false, "the bytes themselves instead of hex")
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, args []string) error {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 || n > 1024 {
			return failf(ExitUsage, "%q is not a number from 1 to 1024", args[0])
		}
		ctx, cancel := s.request(ctx)
		defer cancel()
		random, err := c.Random(ctx, n)
		if err != nil {
			return err
		}
		defer clear(random)
		switch {
		case s.json:
			return printJSON(cmd.OutOrStdout(), map[string]string{"random": hex.EncodeToString(random)})
		case raw:
			return out.write(cmd, random)
		}
		return out.write(cmd, []byte(hex.EncodeToString(random)+"\n"))
	})
}
