package keyside

import "github.com/keyside/keyside/sidecar/kms"

// The values of enumerations. All names are the core's.
var (
	states = []string{
		string(kms.Enabled), string(kms.Disabled), string(kms.PendingImport), string(kms.PendingDeletion), string(kms.Archived), string(kms.Unavailable),
	}
	keySpecs             = kms.SpecNames(kms.AES, kms.RSA, kms.EC, kms.HMAC)
	keyUsages            = kms.UsageNames()
	rsaSpecs             = kms.SpecNames(kms.RSA)
	ecSpecs              = kms.SpecNames(kms.EC)
	encryptionAlgorithms = kms.EncryptionNames()
	signingAlgorithms    = kms.SigningNames()
	macAlgorithms        = kms.MACNames()
	wrappingAlgorithms   = kms.WrappingNames()
)
