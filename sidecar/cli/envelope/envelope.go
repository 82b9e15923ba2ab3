// Package envelope implements the format of files that keyside file encrypt writes: an unencrypted header, which holds the data
// key encrypted under a customer master key, and the content encrypted under the data key. FORMAT.md specifies it.
//
// The content is Tink's streaming AEAD AES256_GCM_HKDF_1MB (tink-crypto/tink-go/v2/streamingaead/subtle): segments of
// 1 MiB, each authenticated with its number and whether it is the last, so segments cannot be changed, swapped, dropped
// or truncated. The whole header is the associated data.
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
	// magic is the first line of every file; its number is the format's version.
	magic = "keyside-file/1\n"
	// KeySize is the length of a file's data key in bytes.
	KeySize = 32
	// segmentSize is the length of a ciphertext segment in bytes, that of AES256_GCM_HKDF_1MB.
	segmentSize = 1 << 20
	// maxHeader is the limit of the header line in bytes: an encryption context has at most 8192 characters.
	maxHeader = 64 << 10
)

// ErrFormat is a file of another format, or of a version that this program does not know.
var ErrFormat = errors.New("not a file made by keyside file encrypt (version 1)")

// ErrContent is a file whose content or header was changed, truncated or mixed with another file's.
var ErrContent = errors.New("file is damaged or was changed: it does not verify under its data key")

// Header is the unencrypted header of a file.
type Header struct {
	KeyID   string            `json:"key_id"`            // the customer master key
	DataKey []byte            `json:"data_key"`          // the data key, encrypted under the master key
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

// File is an encrypted file whose header is read and whose content is not.
type File struct {
	Header Header
	aad    []byte
	src    *bufio.Reader
}

// Open reads the header of src. It is not verified before Decrypt has read the first segment.
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
	// Accept only the one encoding of a header, because readers may differ in others.
	if canonical, err := marshal(f.Header); err != nil || !bytes.Equal(canonical, f.aad) {
		return nil, ErrFormat
	}
	return f, nil
}

// Decrypt decrypts the content under the data key and writes it to dst, segment by segment as each verifies. The content is
// complete only after a nil error; after another error dst holds at most a prefix of it. ErrContent if the content does not verify.
func (f *File) Decrypt(dst io.Writer, key []byte) error {
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
		return nil, fmt.Errorf("%w: its data key has %d bytes, not %d", ErrContent, len(key), KeySize)
	}
	return subtle.NewAESGCMHKDF(key, "SHA256", KeySize, segmentSize, 0)
}

// marshal returns the beginning of a file: magic and header.
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

// onlyReader and onlyWriter hide WriteTo and ReadFrom, so that copies use one buffer.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// sourceError keeps the error of a read, because Tink's reader does not return it.
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

// sinkError distinguishes a failed write from a failed read of the same copy.
type sinkError struct {
	io.Writer
	err error
}

func (s *sinkError) Write(p []byte) (int, error) {
	n, err := s.Writer.Write(p)
	s.err = err
	return n, err
}
