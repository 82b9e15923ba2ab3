package crypto

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

func deriveCommand() *cobra.Command {
	var key, peer string
	var out verb.OutputFlags
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
	out.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		public, err := readPublicKey(peer)
		if err != nil {
			return err
		}
		id, err := s.Resolve(ctx, c, key)
		if err != nil {
			return err
		}
		secret, err := verb.Once(ctx, s, func(ctx context.Context) ([]byte, error) { return c.DeriveSharedSecret(ctx, id, public) })
		if err != nil {
			return err
		}
		defer clear(secret)
		text := base64.StdEncoding.EncodeToString(secret)
		switch {
		case s.JSON:
			return out.JSON(cmd, map[string]string{"key_id": id, "shared_secret": text})
		case out.File != "-":
			return out.Write(cmd, secret)
		}
		return out.Write(cmd, []byte(text+"\n"))
	})
}

// readPublicKey reads a public key in PEM or DER, as DER.
func readPublicKey(path string) ([]byte, error) {
	if path == "" {
		return nil, verb.Failf(verb.ExitUsage, "--peer is missing: give the file with the other's public key")
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
		return nil, verb.Failf(verb.ExitUsage, "%s holds a %s and not a PUBLIC KEY: openssl pkey -in %s -pubout makes one", path, block.Type, path)
	}
	return block.Bytes, nil
}
