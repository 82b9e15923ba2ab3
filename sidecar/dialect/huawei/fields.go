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
var sequence = &dialect.TextField{Name: "sequence", Form: &uuidForm, Code: codeSequence}

// fields are an operation's own fields and the sequence.
func fields(own ...dialect.AnyField) []dialect.Field { return dialect.Fields(append(own, sequence)...) }

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
	namedKey = varied(idOfKey, func(f *dialect.TextField) { f.Form = &nameForm })
	idInPath = placed(idOfKey, dialect.Path)

	targetKey      = keyField("target_key_id", idForm)
	sourceKey      = optional(keyField("source_key_id", nameForm))
	destinationKey = keyField("destination_key_id", nameForm)
)

func keyField(name string, form dialect.Form) *dialect.TextField {
	return &dialect.TextField{
		Name: name, Required: true, Low: 1, High: maxName, Form: &form, As: "key_id", Code: codeKeyID,
	}
}

func optional(f *dialect.TextField) *dialect.TextField {
	return varied(f, func(f *dialect.TextField) { f.Required = false })
}

func placed(f *dialect.TextField, in dialect.Place) *dialect.TextField {
	return varied(f, func(f *dialect.TextField) { f.In = in })
}

// varied returns a copy of a field that change has changed.
func varied[F any](f *F, change func(*F)) *F {
	c := *f
	change(&c)
	return &c
}

// The life cycle.
var (
	keyAlias = &dialect.TextField{Name: "key_alias", Required: true, As: "alias", Code: codeAlias}

	description    = &dialect.TextField{Name: "key_description", As: "description", Code: codeDescription}
	newDescription = varied(description, func(f *dialect.TextField) { f.Required, f.Empty = true, true })

	keySpec     = &dialect.TextField{Name: "key_spec", Values: specNames, Code: codeSpec}
	keyUsage    = &dialect.TextField{Name: "key_usage", Values: usageNames, Code: codeParameter}
	origin      = &dialect.TextField{Name: "origin", Values: []string{string(kms.OriginKMS), string(kms.OriginExternal)}, Code: codeParameter}
	pendingDays = &dialect.NumberField{
		Name: "pending_days", Required: true, Low: 7, High: 1096, Code: codePendingDays,
	}
	enterpriseProject = &dialect.TextField{Name: "enterprise_project_id", Code: codeParameter}
	createKeyFields   = fields(
		keyAlias, description, keySpec, keyUsage, origin, enterpriseProject,
		&dialect.NumberField{Name: "keystore_id", Values: []string{"0"}, Code: codeKeystore},
	)
	listedSpec     = &dialect.TextField{Name: "key_spec", Values: append([]string{allSpecs}, specNames...), Code: codeSpec}
	marker         = &dialect.NumberField{Name: "marker", Low: 0, High: dialect.Unbounded, Code: codeMarker}
	keyState       = &dialect.NumberField{Name: "key_state", Low: 1, High: 5, Code: codeParameter}
	limit          = &dialect.NumberField{Name: "limit", Low: 1, High: dialect.Unbounded, Code: codeLimit}
	listKeysFields = fields(listedSpec, limit, marker, keyState, enterpriseProject)

	rotationInterval = &dialect.NumberField{
		Name: "rotation_interval", Required: true, Low: 30, High: 365, Code: codeInterval,
	}
)

// limitTo is the limit of a list whose pages have at most so many elements. Terraform's provider asks for more: for 1000 grants.
func limitTo(high int64) *dialect.NumberField {
	return varied(limit, func(f *dialect.NumberField) { f.High, f.Clamp = high, true })
}

// What a ciphertext is bound to. Old clients send encryption_context, some of them as a string of JSON; new ones send
// additional_authenticated_data; both count.
var (
	encryptionContext = &dialect.PairsField{Name: "encryption_context", As: "context", Code: codeContext}
	aad               = &dialect.TextField{Name: "additional_authenticated_data", As: "aad", Code: codeParameter}
)

// maxDataKey is the longest data key, in bytes; maxOpened is the longest that decrypt-datakey decrypts: the private halves
// of key pairs are longer.
const (
	maxDataKey = 1024
	maxOpened  = 4096
)

// Data keys. The lengths of create-datakey are bits, those of the others are bytes of the plain key.
var (
	dataKeyBits = &dialect.NumberField{
		Name: "datakey_length", Low: 8, High: 8 * maxDataKey, Step: 8, As: "length", Code: codeKeyLength,
		StepCode: codeKeyMultiple,
	}
	dataKeySpec   = &dialect.TextField{Name: "key_spec", Values: dataKeySpecNames, Code: codeKeyLengthSpec}
	dataKeyFields = fields(namedKey, encryptionContext, aad, dataKeyBits, dataKeySpec)

	plainLength = &dialect.NumberField{
		Name: "datakey_plain_length", Required: true, Low: 1, High: maxDataKey, Code: codePlainLength,
	}
	plainKey             = &dialect.BytesField{Name: "plain_text", Kind: dialect.Hex, Required: true, As: "plaintext", Code: codePlainText}
	encryptDataKeyFields = fields(namedKey, plainLength, plainKey, encryptionContext, aad)

	anyCipherText = &dialect.BytesField{Name: "cipher_text", Kind: dialect.Blob, Required: true, Code: codeCipherText, Core: kms.CodeInvalidCiphertext}
	cipherLength  = &dialect.NumberField{
		Name: "datakey_cipher_length", Required: true, Low: 1, High: maxOpened, Code: codeCipherLength,
	}
	decryptDataKeyFields = fields(namedKey, anyCipherText, cipherLength, encryptionContext, aad)

	pairSpec      = &dialect.TextField{Name: "key_spec", Required: true, Values: rsaPairSpecs, Code: codeKeyLengthSpec}
	ecPairSpec    = varied(pairSpec, func(f *dialect.TextField) { f.Values = ecPairSpecs })
	withPlainText = &dialect.FlagField{Name: "with_plain_text", Code: codeParameter}
	rsaPairFields = fields(namedKey, pairSpec, withPlainText, aad)
	ecPairFields  = fields(namedKey, ecPairSpec, withPlainText, aad)
)

// Bounds of decrypt-data's cipher_text, in characters.
const (
	minCipherText = 128
	maxCipherText = 5648
)

// Data, signatures, MACs, secrets and random bytes.
var (
	encryptionAlgorithm = algorithmField("encryption_algorithm")
	plainText           = &dialect.TextField{Name: "plain_text", Required: true, As: "plaintext", Code: codePlainText}
	encryptDataFields   = fields(namedKey, plainText, encryptionContext, aad, encryptionAlgorithm)

	cipherText = &dialect.BytesField{
		Name: "cipher_text", Kind: dialect.Base64, Required: true, Low: minCipherText, High: maxCipherText, Form: &lineForm,
		Code: codeCipherText, Core: kms.CodeInvalidCiphertext,
	}
	decryptDataFields = fields(cipherText, optional(namedKey), encryptionContext, aad, encryptionAlgorithm)

	sourceAlgorithm      = algorithmField("source_encryption_algorithm")
	sourceAAD            = &dialect.TextField{Name: "source_additional_authenticated_data", As: "aad", Code: codeParameter}
	destinationAlgorithm = algorithmField("destination_encryption_algorithm")
	destinationAAD       = &dialect.TextField{Name: "destination_additional_authenticated_data", As: "aad", Code: codeParameter}
	openedLength         = &dialect.NumberField{
		Name: "datakey_cipher_length", Low: 1, High: maxOpened, As: "data_key_bytes", Code: codeCipherLength,
	}
	reEncryptFields = dialect.Fields(
		anyCipherText, sourceKey, sourceAlgorithm, sourceAAD, destinationKey, destinationAlgorithm, destinationAAD, openedLength,
	)

	message          = &dialect.BytesField{Name: "message", Kind: dialect.Base64, Required: true, Code: codeParameter}
	signingAlgorithm = &dialect.TextField{
		Name: "signing_algorithm", Required: true, Values: signingAlgorithms, Code: codeAlgorithm, Core: kms.CodeInvalidAlgorithm,
	}
	messageType    = &dialect.TextField{Name: "message_type", Values: []string{digestMessage, rawMessage}, Code: codeParameter}
	signatureField = &dialect.BytesField{Name: "signature", Kind: dialect.Base64, Required: true, Code: codeParameter}
	signFields     = fields(namedKey, signingAlgorithm, message, messageType)
	verifyFields   = append(slices.Clone(signFields), signatureField.Field())

	macAlgorithm = &dialect.TextField{
		Name: "mac_algorithm", Required: true, Values: macAlgorithms, Code: codeParameter, Core: kms.CodeInvalidAlgorithm,
	}
	mac             = &dialect.BytesField{Name: "mac", Kind: dialect.Hex, Required: true, Code: codeParameter}
	macFields       = dialect.Fields(namedKey, macAlgorithm, message)
	verifyMACFields = dialect.Fields(namedKey, macAlgorithm, message, mac)

	agreementAlgorithm = &dialect.TextField{
		Name: "key_agreement_algorithm", Required: true, Values: []string{ecdh}, Code: codeParameter, Core: kms.CodeInvalidAlgorithm,
	}
	peerKey      = &dialect.BytesField{Name: "public_key", Kind: dialect.Base64, Required: true, Code: codeParameter}
	deriveFields = dialect.Fields(namedKey, agreementAlgorithm, peerKey)

	randomLength = &dialect.NumberField{
		Name: "random_data_length", Required: true, Low: 8, High: 8192, Step: 8, As: "length",
		Code: codeRandomLength, StepCode: codeRandomMultiple,
	}
)

func algorithmField(name string) *dialect.TextField {
	return &dialect.TextField{Name: name, Values: encryptionAlgorithms, Code: codeParameter, Core: kms.CodeInvalidAlgorithm}
}

// Bounds of import's fields, in characters: a block of RSA-2048 has 344, and 6144 is what the reference has for the others.
// What it has not (wrapping_key_spec and longer blocks, only_last, repeat and check_value) is Keyside's own.
const (
	minBlock    = 344
	minToken    = 200
	minPrivate  = 32
	maxImported = 6144
)

// lastSecond is the end of the year 9999, in seconds since 1970.
const lastSecond = 253402300799

// The import of key material.
var (
	repeat                 = &dialect.FlagField{Name: "repeat", Code: codeParameter}
	wrappingAlgorithm      = &dialect.TextField{Name: "wrapping_algorithm", Required: true, Values: wrappingAlgorithms, Code: codeParameter}
	wrappingSpec           = &dialect.TextField{Name: "wrapping_key_spec", Values: rsaPairSpecs, Code: codeSpec}
	onlyLast               = &dialect.FlagField{Name: "only_last", Code: codeParameter}
	importParametersFields = fields(idOfKey, wrappingAlgorithm, wrappingSpec, onlyLast, repeat)

	importToken = &dialect.BytesField{
		Name: "import_token", Kind: dialect.Base64, Required: true, Low: minToken, High: maxImported, Form: &lineForm, Code: codeToken,
		Core: kms.CodeInvalidImportToken,
	}
	material = &dialect.BytesField{
		Name: "encrypted_key_material", Kind: dialect.Base64, Required: true, Low: minBlock, High: maxImported, Form: &lineForm,
		As: "material", Code: codeUnwrap, Core: kms.CodeInvalidKeyMaterial,
	}
	privateKey = &dialect.BytesField{
		Name: "encrypted_privatekey", Kind: dialect.Base64, Low: minPrivate, High: maxImported, Form: &lineForm, As: "private_key",
		Code: codePrivateKey, Core: kms.CodeInvalidKeyMaterial,
	}
	expirationTime = &dialect.NumberField{
		Name: "expiration_time", As: "expires_at", Low: 1, High: lastSecond, Code: codeParameter, BoundCode: codeExpiry,
	}
	checkValue   = &dialect.BytesField{Name: "check_value", Kind: dialect.Hex, Low: 16, High: 88, Code: codeParameter}
	importFields = fields(idOfKey, importToken, material, privateKey, expirationTime, checkValue, repeat)
)

// Tags. The form and the number of tags are the core's to check.
var (
	tagKey   = &dialect.TextField{Name: "key", Required: true, Code: codeTagKey}
	tagValue = &dialect.TextField{Name: "value", Code: codeTagValue}
	tagItem  = dialect.Fields(tagKey, tagValue)

	tagInPath = placed(tagKey, dialect.Path)
	oneTag    = &dialect.ItemsField{Name: "tag", Kind: dialect.Item, Required: true, Fields: tagItem, Code: codeTags}
	someTags  = &dialect.ItemsField{
		Name: "tags", Kind: dialect.Items, Required: true, Low: 1, High: dialect.Unbounded, Fields: tagItem, Code: codeTags, BoundCode: codeNoTags,
	}
	tagAction = &dialect.TextField{Name: "action", Required: true, Values: []string{createTags, deleteTags}, Code: codeAction}

	findAction = &dialect.TextField{Name: "action", Values: []string{filterKeys, countKeys}, Code: codeAction}
	tagValues  = &dialect.TextsField{Name: "values", Code: codeTagValue}
	wantedTags = &dialect.ItemsField{Name: "tags", Kind: dialect.Items, Code: codeTags, Fields: dialect.Fields(tagKey, tagValues)}
	matchValue = &dialect.TextField{Name: "value", Code: codeMatchValue}
	matches    = &dialect.ItemsField{Name: "matches", Kind: dialect.Items, Low: 0, High: 1, Code: codeMatches, Fields: dialect.Fields(
		&dialect.TextField{Name: "key", Required: true, Values: []string{"resource_name"}, Code: codeMatchKey}, matchValue,
	)}
	offset         = &dialect.NumberField{Name: "offset", As: "marker", Low: 0, High: dialect.Unbounded, Code: codeOffset}
	findKeysFields = fields(findAction, wantedTags, matches, limitTo(1000), offset)
)

// Aliases.
var (
	alias       = &dialect.TextField{Name: "alias", Required: true, Code: codeAlias}
	someAliases = &dialect.TextsField{
		Name: "aliases", Required: true, Low: 1, High: dialect.Unbounded, Code: codeAlias, BoundCode: codeParameter,
	}
	aliasLimit        = varied(limitTo(1000), func(f *dialect.NumberField) { f.In = dialect.Query })
	lastAlias         = &dialect.TextField{Name: "marker", In: dialect.Query, Low: 1, High: maxName, Code: codeMarker}
	userAgent         = &dialect.TextField{Name: "User-Agent", In: dialect.Header}
	listAliasesFields = dialect.Fields(optional(placed(idOfKey, dialect.Query)), aliasLimit, lastAlias, userAgent)
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
		if !inKeyName[c] {
			return false
		}
	}
	return true
}

// inKeyName is a table because every use of a key asks it for each byte of the key's id.
var inKeyName = func() (t [256]bool) {
	for _, c := range []byte(upperLetters + lowerAndDigits + "_-:/") {
		t[c] = true
	}
	return t
}()
