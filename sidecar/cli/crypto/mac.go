package crypto

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// macFlags are what mac and mac verify share.
type macFlags struct {
	key, algorithm string
	in             verb.InputFlags
}

func (f *macFlags) add(cmd *cobra.Command) {
	keyFlag(cmd, &f.key)
	f.in.Add(cmd, "the message, at most 4096 bytes")
	cmd.Flags().StringVar(&f.algorithm, "algorithm", "", strings.Join(macAlgorithms, ", ")+" (default: that of the key's spec)")
	verb.CompleteFlag(cmd, "algorithm", macAlgorithms)
}

func (f *macFlags) request(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command) (client.MACRequest, error) {
	req := client.MACRequest{Algorithm: f.algorithm}
	key, err := s.Lookup(ctx, c, f.key)
	if err != nil {
		return req, err
	}
	req.KeyID = key.ID
	if bits, ok := strings.CutPrefix(key.Spec, "HMAC_"); ok && req.Algorithm == "" {
		req.Algorithm = "HMAC_SHA_" + bits
	}
	if req.Algorithm == "" {
		return req, verb.Failf(verb.ExitUsage, "a key of spec %s makes no MACs: make one with keyside key create --spec HMAC_256", key.Spec)
	}
	req.Message, err = f.in.Read(cmd, maxText)
	return req, err
}

func macCommand() *cobra.Command {
	var f macFlags
	var out verb.OutputFlags
	cmd := &cobra.Command{
		Use:     "mac --key KEY",
		Short:   "make the MAC of a message of up to 4096 bytes under an HMAC key; prints it in hex",
		Example: `  keyside mac --key macs --text 'attack at dawn' --out message.mac`,
		Args:    cobra.NoArgs,
	}
	f.add(cmd)
	out.Add(cmd)
	cmd.AddCommand(macVerify())
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		req, err := f.request(ctx, c, s, cmd)
		if err != nil {
			return err
		}
		mac, err := verb.Once(ctx, s, func(ctx context.Context) ([]byte, error) { return c.GenerateMAC(ctx, req) })
		if err != nil {
			return err
		}
		text := hex.EncodeToString(mac)
		if s.JSON {
			return out.JSON(cmd, map[string]string{"key_id": req.KeyID, "algorithm": req.Algorithm, "mac": text})
		}
		return out.Write(cmd, []byte(text+"\n"))
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
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		want, err := readMAC(mac)
		if err != nil {
			return err
		}
		req, err := f.request(ctx, c, s, cmd)
		if err != nil {
			return err
		}
		valid, err := verb.Once(ctx, s, func(ctx context.Context) (bool, error) { return c.VerifyMAC(ctx, req, want) })
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
		return nil, verb.Failf(verb.ExitUsage, "--mac is neither hexadecimal nor a file that holds it")
	}
	return mac, nil
}

// verdict reports whether something verifies.
func verdict(s *verb.Session, cmd *cobra.Command, valid bool, otherwise string) error {
	if s.JSON {
		if err := verb.PrintJSON(cmd.OutOrStdout(), map[string]bool{"valid": valid}); err != nil {
			return err
		}
	}
	if !valid {
		return verb.Failf(verb.ExitBadData, "%s", otherwise)
	}
	if s.JSON {
		return nil
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "valid")
	return err
}

// macAlgorithms are those of MACs.
var macAlgorithms = []string{"HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"}
