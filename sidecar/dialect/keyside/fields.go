package keyside

import (
	"regexp"
	"strconv"
	"time"

	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The fields of all requests, as data. Limits that the configuration can change are the core's to check.

// The forms of texts.
var (
	keyForm = dialect.Form{OK: isKeyName, Reason: "must be the id or an alias of a key"}

	offsetForm = dialect.Form{
		OK:     func(text []byte) bool { n, err := strconv.Atoi(string(text)); return err == nil && n >= 0 },
		Reason: "must be the next_marker of a page",
	}
	timeForm = dialect.Form{
		OK:     func(text []byte) bool { _, err := time.Parse(time.RFC3339Nano, string(text)); return err == nil },
		Reason: "must be an RFC 3339 time such as 2030-12-31T00:00:00Z",
	}
	roleForm = dialect.Form{
		OK:     func(text []byte) bool { _, ok := parseRole(string(text)); return ok },
		Reason: "must be administrator, user, auditor, none or service:NAME",
	}
	grantForm    = dialect.Form{OK: regexp.MustCompile(`^[0-9a-f]{64}$`).Match, Reason: "must be 64 hexadecimal digits"}
	verifierForm = dialect.Form{
		OK:     func(text []byte) bool { _, err := audit.ParseVerifier(string(text)); return err == nil },
		Reason: "must be a verifier key, NAME+KEYID+BASE64",
	}
)

// isKeyName reports whether text has only characters of key ids and aliases.
func isKeyName(text []byte) bool {
	for _, c := range text {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '-', c == ':', c == '/':
		default:
			return false
		}
	}
	return true
}

// varied returns a copy of a field that change has changed.
func varied[F any](f *F, change func(*F)) *F {
	c := *f
	change(&c)
	return &c
}

func optional(f *dialect.TextField) *dialect.TextField {
	return varied(f, func(f *dialect.TextField) { f.Required = false })
}

// named returns a copy of a field with another name.
func named(f *dialect.TextField, name string) *dialect.TextField {
	return varied(f, func(f *dialect.TextField) { f.Name = name })
}

// maxName is the longest name of a key: alias/ and 255 characters.
const maxName = 261

// maxUser is the longest name of a user, an account or an outcome.
const maxUser = 64

// Keys.
var (
	keyID          = &dialect.TextField{Name: "key_id", Required: true, Low: 1, High: maxName, Form: &keyForm}
	optionalKeyID  = optional(keyID)
	alias          = &dialect.TextField{Name: "alias", Required: true}
	description    = &dialect.TextField{Name: "description"}
	protected      = &dialect.FlagField{Name: "protected", Required: true}
	protectedFor   = &dialect.TextField{Name: "protected_for"}
	newDescription = varied(description, func(f *dialect.TextField) { f.Required, f.Empty = true, true })
	keySpec        = &dialect.TextField{Name: "key_spec", Values: keySpecs}
	keyUsage       = &dialect.TextField{Name: "key_usage", Values: keyUsages}
	origin         = &dialect.TextField{Name: "origin", Values: []string{string(kms.OriginKMS), string(kms.OriginExternal)}}
	state          = &dialect.TextField{Name: "state", Values: states}
	pendingDays    = &dialect.NumberField{Name: "pending_days", Required: true, Low: 7, High: 1096}
	interval       = &dialect.NumberField{Name: "rotation_interval", Low: 30, High: 365}
	newInterval    = varied(interval, func(f *dialect.NumberField) { f.Required = true })
)

// Pages. A marker is what the page before had as next_marker: the name of an alias, or an offset.
var (
	marker       = &dialect.TextField{Name: "marker", Low: 1, High: maxName}
	offsetMarker = varied(marker, func(f *dialect.TextField) { f.Form = &offsetForm })
)

func limit(high int64) *dialect.NumberField {
	return &dialect.NumberField{Name: "limit", Low: 1, High: high}
}

// anyLimit reads a limit of whatever bound.
var anyLimit = limit(dialect.Unbounded)

// Data and data keys.
var (
	encryptionAlgorithm = &dialect.TextField{Name: "encryption_algorithm", Values: encryptionAlgorithms}
	encryptionContext   = &dialect.PairsField{Name: "context"}
	aad                 = bytesField("aad", false)
	plaintext           = bytesField("plaintext", true)
	ciphertext          = bytesField("ciphertext", true)

	sourceKey            = named(optionalKeyID, "source_key_id")
	sourceAlgorithm      = named(encryptionAlgorithm, "source_encryption_algorithm")
	sourceContext        = &dialect.PairsField{Name: "source_context"}
	sourceAAD            = bytesField("source_aad", false)
	destinationKey       = named(keyID, "destination_key_id")
	destinationAlgorithm = named(encryptionAlgorithm, "destination_encryption_algorithm")
	destinationContext   = &dialect.PairsField{Name: "destination_context"}
	destinationAAD       = bytesField("destination_aad", false)
	dataKeyBytes         = &dialect.NumberField{Name: "data_key_bytes", Low: 1, High: dialect.Unbounded}

	dataKeyLength    = &dialect.NumberField{Name: "length", Low: 1, High: dialect.Unbounded}
	randomLength     = varied(dataKeyLength, func(f *dialect.NumberField) { f.Required = true })
	rsaSpec          = &dialect.TextField{Name: "key_spec", Required: true, Values: rsaSpecs}
	ecSpec           = &dialect.TextField{Name: "key_spec", Required: true, Values: ecSpecs}
	withoutPlaintext = &dialect.FlagField{Name: "without_plaintext"}
)

func bytesField(name string, required bool) *dialect.BytesField {
	return &dialect.BytesField{Name: name, Kind: dialect.Base64, Required: required}
}

// Signatures, MACs and secrets.
var (
	signingAlgorithm = &dialect.TextField{Name: "signing_algorithm", Required: true, Values: signingAlgorithms}
	message          = bytesField("message", true)
	digest           = &dialect.FlagField{Name: "digest"}
	signature        = bytesField("signature", true)
	macAlgorithm     = &dialect.TextField{Name: "mac_algorithm", Required: true, Values: macAlgorithms}
	mac              = bytesField("mac", true)
	publicKey        = bytesField("public_key", true)
)

// The import of key material.
var (
	wrappingAlgorithm = &dialect.TextField{Name: "wrapping_algorithm", Required: true, Values: wrappingAlgorithms}
	wrappingSpec      = &dialect.TextField{Name: "wrapping_key_spec", Values: rsaSpecs}
	onlyLast          = &dialect.FlagField{Name: "only_last"}
	repeat            = &dialect.FlagField{Name: "repeat"}
	importToken       = bytesField("import_token", true)
	material          = bytesField("material", true)
	privateKey        = bytesField("private_key", false)
	expiresAt         = &dialect.TextField{Name: "expires_at", Form: &timeForm}
	checkValue        = bytesField("check_value", false)
)

// Tags and further aliases.
var (
	tagKey    = &dialect.TextField{Name: "key", Required: true}
	tagValue  = &dialect.TextField{Name: "value"}
	tagValues = &dialect.TextsField{Name: "values"}
	tags      = &dialect.ItemsField{
		Name: "tags", Kind: dialect.Items, Required: true, Low: 1, High: dialect.Unbounded, Fields: dialect.Fields(tagKey, tagValue),
	}
	newTags       = &dialect.ItemsField{Name: "tags", Kind: dialect.Items, High: dialect.Unbounded, Fields: dialect.Fields(tagKey, tagValue)}
	searchedTags  = &dialect.ItemsField{Name: "tags", Kind: dialect.Items, Fields: dialect.Fields(tagKey, tagValues)}
	tagKeys       = &dialect.TextsField{Name: "tag_keys", Required: true, Low: 1, High: dialect.Unbounded}
	ignoreMissing = &dialect.FlagField{Name: "ignore_missing"}
	aliasPart     = optional(alias)
	countOnly     = &dialect.FlagField{Name: "count_only"}
	aliases       = &dialect.TextsField{Name: "aliases", Required: true, Low: 1, High: dialect.Unbounded}
)

// maxSource has room for one selector of each kind, the longest of which is a path.
const maxSource = 5000

// Grants, decisions, access keys and tokens.
var (
	grantee      = &dialect.TextField{Name: "grantee", Required: true, Low: 1, High: maxUser}
	account      = &dialect.FlagField{Name: "account"}
	operations   = &dialect.TextsField{Name: "operations", Required: true, Low: 1, High: dialect.Unbounded}
	grantName    = &dialect.TextField{Name: "name", Low: 1, High: 255}
	retiring     = &dialect.TextField{Name: "retiring", Low: 1, High: maxUser}
	contextExact = &dialect.FlagField{Name: "context_exact"}
	source       = &dialect.TextField{Name: "source", Low: 1, High: maxSource}
	grantID      = &dialect.TextField{Name: "grant_id", Required: true, Form: &grantForm}
	operation    = &dialect.TextField{Name: "operation", Required: true, Low: 1, High: maxUser}
	askedKey     = named(optionalKeyID, "key")
	askedUser    = &dialect.TextField{Name: "as", Low: 1, High: maxUser}
	user         = &dialect.TextField{Name: "user", Required: true, Low: 1, High: maxUser}
	optionalUser = optional(user)
	dialects     = &dialect.TextsField{Name: "dialects", Low: 1, High: 16}
	role         = &dialect.TextField{Name: "role", Required: true, Form: &roleForm}
	ttl          = &dialect.NumberField{Name: "ttl", High: 86400}
	accessKey    = &dialect.TextField{Name: "access_key", Required: true, Low: 1, High: maxUser}
)

// The audit log.
var (
	since        = &dialect.TextField{Name: "since", Form: &timeForm}
	until        = &dialect.TextField{Name: "until", Form: &timeForm}
	principal    = &dialect.TextField{Name: "principal", Low: 1, High: maxUser}
	recordedKey  = &dialect.TextField{Name: "key_id", Low: 36, High: 36}
	recordedName = &dialect.TextField{Name: "operation", Low: 1, High: maxUser}
	decision     = &dialect.TextField{Name: "decision", Values: []string{"allow", "deny", "undecided"}}
	outcome      = &dialect.TextField{Name: "outcome", Low: 1, High: maxUser}
	requestID    = &dialect.TextField{Name: "request_id", Low: 1, High: maxUser}
	last         = &dialect.NumberField{Name: "last", High: 100_000}
	follow       = &dialect.FlagField{Name: "follow"}
	verifierKey  = &dialect.TextField{Name: "verifier_key", Low: 1, High: 1024, Form: &verifierForm}
)
