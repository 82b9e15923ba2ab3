package kms

import (
	"cmp"
	"slices"

	"github.com/keyside/keyside/policy"
)

// What may be done with which key is data: tables that a test reads whole. An operation, state, spec or algorithm
// that a table does not have is refused. They follow the user guide: chapter 2.4 for states, table 2-2 for specs and
// usages, 2.6 for tags, table 2-12 for rotation, and its constraints on default master keys.

// allowed is the table entry that refuses nothing.
const allowed Code = ""

// forUse is the row of the operations that use a key's material.
var forUse = map[KeyState]Code{
	Enabled: allowed, Disabled: CodeKeyDisabled, PendingImport: CodeKeyPendingImport,
	PendingDeletion: CodeKeyPendingDelete, Unavailable: CodeKeyUnavailable,
}

// The rows of the operations that do not use a key's material.
var (
	forReading = map[KeyState]Code{
		Enabled: allowed, Disabled: allowed, PendingImport: allowed, PendingDeletion: allowed, Unavailable: allowed,
	}
	// forDescribing is for what people write on a key: name, description, tags, aliases.
	forDescribing = map[KeyState]Code{
		Enabled: allowed, Disabled: allowed, PendingImport: allowed, PendingDeletion: CodeKeyPendingDelete, Unavailable: allowed,
	}
	// forPlanning is for changes of a rotation's plan, which is made for keys in use. Only an external key waits for an
	// import, and none of those is rotated.
	forPlanning = map[KeyState]Code{
		Enabled: allowed, Disabled: CodeKeyDisabled, PendingImport: CodeExternalKey,
		PendingDeletion: CodeKeyPendingDelete, Unavailable: allowed,
	}
	forImport = map[KeyState]Code{
		Enabled: CodeNotPendingImport, Disabled: CodeNotPendingImport, PendingImport: allowed,
		PendingDeletion: CodeNotPendingImport, Unavailable: CodeNotPendingImport,
	}
)

// states says which operation goes with a key in which state, or why it does not.
var states = map[policy.Operation]map[KeyState]Code{
	policy.OpDescribeKey: forReading,
	policy.OpGetRotation: forReading,
	policy.OpListKeyTags: forReading,

	policy.OpEnableKey: {
		Enabled: CodeNotDisabled, Disabled: allowed, PendingImport: CodeNotDisabled, PendingDeletion: CodeNotDisabled,
		Unavailable: CodeNotDisabled,
	},
	policy.OpDisableKey: {
		Enabled: allowed, Disabled: CodeNotEnabled, PendingImport: CodeNotEnabled, PendingDeletion: CodeNotEnabled,
		Unavailable: allowed,
	},
	policy.OpScheduleDeletion: {
		Enabled: allowed, Disabled: allowed, PendingImport: allowed, PendingDeletion: CodeAlreadyPending, Unavailable: allowed,
	},
	policy.OpCancelDeletion: {
		Enabled: CodeNotPending, Disabled: CodeNotPending, PendingImport: CodeNotPending, PendingDeletion: allowed,
		Unavailable: CodeNotPending,
	},

	policy.OpCreateGrant: forUse,
	policy.OpListGrants:  forReading, // and rights can be taken away whatever the key's state
	policy.OpRevokeGrant: forReading,
	policy.OpRetireGrant: forReading,

	policy.OpUpdateAlias:       forDescribing,
	policy.OpUpdateDescription: forDescribing,
	policy.OpTagKey:            forDescribing,
	policy.OpUntagKey:          forDescribing,
	policy.OpCreateAlias:       forDescribing,
	policy.OpDeleteAlias:       forDescribing,
	policy.OpAssociateAlias:    forDescribing,

	policy.OpEnableRotation:  forPlanning,
	policy.OpUpdateRotation:  forPlanning,
	policy.OpDisableRotation: forPlanning,

	policy.OpGetImportParameters: forImport,
	policy.OpImportMaterial:      forImport,
	policy.OpDeleteMaterial: {
		Enabled: allowed, Disabled: allowed, PendingImport: CodeNoMaterial, PendingDeletion: CodeNoMaterial, Unavailable: allowed,
	},

	policy.OpEncryptData:         forUse,
	policy.OpDecryptData:         forUse,
	policy.OpReEncrypt:           forUse,
	policy.OpCreateDataKey:       forUse,
	policy.OpCreateDataKeyNoText: forUse,
	policy.OpCreateRSAKeyPair:    forUse,
	policy.OpCreateECKeyPair:     forUse,
	policy.OpEncryptDataKey:      forUse,
	policy.OpDecryptDataKey:      forUse,
	policy.OpSign:                forUse,
	policy.OpVerify:              forUse,
	policy.OpGetPublicKey:        forUse,
	policy.OpGenerateMAC:         forUse,
	policy.OpVerifyMAC:           forUse,
	policy.OpDeriveSharedSecret:  forUse,
}

// onDefaultKey says which operation goes with a service's default master key: it is used and looked at, never changed.
var onDefaultKey = map[policy.Operation]Code{
	policy.OpDescribeKey: allowed, policy.OpGetRotation: allowed, policy.OpListKeyTags: allowed,

	policy.OpEnableKey: CodeDefaultKey, policy.OpDisableKey: CodeDefaultKey,
	policy.OpScheduleDeletion: CodeDefaultKey, policy.OpCancelDeletion: CodeDefaultKey,
	policy.OpUpdateAlias: CodeDefaultKey, policy.OpUpdateDescription: CodeDefaultKey,
	policy.OpTagKey: CodeDefaultKey, policy.OpUntagKey: CodeDefaultKey,
	policy.OpCreateAlias: CodeDefaultKey, policy.OpDeleteAlias: CodeDefaultKey, policy.OpAssociateAlias: CodeDefaultKey,
	policy.OpEnableRotation: CodeDefaultKey, policy.OpUpdateRotation: CodeDefaultKey, policy.OpDisableRotation: CodeDefaultKey,

	policy.OpGetImportParameters: CodeDefaultKey, policy.OpImportMaterial: CodeDefaultKey, policy.OpDeleteMaterial: CodeDefaultKey,

	policy.OpListGrants: allowed, policy.OpCreateGrant: CodeDefaultKey,
	policy.OpRevokeGrant: CodeDefaultKey, policy.OpRetireGrant: CodeDefaultKey,

	policy.OpEncryptData: allowed, policy.OpDecryptData: allowed, policy.OpReEncrypt: allowed,
	policy.OpCreateDataKey: allowed, policy.OpCreateDataKeyNoText: allowed,
	policy.OpCreateRSAKeyPair: allowed, policy.OpCreateECKeyPair: allowed,
	policy.OpEncryptDataKey: allowed, policy.OpDecryptDataKey: allowed,
	policy.OpSign: allowed, policy.OpVerify: allowed, policy.OpGetPublicKey: allowed,
	policy.OpGenerateMAC: allowed, policy.OpVerifyMAC: allowed, policy.OpDeriveSharedSecret: allowed,
}

// kind is what the rules need to know of a spec with a usage.
type kind uint8

const (
	symmetricKey  kind = iota + 1 // encrypts and decrypts
	decryptingKey                 // asymmetric, decrypts what its public half encrypted
	signingKey                    // RSA, signs and verifies
	ellipticKey                   // on a curve, signs and verifies
	agreementKey                  // asymmetric, derives shared secrets
	macKey
)

// usages says which usages a spec can have and what kind of key each makes. The first one is the default. A spec that is
// known and has none cannot be made: SM2 and SM4 wait for a library.
var usages = map[KeySpec][]struct {
	usage KeyUsage
	kind  kind
}{
	AES128: {{EncryptDecrypt, symmetricKey}}, AES192: {{EncryptDecrypt, symmetricKey}},
	AES256:  {{EncryptDecrypt, symmetricKey}},
	RSA2048: {{SignVerify, signingKey}, {EncryptDecrypt, decryptingKey}},
	RSA3072: {{SignVerify, signingKey}, {EncryptDecrypt, decryptingKey}},
	RSA4096: {{SignVerify, signingKey}, {EncryptDecrypt, decryptingKey}},
	ECP256:  {{SignVerify, ellipticKey}, {KeyAgreement, agreementKey}},
	ECP384:  {{SignVerify, ellipticKey}, {KeyAgreement, agreementKey}},
	ECP521:  {{SignVerify, ellipticKey}, {KeyAgreement, agreementKey}},
	HMAC256: {{GenerateVerifyMAC, macKey}}, HMAC384: {{GenerateVerifyMAC, macKey}}, HMAC512: {{GenerateVerifyMAC, macKey}},
	Secp256k1: {{SignVerify, ellipticKey}, {KeyAgreement, agreementKey}},
	SM2:       nil, SM4: nil,
}

// The rows of kinds.
var (
	forData = map[kind]Code{
		symmetricKey: allowed, decryptingKey: allowed, signingKey: CodeUsageIsSign, ellipticKey: CodeEllipticKey,
		agreementKey: CodeUsageIsAgreement, macKey: CodeMACKey,
	}
	// forSymmetric is for data keys and for rotation.
	forSymmetric = map[kind]Code{
		symmetricKey: allowed, decryptingKey: CodeAsymmetricKey, signingKey: CodeAsymmetricKey, ellipticKey: CodeAsymmetricKey,
		agreementKey: CodeAsymmetricKey, macKey: CodeMACKey,
	}
	forSignature = map[kind]Code{
		symmetricKey: CodeSymmetricKey, decryptingKey: CodeUsageIsEncrypt, signingKey: allowed, ellipticKey: allowed,
		agreementKey: CodeUsageIsAgreement, macKey: CodeMACKey,
	}
	// forImported is for imports: HMAC keys take none (import guide, "Constraints").
	forImported = map[kind]Code{
		symmetricKey: allowed, decryptingKey: allowed, signingKey: allowed, ellipticKey: allowed, agreementKey: allowed,
		macKey: CodeMACKey,
	}
	forMAC = map[kind]Code{
		symmetricKey: CodeNotMACKey, decryptingKey: CodeNotMACKey, signingKey: CodeNotMACKey, ellipticKey: CodeNotMACKey,
		agreementKey: CodeNotMACKey, macKey: allowed,
	}
)

// kinds says which operation goes with which kind of key, or why it does not.
var kinds = map[policy.Operation]map[kind]Code{
	policy.OpEncryptData:         forData,
	policy.OpDecryptData:         forData,
	policy.OpReEncrypt:           forData,
	policy.OpCreateDataKey:       forSymmetric,
	policy.OpCreateDataKeyNoText: forSymmetric,
	policy.OpCreateRSAKeyPair:    forSymmetric,
	policy.OpCreateECKeyPair:     forSymmetric,
	policy.OpEncryptDataKey:      forSymmetric,
	policy.OpDecryptDataKey:      forSymmetric,
	policy.OpEnableRotation:      forSymmetric,
	policy.OpUpdateRotation:      forSymmetric,
	policy.OpDisableRotation:     forSymmetric,
	policy.OpSign:                forSignature,
	policy.OpVerify:              forSignature,
	policy.OpGenerateMAC:         forMAC,
	policy.OpVerifyMAC:           forMAC,
	policy.OpGetImportParameters: forImported,
	policy.OpImportMaterial:      forImported,
	policy.OpDeleteMaterial: {
		symmetricKey: allowed, decryptingKey: CodePrivateMaterial, signingKey: CodePrivateMaterial,
		ellipticKey: CodePrivateMaterial, agreementKey: CodePrivateMaterial, macKey: CodeMACKey,
	},
	policy.OpGetPublicKey: {
		symmetricKey: CodeSymmetricKey, decryptingKey: allowed, signingKey: allowed, ellipticKey: allowed, agreementKey: allowed,
		macKey: CodeMACKey,
	},
	policy.OpDeriveSharedSecret: {
		symmetricKey: CodeSymmetricKey, decryptingKey: CodeNotAgreementKey, signingKey: CodeNotAgreementKey,
		ellipticKey: CodeNotAgreementKey, agreementKey: allowed, macKey: CodeMACKey,
	},
}

var (
	rsaAlgorithms = []SigningAlgorithm{
		RSAPSSSHA256, RSAPSSSHA384, RSAPSSSHA512, RSAPKCS1SHA256, RSAPKCS1SHA384, RSAPKCS1SHA512,
	}
	ecAlgorithms = []SigningAlgorithm{ECDSASHA256, ECDSASHA384, ECDSASHA512}
)

// algorithms says how a spec can sign. ECDSA takes any of the hashes on any curve: a digest longer than the curve's
// order is truncated (FIPS 186-5, 6.4.1).
var algorithms = map[KeySpec][]SigningAlgorithm{
	RSA2048: rsaAlgorithms, RSA3072: rsaAlgorithms, RSA4096: rsaAlgorithms,
	ECP256: ecAlgorithms, ECP384: ecAlgorithms, ECP521: ecAlgorithms, Secp256k1: ecAlgorithms,
}

var (
	symmetricOnly = []EncryptionAlgorithm{SymmetricDefault}
	rsaOnly       = []EncryptionAlgorithm{RSAOAEPSHA256, RSAOAEPSHA1}
)

// encryptions says how a spec can encrypt; the zero algorithm stands for SymmetricDefault.
var encryptions = map[KeySpec][]EncryptionAlgorithm{
	AES128: symmetricOnly, AES192: symmetricOnly, AES256: symmetricOnly,
	RSA2048: rsaOnly, RSA3072: rsaOnly, RSA4096: rsaOnly,
}

// macs says how a spec makes MACs.
var macs = map[KeySpec]MACAlgorithm{HMAC256: HMACSHA256, HMAC384: HMACSHA384, HMAC512: HMACSHA512}

// refusals are the messages of the codes that the tables hold.
var refusals = map[Code]string{
	CodeKeyDisabled:       "key is disabled",
	CodeKeyPendingImport:  "key waits for its material to be imported",
	CodeKeyPendingDelete:  "key is scheduled for deletion",
	CodeKeyUnavailable:    "key is unavailable in the HSM",
	CodeNotDisabled:       "key is not disabled",
	CodeNotEnabled:        "key is not enabled",
	CodeSymmetricKey:      "operation needs an asymmetric key",
	CodeAsymmetricKey:     "operation needs a symmetric key",
	CodeMACKey:            "operation is not for HMAC keys",
	CodeUsageIsEncrypt:    "key may only encrypt and decrypt",
	CodeUsageIsSign:       "key may only sign and verify",
	CodeEllipticKey:       "elliptic keys do not encrypt and decrypt",
	CodeUsageIsAgreement:  "key may only derive shared secrets",
	CodeNotMACKey:         "operation needs an HMAC key",
	CodeNotAgreementKey:   "operation needs a key for key agreement",
	CodeDefaultKey:        "a default master key cannot be changed",
	CodeAlreadyPending:    "key is scheduled for deletion already",
	CodeNotPending:        "key is not scheduled for deletion",
	CodeExternalKey:       "a key with imported material is not rotated",
	CodeRotationEnabled:   "rotation is on already",
	CodeRotationDisabled:  "rotation is not on",
	CodeAlgorithmMismatch: "algorithm is not for this key",
	CodeNotExternal:       "key's material was made here: only external keys take imports",
	CodeNotPendingImport:  "key does not wait for its material to be imported",
	CodeNoMaterial:        "material can be deleted of enabled and disabled keys",
	CodePrivateMaterial:   "material of an asymmetric key cannot be deleted: delete the key",
}

func refusal(code Code) *Error { return Errorf(code, "%s", refusals[code]) }

// checkKey checks that the key's state lets it take part in an operation, and that one which would change a default key
// does not.
func checkKey(op policy.Operation, key *Key) error {
	if key.IsDefault() {
		code, ok := onDefaultKey[op]
		switch {
		case !ok:
			return noRule("default key", string(op), key.Service)
		case code != allowed:
			return refusal(code)
		}
	}
	return checkState(op, key.State)
}

// checkExternal checks that a key takes part in an operation on imported material. repeat lets imports go over material
// that is there.
func checkExternal(op policy.Operation, key *Key, repeat bool) error {
	if !key.IsDefault() && key.Origin != OriginExternal {
		return refusal(CodeNotExternal)
	}
	again := repeat && (key.State == Enabled || key.State == Disabled)
	if err := checkKey(op, key); err != nil && !(again && AsError(err).Code == CodeNotPendingImport) {
		return err
	}
	return checkKind(op, key.Spec, key.Usage)
}

func checkState(op policy.Operation, state KeyState) error {
	code, ok := states[op][state]
	switch {
	case !ok:
		return noRule("state", string(op), string(state))
	case code != allowed:
		return refusal(code)
	}
	return nil
}

func checkKind(op policy.Operation, spec KeySpec, usage KeyUsage) error {
	code, ok := kinds[op][kindOf(spec, usage)]
	switch {
	case !ok:
		return noRule("usage", string(op), string(spec)+" "+string(usage))
	case code != allowed:
		return refusal(code)
	}
	return nil
}

// noRule refuses what no table has an entry for.
func noRule(table, op, entry string) error {
	return Errorf(CodeInternal, "internal error").Because(Errorf(CodeInternal, "no %s rule for %s with %s", table, op, entry))
}

// kindOf returns the kind of key that spec and usage make, or 0.
func kindOf(spec KeySpec, usage KeyUsage) kind {
	for _, u := range usages[spec] {
		if u.usage == usage {
			return u.kind
		}
	}
	return 0
}

func checkAlgorithm(spec KeySpec, alg SigningAlgorithm) error {
	for _, a := range algorithms[spec] {
		if a == alg {
			return nil
		}
	}
	return refusal(CodeAlgorithmMismatch).In("signing_algorithm")
}

// checkEncryption checks that a spec encrypts so, and that what is to be bound to the ciphertext can be: RSA binds nothing.
func checkEncryption(spec KeySpec, alg EncryptionAlgorithm, context map[string]string, aad []byte) error {
	switch {
	case !slices.Contains(encryptions[spec], cmp.Or(alg, SymmetricDefault)):
		return refusal(CodeAlgorithmMismatch).In("encryption_algorithm")
	case alg.rsa() && len(context) > 0:
		return Errorf(CodeInvalidRequest, "an RSA ciphertext cannot be bound to an encryption context").In("context")
	case alg.rsa() && len(aad) > 0:
		return Errorf(CodeInvalidRequest, "an RSA ciphertext cannot be bound to additional authenticated data").In("aad")
	}
	return nil
}
