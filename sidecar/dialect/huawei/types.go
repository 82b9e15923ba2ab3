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

// states are the key states as the wire numbers them. 7 is "frozen", the nearest there is to a key whose HSM is away.
var states = map[kms.KeyState]string{
	kms.Enabled: "2", kms.Disabled: "3", kms.PendingDeletion: "4", kms.PendingImport: "5", kms.Unavailable: "7",
}

// waiting is state 1, "waiting activation", which no key of the core is ever in.
const waiting kms.KeyState = "PendingActivation"

// stateNumbered returns the state of a number from 1 to 5.
func stateNumbered(number string) kms.KeyState {
	for state, n := range states {
		if n == number {
			return state
		}
	}
	return waiting
}

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

// appendKey appends a key as describe-key and list-keys show it: every value a string.
func (d *Dialect) appendKey(b []byte, k *kms.Key) []byte {
	b = appendText(appendKeyID(b, k.ID), `,"domain_id":`, d.cfg.DomainID)
	b = appendText(b, `,"key_alias":`, k.Alias)
	b = appendText(b, `,"realm":`, d.cfg.Region)
	b = appendText(b, `,"key_spec":`, string(k.Spec))
	b = appendText(b, `,"key_usage":`, string(k.Usage))
	b = appendText(b, `,"key_description":`, k.Description)
	b = appendMillis(b, `,"creation_date":"`, k.CreatedAt)
	b = appendText(b, `,"key_state":`, states[k.State])
	b = appendText(b, `,"origin":`, string(k.Origin))
	b = appendMillis(b, `,"scheduled_deletion_date":"`, k.DeletionAt)
	b = append(b, `,"default_key_flag":"`...)
	if k.IsDefault() {
		b = append(b, '1')
	} else {
		b = append(b, '0')
	}
	b = appendMillis(b, `","key_type":"1","expiration_time":"`, k.MaterialExpiresAt)
	b = append(b, `,"key_rotation_enabled":"`...)
	b = strconv.AppendBool(b, k.Rotation.Enabled)
	b = append(b, `","sys_enterprise_project_id":"0","keystore_id":"0"`...)
	if v := k.Current(); v != nil {
		b = appendText(b, `,"protection":`, string(v.Protection))
		if v.OpenedIn != "" {
			b = appendText(b, `,"opened_in":`, string(v.OpenedIn))
		}
	}
	if check := k.ShownCheckValue(); check != nil {
		b = appendHex(b, `,"check_value":"`, check)
	}
	return append(b, '}')
}

// appendKeyID begins an answer with the key's id.
func appendKeyID(b []byte, id kms.KeyID) []byte {
	b = append(b, `{"key_id":"`...)
	return append(dialect.AppendID(b, id), '"')
}

// appendTags appends a key's tags.
func appendTags(b []byte, tags []kms.Tag) []byte {
	b = append(b, '[')
	for i, t := range tags {
		b = appendText(separate(b, i), `{"key":`, t.Key)
		b = append(appendText(b, `,"value":`, t.Value), '}')
	}
	return append(b, ']')
}

// appendAlias appends an alias.
func (d *Dialect) appendAlias(b []byte, a *kms.Alias) []byte {
	b = append(appendText(b, `{"domain_id":`, d.cfg.DomainID), `,"key_id":"`...)
	b = appendText(dialect.AppendID(b, a.KeyID), `","alias":`, a.Name)
	b = appendText(b, `,"alias_urn":`, d.urn+a.Name)
	b = appendText(b, `,"create_time":`, a.CreatedAt.UTC().Format(time.RFC3339))
	return append(appendText(b, `,"update_time":`, a.UpdatedAt.UTC().Format(time.RFC3339)), '}')
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
	x.Out = appendText(x.Out, `{"id":"v1.0","links":[{"href":`, scheme+r.Host+pathVersion)
	x.Out = append(append(x.Out, versionInfo...), closing...)
}

// appendText appends a literal and a JSON string after it.
func appendText(b []byte, literal, s string) []byte {
	return dialect.AppendString(append(b, literal...), s)
}

// appendMillis appends a literal, a time in milliseconds since 1970 as the API has most of its times, nothing for zero,
// and a quote.
func appendMillis(b []byte, literal string, t time.Time) []byte {
	b = append(b, literal...)
	if !t.IsZero() {
		b = strconv.AppendInt(b, t.UnixMilli(), 10)
	}
	return append(b, '"')
}

// appendNumber appends a literal and a number after it.
func appendNumber(b []byte, literal string, n int) []byte {
	return strconv.AppendInt(append(b, literal...), int64(n), 10)
}

// appendHex appends a literal, hexadecimal digits and a quote.
func appendHex(b []byte, literal string, data []byte) []byte {
	return append(dialect.AppendHex(append(b, literal...), data), '"')
}

// appendPairs appends a literal that begins an object, strings with their names, in the order of those, and its end.
func appendPairs(b []byte, literal string, pairs map[string]string) []byte {
	b = append(b, literal...)
	for i, name := range slices.Sorted(maps.Keys(pairs)) {
		b = append(dialect.AppendString(separate(b, i), name), ':')
		b = dialect.AppendString(b, pairs[name])
	}
	return append(b, '}')
}

// separate appends the comma before every element but the first.
func separate(b []byte, i int) []byte {
	if i == 0 {
		return b
	}
	return append(b, ',')
}

// crlf turns the line ends of PEM text into those that this cloud sends.
var crlf = strings.NewReplacer("\n", "\r\n")
