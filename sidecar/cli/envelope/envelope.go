// Package envelope is the format of files that `keyside file encrypt` makes: a header in the clear with the data key
// encrypted under a customer master key, and the content under the data key. FORMAT.md specifies it.
//
// The content is Tink's streaming AEAD AES256_GCM_HKDF_1MB (tink-crypto/tink-go/v2/streamingaead/subtle): segments of
// 1 MiB, each authenticated with its number and whether it is the last, so segments cannot be changed, swapped, dropped
// or cut off at the end. The whole header is the associated data.
package envelope

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

const (
	// magic opens every file; its number is the format's version.
	magic = "keyside-file/1\n"
	// KeySize is the length of a file's data key in bytes.
	KeySize = 32
	// segmentSize is the length of a ciphertext segment in bytes, that of AES256_GCM_HKDF_1MB.
	segmentSize = 1 << 20
	// maxHeader bounds the header line in bytes: an encryption context has at most 8192 characters.
	maxHeader = 64 << 10
)

// ErrFormat says that a file is none of ours, or of a version that this program does not know.
var ErrFormat = errors.New("not a file made by keyside file encrypt (version 1)")

// ErrContent says that a file's content or header was changed, cut short or mixed with another's.
var ErrContent = errors.New("file is damaged or was changed: it does not verify under its data key")

// Header is what a file says in the clear about itself.
type Header struct {
	KeyID   string            `json:"key_id"`            // the customer master key
	DataKey []byte            `json:"data_key"`          // the data key, encrypted under it
	Context map[string]string `json:"context,omitempty"` // encryption context that the data key is bound to
}

// Encrypt writes header and then src, encrypted under key (KeySize bytes), to dst.
func Encrypt(dst io.Writer, src io.Reader, header Header, key []byte) error {
	aad, err := marshal(header)
	if err != nil {
		return err
	}
	if _, err := dst.Write(aad); err != nil {
		return err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	w, err := aead.NewEncryptingWriter(dst, aad)
	if err != nil {
		return err
	}
	if _, err := io.CopyBuffer(onlyWriter{w}, onlyReader{src}, make([]byte, segmentSize)); err != nil {
		return err
	}
	return w.Close()
}

// File is an encrypted file whose header has been read and whose content has not.
type File struct {
	Header Header
	aad    []byte
	src    *bufio.Reader
}

// Open reads the header of src. What it says is not verified before Decrypt has read the first segment.
func Open(src io.Reader) (*File, error) {
	r := bufio.NewReaderSize(src, maxHeader)
	start, err := r.Peek(len(magic))
	if err != nil || string(start) != magic {
		return nil, ErrFormat
	}
	if _, err := r.Discard(len(magic)); err != nil {
		return nil, err
	}
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, ErrFormat
	}
	f := &File{aad: append([]byte(magic), line...), src: r}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f.Header); err != nil || f.Header.KeyID == "" || len(f.Header.DataKey) == 0 {
		return nil, ErrFormat
	}
	// One header has one encoding, so nothing hides in a second one that another reader might read differently.
	if canonical, err := marshal(f.Header); err != nil || !bytes.Equal(canonical, f.aad) {
		return nil, ErrFormat
	}
	return f, nil
}

// Decrypt writes the content to dst under the data key, segment by segment as each verifies. Only a nil error says that
// the content is whole: after any other, what dst received is a true beginning at best.
func (f *File) Decrypt(dst io.Writer, key []byte) error {
	if len(key) != KeySize {
		return ErrContent
	}
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	src := &sourceError{Reader: f.src}
	r, err := aead.NewDecryptingReader(src, f.aad)
	if err != nil {
		return src.or(ErrContent)
	}
	out := &sinkError{Writer: dst}
	if _, err := io.CopyBuffer(out, onlyReader{r}, make([]byte, segmentSize)); err != nil {
		if out.err != nil {
			return out.err
		}
		return src.or(ErrContent)
	}
	return nil
}

func newAEAD(key []byte) (*subtle.AESGCMHKDF, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("data key has %d bytes, not %d", len(key), KeySize)
	}
	return subtle.NewAESGCMHKDF(key, "SHA256", KeySize, segmentSize, 0)
}

// marshal returns the header as the file begins with it.
func marshal(h Header) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(magic)
	enc := json.NewEncoder(&b) // sorts the context's names and ends in a newline
	enc.SetEscapeHTML(false)
	if err := enc.Encode(h); err != nil {
		return nil, err
	}
	if b.Len() > maxHeader {
		return nil, fmt.Errorf("header has %d bytes, more than %d: use a shorter context", b.Len(), maxHeader)
	}
	return b.Bytes(), nil
}

// onlyReader and onlyWriter hide ReadFrom and WriteTo, so that copies go through the one buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// sourceError remembers why reading failed, which Tink's reader does not pass on.
type sourceError struct {
	io.Reader
	err error
}

func (s *sourceError) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

func (s *sourceError) or(otherwise error) error {
	if s.err != nil {
		return s.err
	}
	return otherwise
}

// sinkError tells a failed write from a failed read of the same copy.
type sinkError struct {
	io.Writer
	err error
}

func (s *sinkError) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	s.err = err
	return n, err
}
