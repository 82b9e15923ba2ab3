package keyside

import "github.com/keyside/keyside/sidecar/kms"

// The values of enumerations. All names are the core's.
var (
	states = []string{
		string(kms.Enabled), string(kms.Disabled), string(kms.PendingImport), string(kms.PendingDeletion), string(kms.Unavailable),
	}
	keySpecs = []string{
		"AES_128", "AES_192", "AES_256", "RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "EC_P521", "SECP256K1",
		"HMAC_256", "HMAC_384", "HMAC_512",
	}
	keyUsages            = []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"}
	rsaSpecs             = []string{"RSA_2048", "RSA_3072", "RSA_4096"}
	ecSpecs              = []string{"EC_P256", "EC_P384", "EC_P521", "SECP256K1"}
	encryptionAlgorithms = []string{"SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"}
	signingAlgorithms    = []string{
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512", "RSASSA_PKCS1_V1_5_SHA_256",
		"RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512", "ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512",
	}
	macAlgorithms      = []string{"HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"}
	wrappingAlgorithms = []string{
		"RSAES_OAEP_SHA_256", "RSAES_OAEP_SHA_1", "RSAES_PKCS1_V1_5", "RSA_AES_KEY_WRAP_SHA_256", "RSA_AES_KEY_WRAP_SHA_1",
	}
)
