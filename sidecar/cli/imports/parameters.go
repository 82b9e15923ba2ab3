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
	"github.com/keyside/keyside/sidecar/client"
)

func importParameters() *cobra.Command {
	var w wrappingFlags
	var p verb.ProfileFlag
	var dir string
	var repeat, force bool
	cmd := &cobra.Command{
		Use:   "parameters KEY --out DIR",
		Short: "Get a wrapping key and an import token; print the openssl commands",
		Long: `Get a wrapping key and an import token; print the openssl commands. Both are valid for 24 hours, for any number of attempts. They
are written to a directory, the wrapping key as DER, base64 and PEM, with a README. File names and commands are those of the guide
that --profile selects. The commands run unchanged, for the algorithm and the key's spec, and generate new material.`,
		Example: `  keyside import parameters own-next --out next
  keyside import parameters own-rsa --profile vng --algorithm RSA-AES-KEY-WRAP-SHA-256 --wrapping-spec RSA_3072 --out rsa-import`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: verb.CompleteKeys(1),
	}
	w.add(cmd)
	p.Add(cmd)
	f := cmd.Flags()
	f.StringVar(&dir, "out", "", "directory for the files, created if it does not exist (required)")
	f.BoolVar(&repeat, "repeat", false, "also for a key that has its material, to import the same again (default: as in the profile)")
	f.BoolVar(&force, "force", false, "replace the files")
	return verb.GeneratesKeys(verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		profile, err := p.Get()
		if err = errors.Join(err, w.check()); err != nil {
			return err
		}
		if dir == "" {
			return verb.Failf(verb.ExitUsage, "--out is missing: give a directory for the files")
		}
		if cmd.Flags().Changed("repeat") {
			profile.Repeat = repeat
		}
		key, err := s.Lookup(ctx, args[0])
		if err != nil {
			return err
		}
		g := &guide{Profile: profile, key: key.ID, spec: key.Spec, algorithm: w.algorithm, dir: dir, written: verb.FileNames(profile.Files, key.ID, time.Now())}
		files, err := g.create(force)
		if err != nil {
			return err
		}
		got, err := s.GetImportParameters(ctx, client.ImportParametersRequest{
			KeyID: key.ID, Algorithm: w.algorithm, WrappingSpec: w.spec, OnlyLast: profile.OnlyLast, Repeat: profile.Repeat,
		})
		if err != nil {
			return errors.Join(err, files.Discard())
		}
		if err := files.Commit(g.content(w.spec, got)); err != nil {
			return err
		}
		if got.Warning != "" {
			s.Note("warning: %s", got.Warning)
		}
		if s.JSON {
			return verb.PrintJSON(s.Out(), g.view(got))
		}
		_, err = io.WriteString(s.Out(), g.script())
		return err
	}))
}

// content returns the contents of the files.
func (g *guide) content(spec string, p *client.ImportParameters) map[string][]byte {
	return map[string][]byte{
		"der": p.PublicKey, "base64": verb.Base64Line(p.PublicKey), "pem": verb.PublicPEM(p.PublicKey), "token": verb.Base64Line(p.Token),
		"readme": []byte(g.readme(spec, p.Expires.UTC().Format(time.RFC3339), p.Warning)),
	}
}

// parametersView is the result of import parameters as --json shows it.
type parametersView struct {
	KeyID     string            `json:"key_id"`
	Algorithm string            `json:"algorithm"`
	Expires   time.Time         `json:"expires"`
	Files     map[string]string `json:"files"`
	Commands  string            `json:"commands"`
}

func (g *guide) view(p *client.ImportParameters) parametersView {
	return parametersView{KeyID: g.key, Algorithm: g.algorithm, Expires: p.Expires.UTC(), Files: g.paths(), Commands: g.script()}
}

// paths returns the paths of the files, by form.
func (g *guide) paths() map[string]string {
	paths := make(map[string]string, len(g.written))
	for form, name := range g.written {
		paths[form] = filepath.Join(g.dir, name)
	}
	return paths
}

// create begins the files, before their content exists.
func (g *guide) create(force bool) (verb.FileSet, error) {
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		return nil, err
	}
	return verb.CreateFiles(g.paths(), force)
}
