package alibaba

import (
	"bytes"
	"maps"
	"slices"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The fields of all requests, as data. A value that is wrong is InvalidParameter, or the answer to Core. RegionId and the other
// parameters that every action takes are read by the table of actions and by the proofs.

// fields are the fields of an action.
func fields(own ...dialect.AnyField) []dialect.Field { return dialect.Fields(own...) }

// use are the fields of an action that uses a key, and DryRun.
func use(own ...dialect.AnyField) []dialect.Field {
	return dialect.Fields(append([]dialect.AnyField{dryRun}, own...)...)
}

// varied returns a copy of a field that change has changed.
func varied[F any](f *F, change func(*F)) *F {
	c := *f
	change(&c)
	return &c
}

// refused is a field of the cloud whose values mean nothing here: it must be absent or empty.
func refused(name string) *dialect.TextField {
	return &dialect.TextField{Name: name, Form: &notServed, Core: kms.CodeUnsupported}
}

// The forms of texts.
var (
	notServed    = dialect.Form{OK: func([]byte) bool { return false }, Reason: "is not supported"}
	aliasForm    = dialect.Form{OK: isAlias, Reason: "must begin with alias/, have a name of letters, digits and any of / _ -, and not begin with alias/acs"}
	instanceForm = dialect.Form{OK: func(t []byte) bool { return dialect.IsName(string(t)) }, Reason: "must be 1 to 64 letters, digits, - and _"}
	daysForm     = dialect.Form{OK: func(t []byte) bool { return daysOf(t) > 0 }, Reason: "must be a whole number of days with a unit, such as 30d or 2592000s"}
	tagKeyForm   = dialect.Form{OK: isTagKey, Reason: "must not begin with aliyun or acs:"}
)

const aliasPrefix = "alias/"

func isAlias(t []byte) bool {
	name, ok := bytes.CutPrefix(t, []byte(aliasPrefix))
	return ok && len(name) > 0 && !bytes.HasPrefix(name, []byte("acs"))
}

func isTagKey(t []byte) bool {
	return !bytes.HasPrefix(t, []byte("aliyun")) && !bytes.HasPrefix(t, []byte("acs:"))
}

// maxID is more than a key's ARN or an alias's can have, in characters.
const maxID = 512

var (
	keyID  = &dialect.TextField{Name: "KeyId", Required: true, Low: 1, High: maxID, As: "key_id"}
	dryRun = &dialect.FlagField{Name: "DryRun"}

	pageNumber   = &dialect.NumberField{Name: "PageNumber", Low: 1, High: dialect.Unbounded, As: "marker"}
	pageSize     = &dialect.NumberField{Name: "PageSize", Low: 1, High: 100, As: "limit"}
	instancePage = pageSize
)

// The life cycle.
var (
	description    = &dialect.TextField{Name: "Description", As: "description"}
	newDescription = varied(description, func(f *dialect.TextField) { f.Required, f.Empty = true, true })
	instance       = &dialect.TextField{Name: "DKMSInstanceId", Form: &instanceForm}
	keySpec        = &dialect.TextField{Name: "KeySpec", Values: namesIn(specs), As: "key_spec"}
	keyUsage       = &dialect.TextField{Name: "KeyUsage", Values: namesIn(usages), As: "key_usage"}
	origin         = &dialect.TextField{Name: "Origin", Values: namesIn(origins), As: "origin"}
	protection     = &dialect.TextField{Name: "ProtectionLevel", Values: []string{levelSoftware, levelHSM}}
	// Keys are in the database, sealed by the HSM: the other value of the cloud, HsmInternal, would not be honored.
	storage          = &dialect.TextField{Name: "KeyStorageMechanism", Values: []string{"HsmEncryptedDatabase"}, Core: kms.CodeUnsupported}
	rotation         = &dialect.FlagField{Name: "EnableAutomaticRotation"}
	rotationRequired = varied(rotation, func(f *dialect.FlagField) { f.Required = true })
	rotationInterval = &dialect.TextField{Name: "RotationInterval", Form: &daysForm, As: "rotation_interval"}
	createKeyFields  = fields(
		instance, description, keySpec, keyUsage, origin, protection, storage, rotation, rotationInterval, newKeyTags, refused("Policy"),
	)

	filterKey    = &dialect.TextField{Name: "Key", Required: true, Values: namesIn(filterKeys), Core: kms.CodeUnsupported}
	filterValues = &dialect.TextsField{Name: "Values", Required: true, Low: 1, High: 100}
	filters      = &dialect.ItemsField{Name: "Filters", Kind: dialect.Items, Low: 0, High: 10, Fields: fields(filterKey, filterValues)}
	noFilters    = refused("Filters")

	pendingWindow = &dialect.NumberField{Name: "PendingWindowInDays", Required: true, Low: 7, High: 366, As: "pending_days"}

	protect          = &dialect.FlagField{Name: "EnableDeletionProtection", Required: true}
	protectedFor     = &dialect.TextField{Name: "DeletionProtectionDescription", As: "description"}
	protectedKey     = varied(keyID, func(f *dialect.TextField) { f.Required = false })
	protectedARN     = &dialect.TextField{Name: "ProtectedResourceArn", Low: 1, High: maxID, As: "key_id"}
	protectionFields = fields(protect, protectedFor, protectedKey, protectedARN, refused("KmsInstanceId"))

	instanceID = &dialect.TextField{Name: "KmsInstanceId", Required: true, Low: 1, High: maxID}
)

// The import of key material.
var (
	wrappingAlgorithm = &dialect.TextField{Name: "WrappingAlgorithm", Required: true, Values: wrappingNames, As: "wrapping_algorithm"}
	wrappingSpec      = &dialect.TextField{Name: "WrappingKeySpec", Required: true, Values: []string{string(kms.RSA2048)}, As: "wrapping_key_spec"}

	importToken = &dialect.BytesField{Name: "ImportToken", Kind: dialect.Base64, Required: true, As: "import_token", Core: kms.CodeInvalidImportToken}
	material    = &dialect.BytesField{Name: "EncryptedKeyMaterial", Kind: dialect.Base64, Required: true, As: "material", Core: kms.CodeInvalidKeyMaterial}
	// materialExpiry is in seconds since 1970, up to the end of the year 9999; 0 stands for never.
	materialExpiry = &dialect.NumberField{Name: "KeyMaterialExpireUnix", Low: 0, High: 253402300799, As: "expires_at"}
)

// The use of keys.
var (
	encryptionContext = &dialect.PairsField{Name: "EncryptionContext", As: "context"}

	plaintext    = &dialect.TextField{Name: "Plaintext", Required: true, As: "plaintext"}
	rawPlaintext = &dialect.BytesField{Name: "Plaintext", Kind: dialect.Base64, Required: true, As: "plaintext"}
	ciphertext   = &dialect.BytesField{Name: "CiphertextBlob", Kind: dialect.Base64, Required: true, As: "ciphertext", Core: kms.CodeInvalidCiphertext}
	recipient    = refused("Recipient")

	destinationKey     = &dialect.TextField{Name: "DestinationKeyId", Required: true, Low: 1, High: maxID, As: "key_id"}
	sourceKey          = &dialect.TextField{Name: "SourceKeyId", Low: 1, High: maxID, As: "key_id"}
	sourceVersion      = &dialect.TextField{Name: "SourceKeyVersionId"}
	sourceAlgorithm    = &dialect.TextField{Name: "SourceEncryptionAlgorithm", Values: rsaAlgorithms, As: "encryption_algorithm"}
	sourceContext      = &dialect.PairsField{Name: "SourceEncryptionContext", As: "context"}
	destinationContext = &dialect.PairsField{Name: "DestinationEncryptionContext", As: "context"}
	reEncryptFields    = use(
		ciphertext, destinationKey, sourceContext, destinationContext, sourceKey, sourceVersion, sourceAlgorithm,
	)

	dataKeySpec   = &dialect.TextField{Name: "KeySpec", Values: namesIn(dataKeySpecs)}
	numberOfBytes = &dialect.NumberField{Name: "NumberOfBytes", Low: 1, High: 1024, As: "length"}

	publicKeyBlob   = &dialect.BytesField{Name: "PublicKeyBlob", Kind: dialect.Base64, Required: true}
	exportAlgorithm = &dialect.TextField{Name: "WrappingAlgorithm", Required: true, Values: rsaAlgorithms}
	exportSpec      = &dialect.TextField{Name: "WrappingKeySpec", Required: true, Values: []string{string(kms.RSA2048)}}

	macAlgorithm = &dialect.TextField{Name: "Algorithm", Required: true, Values: kms.MACNames(), As: "mac_algorithm"}
	message      = &dialect.BytesField{Name: "Message", Kind: dialect.Base64, Required: true, As: "message"}
	mac          = &dialect.BytesField{Name: "Mac", Kind: dialect.Base64, Required: true, As: "mac"}

	keyVersionID        = &dialect.TextField{Name: "KeyVersionId", Required: true, Low: 1, High: maxID, As: "version"}
	encryptionAlgorithm = &dialect.TextField{Name: "Algorithm", Required: true, Values: rsaAlgorithms, As: "encryption_algorithm"}
	signingAlgorithm    = &dialect.TextField{Name: "Algorithm", Required: true, Values: namesIn(signings), As: "signing_algorithm"}
	digest              = &dialect.BytesField{Name: "Digest", Kind: dialect.Base64, Required: true, As: "message"}
	signatureValue      = &dialect.BytesField{Name: "Value", Kind: dialect.Base64, Required: true, As: "signature"}
)

// Aliases and tags.
var (
	aliasName = &dialect.TextField{Name: "AliasName", Required: true, Low: 1, High: 255, Form: &aliasForm, As: "alias"}

	tagKey     = &dialect.TextField{Name: "TagKey", Required: true, Form: &tagKeyForm}
	tagValue   = &dialect.TextField{Name: "TagValue"}
	tags       = &dialect.ItemsField{Name: "Tags", Kind: dialect.Items, Required: true, Low: 1, High: 10, Fields: fields(tagKey, tagValue)}
	newKeyTags = varied(tags, func(f *dialect.ItemsField) { f.Required, f.High = false, 20 })
	// tagKeys is a list in JSON or one with commas.
	tagKeys       = &dialect.TextField{Name: "TagKeys", Required: true, As: "tags"}
	secretName    = refused("SecretName")
	certificateID = refused("CertificateId")

	resourceType    = &dialect.TextField{Name: "ResourceType", Required: true, Values: []string{"key"}, Core: kms.CodeUnsupported}
	resourceIDs     = &dialect.TextsField{Name: "ResourceId", Required: true, Low: 1, High: 50, As: "key_id"}
	someResourceIDs = varied(resourceIDs, func(f *dialect.TextsField) { f.Required, f.Low = false, 0 })
	shortKey        = &dialect.TextField{Name: "Key", Required: true, Form: &tagKeyForm}
	shortValue      = &dialect.TextField{Name: "Value"}
	resourceTags    = &dialect.ItemsField{Name: "Tag", Kind: dialect.Items, Required: true, Low: 1, High: 20, Fields: fields(shortKey, shortValue)}
	wantedTags      = varied(resourceTags, func(f *dialect.ItemsField) { f.Required, f.Low = false, 0 })
	resourceTagKeys = &dialect.TextsField{Name: "TagKey", Required: true, Low: 1, High: 20, As: "tags"}
	notEveryTag     = &dialect.TextField{Name: "All", Values: []string{"false"}, Core: kms.CodeUnsupported}
	nextToken       = &dialect.NumberField{Name: "NextToken", Low: 0, High: dialect.Unbounded}
)

// namesIn returns the names of an enumeration in byte order.
func namesIn[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
