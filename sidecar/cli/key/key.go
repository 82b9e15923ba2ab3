// Package key has the verbs that create, list, change, rotate and delete keys, and those about their tags and quotas.
package key

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

// Commands returns the verbs about keys.
func Commands() []*cobra.Command {
	return []*cobra.Command{keyCommand(), tagsCommand(), quotaCommand()}
}

func keyCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "key",
		Short: "everything about keys but their use",
		Long: `Everything about keys but their use. KEY is a key's id, its alias, or one of the further aliases that key alias gives it;
where two keys fit, the one whose own alias it is.`,
	}
	group.AddCommand(keyCreate(), keyList(), keyDescribe(), keyRename(), keySetDescription(), keyEnable(), keyDisable(),
		keyDelete(), keyCancelDeletion(), keyRotation(), keyTag(), keyAlias())
	return group
}

func keyCreate() *cobra.Command {
	var req client.CreateKeyRequest
	var words []string
	cmd := &cobra.Command{
		Use:   "create ALIAS",
		Short: "make a key in the HSM and print its id",
		Long: `Make a key in the HSM and print its id. Spec and usage never change. A key of external origin waits for its material to be
imported (keyside import) and can do nothing until then.`,
		Example: `  keyside key create orders --description 'orders of the shop' --tag team=shop --tag stage=test
  keyside key create releases --spec EC_P256
  keyside key create letters --spec RSA_3072 --usage ENCRYPT_DECRYPT
  keyside key create mine --origin external`,
		Args: cobra.ExactArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&req.Spec, "spec", "AES_256", strings.Join(keySpecs, ", "))
	f.StringVar(&req.Usage, "usage", "", strings.Join(keyUsages, ", ")+" (default: AES encrypts, RSA and EC sign, HMAC makes MACs)")
	f.StringVar(&req.Description, "description", "", "for people, at most 255 characters")
	f.StringVar(&req.Origin, "origin", "kms", "kms: the HSM makes the material; external: you import it")
	f.StringArrayVar(&words, "tag", nil, "a tag NAME=VALUE; may be given several times")
	verb.CompleteFlag(cmd, "spec", keySpecs)
	verb.CompleteFlag(cmd, "usage", keyUsages)
	verb.CompleteFlag(cmd, "origin", []string{"kms", "external"})
	return verb.MakesKeys(verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		tags, err := parseTags(words)
		if err != nil {
			return err
		}
		req.Alias = args[0]
		id, err := verb.Once(ctx, s, func(ctx context.Context) (string, error) { return c.CreateKey(ctx, req) })
		if err != nil {
			return err
		}
		var untagged error
		if len(tags) > 0 {
			if untagged = setTags(s, ctx, c, id, tags); untagged != nil {
				untagged = fmt.Errorf("the key is made, but it has none of its tags: %w; set them with keyside key tag add", untagged)
			}
		}
		if s.JSON {
			return errors.Join(verb.PrintJSON(cmd.OutOrStdout(), map[string]string{"key_id": id}), untagged)
		}
		if req.Origin == "external" {
			cmd.PrintErrf("the key waits for its material: keyside import material %[1]s --generate --keep FILE makes some, keyside import parameters %[1]s --out DIR begins with your own\n", id)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
		return errors.Join(err, untagged)
	}))
}

// keyView is a key as --json shows it. The last fields are there where the verb has asked for them.
type keyView struct {
	ID          string    `json:"key_id"`
	Alias       string    `json:"alias"`
	Spec        string    `json:"spec"`
	Usage       string    `json:"usage"`
	State       string    `json:"state"`
	Origin      string    `json:"origin"`
	Default     bool      `json:"default"` // a service's default master key
	Protection  string    `json:"protection"`
	Created     time.Time `json:"created"`
	Description string    `json:"description"`
	Deletion    time.Time `json:"deletion,omitzero"` // when it is destroyed
	Expires     time.Time `json:"expires,omitzero"`  // when imported material goes
	CheckValue  string    `json:"check_value,omitempty"`
	OpenedIn    string    `json:"opened_in,omitempty"` // where imported material was unwrapped

	Rotation *rotationView `json:"rotation,omitempty"`
	Tags     []client.Tag  `json:"tags,omitzero"`
	Aliases  []string      `json:"aliases,omitzero"` // further ones
}

func ViewOf(k *client.Key) keyView {
	return keyView{
		ID: k.ID, Alias: k.Alias, Spec: k.Spec, Usage: k.Usage, State: k.State.String(), Origin: k.Origin, Default: k.Default.Set(),
		Protection: k.Protection, Created: utc(k.Created), Description: k.Description, Deletion: utc(k.Deletion), Expires: utc(k.Expiration),
		CheckValue: k.CheckValue, OpenedIn: k.OpenedIn,
	}
}

func utc(t client.Timestamp) time.Time {
	if t := t.Time(); !t.IsZero() {
		return t.UTC()
	}
	return time.Time{}
}

// kind is what the console has two tabs for.
func (v *keyView) kind() string {
	if v.Default {
		return kindDefault
	}
	return kindCustom
}

func keyDescribe() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "describe KEY",
		Short:             "show everything about a key: state, dates, rotation, tags, aliases",
		Example:           `  keyside key describe app`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		key, err := s.Lookup(ctx, c, args[0])
		if err != nil {
			return err
		}
		v := ViewOf(key)
		if err := detail(s, ctx, c, &v); err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), v)
		}
		return verb.Table(cmd.OutOrStdout(), v.rows())
	})
}

// detail asks for what describe-key does not say. What the caller may not know is left out.
func detail(s *verb.Session, ctx context.Context, c *client.Client, v *keyView) error {
	rotation, err := verb.Once(ctx, s, func(ctx context.Context) (*client.Rotation, error) { return c.RotationStatus(ctx, v.ID) })
	if err == nil {
		v.Rotation = rotationOf(rotation)
	} else if !errors.Is(err, client.ErrDenied) {
		return err
	}
	tags, err := verb.Once(ctx, s, func(ctx context.Context) ([]client.Tag, error) { return c.KeyTags(ctx, v.ID) })
	if err == nil {
		v.Tags = append([]client.Tag{}, tags...)
	} else if !errors.Is(err, client.ErrDenied) {
		return err
	}
	aliases := []string{}
	for a, err := range allAliases(s, ctx, c, v.ID) {
		if errors.Is(err, client.ErrDenied) {
			return nil
		}
		if err != nil {
			return err
		}
		aliases = append(aliases, a.Name)
	}
	v.Aliases = aliases
	return nil
}

func (v *keyView) rows() [][]string {
	rows := [][]string{
		{"key id", v.ID}, {"alias", v.Alias}, {"further aliases", verb.Dash(strings.Join(v.Aliases, ", "))}, {"description", verb.Dash(verb.Harmless(v.Description))},
		{"spec", v.Spec}, {"usage", v.Usage}, {"state", v.State}, {"origin", v.Origin}, {"type", v.kind()}, {"protection", v.Protection},
		{"created", verb.When(v.Created)}, {"deletion", verb.When(v.Deletion)},
	}
	if v.Origin == "external" {
		rows = append(rows, v.ImportRows()...)
	}
	if r := v.Rotation; r != nil {
		rows = append(rows, r.rows()...)
	}
	return append(rows, []string{"tags", verb.Dash(tagWords(v.Tags))})
}

// openedIn says to people where imported material was unwrapped.
var openedIn = map[string]string{"hsm": "the HSM", "driver": "the driver process"}

// ImportRows are about imported material.
func (v *keyView) ImportRows() [][]string {
	return [][]string{{"material expires", verb.When(v.Expires)}, {"material opened in", verb.Dash(openedIn[v.OpenedIn])}, {"check value", verb.Dash(v.CheckValue)}}
}

func keyRename() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "rename KEY ALIAS",
		Short:             "give a key another alias of its own; what it encrypted stays readable",
		Example:           `  keyside key rename draft shop/draft`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Changes(cmd, func(ctx context.Context, c *client.Client, id string, args []string) error {
		return c.UpdateKeyAlias(ctx, id, args[1])
	})
}

func keySetDescription() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "set-description KEY TEXT",
		Short:             "give a key another description, at most 255 characters; '' for none",
		Example:           `  keyside key set-description app 'the app and its tests'`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	return verb.Changes(cmd, func(ctx context.Context, c *client.Client, id string, args []string) error {
		return c.UpdateKeyDescription(ctx, id, args[1])
	})
}

// keySpecs are the values of --spec.
var keySpecs = []string{
	"AES_256", "RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "EC_P521", "SECP256K1", "HMAC_256", "HMAC_384", "HMAC_512",
	"AES_128", "AES_192", // with --origin external alone
}

// keyUsages are the values of --usage.
var keyUsages = []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"}
