package backup

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

// Reader is a backup whose header is read and whose content is not.
type Reader struct {
	Header Header
	begin  []byte
	in     *bufio.Reader
	src    *sourceError // below in
}

// Open reads the header of src. Nothing in it is verified before the data key opens and Read has returned.
func Open(src io.Reader) (*Reader, error) {
	in := &sourceError{Reader: src}
	r := bufio.NewReaderSize(in, maxHeader)
	begin, err := r.Peek(len(magic))
	if err != nil || string(begin) != magic {
		return nil, in.or(ErrFormat)
	}
	if _, err := r.Discard(len(magic)); err != nil {
		return nil, err
	}
	line, err := r.ReadSlice('\n')
	if err != nil {
		return nil, in.or(ErrFormat)
	}
	header, err := parse(line)
	if err != nil {
		return nil, err
	}
	return &Reader{Header: header, begin: append([]byte(magic), line...), in: r, src: in}, nil
}

// Read calls file with every file of the configuration, and then entry with every entry of the database, in the order of their keys. What they
// get is authentic, but complete only after a nil error, and valid until they return. It returns their first error, or ErrContent.
func (r *Reader) Read(key []byte, file, entry func(name, value []byte) error) error {
	aead, err := newAEAD(key)
	if err != nil {
		return err
	}
	content, err := aead.NewDecryptingReader(r.in, r.begin)
	if err != nil {
		return r.src.or(ErrContent)
	}
	x := &records{in: bufio.NewReaderSize(content, 64<<10), file: file, entry: entry}
	if err := x.read(); err != nil {
		if x.own {
			return err
		}
		return r.src.or(ErrContent)
	}
	if x.entries != r.Header.Entries+1 { // the state record does not count itself
		return ErrContent
	}
	return nil
}

// records reads the content.
type records struct {
	in          *bufio.Reader
	file, entry func(name, value []byte) error
	own         bool // the error is that of a function
	files       int
	entries     uint64
	name, value []byte
	last        []byte
}

func (x *records) read() error {
	for {
		kind, err := x.in.ReadByte()
		if err != nil {
			return err
		}
		if err := x.next(kind); err != nil {
			return err
		}
		switch {
		case kind == kindEnd:
			if len(x.name) != 0 || !bytes.Equal(x.value, binary.BigEndian.AppendUint64(nil, x.entries)) {
				return ErrContent
			}
			if _, err := x.in.ReadByte(); !errors.Is(err, io.EOF) {
				return ErrContent
			}
			return nil
		case kind == kindFile && x.entries == 0 && x.files < maxFiles:
			x.files++
			err = x.file(x.name, x.value)
		case kind == kindEntry && bytes.Compare(x.name, x.last) > 0:
			x.entries++
			x.last = append(x.last[:0], x.name...)
			err = x.entry(x.name, x.value)
		default:
			return ErrContent
		}
		if err != nil {
			x.own = true
			return err
		}
	}
}

// next reads the name and the value of a record.
func (x *records) next(kind byte) (err error) {
	names, values := maxKey, maxValue
	if kind == kindFile {
		names, values = maxName, maxFile
	}
	if x.name, err = x.bytes(x.name, names); err == nil {
		x.value, err = x.bytes(x.value, values)
	}
	return err
}

// bytes reads a length and so many bytes into a buffer, which it returns.
func (x *records) bytes(buffer []byte, most int) ([]byte, error) {
	n, err := binary.ReadUvarint(x.in)
	if err != nil {
		return nil, err
	}
	if n > uint64(most) {
		return nil, ErrContent
	}
	if uint64(cap(buffer)) < n {
		buffer = make([]byte, n)
	}
	buffer = buffer[:n]
	_, err = io.ReadFull(x.in, buffer)
	return buffer, err
}

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
