package access

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func credentialCommand() *cobra.Command {
	return verb.Group(&cobra.Command{Use: "credential", Short: "Manage access keys and tokens for signed requests"},
		credentialCreate(), credentialList(), credentialDelete(), credentialToken())
}

// credentialView is an access key as --json shows it.
type credentialView struct {
	AccessKey string    `json:"access_key"`
	SecretKey string    `json:"secret_key,omitzero"`
	ProjectID string    `json:"project_id,omitzero"`
	User      string    `json:"user"`
	Role      string    `json:"role"`
	Created   time.Time `json:"created"`
	Dialects  []string  `json:"dialects,omitempty"`
	SDKs      []sdkView `json:"sdks,omitempty"`
}

func viewOf(k *client.Credential) credentialView {
	return credentialView{AccessKey: k.AccessKey, User: k.User, Role: k.Role, Created: k.Created, Dialects: k.Dialects}
}

// sdks are the environment variables that the clouds' SDKs and command lines read an access key, its secret and a region from. The
// Huawei Cloud SDK takes its region from the program.
var sdks = []struct{ dialect, title, accessKey, secretKey, region string }{
	{"huawei", "Huawei Cloud", "HUAWEICLOUD_SDK_AK", "HUAWEICLOUD_SDK_SK", ""},
	{"tencent", "Tencent Cloud", "TENCENTCLOUD_SECRET_ID", "TENCENTCLOUD_SECRET_KEY", "TENCENTCLOUD_REGION"},
	{"alibaba", "Alibaba Cloud", "ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_REGION_ID"},
}

// sdkView is what an SDK needs of a new access key.
type sdkView struct {
	Dialect  string            `json:"dialect"`
	Env      map[string]string `json:"env"`
	Region   string            `json:"region"`
	Endpoint string            `json:"endpoint,omitempty"` // of the port
}

// sdksOf returns what the SDKs need that sign with a new access key, and the rows of a table that name it without the secret.
func sdksOf(v *credentialView, health *client.Health) (rows [][]string) {
	for _, s := range sdks {
		if v.Dialects != nil && !slices.Contains(v.Dialects, s.dialect) {
			continue
		}
		view := sdkView{s.dialect, map[string]string{s.accessKey: v.AccessKey, s.secretKey: v.SecretKey}, health.Huawei.Region, health.Endpoint}
		text := s.accessKey + ", " + s.secretKey + ", "
		if s.region != "" {
			view.Env[s.region] = view.Region
			text += s.region + "="
		} else {
			text += "region "
		}
		text += view.Region
		if view.Endpoint != "" {
			text += ", endpoint " + view.Endpoint
		}
		v.SDKs, rows = append(v.SDKs, view), append(rows, []string{s.title, text})
	}
	return rows
}

// roles are the values of --role; service:NAME is one, too.
var roles = []string{client.RoleNone, client.RoleAdministrator, client.RoleUser, client.RoleAuditor}

func credentialCreate() *cobra.Command {
	var user, role string
	var dialects []string
	cmd := &cobra.Command{
		Use: "create --user NAME", Short: "Create an access key; print its secret once",
		Long: `Create an access key, with which a cloud's SDK signs its requests, and print its secret. The secret cannot be read again.

A role says what its user may do: none, nothing; administrator, everything; user, use every customer key; auditor, read everything
but content; service:NAME, use the default key of a cloud service such as obs, evs or ims. With any role, also none, a user may do
what grants (keyside grant create) and policies allow.

One access key signs requests of every dialect (huawei, tencent, alibaba, and keyside for the native API), or with --dialects of some
alone. The command prints which environment variables each cloud's SDK reads, with the region and the endpoint.`,
		Example: `  (umask 077 && keyside credential create --user terraform --role administrator --json > terraform.json)
  keyside credential create --user storage --role service:obs
  keyside credential create --user backup && keyside grant create app --to backup --operations encrypt,decrypt
  keyside credential create --user billing --role user --dialects tencent,alibaba`,
	}
	cmd.Flags().StringVar(&user, "user", "", "`name` of the user in audit records (required)")
	cmd.Flags().StringSliceVar(&dialects, "dialects", nil, "`names` of the dialects whose requests it signs (default: all)")
	cmd.Flags().StringVar(&role, "role", client.RoleNone, "administrator, user, auditor, service:NAME or none")
	verb.CompleteFlag(cmd, "role", roles)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		if user == "" {
			return verb.Failf(verb.ExitUsage, "--user is missing: give the name of the access key's user")
		}
		if !strings.HasPrefix(role, "service:") {
			var err error
			if role, err = verb.OneOf("--role", role, roles); err != nil {
				return err
			}
		}
		health, err := s.Health(ctx) // before the secret exists, which an error would lose
		if err != nil {
			return err
		}
		made, err := s.CreateCredential(ctx, user, role, dialects...)
		if err != nil {
			return err
		}
		switch made.Role {
		case client.RoleAdministrator:
			s.Note("%s is an administrator: this access key allows everything on every key", user)
		case client.RoleNone:
			s.Note("%s may do what grants and policies allow: keyside grant create KEY --to %s --operations encrypt,decrypt", user, verb.ShellQuote(user))
		}
		v := viewOf(&made.Credential)
		v.SecretKey, v.ProjectID = made.SecretKey, health.Huawei.ProjectID
		rows := sdksOf(&v, health)
		return s.Show(v, append([][]string{
			{"access key", v.AccessKey}, {"secret key", v.SecretKey}, {"project id", v.ProjectID}, {"user", v.User}, {"role", v.Role},
		}, rows...))
	})
}

func credentialList() *cobra.Command {
	return verb.Talks(&cobra.Command{
		Use: "list", Short: "List access keys in order of creation", Example: `  keyside credential list`,
	}, func(ctx context.Context, s *verb.Session, _ []string) error {
		return verb.ShowAll(s, []string{"ACCESS KEY", "USER", "ROLE", "CREATED", "DIALECTS"}, verb.Whole(s.ListCredentials(ctx)),
			func(k *client.Credential) (credentialView, []string) {
				return viewOf(k), []string{k.AccessKey, k.User, k.Role, verb.When(k.Created), cmp.Or(strings.Join(k.Dialects, ","), "all")}
			})
	})
}

func credentialDelete() *cobra.Command {
	var yes verb.YesFlag
	cmd := &cobra.Command{
		Use: "delete ACCESS_KEY", Short: "Delete an access key and all tokens of its user", Args: cobra.ExactArgs(1),
		Long: `Delete an access key and all tokens of its user. It cannot be restored. The
command asks for confirmation; scripts pass --yes.`,
		Example: `  keyside credential delete --yes $(keyside credential list | awk '$2 == "terraform" {print $1}')`,
	}
	yes.Add(cmd)
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		if err := yes.Confirm(cmd, verb.Confirmation{Word: "DELETE", Text: fmt.Sprintf(
			"The access key %s and all tokens of its user end now, and its secret cannot be restored.", args[0])}); err != nil {
			return err
		}
		if err := s.DeleteCredential(ctx, args[0]); err != nil {
			return err
		}
		return s.Done(map[string]string{"access_key": args[0]}, "deleted the access key %s", args[0])
	})
}

func credentialToken() *cobra.Command {
	var user string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "token", Short: "Create a token for the X-Auth-Token header; print it once",
		Example: `  keyside credential token --ttl 10m
  keyside credential token --user storage`,
	}
	cmd.Flags().StringVar(&user, "user", "", "`name` of the user whose rights the token has; the user needs an access key, and you the permission create-token-for-others (default: you)")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "time to live, 1s to 24h")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, _ []string) error {
		if ttl < time.Second || ttl > 24*time.Hour {
			return verb.Failf(verb.ExitUsage, "--ttl %s is not between 1s and 24h", ttl)
		}
		t, err := s.CreateToken(ctx, user, ttl)
		if err != nil {
			return err
		}
		return s.Print(map[string]any{"token": t.Token, "user": t.User, "role": t.Role, "expires": t.Expires}, t.Token)
	})
}
