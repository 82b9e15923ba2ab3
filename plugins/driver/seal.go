package driver

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// SealFormat is how the material inside a seal record is wrapped.
type SealFormat uint8

// The wrap formats. The numbers are stored and never change their meaning.
const (
	SealRFC5649 SealFormat = 1 // AES key wrap with padding, RFC 5649
	SealRFC3394 SealFormat = 2 // AES key wrap, RFC 3394
	SealCBCPad  SealFormat = 3 // AES-CBC with PKCS#7 padding under a random IV that precedes the ciphertext
)

// String returns the format's name as Description.seal_format spells it.
func (f SealFormat) String() string {
	switch f {
	case SealRFC5649:
		return "rfc5649"
	case SealRFC3394:
		return "rfc3394"
	case SealCBCPad:
		return "cbc-pad"
	}
	return fmt.Sprintf("unknown-%d", uint8(f))
}

// SealRecord is the stored form of a sealed key of the built-in drivers: the wrapped material and its identity under a MAC of the
// tenant's MAC key. The attributes of a working key must come from the record, after the MAC was verified.
//
// Layout, integers big-endian:
//
//	"KSR1" | format 1 | protection 1 | root 4 | spec 1 | usage 1 | key id 16 | version 4 |
//	tenant length 1 | tenant | wrapped length 2 | wrapped | MAC 32
type SealRecord struct {
	Format     SealFormat
	Protection Protection
	Root       uint32
	Key        *KeyIdentity
	Tenant     string
	Wrapped    []byte
	MAC        []byte // HMAC-SHA-256 over SealMACLabel and Authenticated
}

const (
	sealMagic   = "KSR1"
	maxWrapped  = 16 << 10
	maxTenant   = 64
	sealMinSize = len(sealMagic) + 1 + 1 + 4 + 1 + 1 + KeyIDSize + 4 + 1 + 2 + MACSize
)

// Authenticated returns the bytes that the record's MAC covers, without the label: all of the record but the MAC.
func (r *SealRecord) Authenticated() []byte {
	b := make([]byte, 0, sealMinSize+len(r.Tenant)+len(r.Wrapped))
	b = append(b, sealMagic...)
	b = append(b, byte(r.Format), byte(r.Protection))
	b = binary.BigEndian.AppendUint32(b, r.Root)
	b = append(b, byte(r.Key.GetSpec()), byte(r.Key.GetUsage()))
	b = append(b, r.Key.GetKeyId()...)
	b = binary.BigEndian.AppendUint32(b, r.Key.GetVersion())
	b = append(b, byte(len(r.Tenant)))
	b = append(b, r.Tenant...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Wrapped)))
	return append(b, r.Wrapped...)
}

// Seal authenticates the record with mac, which returns the tenant's HMAC-SHA-256 over SealMACLabel and the given bytes, and
// returns the stored form.
func (r *SealRecord) Seal(mac func([]byte) ([]byte, error)) (sealed []byte, err error) {
	if r.MAC, err = mac(r.Authenticated()); err != nil {
		return nil, err
	}
	return r.Marshal()
}

// OpenSealRecord parses the stored form of a tenant's key id and checks its MAC. Every fault of the record is SealInvalid; an
// error of mac is returned as it is.
func OpenSealRecord(tenant string, id *KeyIdentity, sealed []byte, mac func([]byte) ([]byte, error)) (*SealRecord, error) {
	r, err := ParseSealRecord(sealed)
	if err != nil {
		return nil, err
	}
	want, err := mac(r.Authenticated())
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(r.MAC, want) != 1 {
		return nil, Errorf(SealInvalid, "seal record is not authentic")
	}
	return r, r.Matches(tenant, id)
}

// Marshal returns the stored form. The MAC must be set.
func (r *SealRecord) Marshal() ([]byte, error) {
	if err := CheckIdentity(r.Key); err != nil {
		return nil, err
	}
	if len(r.MAC) != MACSize || len(r.Wrapped) == 0 || len(r.Wrapped) > maxWrapped || CheckTenant(r.Tenant) != nil {
		return nil, Errorf(Internal, "seal record incomplete")
	}
	return append(r.Authenticated(), r.MAC...), nil
}

// ParseSealRecord parses a stored record without verifying its MAC. Every fault is SealInvalid.
func ParseSealRecord(b []byte) (*SealRecord, error) {
	if len(b) < sealMinSize || !bytes.HasPrefix(b, []byte(sealMagic)) {
		return nil, Errorf(SealInvalid, "not a seal record")
	}
	r := &SealRecord{Format: SealFormat(b[4]), Protection: Protection(b[5]), Root: binary.BigEndian.Uint32(b[6:])}
	r.Key = &KeyIdentity{
		Spec: KeySpec(b[10]), Usage: KeyUsage(b[11]), KeyId: bytes.Clone(b[12 : 12+KeyIDSize]),
		Version: binary.BigEndian.Uint32(b[28:]),
	}
	tenantLen := int(b[32])
	rest := b[33:]
	if tenantLen == 0 || tenantLen > maxTenant || len(rest) < tenantLen+2+MACSize {
		return nil, Errorf(SealInvalid, "seal record truncated")
	}
	r.Tenant = string(rest[:tenantLen])
	rest = rest[tenantLen:]
	wrappedLen := int(binary.BigEndian.Uint16(rest))
	rest = rest[2:]
	if wrappedLen == 0 || wrappedLen > maxWrapped || len(rest) != wrappedLen+MACSize {
		return nil, Errorf(SealInvalid, "seal record has a wrong length")
	}
	r.Wrapped = bytes.Clone(rest[:wrappedLen])
	r.MAC = bytes.Clone(rest[wrappedLen:])
	if CheckIdentity(r.Key) != nil || CheckTenant(r.Tenant) != nil {
		return nil, Errorf(SealInvalid, "seal record has no valid key identity")
	}
	return r, nil
}

// Matches returns SealInvalid unless the record is the key id of the tenant.
func (r *SealRecord) Matches(tenant string, id *KeyIdentity) error {
	if r.Tenant != tenant {
		return Errorf(SealInvalid, "seal record is of another tenant")
	}
	return CheckSameKey(r.Key, id)
}

// CheckSameKey returns SealInvalid unless both identities are the same.
func CheckSameKey(sealed, id *KeyIdentity) error {
	if !bytes.Equal(sealed.GetKeyId(), id.GetKeyId()) || sealed.GetVersion() != id.GetVersion() ||
		sealed.GetSpec() != id.GetSpec() || sealed.GetUsage() != id.GetUsage() {
		return Errorf(SealInvalid, "seal record is of another key")
	}
	return nil
}

// CheckIdentity returns InvalidArgument for an incomplete identity. It does not check whether spec and usage exist.
func CheckIdentity(id *KeyIdentity) error {
	if len(id.GetKeyId()) != KeyIDSize || id.GetVersion() == 0 {
		return Errorf(InvalidArgument, "key identity incomplete")
	}
	// A seal record has one byte for each: a larger number would become another spec or usage.
	if id.GetSpec() < 1 || id.GetSpec() > 255 || id.GetUsage() < 1 || id.GetUsage() > 255 {
		return Errorf(InvalidArgument, "key identity without spec or usage")
	}
	return nil
}

// CheckTenant returns InvalidArgument for a tenant name outside [a-z0-9-]{1,64}.
func CheckTenant(name string) error {
	if name == "" || len(name) > maxTenant {
		return Errorf(InvalidArgument, "tenant name must have 1 to %d characters", maxTenant)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return Errorf(InvalidArgument, "tenant name may hold a-z, 0-9 and - only")
		}
	}
	return nil
}
