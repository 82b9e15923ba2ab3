package audit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A checkpoint is a note (c2sp.org/signed-note) in the form of c2sp.org/tlog-checkpoint: origin, number of records and root,
// a line each. The extension lines say from where the log continues after earlier files were removed.
//
//	keyside/TENANT/ID
//	1234
//	base64 of the root
//	range base64 of the compact range, hash after hash
//	file NUMBER OFFSET
//	time RFC 3339, UTC
//
// It is signed with the tenant's audit key: ECDSA on P-256 with SHA-256, the note's signature type 2. The key id depends on
// the key alone.
type checkpoint struct {
	origin string
	tree   tree
	file   int   // number of the file with the last record
	offset int64 // end of that record in the file, in bytes
	time   time.Time
}

const (
	checkpointName   = "checkpoint"            // the newest one
	checkpointOfFile = "audit-%08d.checkpoint" // as that file ended
	// maxCheckpoint limits a checkpoint, in bytes. It is far above 64 hashes, some lines and a signature.
	maxCheckpoint = 8 << 10
)

var errCheckpoint = errors.New("not a checkpoint of an audit log")

// originOf returns the origin of a log, which is also the name of its key.
func originOf(tenant, id string) string { return "keyside/" + tenant + "/" + id }

// isLogID reports whether text is the id of a log, 16 hexadecimal digits.
func isLogID(text string) bool {
	return len(text) == 16 && strings.Trim(text, "0123456789abcdef") == ""
}

func (c *checkpoint) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\nrange %s\nfile %d %d\ntime %s\n", c.origin, c.tree.size(), base64.StdEncoding.EncodeToString(c.tree.root()),
		base64.StdEncoding.EncodeToString(slices.Concat(c.tree.hashes()...)), c.file, c.offset, c.time.UTC().Format(time.RFC3339))
	return b.String()
}

// parseCheckpoint parses the text of a checkpoint. It accepts only what text returns.
func parseCheckpoint(text string) (*checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 7 {
		return nil, errCheckpoint
	}
	size, err1 := strconv.ParseUint(lines[1], 10, 63)
	rangeText, ok := strings.CutPrefix(lines[3], "range ")
	joined, err2 := base64.StdEncoding.DecodeString(rangeText)
	c := &checkpoint{origin: lines[0]}
	_, err3 := fmt.Sscanf(lines[4], "file %d %d", &c.file, &c.offset)
	at, err4 := time.Parse("time "+time.RFC3339, lines[5])
	if err := errors.Join(err1, err2, err3, err4); err != nil || !ok || len(joined)%hashSize != 0 {
		return nil, errCheckpoint
	}
	c.time = at
	if c.tree, err1 = treeOf(size, slices.Collect(slices.Chunk(joined, hashSize))); err1 != nil || c.text() != text {
		return nil, errCheckpoint
	}
	return c, nil
}

// openCheckpoint parses a checkpoint and verifies that one of the verifiers' keys signed it.
func openCheckpoint(b []byte, verifiers []note.Verifier) (*checkpoint, error) {
	if len(b) > maxCheckpoint {
		return nil, errCheckpoint
	}
	n, err := note.Open(b, note.VerifierList(verifiers...))
	if err != nil {
		var unverified *note.UnverifiedNoteError
		if errors.As(err, &unverified) {
			return nil, errors.New("not signed by a trusted key")
		}
		return nil, err
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return nil, err
	}
	if len(n.Sigs) != 1 || n.Sigs[0].Name != c.origin {
		return nil, errors.New("not signed by one key with the name of its log")
	}
	sig, _ := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if base64.StdEncoding.EncodeToString(sig) != n.Sigs[0].Base64 { // decoding ignores some bits
		return nil, errors.New("its signature is not in canonical form")
	}
	return c, nil
}

// readCheckpoint reads the file of a checkpoint and verifies its signature.
func readCheckpoint(dir, name string, verifiers []note.Verifier) (*checkpoint, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	c, err := openCheckpoint(b, verifiers)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c, nil
}

// readUnverified reads the file of a checkpoint without verifying its signature.
func readUnverified(dir, name string) (*checkpoint, error) {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	var unverified *note.UnverifiedNoteError
	if _, err := note.Open(b, nil); !errors.As(err, &unverified) {
		return nil, fmt.Errorf("%s: %w", name, errCheckpoint)
	}
	return parseCheckpoint(unverified.Note.Text)
}

// typeECDSA is the signature type of ECDSA in c2sp.org/signed-note.
const typeECDSA = 2

// verifier is a public key that signs checkpoints. It implements note.Verifier.
type verifier struct {
	name string
	der  []byte // SubjectPublicKeyInfo
	key  *ecdsa.PublicKey
}

// newVerifier returns the verifier of a log's audit key.
func newVerifier(origin string, der []byte) (*verifier, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("audit key: %w", err)
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("audit key is not an ECDSA key on P-256")
	}
	if again, err := x509.MarshalPKIXPublicKey(key); err != nil || !bytes.Equal(again, der) {
		return nil, errors.New("audit key is not in canonical form")
	}
	return &verifier{name: origin, der: der, key: key}, nil
}

// VerifierKey is a public key that verifies checkpoints.
type VerifierKey = note.Verifier

// ParseVerifier parses the verifier key of an audit log from its text form, NAME+KEYID+BASE64.
func ParseVerifier(text string) (VerifierKey, error) {
	name, rest, _ := strings.Cut(text, "+")
	_, encoded, _ := strings.Cut(rest, "+")
	b, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(b) < 2 || b[0] != typeECDSA || name == "" {
		return nil, errors.New("not a verifier key of an audit log: NAME+KEYID+BASE64 with an ECDSA key")
	}
	v, err := newVerifier(name, b[1:])
	if err == nil && v.String() != text {
		err = errors.New("not a verifier key: its parts do not match")
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

// String returns the text form.
func (v *verifier) String() string {
	return fmt.Sprintf("%s+%08x+%s", v.name, v.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{typeECDSA}, v.der...)))
}

// Name implements note.Verifier.
func (v *verifier) Name() string { return v.name }

// KeyHash implements note.Verifier.
func (v *verifier) KeyHash() uint32 {
	sum := sha256.Sum256(v.der)
	return binary.BigEndian.Uint32(sum[:])
}

// Verify implements note.Verifier.
func (v *verifier) Verify(msg, sig []byte) bool {
	digest := sha256.Sum256(msg)
	return ecdsa.VerifyASN1(v.key, digest[:], sig)
}

// SignFunc signs a SHA-256 digest with the tenant's audit key: ECDSA on P-256, ASN.1 DER.
type SignFunc func(ctx context.Context, digest []byte) ([]byte, error)

// signer signs notes. It implements note.Signer.
type signer struct {
	*verifier
	ctx  context.Context // of one signature
	sign SignFunc
}

// Sign implements note.Signer. It returns an error if the signature does not verify.
func (s *signer) Sign(msg []byte) ([]byte, error) {
	digest := sha256.Sum256(msg)
	sig, err := s.sign(s.ctx, digest[:])
	if err == nil && !s.Verify(msg, sig) {
		err = errors.New("the HSM's signature does not verify under the tenant's audit key")
	}
	return sig, err
}
