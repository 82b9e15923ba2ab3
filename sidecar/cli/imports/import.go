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
	client "github.com/keyside/keyside/sidecar/client/old"
)

// Commands returns the verbs about key material of your own.
func Commands() []*cobra.Command { return []*cobra.Command{importCommand()} }

// importFlags are what every way of importing shares.
type importFlags struct {
	expires, checkValue string
	repeat              bool
	profile             verb.ProfileFlag
}

func (i *importFlags) add(cmd *cobra.Command) {
	i.profile.Add(cmd)
	f := cmd.Flags()
	f.StringVar(&i.expires, "expires", "never", "when the material is destroyed: never, a time (2030-12-31T00:00:00Z), or how long from now (24h, 90d)")
	f.StringVar(&i.checkValue, "check-value", "", "refuse other material than that whose check value this is (key describe shows it; for a private key, the SHA-256 of the public key's DER)")
	f.BoolVar(&i.repeat, "repeat", false, "the key may have this material already; then nothing but the expiry changes (default as in the profile)")
}

// request returns what the flags say of an import.
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
		return req, p, verb.Failf(verb.ExitUsage, "--check-value %q is not a check value, which has 16, 64 or 88 hex digits", i.checkValue)
	}
	return req, p, nil
}

func importCommand() *cobra.Command {
	var flags importFlags
	var material, token, private string
	cmd := &cobra.Command{
		Use:   "import KEY --material FILE --token FILE",
		Short: "give an external key its material, wrapped under import parameters",
		Long: `Give an external key its material, wrapped as import parameters prints it. Files are binary or base64. The key is bound to its
first material for ever: after that is deleted or has expired only the same can be imported, and opens what it encrypted.
import material does all steps at once. A key that is called like one of the verbs is named by its id.`,
		Example: `  keyside import own --material own/EncryptedKeyMaterial.bin --token own/ImportToken.b64 --expires 90d
  keyside import own-signer --material signer/EncryptedKeyMaterial.bin --private-key signer/out_ec_private_key.der --token signer/ImportToken.b64`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&material, "material", "", "file with the wrapped material: EncryptedKeyMaterial.bin")
	f.StringVar(&token, "token", "", "file with the import token")
	f.StringVar(&private, "private-key", "", "file with the wrapped private key, where that is a file of its own")
	cmd.AddCommand(importParameters(), importWrap(), importMaterial(), importDelete())
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
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
		if req.KeyID, err = s.Resolve(ctx, c, args[0]); err != nil {
			return err
		}
		return importInto(s, ctx, cmd, c, req)
	})
}

// importInto imports wrapped material and shows what became of the key.
func importInto(s *verb.Session, ctx context.Context, cmd *cobra.Command, c *client.Client, req client.ImportRequest) error {
	_, err := verb.Once(ctx, s, func(ctx context.Context) (struct{}, error) { return struct{}{}, c.ImportKeyMaterial(ctx, req) })
	if err != nil {
		return err
	}
	imported, err := verb.Once(ctx, s, func(ctx context.Context) (*client.Key, error) { return c.DescribeKey(ctx, req.KeyID) })
	if errors.Is(err, client.ErrDenied) { // who may import need not be allowed to look
		imported, err = &client.Key{ID: req.KeyID, State: client.Enabled}, nil
	}
	if err != nil {
		return fmt.Errorf("the material is imported, but the key cannot be shown: %w", err)
	}
	v := key.ViewOf(imported)
	if s.JSON {
		return verb.PrintJSON(cmd.OutOrStdout(), v)
	}
	return verb.Table(cmd.OutOrStdout(), append([][]string{{"key id", v.ID}, {"state", v.State}}, v.ImportRows()...))
}

func importDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete KEY...",
		Short: "destroy the imported material of symmetric keys; only the same can come back",
		Long: `Destroy the imported material of external symmetric keys. They wait for their import then, and what they encrypted cannot be
read until the same material is imported again, so keep a copy elsewhere. That of private keys goes with the key: key delete.
At a terminal it asks first; a script says --yes.`,
		Example: `  keyside import delete own-spare --yes`,
	}
	return verb.Many(cmd, verb.Bulk{
		Ask: func(keys []verb.Named) verb.Confirmation {
			return verb.Confirmation{Word: "DELETE", Always: true, Text: fmt.Sprintf(`The imported material of these keys will be destroyed now:
%sNothing that they encrypted can be read until the same material is imported again. Keyside keeps no copy: make sure that you have one.`, verb.Listed(keys))}
		},
		Do: func(ctx context.Context, c *client.Client, id string) (client.KeyState, error) {
			return client.PendingImport, c.DeleteImportedKeyMaterial(ctx, id)
		},
	})
}
