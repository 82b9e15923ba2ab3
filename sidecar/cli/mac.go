package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	client "github.com/keyside/keyside/sidecar/client/old"
)

// macFlags are what mac and mac verify share.
type macFlags struct {
	key, algorithm string
	in             inputFlags
}

func (f *macFlags) add(cmd *cobra.Command) {
	keyFlag(cmd, &f.key)
	f.in.add(cmd, "the message, at most 4096 bytes")
	cmd.Flags().StringVar(&f.algorithm, "algorithm", "", strings.Join(macAlgorithms, ", ")+" (default: that of the key's spec)")
	completeFlag(cmd, "algorithm", macAlgorithms)
}

func (f *macFlags) request(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command) (client.MACRequest, error) {
	req := client.MACRequest{Algorithm: f.algorithm}
	key, err := s.lookup(ctx, c, f.key)
	if err != nil {
		return req, err
	}
	req.KeyID = key.ID
	if bits, ok := strings.CutPrefix(key.Spec, "HMAC_"); ok && req.Algorithm == "" {
		req.Algorithm = "HMAC_SHA_" + bits
	}
	if req.Algorithm == "" {
		return req, failf(ExitUsage, "a key of spec %s makes no MACs: make one with keyside key create --spec HMAC_256", key.Spec)
	}
	req.Message, err = f.in.read(cmd, maxText)
	return req, err
}

func macCommand() *cobra.Command {
	var f macFlags
	var out outputFlags
	cmd := &cobra.Command{
		Use:     "mac --key KEY",
		Short:   "make the MAC of a message of up to 4096 bytes under an HMAC key; prints it in hex",
		Example: `  keyside mac --key macs --text 'attack at dawn' --out message.mac`,
		Args:    cobra.NoArgs,
	}
	f.add(cmd)
	out.add(cmd)
	cmd.AddCommand(macVerify())
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		req, err := f.request(ctx, c, s, cmd)
		if err != nil {
			return err
		}
		mac, err := once(ctx, s, func(ctx context.Context) ([]byte, error) { return c.GenerateMAC(ctx, req) })
		if err != nil {
			return err
		}
		text := hex.EncodeToString(mac)
		if s.json {
			return out.json(cmd, map[string]string{"key_id": req.KeyID, "algorithm": req.Algorithm, "mac": text})
		}
		return out.write(cmd, []byte(text+"\n"))
	})
}

func macVerify() *cobra.Command {
	var f macFlags
	var mac string
	cmd := &cobra.Command{
		Use:     "verify --key KEY --mac MAC",
		Short:   "check a MAC; ends with 6 when it is not valid",
		Example: `  keyside mac verify --key macs --text 'attack at dawn' --mac message.mac`,
		Args:    cobra.NoArgs,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&mac, "mac", "", "the MAC in hex, or a file that holds it")
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		want, err := readMAC(mac)
		if err != nil {
			return err
		}
		req, err := f.request(ctx, c, s, cmd)
		if err != nil {
			return err
		}
		valid, err := once(ctx, s, func(ctx context.Context) (bool, error) { return c.VerifyMAC(ctx, req, want) })
		if err != nil {
			return err
		}
		return verdict(s, cmd, valid, "the MAC is not valid for this message and key")
	})
}

// readMAC takes a MAC in hex or the name of a file that holds it.
func readMAC(arg string) ([]byte, error) {
	content, err := fileOrText("mac", arg)
	if err != nil {
		return nil, err
	}
	mac, err := hex.DecodeString(string(bytes.TrimSpace(content)))
	if err != nil {
		return nil, failf(ExitUsage, "--mac is neither hexadecimal nor a file that holds it")
	}
	return mac, nil
}

// verdict reports whether something verifies.
func verdict(s *session, cmd *cobra.Command, valid bool, otherwise string) error {
	if s.json {
		if err := printJSON(cmd.OutOrStdout(), map[string]bool{"valid": valid}); err != nil {
			return err
		}
	}
	if !valid {
		return failf(ExitBadData, "%s", otherwise)
	}
	if s.json {
		return nil
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "valid")
	return err
}

func deriveCommand() *cobra.Command {
	var key, peer string
	var out outputFlags
	cmd := &cobra.Command{
		Use:   "derive --key KEY --peer FILE",
		Short: "agree on a secret with the owner of a public key; prints it in base64, or writes it raw to --out",
		Long: `Agree on a secret with the owner of a public key by ECDH: both sides get the same from their own private and the other's
public key. It is the point's X coordinate as it is, so use it with a key derivation function and not as a key. KEY has an
EC spec and the usage KEY_AGREEMENT.`,
		Example: `  keyside derive --key agreement --peer peer.pem --out secret`,
		Args:    cobra.NoArgs,
	}
	keyFlag(cmd, &key)
	cmd.Flags().StringVar(&peer, "peer", "", "file with the other's public key, PEM or DER")
	out.add(cmd)
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		public, err := readPublicKey(peer)
		if err != nil {
			return err
		}
		id, err := s.resolve(ctx, c, key)
		if err != nil {
			return err
		}
		secret, err := once(ctx, s, func(ctx context.Context) ([]byte, error) { return c.DeriveSharedSecret(ctx, id, public) })
		if err != nil {
			return err
		}
		defer clear(secret)
		text := base64.StdEncoding.EncodeToString(secret)
		switch {
		case s.json:
			return out.json(cmd, map[string]string{"key_id": id, "shared_secret": text})
		case out.file != "-":
			return out.write(cmd, secret)
		}
		return out.write(cmd, []byte(text+"\n"))
	})
}

// readPublicKey reads a public key in PEM or DER, as DER.
func readPublicKey(path string) ([]byte, error) {
	if path == "" {
		return nil, failf(ExitUsage, "--peer is missing: give the file with the other's public key")
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	switch {
	case block == nil:
		return content, nil
	case block.Type != "PUBLIC KEY":
		return nil, failf(ExitUsage, "%s holds a %s and not a PUBLIC KEY: openssl pkey -in %s -pubout makes one", path, block.Type, path)
	}
	return block.Bytes, nil
}
