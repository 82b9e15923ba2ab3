package audit

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// KeysName is the file of an export that contains the verifier keys of the log's checkpoints, one per line.
const KeysName = "verifier-keys"

// Export writes a tar archive that Verify can verify elsewhere: the files up to the newest checkpoint with their checkpoints,
// leaf hashes and the verifier keys. It first signs a checkpoint, if the HSM can. It returns how many later records the
// archive leaves out.
func (l *Log) Export(ctx context.Context, w io.Writer) (left uint64, err error) {
	if l.checkpoints == nil {
		return 0, errors.New("the log has no checkpoints")
	}
	if err := l.checkpoints.signNow(ctx); err != nil {
		l.opts.Logger.Warn("cannot sign a checkpoint: the audit log is exported up to an older one", "error", err)
	}
	l.retaining.RLock()
	defer l.retaining.RUnlock()
	now := l.now.Load()
	a := l.present()
	newest, err := os.ReadFile(filepath.Join(l.opts.Dir, checkpointName))
	if err != nil {
		return 0, fmt.Errorf("no checkpoint was signed yet, so an export could not be verified: %w", err)
	}
	c, err := openCheckpoint(newest, a.verifiers())
	if err != nil {
		return 0, err
	}
	starts, err := l.starts(now)
	if err != nil {
		return 0, err
	}
	out := tar.NewWriter(w)
	add := func(name string, size int64, from io.Reader) error {
		h := &tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: time.Unix(0, 0)}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		n, err := io.CopyN(out, from, size)
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	for _, s := range starts {
		if s.number > c.file || ctx.Err() != nil {
			break
		}
		if err := l.exportFile(s, c, add); err != nil {
			return 0, err
		}
	}
	keys := strings.Join(a.Keys, "\n") + "\n"
	err = errors.Join(
		ctx.Err(),
		add(checkpointName, int64(len(newest)), strings.NewReader(string(newest))),
		add(KeysName, int64(len(keys)), strings.NewReader(keys)),
		out.Close(),
	)
	return now.tree.size() - min(c.tree.size(), now.tree.size()), err
}

// exportFile adds a file with its leaf hashes, and the checkpoint of the file before it.
func (l *Log) exportFile(s place, c *checkpoint, add func(string, int64, io.Reader) error) error {
	last := s.number == c.file
	for _, part := range []struct {
		name  string
		limit int64 // bytes that the newest checkpoint covers, in the last file; -1: all
	}{
		{fmt.Sprintf(checkpointOfFile, s.number-1), -1},
		{fmt.Sprintf(leavesOfFile, s.number), int64(c.tree.size()-min(s.record, c.tree.size())) * hashSize},
		{nameOf(s.number), c.offset},
	} {
		f, err := os.Open(filepath.Join(l.opts.Dir, part.name))
		if errors.Is(err, os.ErrNotExist) && part.limit < 0 {
			continue // the first file, or one whose end no checkpoint covers yet
		}
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			size := info.Size()
			if last && part.limit >= 0 {
				size = part.limit
			}
			err = add(part.name, size, f)
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}
