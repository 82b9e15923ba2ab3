package imports

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	client "github.com/keyside/keyside/sidecar/client/old"
)

func importParameters() *cobra.Command {
	var w wrappingFlags
	var p verb.ProfileFlag
	var dir string
	var repeat, force bool
	cmd := &cobra.Command{
		Use:   "parameters KEY --out DIR",
		Short: "get a wrapping key and a token, and the openssl commands that go with them",
		Long: `Get a wrapping key and a token, with which material can be imported for 24 hours, as often as it takes. They go into a folder,
the wrapping key as DER, base64 and PEM, with a README. Their names, and the commands that are printed, are those of the guide that
--profile names; the commands work as they stand, for the algorithm and the key's spec, and make new material.`,
		Example: `  keyside import parameters own-next --out next
  keyside import parameters own-rsa --profile vng --algorithm RSA-AES-KEY-WRAP-SHA-256 --wrapping-spec RSA_3072 --out rsa-import`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	w.add(cmd)
	p.Add(cmd)
	f := cmd.Flags()
	f.StringVar(&dir, "out", "", "folder for the files; it is made if it is not there")
	f.BoolVar(&repeat, "repeat", false, "also for a key that has its material, to import the same again (default as in the profile)")
	f.BoolVar(&force, "force", false, "replace the files")
	return verb.MakesKeys(verb.Talks(cmd, func(ctx context.Context, c *client.Client, s *verb.Session, cmd *cobra.Command, args []string) error {
		profile, err := p.Get()
		if err = errors.Join(err, w.check()); err != nil {
			return err
		}
		if dir == "" {
			return verb.Failf(verb.ExitUsage, "--out is missing: name a folder for the files")
		}
		if cmd.Flags().Changed("repeat") {
			profile.Repeat = repeat
		}
		key, err := s.Lookup(ctx, c, args[0])
		if err != nil {
			return err
		}
		g := &guide{Profile: profile, key: key.ID, spec: key.Spec, algorithm: w.algorithm, dir: dir, written: verb.FileNames(profile.Files, key.ID, time.Now())}
		files, err := g.create(force)
		if err != nil {
			return err
		}
		got, err := verb.Once(ctx, s, func(ctx context.Context) (*client.ImportParameters, error) {
			return c.GetImportParameters(ctx, client.ImportParametersRequest{
				KeyID: key.ID, Algorithm: w.algorithm, WrappingSpec: w.spec, OnlyLast: profile.OnlyLast, Repeat: profile.Repeat,
			})
		})
		if err != nil {
			return errors.Join(err, files.Discard())
		}
		if err := files.Commit(g.content(w.spec, got)); err != nil {
			return err
		}
		if got.Warning != "" {
			cmd.PrintErrln("warning: " + got.Warning)
		}
		if s.JSON {
			return verb.PrintJSON(cmd.OutOrStdout(), g.view(got))
		}
		_, err = io.WriteString(cmd.OutOrStdout(), g.script())
		return err
	}))
}

// content is what the files hold.
func (g *guide) content(spec string, p *client.ImportParameters) map[string][]byte {
	return map[string][]byte{
		"der": p.PublicKey, "base64": verb.Base64Line(p.PublicKey), "pem": verb.PublicPEM(p.PublicKey), "token": verb.Base64Line(p.Token),
		"readme": []byte(g.readme(spec, p.Expires.UTC().Format(time.RFC3339), p.Warning)),
	}
}

// parametersView is what import parameters wrote, as --json shows it.
type parametersView struct {
	KeyID     string            `json:"key_id"`
	Algorithm string            `json:"algorithm"`
	Expires   time.Time         `json:"expires"`
	Files     map[string]string `json:"files"`
	Commands  string            `json:"commands"`
}

func (g *guide) view(p *client.ImportParameters) parametersView {
	v := parametersView{KeyID: g.key, Algorithm: g.algorithm, Expires: p.Expires.UTC(), Files: map[string]string{}, Commands: g.script()}
	for form, name := range g.written {
		v.Files[form] = filepath.Join(g.dir, name)
	}
	return v
}

// create begins the files, before there is anything to keep in them.
func (g *guide) create(force bool) (verb.FileSet, error) {
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, err
	}
	paths := make(map[string]string, len(g.written))
	for form, name := range g.written {
		paths[form] = filepath.Join(g.dir, name)
	}
	return verb.CreateFiles(paths, force)
}
