package kms

import "github.com/keyside/keyside/policy"

// What may be done with which key is data: four tables that a test reads whole. An operation, state, spec or algorithm
// that a table does not have is refused.

// allowed is the table entry that refuses nothing.
const allowed Code = ""

// forUse is the row of the operations that use a key's material.
var forUse = map[KeyState]Code{
	Enabled: allowed, Disabled: CodeKeyDisabled, PendingImport: CodeKeyPendingImport,
	PendingDeletion: CodeKeyPendingDelete, Unavailable: CodeKeyUnavailable,
}

// states says which operation goes with a key in which state, or why it does not.
var states = map[policy.Operation]map[KeyState]Code{
	policy.OpDescribeKey: {
		Enabled: allowed, Disabled: allowed, PendingImport: allowed, PendingDeletion: allowed, Unavailable: allowed,
	},
	policy.OpEnableKey: {
		Enabled: CodeNotDisabled, Disabled: allowed, PendingImport: CodeNotDisabled, PendingDeletion: CodeNotDisabled,
		Unavailable: CodeNotDisabled,
	},
	policy.OpDisableKey: {
		Enabled: allowed, Disabled: CodeNotEnabled, PendingImport: CodeNotEnabled, PendingDeletion: CodeNotEnabled,
		Unavailable: allowed,
	},
	policy.OpEncryptData:         forUse,
	policy.OpDecryptData:         forUse,
	policy.OpCreateDataKey:       forUse,
	policy.OpCreateDataKeyNoText: forUse,
	policy.OpEncryptDataKey:      forUse,
	policy.OpDecryptDataKey:      forUse,
	policy.OpSign:                forUse,
	policy.OpVerify:              forUse,
	policy.OpGetPublicKey:        forUse,
}

// kind is what the rules need to know of a spec with a usage.
type kind uint8

const (
	symmetricKey kind = iota + 1 // encrypts and decrypts
	signingKey                   // asymmetric, signs and verifies
	macKey
)

// usages says which usages a spec can have and what kind of key each makes. The first one is the default. A spec that is
// known and has none cannot be made: SM2 and SM4 wait for a library, and signatures of SECP256K1 cannot be verified
// before release, which the core does with Go's cryptography.
var usages = map[KeySpec][]struct {
	usage KeyUsage
	kind  kind
}{
	AES128: {{EncryptDecrypt, symmetricKey}}, AES192: {{EncryptDecrypt, symmetricKey}},
	AES256:  {{EncryptDecrypt, symmetricKey}},
	RSA2048: {{SignVerify, signingKey}}, RSA3072: {{SignVerify, signingKey}}, RSA4096: {{SignVerify, signingKey}},
	ECP256: {{SignVerify, signingKey}}, ECP384: {{SignVerify, signingKey}}, ECP521: {{SignVerify, signingKey}},
	HMAC256: {{GenerateVerifyMAC, macKey}}, HMAC384: {{GenerateVerifyMAC, macKey}}, HMAC512: {{GenerateVerifyMAC, macKey}},
	Secp256k1: nil, SM2: nil, SM4: nil,
}

// The rows of kinds.
var (
	forData = map[kind]Code{
		symmetricKey: allowed, signingKey: CodeUsageIsSign, macKey: CodeMACKey,
	}
	forDataKey = map[kind]Code{
		symmetricKey: allowed, signingKey: CodeAsymmetricKey, macKey: CodeMACKey,
	}
	forSignature = map[kind]Code{
		symmetricKey: CodeSymmetricKey, signingKey: allowed, macKey: CodeMACKey,
	}
)

// kinds says which operation goes with which kind of key, or why it does not.
var kinds = map[policy.Operation]map[kind]Code{
	policy.OpEncryptData:         forData,
	policy.OpDecryptData:         forData,
	policy.OpCreateDataKey:       forDataKey,
	policy.OpCreateDataKeyNoText: forDataKey,
	policy.OpEncryptDataKey:      forDataKey,
	policy.OpDecryptDataKey:      forDataKey,
	policy.OpSign:                forSignature,
	policy.OpVerify:              forSignature,
	policy.OpGetPublicKey: {
		symmetricKey: CodeSymmetricKey, signingKey: allowed, macKey: CodeMACKey,
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
	ECP256: ecAlgorithms, ECP384: ecAlgorithms, ECP521: ecAlgorithms,
}

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
	CodeUsageIsSign:       "key may only sign and verify",
	CodeAlgorithmMismatch: "algorithm is not for this key",
}

func refusal(code Code) *Error { return Errorf(code, "%s", refusals[code]) }

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
