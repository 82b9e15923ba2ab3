package crypto

import (
	"context"
	"encoding/pem"
	"os"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

func deriveCommand() *cobra.Command {
	var key, peer string
	var out verb.OutputFlags
	cmd := &cobra.Command{
		Use:   "derive --key KEY --peer FILE",
		Short: "Derive a shared secret with a peer's public key (ECDH)",
		Long: `Derive a shared secret with a peer's public key by ECDH: both sides compute the same secret from their own private key and the
other's public key. It is the X coordinate of the shared point: pass it to a key derivation function, do not use it as a key. KEY
has an EC spec and the usage KEY_AGREEMENT. The secret is printed in base64, or written in binary to --out.`,
		Example: `  keyside derive --key agreement --peer peer.pem --out secret`,
	}
	keyFlag(cmd, &key)
	cmd.Flags().StringVar(&peer, "peer", "", "file with the peer's public key, PEM or DER (required)")
	out.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		public, err := readPublicKey(peer)
		if err != nil {
			return err
		}
		id, err := s.Resolve(ctx, key)
		if err != nil {
			return err
		}
		secret, err := s.DeriveSharedSecret(ctx, id, public)
		if err != nil {
			return err
		}
		return out.PrintBinary(s, map[string]any{"key_id": id, "shared_secret": secret}, secret)
	})
}

// readPublicKey returns a public key from a file in PEM or DER, as DER.
func readPublicKey(path string) ([]byte, error) {
	if path == "" {
		return nil, verb.Failf(verb.ExitUsage, "--peer is missing: give the file with the peer's public key")
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
		return nil, verb.Failf(verb.ExitUsage, "%s holds a %s and not a PUBLIC KEY: openssl pkey -in %s -pubout prints its public key",
			path, block.Type, path)
	}
	return block.Bytes, nil
}
