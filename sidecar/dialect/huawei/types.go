package huawei

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// dataKeySpecs are the lengths in bytes that create-datakey has names for.
var dataKeySpecs = map[string]int{
	"AES_256": 32, "AES_128": 16, "SM4": 16, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64, "HMAC_SM3": 32,
}

// curves are this cloud's names of the curves of data key pairs; those of master keys are the core's own.
var curves = map[string]kms.KeySpec{
	"ECC_NIST_P256": kms.ECP256, "ECC_NIST_P384": kms.ECP384, "ECC_NIST_P521": kms.ECP521, "ECC_SECG_P256K1": kms.Secp256k1,
}

// states are the key states as the wire numbers them. 7 is "frozen", the nearest there is to a key whose HSM is away. An archived
// key, which other clouds have, is shown as disabled.
var states = map[kms.KeyState]string{
	kms.Enabled: "2", kms.Disabled: "3", kms.PendingDeletion: "4", kms.PendingImport: "5", kms.Archived: "3", kms.Unavailable: "7",
}

// waiting is state 1, "waiting activation", which no key of the core is ever in.
const waiting kms.KeyState = "PendingActivation"

// numbered are the states by their numbers from 1 to 5, but those of archived keys.
var numbered = map[int64]kms.KeyState{1: waiting, 2: kms.Enabled, 4: kms.PendingDeletion, 5: kms.PendingImport}

// Words of requests.
const (
	allSpecs      = "ALL"
	digestMessage = "DIGEST"
	rawMessage    = "RAW"
	ecdh          = "ECDH"
	createTags    = "create"
	deleteTags    = "delete"
	filterKeys    = "filter"
	countKeys     = "count"
)

// The enumerations. Most names are the core's own.
var (
	specNames = kms.SpecNames(kms.AES, kms.SM, kms.RSA, kms.EC, kms.HMAC)
	// importedSpecs are those that only keys of origin external have: this cloud makes no such keys, and people bring them.
	importedSpecs        = map[kms.KeySpec]bool{kms.AES128: true, kms.AES192: true}
	usageNames           = kms.UsageNames()
	dataKeySpecNames     = slices.Sorted(maps.Keys(dataKeySpecs))
	rsaPairSpecs         = kms.SpecNames(kms.RSA)
	ecPairSpecs          = slices.Sorted(maps.Keys(curves))
	encryptionAlgorithms = kms.EncryptionNames()
	signingAlgorithms    = kms.SigningNames()
	macAlgorithms        = kms.MACNames()
	wrappingAlgorithms   = kms.WrappingNames()
)

// keyInfo is a key as describe-key and list-keys show it: every value a string.
type keyInfo struct {
	KeyID                  string `json:"key_id"`
	DomainID               string `json:"domain_id"`
	Alias                  string `json:"key_alias"`
	Realm                  string `json:"realm"`
	Spec                   string `json:"key_spec"`
	Usage                  string `json:"key_usage"`
	Description            string `json:"key_description"`
	CreationDate           string `json:"creation_date"`
	State                  string `json:"key_state"`
	Origin                 string `json:"origin"`
	ScheduledDeletionDate  string `json:"scheduled_deletion_date"`
	DefaultKeyFlag         string `json:"default_key_flag"`
	Type                   string `json:"key_type"`
	ExpirationTime         string `json:"expiration_time"`
	RotationEnabled        string `json:"key_rotation_enabled"`
	SysEnterpriseProjectID string `json:"sys_enterprise_project_id"`
	KeystoreID             string `json:"keystore_id"`
	Protection             string `json:"protection,omitempty"`
	OpenedIn               string `json:"opened_in,omitempty"`
	CheckValue             string `json:"check_value,omitempty"`
}

func (d *Dialect) keyOf(k *kms.Key) keyInfo {
	info := keyInfo{
		KeyID: k.ID.String(), DomainID: d.cfg.DomainID, Alias: k.Alias, Realm: d.cfg.Region, Spec: string(k.Spec), Usage: string(k.Usage),
		Description: k.Description, CreationDate: millis(k.CreatedAt), State: states[k.State], Origin: string(k.Origin),
		ScheduledDeletionDate: millis(k.DeletionAt), DefaultKeyFlag: "0", Type: "1", ExpirationTime: millis(k.MaterialExpiresAt),
		RotationEnabled: strconv.FormatBool(k.Rotation.Enabled), SysEnterpriseProjectID: "0", KeystoreID: "0",
		CheckValue: string(dialect.AppendHex(nil, k.ShownCheckValue())),
	}
	if k.IsDefault() {
		info.DefaultKeyFlag = "1"
	}
	if v := k.Current(); v != nil {
		info.Protection, info.OpenedIn = string(v.Protection), string(v.OpenedIn)
	}
	return info
}

// inKeyInfo is an answer whose members are in key_info.
type inKeyInfo[T any] struct {
	KeyInfo T `json:"key_info"`
}

// stateInfo answers what changes a key's state.
type stateInfo struct {
	KeyID string `json:"key_id"`
	State string `json:"key_state"`
}

func stateOf(k *kms.Key) stateInfo { return stateInfo{k.ID.String(), states[k.State]} }

// page ends a list of keys or grants: the marker of the next page is empty after the last.
type page struct {
	NextMarker string `json:"next_marker"`
	Truncated  string `json:"truncated"`
	Total      int    `json:"total"`
}

func pageOf(next, total int) page {
	if next == 0 {
		return page{"", "false", total}
	}
	return page{strconv.Itoa(next), "true", total}
}

// appendKeyID begins an answer with the key's id.
func appendKeyID(b []byte, id kms.KeyID) []byte {
	b = append(b, `{"key_id":"`...)
	return append(dialect.AppendID(b, id), '"')
}

// tag is a tag of a key.
type tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

func tagsOf(k *kms.Key) []tag {
	return dialect.Each(k.Tags, func(t kms.Tag) tag { return tag{t.Key, t.Value} })
}

// aliasInfo is an alias.
type aliasInfo struct {
	DomainID   string `json:"domain_id"`
	KeyID      string `json:"key_id"`
	Alias      string `json:"alias"`
	URN        string `json:"alias_urn"`
	CreateTime string `json:"create_time"`
	UpdateTime string `json:"update_time"`
}

func (d *Dialect) aliasOf(a *kms.Alias) aliasInfo {
	return aliasInfo{
		d.cfg.DomainID, a.KeyID.String(), a.Name, d.urn + a.Name, a.CreatedAt.UTC().Format(time.RFC3339), a.UpdatedAt.UTC().Format(time.RFC3339),
	}
}

// versionInfo is what there is to say of version 1.0 of the API; updated is when the vendor last changed it.
const versionInfo = `,"rel":"self"}],"version":"","status":"CURRENT","updated":"2018-09-05T08:18:05Z","min_version":""}`

// asksVersions reports whether a request asks, without any proof of who it is, which versions of the API there are. The
// same path with a query, or with another method, is how other clouds' operations are called.
func asksVersions(r *http.Request) bool {
	return r.Method == http.MethodGet && (r.URL.Path == pathVersion || r.URL.Path == "/" && r.URL.RawQuery == "")
}

// appendVersions answers that: with a list, or with the one version that the path names.
func appendVersions(x *dialect.Exchange, r *http.Request) {
	scheme := "http://"
	if r.TLS != nil {
		scheme = "https://"
	}
	opening, closing := `{"versions":[`, `]}`
	if r.URL.Path == pathVersion {
		opening, closing = `{"version":`, `}`
	}
	x.Out = append(x.Out, opening...)
	x.Out = dialect.AppendMember(x.Out, `{"id":"v1.0","links":[{"href":`, scheme+r.Host+pathVersion)
	x.Out = append(append(x.Out, versionInfo...), closing...)
}

// millis is a time in milliseconds since 1970, as the API has most of its times; empty for the zero time.
func millis(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.UnixMilli(), 10)
}

// crlf turns the line ends of PEM text into those that this cloud sends.
var crlf = strings.NewReplacer("\n", "\r\n")
