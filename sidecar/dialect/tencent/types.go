package tencent

import (
	"fmt"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Words of requests and answers.
const (
	originTencent  = "TENCENT_KMS"
	originExternal = "EXTERNAL"
	all            = "ALL"
	typeFIPS       = 2 // of keys in answers: FIPS, not SM
	typeExternal   = 2 // of CreateKey: material is imported
	ownerUser      = "user"
	rawMessage     = "RAW"
	digestMessage  = "DIGEST"
)

// usages are the cloud's key usages, which say the key spec, too. Those without a spec cannot be made.
var usages = []struct {
	name  string
	spec  kms.KeySpec
	usage kms.KeyUsage
	// algorithm is the name in the answer of ListAlgorithms.
	algorithm string
}{
	{"ENCRYPT_DECRYPT", kms.AES256, kms.EncryptDecrypt, "AES_256"},
	{"ASYMMETRIC_DECRYPT_RSA_2048", kms.RSA2048, kms.EncryptDecrypt, "RSA_2048"},
	{"ASYMMETRIC_SIGN_VERIFY_ECC", kms.ECP256, kms.SignVerify, "ECC"},
	{"ASYMMETRIC_SIGN_VERIFY_RSA_2048", kms.RSA2048, kms.SignVerify, "RSA_2048"},
	{"ASYMMETRIC_SIGN_VERIFY_RSA_3072", kms.RSA3072, kms.SignVerify, "RSA_3072"},
	{"ASYMMETRIC_SIGN_VERIFY_ECDSA384", kms.ECP384, kms.SignVerify, "ECDSA384_SHA384"},
	{"ASYMMETRIC_DECRYPT_SM2", kms.SM2, "", ""},
	{"ASYMMETRIC_SIGN_VERIFY_SM2", kms.SM2, "", ""},
	{"ASYMMETRIC_SIGN_VERIFY_DILITHIUM", "", "", ""},
	{"ASYMMETRIC_Encrypt_Decrypt_Kyber_AES", "", "", ""},
}

var usageNames = func() (names []string) {
	for _, u := range usages {
		names = append(names, u.name)
	}
	return names
}()

// usageOf is the cloud's usage of a key. One of a kind that the cloud does not have, made through another API, gets a name of
// the same form; a symmetric key of any size encrypts.
func usageOf(k *kms.Key) string {
	for _, u := range usages {
		if u.usage == k.Usage && (u.spec == k.Spec || u.spec == kms.AES256 && (k.Spec == kms.AES128 || k.Spec == kms.AES192)) {
			return u.name
		}
	}
	if k.Usage == kms.SignVerify {
		return "ASYMMETRIC_SIGN_VERIFY_" + string(k.Spec)
	}
	return string(k.Usage)
}

// states are the key states as the wire names them.
var states = map[kms.KeyState]string{
	kms.Enabled: "Enabled", kms.Disabled: "Disabled", kms.PendingDeletion: "PendingDelete", kms.PendingImport: "PendingImport",
	kms.Archived: "Archived", kms.Unavailable: "Disabled",
}

// listedStates are the states by the numbers that ListKeyDetail has for them; 0 is all.
var listedStates = []kms.KeyState{"", kms.Enabled, kms.Disabled, kms.PendingDeletion, kms.PendingImport, kms.Archived}

// The algorithms. Of EncryptionAlgorithm, SM2 in its two forms cannot be done.
var (
	wrappingAlgorithms = []string{string(kms.WrapPKCS1), string(kms.WrapOAEPSHA1), string(kms.WrapOAEPSHA256)}
	dataKeySpecs       = map[string]int{"AES_128": 16, "AES_256": 32}
	signingAlgorithms  = map[string]kms.SigningAlgorithm{
		"ECC_P256_R1": kms.ECDSASHA256, "ECDSA384_SHA384": kms.ECDSASHA384, "RSA_PSS_SHA_256": kms.RSAPSSSHA256, "RSA_PKCS1_SHA_256": kms.RSAPKCS1SHA256,
		"SM2DSA": "",
	}
)

// keyMetadata is a key as DescribeKey shows it. Times are seconds since 1970, 0 for none.
type keyMetadata struct {
	KeyID              string `json:"KeyId"`
	Alias              string
	CreateTime         int64
	Description        string
	KeyState           string
	KeyUsage           string
	Type               int
	CreatorUin         int64
	KeyRotationEnabled bool
	Owner              string
	NextRotateTime     int64
	DeletionDate       int64
	Origin             string
	ValidTo            int64
	ResourceID         string `json:"ResourceId"`
	HsmClusterID       string `json:"HsmClusterId"`
	RotateDays         int
	LastRotateTime     int64
	IsSyncReplica      int
	SourceRegion       string
	SyncStatus         int
	SyncMessages       string
	SyncStartTime      int64
	SyncEndTime        int64
	SourceHsmClusterID string `json:"SourceHsmClusterId"`
}

func (d *Dialect) metadataOf(k *kms.Key) keyMetadata {
	m := keyMetadata{
		KeyID: k.ID.String(), Alias: k.Alias, CreateTime: k.CreatedAt.Unix(), Description: k.Description, KeyState: states[k.State],
		KeyUsage: usageOf(k), Type: typeFIPS, CreatorUin: d.UIN, KeyRotationEnabled: k.Rotation.Enabled, Owner: ownerUser,
		NextRotateTime: seconds(k.Rotation.Next), DeletionDate: seconds(k.DeletionAt), Origin: originOf(k), ValidTo: seconds(k.MaterialExpiresAt),
		ResourceID: fmt.Sprintf("creatorUin/%d/%s", d.UIN, k.ID), RotateDays: k.Rotation.Interval, LastRotateTime: seconds(k.Rotation.Last),
	}
	if k.IsDefault() {
		m.Owner = k.Service
	}
	return m
}

func originOf(k *kms.Key) string {
	if k.Origin == kms.OriginExternal {
		return originExternal
	}
	return originTencent
}

// seconds is a time in seconds since 1970, 0 for the zero time.
func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// appendKeyID begins an answer with the key's id.
func appendKeyID(b []byte, id kms.KeyID) []byte {
	return append(dialect.AppendID(append(b, `{"KeyId":"`...), id), '"')
}
