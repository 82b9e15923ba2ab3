package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

func keyCommand() *cobra.Command {
	group := &cobra.Command{Use: "key", Short: "create, list, describe, enable and disable keys"}
	group.AddCommand(keyCreate(), keyList(), keyDescribe(),
		keySwitch("enable", "let a disabled key be used again", (*client.Client).EnableKey),
		keySwitch("disable", "refuse all use of a key until it is enabled", (*client.Client).DisableKey))
	return group
}

func keyCreate() *cobra.Command {
	var req client.CreateKeyRequest
	cmd := &cobra.Command{Use: "create ALIAS", Short: "make a key in the HSM and print its id", Args: cobra.ExactArgs(1)}
	f := cmd.Flags()
	f.StringVar(&req.Spec, "spec", "AES_256", "AES_128, AES_192, AES_256, RSA_2048, RSA_3072, RSA_4096, EC_P256, EC_P384, EC_P521")
	f.StringVar(&req.Usage, "usage", "", "ENCRYPT_DECRYPT or SIGN_VERIFY (default: what goes with the spec)")
	f.StringVar(&req.Description, "description", "", "for people, at most 255 characters")
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, args []string) error {
		req.Alias = args[0]
		ctx, cancel := s.request(ctx)
		defer cancel()
		id, err := c.CreateKey(ctx, req)
		if err != nil {
			return err
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), map[string]string{"key_id": id})
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
		return err
	})
}

// keyView is a key as --json shows it.
type keyView struct {
	ID          string    `json:"key_id"`
	Alias       string    `json:"alias"`
	Spec        string    `json:"spec"`
	Usage       string    `json:"usage"`
	State       string    `json:"state"`
	Origin      string    `json:"origin"`
	Protection  string    `json:"protection"`
	Created     time.Time `json:"created"`
	Description string    `json:"description"`
}

func viewOf(k *client.Key) keyView {
	return keyView{k.ID, k.Alias, k.Spec, k.Usage, k.State.String(), k.Origin, k.Protection, k.Created.Time().UTC(), k.Description}
}

func keyList() *cobra.Command {
	var req client.ListKeysRequest
	var state string
	cmd := &cobra.Command{Use: "list", Short: "list keys in order of creation"}
	cmd.Flags().StringVar(&req.Spec, "spec", "", "only keys of this spec")
	cmd.Flags().StringVar(&state, "state", "", "only keys in this state: enabled, disabled")
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, _ []string) error {
		switch state {
		case "":
		case "enabled":
			req.State = string(client.Enabled)
		case "disabled":
			req.State = string(client.Disabled)
		default:
			return failf(ExitUsage, "--state %q is neither enabled nor disabled", state)
		}
		views := []keyView{}
		for key, err := range s.keys(ctx, c, req) {
			if err != nil {
				return err
			}
			views = append(views, viewOf(key))
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), views)
		}
		rows := [][]string{{"KEY ID", "ALIAS", "SPEC", "STATE", "CREATED"}}
		for _, v := range views {
			rows = append(rows, []string{v.ID, v.Alias, v.Spec, v.State, v.Created.Format(time.RFC3339)})
		}
		return table(cmd.OutOrStdout(), rows)
	})
}

func keyDescribe() *cobra.Command {
	cmd := &cobra.Command{Use: "describe KEY", Short: "show a key, named by id or alias", Args: cobra.ExactArgs(1)}
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, args []string) error {
		id, err := s.resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		ctx, cancel := s.request(ctx)
		defer cancel()
		key, err := c.DescribeKey(ctx, id)
		if err != nil {
			return err
		}
		v := viewOf(key)
		if s.json {
			return printJSON(cmd.OutOrStdout(), v)
		}
		return table(cmd.OutOrStdout(), [][]string{
			{"key id", v.ID}, {"alias", v.Alias}, {"description", v.Description}, {"spec", v.Spec}, {"usage", v.Usage},
			{"state", v.State}, {"origin", v.Origin}, {"protection", v.Protection}, {"created", v.Created.Format(time.RFC3339)},
		})
	})
}

func keySwitch(verb, short string, do func(*client.Client, context.Context, string) (client.KeyState, error)) *cobra.Command {
	cmd := &cobra.Command{Use: verb + " KEY", Short: short, Args: cobra.ExactArgs(1)}
	return talks(cmd, func(ctx context.Context, c *client.Client, s *session, cmd *cobra.Command, args []string) error {
		id, err := s.resolve(ctx, c, args[0])
		if err != nil {
			return err
		}
		ctx, cancel := s.request(ctx)
		defer cancel()
		if _, err := do(c, ctx, id); err != nil {
			return err
		}
		if s.json {
			return printJSON(cmd.OutOrStdout(), map[string]string{"key_id": id})
		}
		return nil
	})
}
