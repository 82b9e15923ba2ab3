package tencent

import (
	"bytes"
	"maps"
	"regexp"
	"slices"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The fields of all requests, as data. MemberAccount, which a delegated administrator sends, is ignored like every unknown field:
// there is one account.

// The forms of texts.
var (
	idForm    = dialect.Form{OK: func(t []byte) bool { _, err := parseID(t); return err == nil }, Reason: "is not a key id"}
	aliasForm = dialect.Form{OK: isAlias, Reason: "must be letters, digits, - and _, the first a letter or digit, and not begin with kms-"}
	noCluster = dialect.Form{OK: func([]byte) bool { return false }, Reason: "names no HSM cluster: there are none"}
	noDataKey = dialect.Form{OK: func([]byte) bool { return false }, Reason: "is for hosted data keys, which are not available"}
)

var aliasPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)

// isAlias reports whether customers may give a key this alias. Those of the cloud's products begin with kms-.
func isAlias(t []byte) bool { return aliasPattern.Match(t) && !bytes.HasPrefix(t, []byte("kms-")) }

// parseID reads a key id. The cloud's own samples send some with the end of their line.
func parseID(t []byte) (kms.KeyID, error) { return kms.ParseKeyID(string(bytes.TrimSpace(t))) }

// varied returns a copy of a field that change has changed.
func varied[F any](f *F, change func(*F)) *F {
	c := *f
	change(&c)
	return &c
}

const (
	maxID      = 64  // characters, with white space around
	maxIDs     = 100 // of one request
	maxValidTo = 2147443200
)

// Keys and their life cycle.
var (
	keyID = &dialect.TextField{Name: "KeyId", Required: true, Low: 36, High: maxID, Form: &idForm, As: "key_id", Code: codeKeyID}
	oneID = dialect.Fields(keyID)

	keyIDs  = &dialect.TextsField{Name: "KeyIds", Required: true, Low: 1, High: maxIDs, As: "key_id", Code: codeParameter}
	manyIDs = dialect.Fields(keyIDs)

	alias       = &dialect.TextField{Name: "Alias", Required: true, Low: 1, High: 60, Form: &aliasForm, As: "alias", Code: codeAlias}
	description = &dialect.TextField{Name: "Description", High: 1024, As: "description", Code: codeParameter}
	newText     = varied(description, func(f *dialect.TextField) { f.Required, f.Empty = true, true })
	keyUsage    = &dialect.TextField{Name: "KeyUsage", Values: usageNames, As: "key_usage", Code: codeUsage}
	keyType     = &dialect.NumberField{Name: "Type", Values: []string{"1", "2"}, As: "origin", Code: codeType}
	cluster     = &dialect.TextField{Name: "HsmClusterId", Form: &noCluster, Code: codeCluster}
	tagKey      = &dialect.TextField{Name: "TagKey", Required: true, As: "key", Code: codeParameter}
	tagValue    = &dialect.TextField{Name: "TagValue", As: "value", Code: codeParameter}
	tags        = &dialect.ItemsField{Name: "Tags", Kind: dialect.Items, Low: 0, High: 50, As: "tags", Code: codeParameter, Fields: dialect.Fields(tagKey, tagValue)}

	createFields = dialect.Fields(alias, description, keyUsage, keyType, tags, cluster)

	offset     = &dialect.NumberField{Name: "Offset", Low: 0, High: dialect.Unbounded, As: "marker", Code: codeParameter}
	limit      = &dialect.NumberField{Name: "Limit", Low: 0, High: 200, As: "limit", Code: codeParameter}
	role       = &dialect.NumberField{Name: "Role", Values: []string{"0", "1"}, Code: codeParameter}
	listFields = dialect.Fields(offset, limit, role, cluster)

	orderType    = &dialect.NumberField{Name: "OrderType", Values: []string{"0", "1"}, Code: codeParameter}
	keyState     = &dialect.NumberField{Name: "KeyState", Low: 0, High: int64(len(listedStates) - 1), Code: codeParameter}
	searched     = &dialect.TextField{Name: "SearchKeyAlias", Code: codeParameter}
	listedOrigin = &dialect.TextField{Name: "Origin", Values: []string{originTencent, originExternal, all}, As: "origin", Code: codeParameter}
	listedUsage  = varied(keyUsage, func(f *dialect.TextField) { f.Values, f.Code = append([]string{all}, usageNames...), codeParameter })
	tagValues    = &dialect.TextsField{Name: "TagValue", As: "values", Code: codeParameter}
	tagFilters   = &dialect.ItemsField{Name: "TagFilters", Kind: dialect.Items, Low: 0, High: 50, Code: codeParameter, Fields: dialect.Fields(tagKey, tagValues)}
	detailFields = dialect.Fields(offset, limit, role, cluster, orderType, keyState, searched, listedOrigin, listedUsage, tagFilters)

	pendingDays = &dialect.NumberField{Name: "PendingWindowInDays", Required: true, Low: 7, High: 30, As: "pending_days", Code: codeParameter, BoundCode: codeWindow}
	rotateDays  = &dialect.NumberField{Name: "RotateDays", Low: 7, High: 365, As: "rotation_interval", Code: codeParameter, BoundCode: codeValue}
)

// The import of material.
var (
	wrappingAlgorithm = &dialect.TextField{Name: "WrappingAlgorithm", Required: true, Values: wrappingAlgorithms, As: "wrapping_algorithm", Code: codeParameter}
	wrappingSpec      = &dialect.TextField{Name: "WrappingKeySpec", Required: true, Values: []string{string(kms.RSA2048)}, As: "wrapping_key_spec", Code: codeParameter}
	parameterFields   = dialect.Fields(keyID, wrappingAlgorithm, wrappingSpec)

	material     = &dialect.BytesField{Name: "EncryptedKeyMaterial", Kind: dialect.Base64, Required: true, As: "material", Code: codeParameter}
	importToken  = &dialect.BytesField{Name: "ImportToken", Kind: dialect.Base64, Required: true, As: "import_token", Code: codeParameter, Core: kms.CodeInvalidImportToken}
	validTo      = &dialect.NumberField{Name: "ValidTo", Low: 0, High: maxValidTo, As: "expires_at", Code: codeParameter, BoundCode: codeValue}
	importFields = dialect.Fields(keyID, material, importToken, validTo)
)

// Data, data keys and random bytes.
var (
	plaintext     = &dialect.BytesField{Name: "Plaintext", Kind: dialect.Base64, Required: true, As: "plaintext", Code: codePlaintext}
	bound         = contextField("EncryptionContext")
	encryptFields = dialect.Fields(keyID, plaintext, bound)

	ciphertext = &dialect.BytesField{
		Name: "CiphertextBlob", Kind: dialect.Base64, Required: true, As: "ciphertext", Code: codeCiphertext, Core: kms.CodeInvalidCiphertext,
	}
	publicKey     = &dialect.TextField{Name: "EncryptionPublicKey", Code: codeParameter}
	outAlgorithm  = &dialect.TextField{Name: "EncryptionAlgorithm", Values: slices.Sorted(maps.Keys(envelopes)), Code: codeParameter}
	decryptFields = dialect.Fields(ciphertext, bound, publicKey, outAlgorithm)

	destination        = varied(keyID, func(f *dialect.TextField) { f.Name, f.Required = "DestinationKeyId", false })
	sourceContext      = contextField("SourceEncryptionContext")
	destinationContext = contextField("DestinationEncryptionContext")
	reEncryptFields    = dialect.Fields(ciphertext, destination, sourceContext, destinationContext)

	dataKeySpec   = &dialect.TextField{Name: "KeySpec", Values: slices.Sorted(maps.Keys(dataKeySpecs)), As: "length", Code: codeParameter}
	dataKeyBytes  = &dialect.NumberField{Name: "NumberOfBytes", Low: 1, High: 1024, As: "length", Code: codeParameter, BoundCode: codeValue}
	hosted        = &dialect.NumberField{Name: "IsHostedByKms", Values: []string{"0"}, Code: codeUnsupported}
	dataKeyName   = &dialect.TextField{Name: "DataKeyName", Form: &noDataKey, Code: codeUnsupported}
	dataKeyFields = dialect.Fields(keyID, dataKeySpec, dataKeyBytes, bound, publicKey, outAlgorithm, hosted, dataKeyName, cluster)

	randomBytes  = varied(dataKeyBytes, func(f *dialect.NumberField) { f.Required = true })
	randomFields = dialect.Fields(randomBytes)
)

func contextField(name string) *dialect.PairsField {
	return &dialect.PairsField{Name: name, As: "context", Code: codeParameter}
}

// Asymmetric keys.
var (
	rsaCiphertext = &dialect.BytesField{Name: "Ciphertext", Kind: dialect.Base64, Required: true, As: "ciphertext", Code: codeParameter, Core: kms.CodeInvalidCiphertext}
	rsaAlgorithm  = &dialect.TextField{
		Name: "Algorithm", Required: true, Values: wrappingAlgorithms, As: "encryption_algorithm", Code: codeParameter, Core: kms.CodeInvalidAlgorithm,
	}
	rsaFields = dialect.Fields(keyID, rsaCiphertext, rsaAlgorithm)

	signingAlgorithm = &dialect.TextField{
		Name: "Algorithm", Required: true, Values: slices.Sorted(maps.Keys(signingAlgorithms)), As: "signing_algorithm", Code: codeValue, Core: kms.CodeInvalidAlgorithm,
	}
	message      = &dialect.BytesField{Name: "Message", Kind: dialect.Base64, Required: true, As: "message", Code: codeParameter}
	messageType  = &dialect.TextField{Name: "MessageType", Values: []string{rawMessage, digestMessage}, Code: codeParameter}
	signFields   = dialect.Fields(keyID, signingAlgorithm, message, messageType)
	signature    = &dialect.BytesField{Name: "SignatureValue", Kind: dialect.Base64, Required: true, As: "signature", Code: codeParameter}
	verifyFields = dialect.Fields(keyID, signingAlgorithm, message, messageType, signature)
)
