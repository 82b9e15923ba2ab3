package backup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/uuid"
)

var testKey = bytes.Repeat([]byte{7}, KeySize)

func testHeader(entries int) Header {
	return Header{
		Created: time.UnixMilli(1767322800123).UTC(), Tenant: "acme", Node: uuid.UUID{1}, Format: 3, Change: 42, Entries: uint64(entries) - 1, Keys: 5,
		Key: SealedKey{ID: uuid.UUID{2}, Sealed: []byte("sealed"), IV: []byte("iv"), Data: []byte("data")},
	}
}

// write returns a backup with a file and entries of a size, and what Read must return of it.
func write(t testing.TB, entries, size int) (file []byte, want []string) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, testHeader(entries), testKey)
	if err == nil {
		err = w.File("sidecar.yaml", []byte("tenant: acme"))
		want = append(want, "sidecar.yaml=tenant: acme")
	}
	for i := range entries {
		key, value := fmt.Appendf(nil, "%06d", i), bytes.Repeat([]byte{byte(i)}, size)
		err = errors.Join(err, w.Entry(key, value))
		want = append(want, string(key)+"="+string(value))
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), want
}

func read(r io.Reader, key []byte) (have []string, err error) {
	in, err := Open(r)
	if err != nil {
		return nil, err
	}
	take := func(name, value []byte) error {
		have = append(have, string(name)+"="+string(value))
		return nil
	}
	return have, in.Read(key, take, take)
}

func TestRoundTrip(t *testing.T) {
	for _, c := range []struct{ entries, size int }{{1, 0}, {3, 10}, {40, 100_000}} { // the last has several segments
		file, want := write(t, c.entries, c.size)
		for _, r := range []io.Reader{bytes.NewReader(file), iotest.HalfReader(bytes.NewReader(file))} {
			if have, err := read(r, testKey); err != nil || !slices.Equal(have, want) {
				t.Errorf("%d entries of %d bytes: %v, %d records of %d", c.entries, c.size, err, len(have), len(want))
			}
		}
		in, err := Open(bytes.NewReader(file))
		if err != nil || fmt.Sprint(in.Header) != fmt.Sprint(testHeader(c.entries)) {
			t.Errorf("header is %+v (%v)", in.Header, err)
		}
		if bytes.Contains(file, []byte("tenant: acme")) {
			t.Error("the configuration is readable")
		}
	}
}

// TestGolden reads a file of the first version of the format, which every later one must read.
func TestGolden(t *testing.T) {
	file, err := os.ReadFile("testdata/version1.backup")
	if err != nil {
		t.Fatal(err)
	}
	_, want := write(t, 3, 10)
	if have, err := read(bytes.NewReader(file), testKey); err != nil || !slices.Equal(have, want) {
		t.Errorf("it has %q (%v)", have, err)
	}
}

// TestDamaged cuts a backup at every length, flips a bit in every byte, and adds to it: all are refused.
func TestDamaged(t *testing.T) {
	file, _ := write(t, 3, 10)
	refused := func(what string, file []byte) {
		t.Helper()
		if have, err := read(bytes.NewReader(file), testKey); !errors.Is(err, ErrContent) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, %q", what, err, have)
		}
	}
	for n := range file {
		refused(fmt.Sprintf("cut to %d of %d bytes", n, len(file)), file[:n])
		for bit := range 8 {
			flipped := bytes.Clone(file)
			flipped[n] ^= 1 << bit
			refused(fmt.Sprintf("bit %d of byte %d is flipped", bit, n), flipped)
		}
	}
	refused("a byte is added", append(bytes.Clone(file), 0))
	if _, err := read(bytes.NewReader(file), bytes.Repeat([]byte{8}, KeySize)); !errors.Is(err, ErrContent) {
		t.Errorf("another data key: %v", err)
	}
	long, _ := write(t, 40, 100_000)
	for n := 0; n < len(long); n += 99_991 {
		refused(fmt.Sprintf("cut to %d of %d bytes", n, len(long)), long[:n])
		flipped := bytes.Clone(long)
		flipped[n] ^= 4
		refused(fmt.Sprintf("byte %d of %d is flipped", n, len(long)), flipped)
	}
	begin := bytes.LastIndexByte(long[:1000], '\n') + 1
	swapped := slices.Concat(long[:begin], long[begin+segmentSize:begin+2*segmentSize], long[begin:begin+segmentSize], long[begin+2*segmentSize:])
	refused("two segments are swapped", swapped)
}

// TestWrongContent writes what no backup has, under the right key.
func TestWrongContent(t *testing.T) {
	entry := func(w *Writer, key string) error { return w.Entry([]byte(key), nil) }
	for what, content := range map[string]func(*Writer) error{
		"the end is missing":    func(w *Writer) error { return errors.Join(entry(w, "a"), entry(w, "b"), w.out.Close()) },
		"an entry is missing":   func(w *Writer) error { return errors.Join(entry(w, "a"), w.Close()) },
		"keys are out of order": func(w *Writer) error { return errors.Join(entry(w, "b"), entry(w, "a"), w.Close()) },
		"a key comes twice":     func(w *Writer) error { return errors.Join(entry(w, "a"), entry(w, "a"), w.Close()) },
		"an unknown kind": func(w *Writer) error {
			return errors.Join(w.record(9, nil, nil), entry(w, "a"), entry(w, "b"), w.Close())
		},
		"a file after entries": func(w *Writer) error {
			return errors.Join(entry(w, "a"), w.record(kindFile, []byte("f"), nil), entry(w, "b"), w.Close())
		},
		"something follows": func(w *Writer) error {
			return errors.Join(entry(w, "a"), entry(w, "b"), w.record(kindEnd, nil, []byte{0, 0, 0, 0, 0, 0, 0, 2}), entry(w, "c"), w.out.Close())
		},
		"a value is too long": func(w *Writer) error {
			return errors.Join(entry(w, "a"), w.record(kindEntry, []byte("b"), make([]byte, maxValue+1)), w.Close())
		},
	} {
		var b bytes.Buffer
		w, err := NewWriter(&b, testHeader(2), testKey)
		if err == nil {
			err = content(w)
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := read(&b, testKey); !errors.Is(err, ErrContent) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestErrors checks that errors of the source, and of the functions, are returned as they are.
func TestErrors(t *testing.T) {
	file, _ := write(t, 40, 100_000)
	broken := errors.New("disk")
	for _, n := range []int{0, 10, 200, 2_000_000} {
		if _, err := read(io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken)), testKey); !errors.Is(err, broken) {
			t.Errorf("an error after %d bytes became %v", n, err)
		}
	}
	in, err := Open(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Read(testKey, func(_, _ []byte) error { return nil }, func(_, _ []byte) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("an error of the function became %v", err)
	}
	w, err := NewWriter(io.Discard, testHeader(1), testKey)
	if err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"an entry without a key": w.Entry(nil, nil), "a long key": w.Entry(make([]byte, maxKey+1), nil), "a long value": w.Entry([]byte("k"), make([]byte, maxValue+1)),
		"a file without a name": w.File("", nil), "a long file": w.File("f", make([]byte, maxFile+1)),
	} {
		if err == nil {
			t.Errorf("%s is written", what)
		}
	}
}

// TestBound holds that the data key is bound to everything that the header says besides it.
func TestBound(t *testing.T) {
	h := testHeader(2)
	base, err := h.Bound()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(base), "keyside backup v1\x00{") || bytes.Contains(base, []byte("c2VhbGVk")) {
		t.Errorf("it is bound to %q", base)
	}
	for what, change := range map[string]func(*Header){
		"time": func(h *Header) { h.Created = h.Created.Add(1) }, "tenant": func(h *Header) { h.Tenant = "x" }, "node": func(h *Header) { h.Node[0]++ },
		"format": func(h *Header) { h.Format++ }, "change": func(h *Header) { h.Change++ }, "entries": func(h *Header) { h.Entries++ },
		"keys": func(h *Header) { h.Keys++ }, "id of the key": func(h *Header) { h.Key.ID[0]++ },
	} {
		other := testHeader(2)
		change(&other)
		if b, err := other.Bound(); err != nil || bytes.Equal(b, base) {
			t.Errorf("%s is not bound (%v)", what, err)
		}
	}
}

// FuzzOpen reads arbitrary files.
func FuzzOpen(f *testing.F) {
	file, _ := write(f, 3, 10)
	f.Add(file)
	f.Add([]byte(magic + "{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := read(bytes.NewReader(b), testKey); err == nil && !bytes.Equal(b, file) {
			t.Error("a forged backup is accepted")
		}
	})
}

// FuzzContent reads arbitrary content under the right key: what is accepted has exactly one form.
func FuzzContent(f *testing.F) {
	f.Add([]byte{kindEntry, 1, 'a', 0, kindEntry, 1, 'b', 0, kindEnd, 0, 8, 0, 0, 0, 0, 0, 0, 0, 2})
	f.Add([]byte{kindFile, 1, 'f', 2, 'x', 'y', kindEnd, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, content []byte) {
		var b, again bytes.Buffer
		w, err := NewWriter(&b, testHeader(2), testKey)
		if err == nil {
			_, err = w.out.Write(content)
		}
		if err = errors.Join(err, w.out.Close()); err != nil {
			t.Fatal(err)
		}
		in, err := Open(&b)
		if err != nil {
			t.Fatal(err)
		}
		out, err := NewWriter(&again, testHeader(2), testKey)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Read(testKey, func(name, content []byte) error { return out.File(string(name), content) }, out.Entry); err != nil {
			return
		}
		if out.entries != 2 {
			t.Errorf("%d entries are accepted as 2", out.entries)
		}
	})
}
