package kms

import (
	"cmp"
	"slices"

	"github.com/keyside/keyside/policy"
)

// Which operation a key takes part in is data: tables that a test reads whole. An operation, state, spec or algorithm
// without an entry is refused. They follow the Huawei KMS user guide: chapter 2.4 for states, table 2-2 for specs and
// usages, 2.6 for tags, table 2-12 for rotation, and its constraints on default master keys.

// stateRule has an entry for every state: nil where a key in that state takes part, else the refusal.
type stateRule map[KeyState]*Error

// kindRule has an entry for every kind of key: nil where such a key takes part, else the refusal.
type kindRule map[kind]*Error

// rule says which keys take part in an operation.
type rule struct {
	states stateRule
	kinds  kindRule
}

// operations has a row for every operation that is about a key. Only policy knows which of them change the key, which
// default keys refuse.
var operations = map[policy.Operation]rule{
	policy.OpDescribeKey: {inAnyState, ofAnyKind},
	policy.OpGetRotation: {inAnyState, ofAnyKind},
	policy.OpListKeyTags: {inAnyState, ofAnyKind},

	policy.OpEnableKey: {stateRule{
		Enabled: errNotDisabled, Disabled: nil, PendingImport: errNotDisabled, PendingDeletion: errNotDisabled, Archived: nil, Unavailable: errNotDisabled,
	}, ofAnyKind},
	policy.OpDisableKey: {stateRule{
		Enabled: nil, Disabled: errNotEnabled, PendingImport: errNotEnabled, PendingDeletion: errNotEnabled, Archived: errNotEnabled, Unavailable: nil,
	}, ofAnyKind},
	policy.OpScheduleDeletion: {toDescribe, ofAnyKind},
	policy.OpCancelDeletion: {stateRule{
		Enabled: errNotPendingDeletion, Disabled: errNotPendingDeletion, PendingImport: errNotPendingDeletion, PendingDeletion: nil,
		Archived: errNotPendingDeletion, Unavailable: errNotPendingDeletion,
	}, ofAnyKind},

	policy.OpCreateGrant: {toUse, ofAnyKind},
	policy.OpListGrants:  {inAnyState, ofAnyKind},
	policy.OpRevokeGrant: {inAnyState, ofAnyKind},
	policy.OpRetireGrant: {inAnyState, ofAnyKind},

	policy.OpUpdateAlias:           {toDescribe, ofAnyKind},
	policy.OpUpdateDescription:     {toDescribe, ofAnyKind},
	policy.OpTagKey:                {toDescribe, ofAnyKind},
	policy.OpSetDeletionProtection: {toDescribe, ofAnyKind},
	policy.OpUntagKey:              {toDescribe, ofAnyKind},
	policy.OpCreateAlias:           {toDescribe, ofAnyKind},
	policy.OpDeleteAlias:           {toDescribe, ofAnyKind},
	policy.OpAssociateAlias:        {toDescribe, ofAnyKind},

	policy.OpCreateKeyVersion: {toUse, ofAsymmetric},

	policy.OpEnableRotation:  {toSchedule, ofSymmetric},
	policy.OpUpdateRotation:  {toSchedule, ofSymmetric},
	policy.OpDisableRotation: {toSchedule, ofSymmetric},

	policy.OpGetImportParameters: {toImport, ofImported},
	policy.OpImportMaterial:      {toImport, ofImported},
	policy.OpDeleteMaterial: {stateRule{
		Enabled: nil, Disabled: nil, PendingImport: errNoMaterial, PendingDeletion: errNoMaterial, Archived: nil, Unavailable: nil,
	}, kindRule{
		symmetricKey: nil, decryptingKey: errPermanent, signingKey: errPermanent, ellipticKey: errPermanent, agreementKey: errPermanent,
		macKey: errIsMAC,
	}},

	policy.OpEncryptData:         {toUse, ofEncrypting},
	policy.OpDecryptData:         {toOpen, ofEncrypting},
	policy.OpReEncrypt:           {toOpen, ofEncrypting},
	policy.OpCreateDataKey:       {toUse, ofSymmetric},
	policy.OpCreateDataKeyNoText: {toUse, ofSymmetric},
	policy.OpCreateRSAKeyPair:    {toUse, ofSymmetric},
	policy.OpCreateECKeyPair:     {toUse, ofSymmetric},
	policy.OpEncryptDataKey:      {toUse, ofSymmetric},
	policy.OpDecryptDataKey:      {toOpen, ofSymmetric},
	policy.OpSign:                {toUse, ofSigning},
	policy.OpVerify:              {toUse, ofSigning},
	policy.OpGetPublicKey: {toUse, kindRule{
		symmetricKey: errIsSymmetric, decryptingKey: nil, signingKey: nil, ellipticKey: nil, agreementKey: nil, macKey: errIsMAC,
	}},
	policy.OpGenerateMAC: {toUse, ofMAC},
	policy.OpVerifyMAC:   {toUse, ofMAC},
	policy.OpDeriveSharedSecret: {toUse, kindRule{
		symmetricKey: errIsSymmetric, decryptingKey: errNotAgreement.with(ReasonEncryptDecrypt), signingKey: errNotAgreement.with(ReasonSignVerify),
		ellipticKey: errNotAgreement.with(ReasonSignVerify), agreementKey: nil, macKey: errIsMAC,
	}},
}

// The states of keys that take part.
var (
	toUse = stateRule{
		Enabled: nil, Disabled: errDisabled, PendingImport: errPendingImport, PendingDeletion: errPendingDeletion, Archived: errArchived, Unavailable: errUnavailable,
	}
	// toOpen is for decryption, and for the source of a re-encryption. See encrypter and locateBlock for what else they refuse.
	toOpen = stateRule{
		Enabled: nil, Disabled: errDisabled, PendingImport: errPendingImport, PendingDeletion: errPendingDeletion, Archived: nil, Unavailable: errUnavailable,
	}
	inAnyState = stateRule{Enabled: nil, Disabled: nil, PendingImport: nil, PendingDeletion: nil, Archived: nil, Unavailable: nil}
	// toDescribe is for changes of names, descriptions and tags, and for scheduling a deletion.
	toDescribe = stateRule{Enabled: nil, Disabled: nil, PendingImport: nil, PendingDeletion: errPendingDeletion, Archived: nil, Unavailable: nil}
	// toSchedule is for changes of the rotation schedule. Only external keys are in PendingImport, and they are not rotated.
	toSchedule = stateRule{
		Enabled: nil, Disabled: errDisabled, PendingImport: errImported, PendingDeletion: errPendingDeletion, Archived: errArchived, Unavailable: nil,
	}
	toImport = stateRule{
		Enabled: errNotPendingImport, Disabled: errNotPendingImport, PendingImport: nil, PendingDeletion: errNotPendingImport,
		Archived: errNotPendingImport, Unavailable: errNotPendingImport,
	}
)

// The kinds of keys that take part.
var (
	ofAnyKind    = kindRule{symmetricKey: nil, decryptingKey: nil, signingKey: nil, ellipticKey: nil, agreementKey: nil, macKey: nil}
	ofEncrypting = kindRule{
		symmetricKey: nil, decryptingKey: nil, signingKey: errIsSigning, ellipticKey: errIsElliptic, agreementKey: errIsAgreement,
		macKey: errIsMAC,
	}
	// ofSymmetric is for data keys and for rotation.
	ofSymmetric = kindRule{
		symmetricKey: nil, decryptingKey: errIsAsymmetric, signingKey: errIsAsymmetric, ellipticKey: errIsAsymmetric,
		agreementKey: errIsAsymmetric, macKey: errIsMAC,
	}
	// ofAsymmetric is for new versions at a caller's request. Symmetric keys get theirs by their rotation schedule.
	ofAsymmetric = kindRule{
		symmetricKey: errIsSymmetric, decryptingKey: nil, signingKey: nil, ellipticKey: nil, agreementKey: nil, macKey: errIsMAC,
	}
	ofSigning = kindRule{
		symmetricKey: errIsSymmetric, decryptingKey: errIsDecrypting, signingKey: nil, ellipticKey: nil, agreementKey: errIsAgreement,
		macKey: errIsMAC,
	}
	// ofImported leaves HMAC keys out (import guide, "Constraints").
	ofImported = kindRule{
		symmetricKey: nil, decryptingKey: nil, signingKey: nil, ellipticKey: nil, agreementKey: nil, macKey: errIsMAC,
	}
	ofMAC = kindRule{
		symmetricKey: errNotMAC.with(ReasonSymmetric), decryptingKey: errNotMAC.with(ReasonEncryptDecrypt),
		signingKey: errNotMAC.with(ReasonSignVerify), ellipticKey: errNotMAC.with(ReasonSignVerify),
		agreementKey: errNotMAC.with(ReasonKeyAgreement), macKey: nil,
	}
)

// The refusals of the tables.
var (
	errDisabled           = Errorf(CodeKeyDisabled, "key is disabled")
	errArchived           = Errorf(CodeKeyArchived, "key is archived: it only decrypts")
	errPendingImport      = Errorf(CodeKeyPendingImport, "key has no material yet: import it")
	errPendingDeletion    = Errorf(CodeKeyPendingDeletion, "key is scheduled for deletion")
	errUnavailable        = Errorf(CodeKeyUnavailable, "key is unavailable in the HSM")
	errNotDisabled        = Errorf(CodeKeyNotDisabled, "key is not disabled")
	errNotEnabled         = Errorf(CodeKeyNotEnabled, "key is not enabled")
	errNotPendingDeletion = Errorf(CodeKeyNotPendingDeletion, "key is not scheduled for deletion")
	errNotPendingImport   = Errorf(CodeKeyNotPendingImport, "key is not pending an import of its material")
	errNoMaterial         = Errorf(CodeKeyMaterialMissing, "key must be enabled or disabled for its material to be deleted")
	errPermanent          = Errorf(CodeKeyMaterialPermanent, "material of an asymmetric key cannot be deleted: delete the key")
	errServiceKey         = Errorf(CodeServiceKey, "a service's default key cannot be changed")
	errImported           = Errorf(CodeInvalidOrigin, "a key with imported material is not rotated").with(ReasonExternal)
	errGenerated          = Errorf(CodeInvalidOrigin, "only a key of origin external takes imported material").with(ReasonGenerated)
	errRotationEnabled    = Errorf(CodeRotationEnabled, "rotation is already enabled")
	errRotationDisabled   = Errorf(CodeRotationDisabled, "rotation is not enabled")
	errProtected          = Errorf(CodeKeyProtected, "key is protected against deletion: switch the protection off first")
	errInstanceMaterial   = Errorf(CodeKeyMaterialPermanent, "material of an instance's key cannot be deleted: delete the key")
	errProtection         = Errorf(CodeUnsupported, "this HSM does not protect the key so").In("protection")
	errDryRun             = Errorf(CodeDryRun, "the operation would be done, but the request is a dry run")
	errAlgorithm          = Errorf(CodeInvalidAlgorithm, "algorithm does not match the key spec")

	errIsSymmetric  = Errorf(CodeInvalidKeyUsage, "operation needs an asymmetric key").with(ReasonSymmetric)
	errIsAsymmetric = Errorf(CodeInvalidKeyUsage, "operation needs a symmetric key").with(ReasonAsymmetric)
	errIsMAC        = Errorf(CodeInvalidKeyUsage, "operation does not take HMAC keys").with(ReasonMAC)
	errIsElliptic   = Errorf(CodeInvalidKeyUsage, "elliptic-curve keys do not encrypt and decrypt").with(ReasonElliptic)
	errIsDecrypting = Errorf(CodeInvalidKeyUsage, "key may only encrypt and decrypt").with(ReasonEncryptDecrypt)
	errIsSigning    = Errorf(CodeInvalidKeyUsage, "key may only sign and verify").with(ReasonSignVerify)
	errIsAgreement  = Errorf(CodeInvalidKeyUsage, "key may only derive shared secrets").with(ReasonKeyAgreement)
	errNotMAC       = Errorf(CodeInvalidKeyUsage, "operation needs an HMAC key")
	errNotAgreement = Errorf(CodeInvalidKeyUsage, "operation needs a key for key agreement")
)

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

// checkKey checks that the key's state lets it take part in an operation, and that a default key is not changed.
func (u *Rules) checkKey(op policy.Operation, key *Key) error {
	if key.IsDefault() && op.Changes() {
		return errServiceKey
	}
	if refusal, ok := u.States[op][key.State]; ok {
		if refusal != nil {
			return refusal
		}
		return nil
	}
	return checkState(op, key.State)
}

// checkExternal checks that a key takes part in an operation on imported material. repeat allows an import where the key
// has its material.
func (u *Rules) checkExternal(op policy.Operation, key *Key, repeat bool) error {
	if !key.IsDefault() && key.Origin != OriginExternal {
		return errGenerated
	}
	again := repeat && (key.State == Enabled || key.State == Disabled)
	if err := u.checkKey(op, key); err != nil && !(again && AsError(err).Code == CodeKeyNotPendingImport) {
		return err
	}
	if op == policy.OpDeleteMaterial && key.Instance != "" {
		return errInstanceMaterial
	}
	return checkKind(op, key.Spec, key.Usage)
}

func checkState(op policy.Operation, state KeyState) error {
	refusal, ok := operations[op].states[state]
	switch {
	case !ok:
		return noRule("state", string(op), string(state))
	case refusal != nil:
		return refusal
	}
	return nil
}

func checkKind(op policy.Operation, spec KeySpec, usage KeyUsage) error {
	refusal, ok := operations[op].kinds[spec.row().kind(usage)]
	switch {
	case !ok:
		return noRule("usage", string(op), string(spec)+" "+string(usage))
	case refusal != nil:
		return refusal
	}
	return nil
}

// noRule refuses what no table has an entry for.
func noRule(table, op, entry string) error {
	return Errorf(CodeInternal, "internal error").Because(Errorf(CodeInternal, "no %s rule for %s with %s", table, op, entry))
}

func checkAlgorithm(spec KeySpec, alg SigningAlgorithm) error {
	if !slices.Contains(spec.row().signing, alg) {
		return errAlgorithm.In("signing_algorithm")
	}
	return nil
}

// checkEncryption checks that a spec encrypts so, and that what is to be bound to the ciphertext can be: RSA binds nothing.
func checkEncryption(spec KeySpec, alg EncryptionAlgorithm, context map[string]string, aad []byte) error {
	switch {
	case !slices.Contains(spec.row().encryption, cmp.Or(alg, SymmetricDefault)):
		return errAlgorithm.In("encryption_algorithm")
	case alg.rsa() && len(context) > 0:
		return Invalid("context", ReasonConflict, "an RSA ciphertext cannot be bound to an encryption context")
	case alg.rsa() && len(aad) > 0:
		return Invalid("aad", ReasonConflict, "an RSA ciphertext cannot be bound to additional authenticated data")
	}
	return nil
}
