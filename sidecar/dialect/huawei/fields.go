package huawei

import (
	"bytes"
	"slices"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The fields of all requests, as data. Code is what the reference's table of errors has for the field; where it has
// nothing, a wrong value is KMS.0308.

// sequence is a message's serial number, which has no meaning.
var sequence = dialect.Field{Name: "sequence", Form: &uuidForm, Code: codeSequence}

// fields are an operation's own fields and the sequence.
func fields(own ...dialect.Field) []dialect.Field { return append(own, sequence) }

// The forms of texts.
var (
	uuidForm = dialect.Form{OK: uuidShaped, Reason: "must be 36 characters in the shape of a UUID"}
	idForm   = dialect.Form{OK: isKeyID, Reason: "is not a key id"}
	nameForm = dialect.Form{OK: isKeyName, Reason: "is not a key id, an alias or the URN of one"}
	lineForm = dialect.Form{OK: func(t []byte) bool { return !bytes.ContainsAny(t, "\r\n") }, Reason: "is not valid"}
)

// maxName is more than an alias's URN can have, in characters.
const maxName = 1024

// The fields that name keys. Operations that use a key or show it take any of its names, the others its id alone.
var (
	idOfKey  = keyField("key_id", idForm)
	namedKey = keyField("key_id", nameForm)
	idInPath = placed(idOfKey, dialect.Path)

	targetKey      = keyField("target_key_id", idForm)
	sourceKey      = optional(keyField("source_key_id", nameForm))
	destinationKey = keyField("destination_key_id", nameForm)
)

func keyField(name string, form dialect.Form) dialect.Field {
	return dialect.Field{
		Name: name, Required: true, Low: 1, High: maxName, Form: &form, As: "key_id", Code: codeKeyID, Core: kms.CodeInvalidKeyID,
	}
}

func optional(f dialect.Field) dialect.Field { f.Required = false; return f }

func placed(f dialect.Field, in dialect.Place) dialect.Field { f.In = in; return f }

func named(f dialect.Field, name string) dialect.Field { f.Name = name; return f }

// The life cycle.
var (
	keyAlias = dialect.Field{Name: "key_alias", Required: true, As: "alias", Code: codeAlias, Core: kms.CodeInvalidAlias}

	description    = dialect.Field{Name: "key_description", As: "description", Code: codeDescription, Core: kms.CodeInvalidDesc}
	newDescription = dialect.Field{
		Name: "key_description", Required: true, Empty: true, As: "description", Code: codeDescription, Core: kms.CodeInvalidDesc,
	}
	enterpriseProject = dialect.Field{Name: "enterprise_project_id", Code: codeParameter}
	pendingDays       = dialect.Field{
		Name: "pending_days", Kind: dialect.Number, Required: true, Low: 7, High: 1096, Code: codePendingDays, Core: kms.CodeInvalidWait,
	}
	createKeyFields = fields(
		keyAlias, description,
		dialect.Field{Name: "key_spec", Values: specNames, Code: codeSpec, Core: kms.CodeInvalidSpec},
		dialect.Field{Name: "key_usage", Values: usageNames, Code: codeParameter, Core: kms.CodeUnsupportedUsage},
		dialect.Field{Name: "origin", Values: []string{string(kms.OriginKMS), string(kms.OriginExternal)}, Code: codeParameter},
		enterpriseProject,
		dialect.Field{Name: "keystore_id", Kind: dialect.Number, Values: []string{"0"}, Code: codeKeystore},
	)
	listKeysFields = fields(
		dialect.Field{Name: "key_spec", Values: append([]string{allSpecs}, specNames...), Code: codeSpec, Core: kms.CodeInvalidSpec},
		limitField(dialect.Unbounded),
		dialect.Field{Name: "marker", Kind: dialect.Number, Low: 0, High: dialect.Unbounded, Code: codeMarker, Core: kms.CodeInvalidMarker},
		dialect.Field{Name: "key_state", Kind: dialect.Number, Low: 1, High: 5, Code: codeParameter},
		enterpriseProject,
	)
	rotationInterval = dialect.Field{
		Name: "rotation_interval", Kind: dialect.Number, Required: true, Low: 30, High: 365, Code: codeInterval,
		Core: kms.CodeInvalidInterval,
	}
)

func limitField(high int64) dialect.Field {
	return dialect.Field{Name: "limit", Kind: dialect.Number, Low: 1, High: high, Code: codeLimit, Core: kms.CodeInvalidLimit}
}

// maxContext bounds encryption_context, in bytes of its JSON; the core counts its characters.
const maxContext = 32 << 10

// What a ciphertext is bound to. Old clients send encryption_context, some of them as a string of JSON; new ones send
// additional_authenticated_data; both count.
var (
	encryptionContext = dialect.Field{Name: "encryption_context", Kind: dialect.Pairs, High: maxContext, As: "context", Code: codeContext}
	aad               = dialect.Field{Name: "additional_authenticated_data", As: "aad", Code: codeParameter}
)

// maxDataKey is the longest data key, in bytes; maxOpened is what decrypt-datakey opens: the private halves of key pairs
// are longer.
const (
	maxDataKey = 1024
	maxOpened  = 4096
)

// Data keys. The lengths of create-datakey are bits, those of the others are bytes of the plain key.
var (
	dataKeyFields = fields(
		namedKey, encryptionContext, aad,
		dialect.Field{
			Name: "datakey_length", Kind: dialect.Number, Low: 8, High: 8 * maxDataKey, Step: 8, As: "length", Code: codeKeyLength,
			StepCode: codeKeyMultiple, Core: kms.CodeInvalidLength,
		},
		dialect.Field{Name: "key_spec", Values: dataKeySpecNames, Code: codeKeyLengthSpec, Core: kms.CodeInvalidSpec},
	)
	encryptDataKeyFields = fields(
		namedKey,
		dialect.Field{
			Name: "datakey_plain_length", Kind: dialect.Number, Required: true, Low: 1, High: maxDataKey, Code: codePlainLength,
			Core: kms.CodeInvalidLength,
		},
		dialect.Field{Name: "plain_text", Kind: dialect.Hex, Required: true, As: "plaintext", Code: codePlainText},
		encryptionContext, aad,
	)
	decryptDataKeyFields = fields(
		namedKey,
		dialect.Field{Name: "cipher_text", Kind: dialect.Blob, Required: true, Code: codeCipherText, Core: kms.CodeInvalidCiphertext},
		dialect.Field{
			Name: "datakey_cipher_length", Kind: dialect.Number, Required: true, Low: 1, High: maxOpened, Code: codeCipherLength,
			Core: kms.CodeInvalidLength,
		},
		encryptionContext, aad,
	)
	rsaPairFields = keyPairFields(rsaPairSpecs)
	ecPairFields  = keyPairFields(ecPairSpecs)
)

func keyPairFields(specs []string) []dialect.Field {
	return fields(
		namedKey,
		dialect.Field{Name: "key_spec", Required: true, Values: specs, Code: codeKeyLengthSpec, Core: kms.CodeInvalidSpec},
		dialect.Field{Name: "with_plain_text", Kind: dialect.Flag, Code: codeParameter},
		aad,
	)
}

// Bounds of decrypt-data's cipher_text, in characters.
const (
	minCipherText = 128
	maxCipherText = 5648
)

// Data, signatures, MACs, secrets and random bytes.
var (
	encryptionAlgorithm = dialect.Field{
		Name: "encryption_algorithm", Values: encryptionAlgorithms, Code: codeParameter, Core: kms.CodeAlgorithmMismatch,
	}
	encryptDataFields = fields(
		namedKey,
		dialect.Field{Name: "plain_text", Required: true, As: "plaintext", Code: codePlainText},
		encryptionContext, aad, encryptionAlgorithm,
	)
	decryptDataFields = fields(
		dialect.Field{
			Name: "cipher_text", Kind: dialect.Base64, Required: true, Low: minCipherText, High: maxCipherText, Form: &lineForm,
			Code: codeCipherText, Core: kms.CodeInvalidCiphertext,
		},
		optional(namedKey), encryptionContext, aad, encryptionAlgorithm,
	)
	reEncryptFields = []dialect.Field{
		{Name: "cipher_text", Kind: dialect.Blob, Required: true, Code: codeCipherText, Core: kms.CodeInvalidCiphertext},
		sourceKey,
		named(encryptionAlgorithm, "source_encryption_algorithm"),
		named(aad, "source_additional_authenticated_data"),
		destinationKey,
		named(encryptionAlgorithm, "destination_encryption_algorithm"),
		named(aad, "destination_additional_authenticated_data"),
		{
			Name: "datakey_cipher_length", Kind: dialect.Number, Low: 1, High: maxOpened, As: "data_key_bytes", Code: codeCipherLength,
			Core: kms.CodeInvalidLength,
		},
	}

	message    = dialect.Field{Name: "message", Kind: dialect.Base64, Required: true, Code: codeParameter}
	signFields = fields(
		namedKey,
		dialect.Field{
			Name: "signing_algorithm", Required: true, Values: signingAlgorithms, Code: codeAlgorithm, Core: kms.CodeAlgorithmMismatch,
		},
		message,
		dialect.Field{Name: "message_type", Values: []string{digestMessage, rawMessage}, Code: codeParameter},
	)
	verifyFields = append(slices.Clone(signFields), dialect.Field{
		Name: "signature", Kind: dialect.Base64, Required: true, Code: codeParameter,
	})

	macFields = []dialect.Field{
		namedKey,
		{Name: "mac_algorithm", Required: true, Values: macAlgorithms, Code: codeParameter, Core: kms.CodeAlgorithmMismatch},
		message,
	}
	verifyMACFields = append(slices.Clone(macFields), dialect.Field{
		Name: "mac", Kind: dialect.Hex, Required: true, Code: codeParameter,
	})
	deriveFields = []dialect.Field{
		namedKey,
		{Name: "key_agreement_algorithm", Required: true, Values: []string{ecdh}, Code: codeParameter, Core: kms.CodeAlgorithmMismatch},
		{Name: "public_key", Kind: dialect.Base64, Required: true, Code: codeParameter, Core: kms.CodeInvalidPublicKey},
	}
	randomLength = dialect.Field{
		Name: "random_data_length", Kind: dialect.Number, Required: true, Low: 8, High: 8192, Step: 8, As: "length",
		Code: codeRandomLength, StepCode: codeRandomMultiple, Core: kms.CodeInvalidLength,
	}
)

// Bounds of import's fields, in characters: a block of RSA-2048 has 344, and 6144 is what the reference has for the others.
// What it has not (wrapping_key_spec and longer blocks, only_last, repeat and check_value) is Keyside's own.
const (
	minBlock    = 344
	minToken    = 200
	minPrivate  = 32
	maxImported = 6144
)

// lastExpiry is the end of the year 9999, in seconds.
const lastExpiry = 253402300799

// The import of key material.
var (
	repeat                 = dialect.Field{Name: "repeat", Kind: dialect.Flag, Code: codeParameter}
	importParametersFields = fields(
		idOfKey,
		dialect.Field{Name: "wrapping_algorithm", Required: true, Values: wrappingAlgorithms, Code: codeParameter},
		dialect.Field{Name: "wrapping_key_spec", Values: rsaPairSpecs, Code: codeSpec, Core: kms.CodeInvalidSpec},
		dialect.Field{Name: "only_last", Kind: dialect.Flag, Code: codeParameter},
		repeat,
	)
	importFields = fields(
		idOfKey,
		dialect.Field{
			Name: "import_token", Kind: dialect.Base64, Required: true, Low: minToken, High: maxImported, Form: &lineForm, Code: codeToken,
			Core: kms.CodeImportTokenInvalid,
		},
		dialect.Field{
			Name: "encrypted_key_material", Kind: dialect.Base64, Required: true, Low: minBlock, High: maxImported, Form: &lineForm,
			As: "material", Code: codeUnwrap, Core: kms.CodeBadMaterial,
		},
		dialect.Field{
			Name: "encrypted_privatekey", Kind: dialect.Base64, Low: minPrivate, High: maxImported, Form: &lineForm, As: "private_key",
			Code: codePrivateKey, Core: kms.CodeInvalidPrivateKey,
		},
		dialect.Field{
			Name: "expiration_time", Kind: dialect.Number, Low: 1, High: lastExpiry, Code: codeParameter, BoundCode: codeExpiry,
		},
		dialect.Field{Name: "check_value", Kind: dialect.Hex, Low: 16, High: 88, Code: codeParameter},
		repeat,
	)
)

// Tags. What a tag may look like and how many there may be is the core's to say.
var (
	tagKey   = dialect.Field{Name: "key", Required: true, Code: codeTagKey, Core: kms.CodeInvalidTagKey}
	tagValue = dialect.Field{Name: "value", Code: codeTagValue, Core: kms.CodeInvalidTagValue}
	tagItem  = []dialect.Field{tagKey, tagValue}

	tagInPath = placed(tagKey, dialect.Path)
	oneTag    = dialect.Field{Name: "tag", Kind: dialect.Item, Required: true, Fields: tagItem, Code: codeTags}
	someTags  = dialect.Field{
		Name: "tags", Kind: dialect.Items, Required: true, Low: 1, High: dialect.Unbounded, Fields: tagItem, Code: codeTags, BoundCode: codeNoTags,
	}
	tagAction      = dialect.Field{Name: "action", Required: true, Values: []string{createTags, deleteTags}, Code: codeAction}
	findKeysFields = fields(
		dialect.Field{Name: "action", Values: []string{filterKeys, countKeys}, Code: codeAction},
		dialect.Field{Name: "tags", Kind: dialect.Items, Code: codeTags, Fields: []dialect.Field{
			tagKey,
			{Name: "values", Kind: dialect.Texts, Code: codeTagValue, Core: kms.CodeInvalidTagValue},
		}},
		dialect.Field{Name: "matches", Kind: dialect.Items, Low: 0, High: 1, Code: codeMatches, Fields: []dialect.Field{
			{Name: "key", Required: true, Values: []string{"resource_name"}, Code: codeMatchKey},
			{Name: "value", Code: codeMatchValue},
		}},
		limitField(1000),
		dialect.Field{Name: "offset", Kind: dialect.Number, Low: 0, High: dialect.Unbounded, Code: codeOffset, Core: kms.CodeInvalidMarker},
	)
)

// Aliases.
var (
	alias       = dialect.Field{Name: "alias", Required: true, Code: codeAlias, Core: kms.CodeInvalidAlias}
	someAliases = dialect.Field{
		Name: "aliases", Kind: dialect.Texts, Required: true, Low: 1, High: dialect.Unbounded, Code: codeAlias, BoundCode: codeParameter,
		Core: kms.CodeInvalidAlias,
	}
	listAliasesFields = []dialect.Field{
		optional(placed(idOfKey, dialect.Query)),
		placed(limitField(1000), dialect.Query),
		{Name: "marker", In: dialect.Query, Low: 1, High: maxName, Code: codeMarker, Core: kms.CodeInvalidMarker},
		{Name: "User-Agent", In: dialect.Header},
	}
)

// uuidShaped reports whether s is 8-4-4-4-12 letters and digits.
func uuidShaped(s []byte) bool {
	return shaped(s, func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' })
}

// isKeyID reports whether s is 8-4-4-4-12 lower-case hexadecimal digits, as ids of keys are here.
func isKeyID(s []byte) bool {
	return shaped(s, func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' })
}

func shaped(s []byte, digit func(byte) bool) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		if hyphen := i == 8 || i == 13 || i == 18 || i == 23; hyphen != (c == '-') || !hyphen && !digit(c) {
			return false
		}
	}
	return true
}

// isKeyName reports whether s has the characters of ids, aliases and their URNs alone.
func isKeyName(s []byte) bool {
	for _, c := range s {
		switch {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c == '-', c == ':', c == '/':
		default:
			return false
		}
	}
	return true
}
