package crypto

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/envelope"
	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

func fileCommand() *cobra.Command {
	return verb.Group(&cobra.Command{
		Use:   "file",
		Short: "Encrypt and decrypt files of any size",
		Long: `Encrypt and decrypt files of any size. The content is encrypted on this machine under a new data key, which the file holds
encrypted under KEY. Output files appear whole or not at all. Without names, or with -, the verbs read standard input and write
standard output; then, and for outputs that are devices or pipes, the output is complete only if the exit code is 0.`,
	}, fileEncrypt(), fileDecrypt())
}

// fileFlags are the flags of both verbs.
type fileFlags struct {
	context map[string]string
	force   bool
}

func (f *fileFlags) add(cmd *cobra.Command, context string) {
	cmd.Flags().StringToStringVar(&f.context, "context", nil, context)
	cmd.Flags().BoolVar(&f.force, "force", false, "replace the output file")
	cmd.Args = cobra.MaximumNArgs(2)
}

func fileEncrypt() *cobra.Command {
	var f fileFlags
	cmd := &cobra.Command{
		Use:   "encrypt --key KEY [IN [OUT]]",
		Short: "Encrypt a file",
		Example: `  keyside file encrypt --key app report report.keyside
  tar c . | keyside file encrypt --key app --context of=backup - backup.keyside`,
	}
	f.add(cmd, "encryption context, name=value[,name=value]: stored unencrypted, but authenticated")
	return withKey(cmd, func(ctx context.Context, s *verb.Session, id string, args []string) error {
		t := newTransfer(s, args, f.force)
		if err := t.open(); err != nil {
			return err
		}
		if t.terminal() {
			return t.close(verb.ErrBinary)
		}
		return t.close(t.run(ctx, func(dst io.Writer, src io.Reader) error {
			dataKey, err := s.GenerateDataKey(ctx, client.DataKeyRequest{
				KeyID: id, Length: envelope.KeySize, Bound: client.Bound{Context: f.context},
			})
			if err != nil {
				return err
			}
			defer clear(dataKey.Plaintext)
			header := envelope.Header{KeyID: dataKey.KeyID, DataKey: dataKey.Ciphertext, Context: f.context}
			return envelope.Encrypt(dst, src, header, dataKey.Plaintext)
		}))
	})
}

func fileDecrypt() *cobra.Command {
	var flags fileFlags
	cmd := &cobra.Command{
		Use:   "decrypt [IN [OUT]]",
		Short: "Decrypt an encrypted file",
		Example: `  keyside file decrypt minutes.keyside minutes
  keyside file decrypt < minutes.keyside`,
	}
	flags.add(cmd, "refuse a file whose encryption context lacks one of these name=value pairs")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		t := newTransfer(s, args, flags.force)
		if err := t.open(); err != nil {
			return err
		}
		err := t.run(ctx, func(dst io.Writer, src io.Reader) error {
			f, err := envelope.Open(src)
			if err != nil {
				return err
			}
			for name, value := range flags.context {
				if got, ok := f.Header.Context[name]; !ok || got != value {
					return verb.Failf(verb.ExitBadData, "the file's encryption context does not have %s=%s", name, value)
				}
			}
			dataKey, err := s.DecryptDataKey(ctx, client.DecryptDataKeyRequest{
				KeyID: f.Header.KeyID, Ciphertext: f.Header.DataKey, Bound: client.Bound{Context: f.Header.Context},
			})
			if err != nil {
				return err
			}
			defer clear(dataKey.Plaintext)
			return f.Decrypt(dst, dataKey.Plaintext)
		})
		if errors.Is(err, envelope.ErrFormat) || errors.Is(err, envelope.ErrContent) {
			err = verb.Failf(verb.ExitBadData, "%s: %w", t.inName(), err)
		}
		return t.close(err)
	})
}
