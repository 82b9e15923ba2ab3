// Package key has the verbs that create, list, change, rotate and delete keys, and those about their tags and quotas.
package key

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// Commands returns the verbs about keys.
func Commands() []*cobra.Command {
	return []*cobra.Command{keyCommand(), tagsCommand(), quotaCommand()}
}

func keyCommand() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use:   "key",
		Short: "Create, list, change, rotate and delete keys",
		Long: `Create, list, change, rotate and delete keys. KEY is a key's id, its alias, or one of its further aliases (key alias), with
or without the prefix alias/. No two keys have the same name.`,
	}, create(), list(), describe(), rename(), setDescription(), enable(), disable(), deleteKeys(), cancelDeletion(), confirmDeletions(),
		protect(), unprotect(),
		rotation(), tag(), alias())
}

// The values of --spec and --usage. Keys of importedSpecs need --origin external.
var (
	keySpecs      = kms.SpecNames(kms.AES, kms.RSA, kms.EC, kms.HMAC)
	importedSpecs = []string{string(kms.AES128), string(kms.AES192)}
	keyUsages     = kms.UsageNames()
)

func create() *cobra.Command {
	var req client.CreateKeyRequest
	var words []string
	cmd := &cobra.Command{
		Use:   "create ALIAS",
		Short: "Create a key in the HSM and print its id",
		Long: `Create a key in the HSM and print its id. Spec and usage never change. A key of external origin cannot be used until its
material is imported (keyside import).`,
		Example: `  keyside key create orders --description 'orders of the shop' --tag team=shop --tag stage=test
  keyside key create releases --spec EC_P256
  keyside key create letters --spec RSA_3072 --usage ENCRYPT_DECRYPT
  keyside key create mine --origin external`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&req.Spec, "spec", string(kms.AES256), strings.Join(keySpecs, ", ")+"; "+strings.Join(importedSpecs, " and ")+" need --origin external")
	f.StringVar(&req.Usage, "usage", "", strings.Join(keyUsages, ", ")+" (default: AES encrypts, RSA and EC sign, HMAC computes MACs)")
	f.StringVar(&req.Description, "description", "", "text for people, at most 255 characters")
	f.StringVar(&req.Origin, "origin", client.OriginKMS, "kms: the HSM generates the material; external: you import it")
	f.StringArrayVar(&words, "tag", nil, "tag NAME=VALUE; may be repeated")
	verb.CompleteFlag(cmd, "spec", keySpecs)
	verb.CompleteFlag(cmd, "usage", keyUsages)
	verb.CompleteFlag(cmd, "origin", []string{client.OriginKMS, client.OriginExternal})
	return verb.GeneratesKeys(verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		var err error
		if req.Tags, err = parseTags(words); err != nil {
			return err
		}
		if err := checkWords(&req); err != nil {
			return err
		}
		if req.Origin == client.OriginKMS && slices.Contains(importedSpecs, req.Spec) {
			return verb.Failf(verb.ExitUsage, "keys of spec %s are only imported: give --origin external", req.Spec)
		}
		req.Alias = args[0]
		key, err := s.CreateKey(ctx, req)
		if err != nil {
			return err
		}
		if req.Origin == client.OriginExternal && !s.JSON {
			s.Note("the key waits for its material: keyside import material %[1]s --generate --keep FILE generates and imports it, keyside import parameters %[1]s --out DIR begins an import of your own", key.ID)
		}
		return s.Print(map[string]string{"key_id": key.ID}, key.ID)
	}))
}

// checkWords checks the words of a request and gives them their own spelling.
func checkWords(req *client.CreateKeyRequest) (err error) {
	if req.Spec, err = verb.OneOf("--spec", req.Spec, keySpecs); err != nil {
		return err
	}
	if req.Usage, err = verb.Optional("--usage", req.Usage, keyUsages); err != nil {
		return err
	}
	req.Origin, err = verb.OneOf("--origin", req.Origin, []string{client.OriginKMS, client.OriginExternal})
	return err
}

func describe() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use:               "describe KEY",
		Short:             "Show a key's state, dates, rotation, tags and aliases",
		Example:           `  keyside key describe app`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}, func(ctx context.Context, s *verb.Session, args []string) error {
		key, err := s.Lookup(ctx, args[0])
		if err != nil {
			return err
		}
		v := ViewOf(key)
		if err := v.detail(ctx, s); err != nil {
			return err
		}
		return s.Show(v, v.rows())
	})
}

func rename() *cobra.Command {
	return verb.Changes(&cobra.Command{
		Use:     "rename KEY ALIAS",
		Short:   "Change a key's own alias; its ciphertexts stay readable",
		Example: `  keyside key rename draft shop/draft`,
		Args:    cobra.ExactArgs(2),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		return fmt.Sprintf("%s is %s now", args[0], args[1]), s.RenameKey(ctx, id, args[1])
	})
}

func setDescription() *cobra.Command {
	return verb.Changes(&cobra.Command{
		Use:     "set-description KEY TEXT",
		Short:   "Change a key's description, at most 255 characters; '' deletes it",
		Example: `  keyside key set-description app 'the app and its tests'`,
		Args:    cobra.ExactArgs(2),
	}, func(ctx context.Context, s *verb.Session, id string, args []string) (string, error) {
		return "changed the description of " + args[0], s.SetKeyDescription(ctx, id, args[1])
	})
}
