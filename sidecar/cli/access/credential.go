package access

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

func credentialCommand() *cobra.Command {
	group := &cobra.Command{Use: "credential", Short: "access keys and tokens for programs that sign their requests"}
	group.AddCommand(credentialCreate(), credentialList(), credentialDelete(), credentialToken())
	return group
}

func credentialCreate() *cobra.Command {
	var user, role string
	cmd := &cobra.Command{
		Use: "create --user NAME", Short: "make an access key and show its secret, this once",
		Long: `Make an access key, with which a cloud's SDK signs its requests, and show its secret. It is shown this once and cannot be
had again.

A role says what its user may do: administrator, which is everything; user, which is to use every customer key; auditor, which
is to see what is no content; service:NAME, which is to use the default master key of a cloud service such as obs, evs or ims.
Beside that, and with the role none alone, a user may do what grants (keyside grant create) and policies allow.`,
		Example: `  (umask 077 && keyside credential create --user terraform --json > terraform.json)
  keyside credential create --user storage --role service:obs
  keyside credential create --user backup --role none`,
	}
	cmd.Flags().StringVar(&user, "user", "", "whose it is, as records `name` it (required)")
	cmd.Flags().StringVar(&role, "role", client.RoleAdministrator, "administrator, user, auditor, service:NAME or none")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		if user == "" {
			return verb.Failf(verb.ExitUsage, "--user is missing: name whose access key it is")
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		made, err := c.CreateCredential(ctx, user, role)
		if err != nil {
			return err
		}
		if made.Role == client.RoleAdministrator {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s is an administrator: this access key may do everything with every key\n", user)
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), made)
		}
		return verb.Table(cmd.OutOrStdout(), [][]string{
			{"access key", made.AccessKey}, {"secret key", made.SecretKey}, {"project id", made.ProjectID},
			{"user", made.User}, {"role", made.Role},
		})
	})
}

func credentialList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list access keys in order of creation", Example: `  keyside credential list`}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		ctx, cancel := s.Request(ctx)
		defer cancel()
		list, err := c.ListCredentials(ctx)
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), append([]client.Credential{}, list...))
		}
		rows := [][]string{{"ACCESS KEY", "USER", "ROLE", "CREATED"}}
		for _, k := range list {
			rows = append(rows, []string{k.AccessKey, k.User, k.Role, k.Created.UTC().Format(time.RFC3339)})
		}
		return verb.Table(cmd.OutOrStdout(), rows)
	})
}

func credentialDelete() *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ACCESS_KEY", Short: "refuse an access key from now on, and all tokens of its user", Args: cobra.ExactArgs(1),
		Example: `  keyside credential delete $(keyside credential list | awk '$2 == "terraform" {print $1}')`,
	}
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		ctx, cancel := s.Request(ctx)
		defer cancel()
		if err := c.DeleteCredential(ctx, args[0]); err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), map[string]string{"access_key": args[0]})
		}
		return nil
	})
}

func credentialToken() *cobra.Command {
	var user string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "token", Short: "make a token for the X-Auth-Token header and print it, this once",
		Example: `  keyside credential token --ttl 10m
  keyside credential token --user storage`,
	}
	cmd.Flags().StringVar(&user, "user", "", "`name` of the user whose rights it has, who must have an access key (default: you)")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it lives, at most 24h")
	return verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, _ []string) error {
		if ttl < time.Second || ttl > 24*time.Hour {
			return verb.Failf(verb.ExitUsage, "--ttl %s is not from 1s to 24h", ttl)
		}
		ctx, cancel := s.Request(ctx)
		defer cancel()
		made, err := c.CreateToken(ctx, user, ttl)
		if err != nil {
			return err
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), made)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), made.Token)
		return err
	})
}
