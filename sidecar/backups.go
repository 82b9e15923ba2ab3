package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/sidecar/backup"
	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// A backup rests after every backupStep entries for backupRest times as long as they took, at most maxBackupRest, and leaves
// processors and disk to the requests.
const (
	backupStep    = 64
	backupRest    = 9
	maxBackupRest = 20 * time.Millisecond
)

// sealDataKey makes the data key of a backup and puts it, encrypted in the HSM, into the header. The caller clears it.
func sealDataKey(ctx context.Context, h kms.HSM, header *backup.Header) ([]byte, error) {
	header.Key.ID = uuid.New()
	ref := backupKeyRef(header)
	made, err := h.MakeKey(ctx, ref)
	if err != nil {
		return nil, fmt.Errorf("make the key of the backup: %w", err)
	}
	ref.Sealed, header.Key.Sealed = made.Sealed, made.Sealed
	bound, err := header.Bound()
	if err != nil {
		return nil, err
	}
	key, iv, data, err := h.DataKey(ctx, ref, backup.KeySize, bound)
	if err == nil {
		header.Key.IV, header.Key.Data = iv, data
		err = h.DestroyKey(ctx, ref) // of the driver's memory
	}
	if err == nil && (len(key) != backup.KeySize || bytes.Count(key, []byte{0}) == len(key)) {
		err = errors.New("the HSM returned no data key")
	}
	if err != nil {
		clear(key)
		return nil, fmt.Errorf("make the data key of the backup: %w", err)
	}
	return key, nil
}

// backupKeyRef names the key in the HSM that encrypts the data key of a backup.
func backupKeyRef(header *backup.Header) kms.KeyRef {
	return kms.KeyRef{ID: header.Key.ID, Version: 1, Spec: kms.AES256, Usage: kms.EncryptDecrypt, Sealed: header.Key.Sealed}
}

// openDataKey decrypts the data key of a backup, which the caller clears.
func openDataKey(ctx context.Context, h kms.HSM, header *backup.Header) ([]byte, error) {
	bound, err := header.Bound()
	if err != nil {
		return nil, err
	}
	ref := backupKeyRef(header)
	key, err := h.Decrypt(ctx, ref, header.Key.IV, header.Key.Data, bound)
	if err != nil {
		switch kms.AsError(err).Code {
		case kms.CodeInvalidCiphertext:
			return nil, fmt.Errorf("%w: its header was changed", backup.ErrContent)
		case kms.CodeKeyUnavailable:
			return nil, fmt.Errorf("this HSM does not open the backup: it was made with other keys of tenant %q, or was changed (%w)", header.Tenant, err)
		}
		return nil, err
	}
	return key, h.DestroyKey(ctx, ref)
}

// backupTo writes a backup of the database as it is now. One is written at a time.
func (p *process) backupTo(ctx context.Context, w io.Writer) (header backup.Header, err error) {
	select {
	case p.backing <- struct{}{}:
		defer func() { <-p.backing }()
	case <-ctx.Done():
		return header, ctx.Err()
	}
	var out *backup.Writer
	pace := &pacer{}
	err = p.store.Snapshot(ctx, func(now *store.State) error {
		keys, defaults, err := p.store.CountKeys(ctx)
		if err != nil {
			return err
		}
		header = backup.Header{
			Created: p.now().UTC().Truncate(time.Millisecond), Tenant: now.Tenant, Node: now.Node, Format: now.Format, Change: now.Change,
			Entries: now.Entries, Keys: keys + defaults,
		}
		key, err := sealDataKey(ctx, p.hsm, &header)
		if err != nil {
			return err
		}
		defer clear(key)
		if out, err = backup.NewWriter(w, header, key); err != nil {
			return err
		}
		return p.cfg.addTo(out)
	}, func(key, value []byte) error {
		pace.step(ctx)
		return out.Entry(key, value)
	})
	if err == nil {
		err = out.Close()
	}
	if err != nil {
		return header, fmt.Errorf("backup: %w", err)
	}
	p.log.Info("backup written", slog.Uint64("change", header.Change), slog.Int("keys", header.Keys))
	return header, nil
}

// pacer rests in proportion to work.
type pacer struct {
	steps int
	since time.Time
}

func (p *pacer) step(ctx context.Context) {
	if p.steps++; p.steps%backupStep != 0 {
		return
	}
	now := time.Now()
	if !p.since.IsZero() {
		select {
		case <-time.After(min(backupRest*now.Sub(p.since), maxBackupRest)):
		case <-ctx.Done():
		}
	}
	p.since = time.Now()
}

// now is the time of the process's clock.
func (p *process) now() time.Time {
	if p.cfg.Clock != nil {
		return p.cfg.Clock.Now()
	}
	return time.Now()
}

// addTo adds the configuration to a backup: the file, without the source of the driver's credential, and the policies.
func (c *Config) addTo(out *backup.Writer) error {
	text, err := withoutCredential(c.text)
	if err == nil && len(text) > 0 {
		err = out.File("sidecar.yaml", text)
	}
	if err != nil || c.Policy.Dir == "" {
		return err
	}
	paths, err := c.Policy.paths()
	for _, path := range paths {
		var body []byte
		if err == nil {
			body, err = readPolicy(path)
		}
		if err == nil {
			err = out.File("policies/"+filepath.Base(path), body)
		}
	}
	return err
}

// withoutCredential removes the driver's credential from the text of a configuration.
func withoutCredential(text []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil || len(doc.Content) == 0 {
		return nil, err
	}
	at := doc.Content[0]
	for _, key := range []string{"hsm", "driver"} {
		if at = memberOf(at, key); at == nil {
			return text, nil
		}
	}
	for i := 0; i+1 < len(at.Content); i += 2 {
		if at.Content[i].Value == "credential" {
			at.Content = append(at.Content[:i:i], at.Content[i+2:]...)
			return yaml.Marshal(&doc)
		}
	}
	return text, nil
}

// memberOf returns a member of a mapping, nil if there is none.
func memberOf(n *yaml.Node, key string) *yaml.Node {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// streamBackup writes a backup to a caller.
func (p *process) streamBackup(ctx context.Context, w io.Writer) error {
	_, err := p.backupTo(ctx, w)
	return err
}

// readBackup reads a whole backup of this node, and compares it with its state record. It changes nothing.
func readBackup(ctx context.Context, h kms.HSM, path string) (*backup.Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	in, err := backup.Open(f)
	if err != nil {
		return nil, err
	}
	key, err := openDataKey(ctx, h, &in.Header)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	var check store.SnapshotCheck
	pace := &pacer{}
	if err := in.Read(key, func(_, _ []byte) error { return nil }, func(key, value []byte) error {
		pace.step(ctx)
		return errors.Join(ctx.Err(), check.Add(key, value))
	}); err != nil {
		return nil, err
	}
	found, err := check.End()
	if err == nil && (found.Change != in.Header.Change || found.Node != in.Header.Node || found.Tenant != in.Header.Tenant) {
		err = backup.ErrContent
	}
	return &in.Header, err
}
