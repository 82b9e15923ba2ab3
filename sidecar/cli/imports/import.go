// Package imports has the verbs that import key material into external keys.
package imports

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/key"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// Commands returns the verbs about key material of your own.
func Commands() []*cobra.Command { return []*cobra.Command{importCommand()} }

// importFlags are the flags of all imports.
type importFlags struct {
	expires, checkValue string
	repeat              bool
	profile             verb.ProfileFlag
}

func (i *importFlags) add(cmd *cobra.Command) {
	i.profile.Add(cmd)
	f := cmd.Flags()
	f.StringVar(&i.expires, "expires", "never", "when the material is destroyed: never, a time (2030-12-31T00:00:00Z) or a duration (24h, 90d)")
	f.StringVar(&i.checkValue, "check-value", "", "accept only material with this check value (shown by key describe; for a private key: SHA-256 of the public key's DER)")
	f.BoolVar(&i.repeat, "repeat", false, "accept a key that has this material already; only the expiry changes (default: as in the profile)")
}

// request returns the request and the profile that the flags describe.
func (i *importFlags) request(cmd *cobra.Command) (client.ImportRequest, verb.Profile, error) {
	req := client.ImportRequest{Repeat: i.repeat}
	p, err := i.profile.Get()
	if err != nil {
		return req, p, err
	}
	if !cmd.Flags().Changed("repeat") {
		req.Repeat = p.Repeat
	}
	if req.Expires, err = verb.ParseExpiry(i.expires, time.Now()); err != nil {
		return req, p, err
	}
	if req.CheckValue, err = hex.DecodeString(i.checkValue); err != nil || !slices.Contains([]int{0, 16, 64, 88}, len(i.checkValue)) {
		return req, p, verb.Failf(verb.ExitUsage, "--check-value %q is not a check value of 16, 64 or 88 hex digits", i.checkValue)
	}
	return req, p, nil
}

func importCommand() *cobra.Command {
	var flags importFlags
	var material, token, private string
	cmd := &cobra.Command{
		Use:   "import KEY --material FILE --token FILE",
		Short: "Import key material into an external key",
		Long: `Import key material into an external key, wrapped as import parameters prints it. Files are binary or base64. A key is bound to its
first material for ever: after that is deleted or expires, only the same material can be imported, and decrypts the key's data
again. import material does all steps at once. If a key's alias is the name of a subcommand, give its id.`,
		Example: `  keyside import own --material own/EncryptedKeyMaterial.bin --token own/ImportToken.b64 --expires 90d
  keyside import own-signer --material signer/EncryptedKeyMaterial.bin --private-key signer/out_ec_private_key.der --token signer/ImportToken.b64`,
		Args: cobra.ExactArgs(1),
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&material, "material", "", "file with the wrapped material: EncryptedKeyMaterial.bin (required)")
	f.StringVar(&token, "token", "", "file with the import token (required)")
	f.StringVar(&private, "private-key", "", "file with the wrapped private key, if it is a separate file")
	cmd.AddCommand(importParameters(), importWrap(), importMaterial(), importDelete())
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		req, _, err := flags.request(cmd)
		if err != nil {
			return err
		}
		if req.Material, err = readWrapped(material, "material"); err != nil {
			return err
		}
		if req.Token, err = readWrapped(token, "token"); err != nil {
			return err
		}
		if private != "" {
			if req.PrivateKey, err = readWrapped(private, "private-key"); err != nil {
				return err
			}
		}
		if req.KeyID, err = s.Resolve(ctx, args[0]); err != nil {
			return err
		}
		return importInto(ctx, s, req)
	})
}

// importInto imports wrapped material and shows the key.
func importInto(ctx context.Context, s *verb.Session, req client.ImportRequest) error {
	status, err := s.ImportKeyMaterial(ctx, req)
	if err != nil {
		return err
	}
	imported, err := s.DescribeKey(ctx, req.KeyID)
	if errors.Is(err, client.ErrDenied) { // a caller that may import need not be allowed to describe the key
		imported, err = &client.Key{ID: status.ID, State: status.State}, nil
	}
	if err != nil {
		return fmt.Errorf("the material is imported, but the key cannot be shown: %w", err)
	}
	v := key.ViewOf(imported)
	return s.Show(v, append([][]string{{"key id", v.ID}, {"state", string(v.State)}}, v.ImportRows()...))
}

func importDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete KEY...",
		Short: "Destroy the imported material of symmetric keys",
		Long: `Destroy the imported material of external symmetric keys. They are pending import then, and their data cannot be read until the
same material is imported again, so keep a copy. The material of private keys is destroyed with the key: key delete. The command
asks for confirmation; scripts pass --yes.`,
		Example: `  keyside import delete own-spare --yes`,
	}
	return verb.Many(cmd, verb.Bulk{
		Ask: func(keys []*client.Key) verb.Confirmation {
			return verb.Confirmation{Word: "DELETE", Text: fmt.Sprintf(`The imported material of these keys will be destroyed now:
%sTheir data cannot be read until the same material is imported again. Keyside keeps no copy: make sure that you have one.`, verb.Listed(keys))}
		},
		Do: (*client.Client).DeleteKeyMaterial,
	})
}
