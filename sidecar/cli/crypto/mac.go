package crypto

import (
	"bytes"
	"context"
	"encoding/hex"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// macFlags are the flags of mac and mac verify.
type macFlags struct {
	key, algorithm string
	in             verb.InputFlags
}

func (f *macFlags) add(cmd *cobra.Command) {
	keyFlag(cmd, &f.key)
	f.in.Add(cmd, "the message, at most 4096 bytes")
	cmd.Flags().StringVar(&f.algorithm, "algorithm", "", strings.Join(kms.MACNames(), ", ")+" (default: that of the key's spec)")
	verb.CompleteFlag(cmd, "algorithm", kms.MACNames())
}

func (f *macFlags) request(ctx context.Context, s *verb.Session) (client.MACRequest, error) {
	var req client.MACRequest
	var err error
	if f.algorithm, err = verb.Optional("--algorithm", f.algorithm, kms.MACNames()); err != nil {
		return req, err
	}
	if req.KeyID, req.Algorithm, err = f.choose(ctx, s); err != nil {
		return req, err
	}
	req.Message, err = f.in.Read(s.Cmd, maxText)
	return req, err
}

// choose returns the key's id and the algorithm, by default that of the key's spec.
func (f *macFlags) choose(ctx context.Context, s *verb.Session) (id, algorithm string, err error) {
	if f.algorithm != "" {
		id, err = s.Resolve(ctx, f.key)
		return id, f.algorithm, err
	}
	key, err := s.Lookup(ctx, f.key)
	if err != nil {
		return "", "", err
	}
	bits, ok := strings.CutPrefix(key.Spec, "HMAC_")
	if !ok {
		return "", "", verb.Failf(verb.ExitUsage, "a key of spec %s computes no MACs: create one with keyside key create --spec HMAC_256", key.Spec)
	}
	return key.ID, "HMAC_SHA_" + bits, nil
}

func macCommand() *cobra.Command {
	var f macFlags
	var out verb.OutputFlags
	cmd := &cobra.Command{
		Use:     "mac --key KEY",
		Short:   "Compute the HMAC of up to 4096 bytes; print hex",
		Example: `  keyside mac --key macs --text 'attack at dawn' --out message.mac`,
	}
	f.add(cmd)
	out.Add(cmd)
	cmd.AddCommand(macVerify())
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		req, err := f.request(ctx, s)
		if err != nil {
			return err
		}
		mac, err := s.GenerateMAC(ctx, req)
		if err != nil {
			return err
		}
		text := hex.EncodeToString(mac)
		return out.Print(s, map[string]string{"key_id": req.KeyID, "algorithm": req.Algorithm, "mac": text}, text)
	})
}

func macVerify() *cobra.Command {
	var f macFlags
	var mac string
	cmd := &cobra.Command{
		Use:     "verify --key KEY --mac MAC",
		Short:   "Verify a MAC; exit code 6 if invalid",
		Example: `  keyside mac verify --key macs --text 'attack at dawn' --mac message.mac`,
	}
	f.add(cmd)
	cmd.Flags().StringVar(&mac, "mac", "", "the MAC in hex, or a file with it (required)")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		want, err := readMAC(mac)
		if err != nil {
			return err
		}
		req, err := f.request(ctx, s)
		if err != nil {
			return err
		}
		valid, err := s.VerifyMAC(ctx, req, want)
		return printValid(s, "MAC", valid, err)
	})
}

// readMAC returns a MAC given in hex, or in a file that holds hex.
func readMAC(arg string) ([]byte, error) {
	content, err := fileOrText("mac", arg)
	if err != nil {
		return nil, err
	}
	mac, err := hex.DecodeString(string(bytes.TrimSpace(content)))
	if err != nil {
		return nil, verb.Failf(verb.ExitUsage, "--mac is neither hexadecimal nor a file with hexadecimal text")
	}
	return mac, nil
}

// printValid prints whether a signature or MAC is valid. It returns an error if it is not.
func printValid(s *verb.Session, what string, valid bool, err error) error {
	if err == nil && (valid || s.JSON) {
		err = s.Print(map[string]bool{"valid": valid}, "valid")
	}
	if err == nil && !valid {
		err = verb.Failf(verb.ExitBadData, "the %s is not valid for this message and key", what)
	}
	return err
}
