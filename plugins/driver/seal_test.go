package driver

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

func drawRecord(t *rapid.T) *SealRecord {
	bytesOf := func(min, max int, name string) []byte { return rapid.SliceOfN(rapid.Byte(), min, max).Draw(t, name) }
	return &SealRecord{
		Format:     SealFormat(rapid.Byte().Draw(t, "format")),
		Protection: Protection(rapid.Byte().Draw(t, "protection")),
		Root:       rapid.Uint32().Draw(t, "root"),
		Key: &KeyIdentity{
			KeyId: bytesOf(KeyIDSize, KeyIDSize, "key id"), Version: rapid.Uint32Min(1).Draw(t, "version"),
			Spec: KeySpec(rapid.IntRange(1, 255).Draw(t, "spec")), Usage: KeyUsage(rapid.IntRange(1, 255).Draw(t, "usage")),
		},
		Tenant: rapid.StringMatching(`[a-z0-9-]{1,64}`).Draw(t, "tenant"), Wrapped: bytesOf(1, 500, "wrapped"), MAC: bytesOf(MACSize, MACSize, "mac"),
	}
}

func TestSealRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawRecord(t)
		b, err := want.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:len(b)-MACSize], want.Authenticated()) {
			t.Fatal("the mac does not cover all that precedes it")
		}
		got, err := ParseSealRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.Format != want.Format || got.Protection != want.Protection || got.Root != want.Root || got.Tenant != want.Tenant ||
			!proto.Equal(got.Key, want.Key) || !bytes.Equal(got.Wrapped, want.Wrapped) || !bytes.Equal(got.MAC, want.MAC) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if err := got.Matches(want.Tenant, want.Key); err != nil {
			t.Fatal(err)
		}
	})
}

// Two records that differ in anything have different authenticated bytes: bytes of one field cannot count as bytes of the next.
func TestSealRecordIsInjective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawRecord(t), drawRecord(t)
		b.MAC = a.MAC
		same := a.Format == b.Format && a.Protection == b.Protection && a.Root == b.Root && a.Tenant == b.Tenant &&
			proto.Equal(a.Key, b.Key) && bytes.Equal(a.Wrapped, b.Wrapped)
		if bytes.Equal(a.Authenticated(), b.Authenticated()) != same {
			t.Fatalf("%+v and %+v", a, b)
		}
	})
}

func sampleRecord() *SealRecord {
	return &SealRecord{
		Format: SealRFC5649, Protection: ProtectionHSM, Root: 1, Tenant: "acme", Wrapped: bytes.Repeat([]byte{7}, 40), MAC: make([]byte, MACSize),
		Key: &KeyIdentity{KeyId: bytes.Repeat([]byte{9}, KeyIDSize), Version: 3, Spec: AES256, Usage: EncryptDecrypt},
	}
}

func TestSealRecordMatches(t *testing.T) {
	r := sampleRecord()
	for what, change := range map[string]func(*KeyIdentity){
		"key id":  func(id *KeyIdentity) { id.KeyId[0] ^= 1 },
		"version": func(id *KeyIdentity) { id.Version++ },
		"spec":    func(id *KeyIdentity) { id.Spec = AES128 },
		"usage":   func(id *KeyIdentity) { id.Usage = Unwrap },
	} {
		id := proto.CloneOf(r.Key)
		change(id)
		if err := r.Matches(r.Tenant, id); CodeOf(err) != SealInvalid {
			t.Errorf("another %s: %v", what, err)
		}
	}
	if err := r.Matches("other", r.Key); CodeOf(err) != SealInvalid {
		t.Errorf("another tenant: %v", err)
	}
}

func TestSealRecordRefusesWhatItCannotHold(t *testing.T) {
	for what, change := range map[string]func(*SealRecord){
		"spec above a byte":  func(r *SealRecord) { r.Key.Spec = 256 + AES128 },
		"usage above a byte": func(r *SealRecord) { r.Key.Usage = 256 + Unwrap },
		"short key id":       func(r *SealRecord) { r.Key.KeyId = r.Key.KeyId[1:] },
		"version 0":          func(r *SealRecord) { r.Key.Version = 0 },
		"no tenant":          func(r *SealRecord) { r.Tenant = "" },
		"no wrapped bytes":   func(r *SealRecord) { r.Wrapped = nil },
		"too many bytes":     func(r *SealRecord) { r.Wrapped = make([]byte, maxWrapped+1) },
		"short mac":          func(r *SealRecord) { r.MAC = r.MAC[1:] },
	} {
		r := sampleRecord()
		change(r)
		if b, err := r.Marshal(); err == nil {
			t.Errorf("%s: %d bytes", what, len(b))
		}
	}
}

func TestParseSealRecordRefuses(t *testing.T) {
	whole, err := sampleRecord().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if _, err := ParseSealRecord(whole[:n]); CodeOf(err) != SealInvalid {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	if _, err := ParseSealRecord(append(whole, 0)); CodeOf(err) != SealInvalid {
		t.Errorf("a byte too many: %v", err)
	}
}

// FuzzSealRecord: nothing crashes, and what parses is written back byte for byte.
func FuzzSealRecord(f *testing.F) {
	whole, err := sampleRecord().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(whole[:sealMinSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseSealRecord(b)
		if err != nil {
			if CodeOf(err) != SealInvalid {
				t.Errorf("fault is %s", CodeOf(err))
			}
			return
		}
		again, err := r.Marshal()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%x became %x, %v", b, again, err)
		}
	})
}
