package crypto

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
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
encrypted under KEY. Output files appear whole or not at all. With - for the input or output the verbs work in pipes; then the
output is complete only if the exit code is 0.`,
	}, fileEncrypt(), fileDecrypt())
}

func fileEncrypt() *cobra.Command {
	var encContext map[string]string
	var force bool
	cmd := &cobra.Command{
		Use:   "encrypt --key KEY IN OUT",
		Short: "Encrypt a file",
		Example: `  keyside file encrypt --key app report report.keyside
  tar c . | keyside file encrypt --key app --context of=backup - backup.keyside`,
		Args: cobra.ExactArgs(2),
	}
	cmd.Flags().StringToStringVar(&encContext, "context", nil, "encryption context, name=value[,name=value]: stored unencrypted, but authenticated")
	cmd.Flags().BoolVar(&force, "force", false, "replace the output file")
	return withKey(cmd, func(ctx context.Context, s *verb.Session, id string, args []string) error {
		return transform(ctx, cmd, args[0], args[1], force, func(dst io.Writer, src io.Reader) error {
			dataKey, err := s.GenerateDataKey(ctx, client.DataKeyRequest{
				KeyID: id, Length: envelope.KeySize, Bound: client.Bound{Context: encContext},
			})
			if err != nil {
				return err
			}
			defer clear(dataKey.Plaintext)
			header := envelope.Header{KeyID: id, DataKey: dataKey.Ciphertext, Context: encContext}
			return envelope.Encrypt(dst, src, header, dataKey.Plaintext)
		})
	})
}

func fileDecrypt() *cobra.Command {
	var want map[string]string
	var force bool
	cmd := &cobra.Command{
		Use:     "decrypt IN OUT",
		Short:   "Decrypt an encrypted file",
		Example: `  keyside file decrypt minutes.keyside minutes`,
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().StringToStringVar(&want, "context", nil, "refuse a file whose encryption context lacks one of these name=value pairs")
	cmd.Flags().BoolVar(&force, "force", false, "replace the output file")
	return verb.Talks(cmd, func(ctx context.Context, s *verb.Session, args []string) error {
		err := transform(ctx, cmd, args[0], args[1], force, func(dst io.Writer, src io.Reader) error {
			f, err := envelope.Open(src)
			if err != nil {
				return err
			}
			for name, value := range want {
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
			return verb.Failf(verb.ExitBadData, "%s: %w", args[0], err)
		}
		return err
	})
}

// transform runs work from one file to another. The output appears under its name only if work returns no error.
func transform(ctx context.Context, cmd *cobra.Command, in, out string, force bool, work func(io.Writer, io.Reader) error) error {
	src, size, err := openInput(cmd, in)
	if err != nil {
		return err
	}
	defer func() { _ = src.Close() }()
	reader := io.Reader(&contextReader{ctx, src})
	if verb.IsTerminal(cmd.ErrOrStderr()) {
		bar := progressbar.DefaultBytes(size, in)
		defer func() { _ = bar.Exit() }()
		reader = io.TeeReader(reader, bar)
	}
	if out == "-" {
		if verb.IsTerminal(cmd.OutOrStdout()) {
			return verb.Failf(verb.ExitUsage, "standard output is a terminal: name an output file, or use a pipe")
		}
		return work(cmd.OutOrStdout(), reader)
	}
	dst, err := verb.CreateOutput(out, force)
	if err != nil {
		return err
	}
	if err := work(dst, reader); err != nil {
		return errors.Join(err, dst.Discard())
	}
	return dst.Commit()
}

// openInput opens the input. size is in bytes; -1: not known.
func openInput(cmd *cobra.Command, path string) (src io.ReadCloser, size int64, err error) {
	if path == "-" {
		return verb.Stdin(cmd), -1, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, 0, errors.Join(err, f.Close())
	case info.IsDir():
		return nil, 0, errors.Join(verb.Failf(verb.ExitUsage, "%s is a directory: pack it first, tar c %s | keyside file encrypt --key KEY - OUT", path, path), f.Close())
	case !info.Mode().IsRegular():
		return f, -1, nil
	}
	return f, info.Size(), nil
}

// contextReader ends a copy when ctx ends.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
