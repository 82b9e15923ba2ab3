package alibaba

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The cloud's names of what the core has.
var (
	specs = map[string]kms.KeySpec{
		"Aliyun_AES_256": kms.AES256, "Aliyun_AES_192": kms.AES192, "Aliyun_AES_128": kms.AES128,
		"RSA_2048": kms.RSA2048, "RSA_3072": kms.RSA3072, "RSA_4096": kms.RSA4096, "EC_P256": kms.ECP256, "EC_P256K": kms.Secp256k1,
		// The published model has no names for HMAC keys: these are Keyside's own.
		"HMAC_256": kms.HMAC256, "HMAC_384": kms.HMAC384, "HMAC_512": kms.HMAC512,
	}
	usages = map[string]kms.KeyUsage{
		"ENCRYPT/DECRYPT": kms.EncryptDecrypt, "SIGN/VERIFY": kms.SignVerify, "GENERATE/VERIFY_MAC": kms.GenerateVerifyMAC,
	}
	origins      = map[string]kms.Origin{"Aliyun_KMS": kms.OriginKMS, "EXTERNAL": kms.OriginExternal}
	dataKeySpecs = map[string]int{"AES_256": 32, "AES_128": 16} // bytes
	signings     = map[string]kms.SigningAlgorithm{
		"RSA_PSS_SHA_256": kms.RSAPSSSHA256, "RSA_PKCS1_SHA_256": kms.RSAPKCS1SHA256, "ECDSA_SHA_256": kms.ECDSASHA256,
	}
	rsaAlgorithms = []string{string(kms.RSAOAEPSHA256), string(kms.RSAOAEPSHA1)}
	wrappingNames = []string{string(kms.WrapPKCS1), string(kms.WrapOAEPSHA1), string(kms.WrapOAEPSHA256)}
)

// nameOf returns the cloud's name of a value of the core, or the core's own if it has none.
func nameOf[V ~string](names map[string]V, value V) string {
	for name, v := range names {
		if v == value {
			return name
		}
	}
	return string(value)
}

const (
	levelSoftware = "SOFTWARE"
	levelHSM      = "HSM"
)

// states are the key states of the cloud. A key whose HSM is away counts as disabled.
var states = map[kms.KeyState]string{
	kms.Enabled: "Enabled", kms.Disabled: "Disabled", kms.PendingDeletion: "PendingDeletion", kms.PendingImport: "PendingImport",
	kms.Unavailable: "Disabled",
}

// stateOf returns the cloud's name of a state. One that the cloud does not have counts as disabled.
func stateOf(state kms.KeyState) string {
	if name, ok := states[state]; ok {
		return name
	}
	return states[kms.Disabled]
}

// date is a time as answers have it; empty for the zero time.
func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// keyMetadata is a key as CreateKey shows it: every value a string.
type keyMetadata struct {
	Arn                string
	KeyId              string
	KeyState           string
	KeySpec            string
	KeyUsage           string
	Origin             string
	ProtectionLevel    string
	Creator            string
	Description        string
	CreationDate       string
	DeleteDate         string
	MaterialExpireTime string
	LastRotationDate   string
	PrimaryKeyVersion  string `json:",omitempty"`
	AutomaticRotation  string
	RotationInterval   string `json:",omitempty"`
	NextRotationDate   string `json:",omitempty"`
	DKMSInstanceId     string `json:",omitempty"`
}

// describedKey is a key as DescribeKey shows it.
type describedKey struct {
	keyMetadata
	DeletionProtection            string
	DeletionProtectionDescription string
}

// inMetadata is an answer whose members are in KeyMetadata.
type inMetadata[T any] struct{ KeyMetadata T }

func (d *Dialect) metadataOf(k *kms.Key) keyMetadata {
	m := keyMetadata{
		Arn: d.arn("key/" + k.ID.String()), KeyId: k.ID.String(), KeyState: stateOf(k.State), KeySpec: nameOf(specs, k.Spec),
		KeyUsage: nameOf(usages, k.Usage), Origin: nameOf(origins, k.Origin), ProtectionLevel: levelOf(k), Creator: d.account,
		Description: k.Description, CreationDate: date(k.CreatedAt), DeleteDate: date(k.DeletionAt),
		MaterialExpireTime: date(k.MaterialExpiresAt), LastRotationDate: date(k.CreatedAt), AutomaticRotation: "Disabled",
		DKMSInstanceId: k.Instance,
	}
	if v := k.Current(); v != nil {
		m.LastRotationDate = date(v.CreatedAt)
		if k.Usage == kms.EncryptDecrypt && v.PublicKey == nil {
			m.PrimaryKeyVersion = VersionID(k.ID, v.Number)
		}
	}
	if r := &k.Rotation; r.Enabled {
		m.RotationInterval, m.NextRotationDate = strconv.Itoa(r.Interval*secondsPerDay)+"s", date(r.Next)
		if m.AutomaticRotation = "Enabled"; k.State != kms.Enabled {
			m.AutomaticRotation = "Suspended"
		}
	}
	return m
}

func (d *Dialect) descriptionOf(k *kms.Key) inMetadata[describedKey] {
	return inMetadata[describedKey]{describedKey{d.metadataOf(k), enabledOrDisabled(k.Protected.Enabled), k.Protected.Description}}
}

func enabledOrDisabled(on bool) string {
	if on {
		return "Enabled"
	}
	return "Disabled"
}

// levelOf is HSM for a key whose material is in an HSM that enforces its attributes.
func levelOf(k *kms.Key) string {
	if v := k.Current(); v != nil && v.Protection == kms.ProtectionHSM {
		return levelHSM
	}
	return levelSoftware
}

// VersionID returns the id of a key's version: a UUID of version 8 made of the key's id, which is one of version 4, and the
// version's number. Clients and their ciphertexts count on 36 characters.
func VersionID(id kms.KeyID, number uint32) string {
	id[6] ^= versionMark
	binary.BigEndian.PutUint32(id[12:], binary.BigEndian.Uint32(id[12:])^number)
	return id.String()
}

// versionMark turns a UUID of version 4 into one of version 8.
const versionMark = 0x40 ^ 0x80

// versionNumber returns the number of the version of a key that an id names, 0 if it is no id of such a version.
func versionNumber(id kms.KeyID, text string) uint32 {
	version, err := uuid.Parse(text)
	if err != nil {
		return 0
	}
	number := binary.BigEndian.Uint32(version[12:]) ^ binary.BigEndian.Uint32(id[12:])
	if VersionID(id, number) != text {
		return 0
	}
	return number
}

// keyVersion is a version of a key.
type keyVersion struct{ KeyId, KeyVersionId, CreationDate string }

func versionOf(k *kms.Key, v *kms.KeyVersion) keyVersion {
	return keyVersion{k.ID.String(), VersionID(k.ID, v.Number), date(v.CreatedAt)}
}

// page ends a list.
type page struct{ TotalCount, PageNumber, PageSize int }

// pageOf returns the page of a list that a request asks for, size elements where it does not say.
func pageOf[T any](x *dialect.Exchange, list []T, size int) ([]T, page) {
	number, size := paging(x, size)
	from := min((number-1)*size, len(list))
	return list[from:min(from+size, len(list))], page{len(list), number, size}
}

// paging returns the number and the size of the page that a request asks for.
func paging(x *dialect.Exchange, size int) (int, int) {
	if x.Has(pageSize) {
		size = int(x.Number(pageSize))
	}
	return int(max(x.Number(pageNumber), 1)), size
}

// Sizes of pages of which a request does not say.
const (
	defaultPage         = 10
	defaultInstancePage = 20
)

// tag is a tag of a key, and resourceTag one with its key.
type (
	tag         struct{ KeyId, TagKey, TagValue string }
	resourceTag struct{ ResourceId, ResourceType, TagKey, TagValue string }
)

const secondsPerDay = 24 * 60 * 60

// daysOf reads an interval such as 30d or 2592000s. It returns 0 for what is not a whole number of days.
func daysOf(text []byte) int {
	if len(text) < 2 {
		return 0
	}
	unit := map[byte]int{'d': secondsPerDay, 'h': 60 * 60, 'm': 60, 's': 1}[text[len(text)-1]]
	n, err := strconv.ParseUint(string(text[:len(text)-1]), 10, 31)
	if err != nil || int(n)*unit%secondsPerDay != 0 {
		return 0
	}
	return int(n) * unit / secondsPerDay
}
