package client

import (
	"context"
	"strings"
)

// Encryption algorithms. Symmetric keys have the first, which is the default. RSA keys have the others, whose ciphertexts
// name no key and bind no context.
const (
	SymmetricDefault = "SYMMETRIC_DEFAULT"
	RSAOAEPSHA1      = "RSAES_OAEP_SHA_1" // ReEncrypt only
	RSAOAEPSHA256    = "RSAES_OAEP_SHA_256"
)

// Bound is what a ciphertext is bound to: decryption needs the same. Both are optional.
type Bound struct {
	Context map[string]string `json:"context,omitempty"` // the encryption context
	AAD     []byte            `json:"aad,omitempty"`     // additional authenticated data, at most 128 bytes
}

// EncryptRequest is data to encrypt.
type EncryptRequest struct {
	KeyID     string `json:"key_id"`
	Algorithm string `json:"encryption_algorithm,omitzero"` // default SymmetricDefault
	Plaintext []byte `json:"plaintext"`                     // 1 to 4096 bytes
	Bound
}

// Encrypted is a ciphertext.
type Encrypted struct {
	KeyID      string `json:"key_id"`
	Ciphertext []byte `json:"ciphertext"`
}

// Encrypt encrypts 1 to 4096 bytes.
func (c *Client) Encrypt(ctx context.Context, req EncryptRequest) (*Encrypted, error) {
	return call[Encrypted](ctx, c, "encrypt", req)
}

// DecryptRequest is a ciphertext to decrypt. A symmetric ciphertext names its key, and a KeyID must be the same; that of an
// RSA key needs KeyID and Algorithm.
type DecryptRequest struct {
	KeyID      string `json:"key_id,omitzero"`
	Algorithm  string `json:"encryption_algorithm,omitzero"` // default SymmetricDefault
	Ciphertext []byte `json:"ciphertext"`
	Bound
}

// Decrypted is a plaintext, which the caller clears.
type Decrypted struct {
	KeyID     string `json:"key_id"`
	Plaintext []byte `json:"plaintext"`
}

// Decrypt decrypts what Encrypt returned. Error: ErrInvalidCiphertext for anything wrong with it.
func (c *Client) Decrypt(ctx context.Context, req DecryptRequest) (*Decrypted, error) {
	return call[Decrypted](ctx, c, "decrypt", req)
}

// The purposes of ciphertexts.
const (
	PurposeData    = "data"     // Decrypt opens it
	PurposeDataKey = "data-key" // DecryptDataKey opens it
)

// ReEncryptRequest is a ciphertext to decrypt under one key and encrypt under another. Its purpose stays. The source's key
// and algorithm may be empty if the ciphertext names its key.
type ReEncryptRequest struct {
	Ciphertext           []byte            `json:"ciphertext"`
	SourceKeyID          string            `json:"source_key_id,omitzero"`
	SourceAlgorithm      string            `json:"source_encryption_algorithm,omitzero"`
	SourceContext        map[string]string `json:"source_context,omitempty"`
	SourceAAD            []byte            `json:"source_aad,omitempty"`
	DestinationKeyID     string            `json:"destination_key_id"`
	DestinationAlgorithm string            `json:"destination_encryption_algorithm,omitzero"`
	DestinationContext   map[string]string `json:"destination_context,omitempty"`
	DestinationAAD       []byte            `json:"destination_aad,omitempty"`
	// DataKeyBytes is the length of the data key in an RSA ciphertext; zero: it holds data.
	DataKeyBytes int `json:"data_key_bytes,omitzero"`
}

// ReEncrypted is the new ciphertext.
type ReEncrypted struct {
	KeyID           string `json:"key_id"`
	Algorithm       string `json:"encryption_algorithm"`
	SourceKeyID     string `json:"source_key_id"`
	SourceAlgorithm string `json:"source_encryption_algorithm"`
	Purpose         string `json:"purpose"` // PurposeData or PurposeDataKey
	Ciphertext      []byte `json:"ciphertext"`
}

// ReEncrypt encrypts a ciphertext under another key. The plaintext does not leave the sidecar.
func (c *Client) ReEncrypt(ctx context.Context, req ReEncryptRequest) (*ReEncrypted, error) {
	return call[ReEncrypted](ctx, c, "re-encrypt", req)
}

// DataKeyRequest describes a new data key.
type DataKeyRequest struct {
	KeyID  string `json:"key_id"`
	Length int    `json:"length,omitzero"` // bytes, 1 to 1024; default 32
	Bound
}

// DataKey is a data key, plain and encrypted.
type DataKey struct {
	KeyID      string `json:"key_id"`
	Plaintext  []byte `json:"plaintext"` // the caller clears it
	Ciphertext []byte `json:"ciphertext"`
}

// GenerateDataKey generates a data key and returns it plain and encrypted.
func (c *Client) GenerateDataKey(ctx context.Context, req DataKeyRequest) (*DataKey, error) {
	return call[DataKey](ctx, c, "generate-data-key", req)
}

// GenerateDataKeyWithoutPlaintext generates a data key and returns it encrypted only.
func (c *Client) GenerateDataKeyWithoutPlaintext(ctx context.Context, req DataKeyRequest) (*Encrypted, error) {
	return call[Encrypted](ctx, c, "generate-data-key-without-plaintext", req)
}

// EncryptDataKeyRequest is a data key of the caller's own to encrypt.
type EncryptDataKeyRequest struct {
	KeyID     string `json:"key_id"`
	Plaintext []byte `json:"plaintext"` // 1 to 1024 bytes
	Bound
}

// EncryptDataKey encrypts a data key of the caller's own.
func (c *Client) EncryptDataKey(ctx context.Context, req EncryptDataKeyRequest) (*Encrypted, error) {
	return call[Encrypted](ctx, c, "encrypt-data-key", req)
}

// DecryptDataKeyRequest is an encrypted data key or private key. It names its key, and a KeyID must be the same.
type DecryptDataKeyRequest struct {
	KeyID      string `json:"key_id,omitzero"`
	Ciphertext []byte `json:"ciphertext"`
	Bound
}

// DecryptDataKey decrypts a data key, or the private key of a data key pair.
func (c *Client) DecryptDataKey(ctx context.Context, req DecryptDataKeyRequest) (*Decrypted, error) {
	return call[Decrypted](ctx, c, "decrypt-data-key", req)
}

// DataKeyPairRequest describes a new asymmetric key pair of the caller's own.
type DataKeyPairRequest struct {
	KeyID            string `json:"key_id"`   // encrypts the private key
	Spec             string `json:"key_spec"` // RSA_2048, RSA_3072, RSA_4096, EC_P256, EC_P384, EC_P521, SECP256K1
	WithoutPlaintext bool   `json:"without_plaintext,omitzero"`
	Bound
}

// DataKeyPair is a key pair. DecryptDataKey opens the ciphertext.
type DataKeyPair struct {
	KeyID      string `json:"key_id"`
	Spec       string `json:"key_spec"`
	PublicKey  []byte `json:"public_key"`            // SubjectPublicKeyInfo, DER
	PrivateKey []byte `json:"private_key,omitempty"` // PKCS #8, DER; nil with WithoutPlaintext; the caller clears it
	Ciphertext []byte `json:"ciphertext"`            // of the private key
}

// GenerateDataKeyPair generates a key pair. Those of RSA and of elliptic curves are two operations with a right each.
func (c *Client) GenerateDataKeyPair(ctx context.Context, req DataKeyPairRequest) (*DataKeyPair, error) {
	if strings.HasPrefix(req.Spec, "RSA_") {
		return call[DataKeyPair](ctx, c, "generate-rsa-data-key-pair", req)
	}
	return call[DataKeyPair](ctx, c, "generate-ec-data-key-pair", req)
}

// RandomRequest asks for random bytes.
type RandomRequest struct {
	Length int `json:"length"` // bytes, 1 to 1024
}

// Random is random bytes.
type Random struct {
	Random []byte `json:"random"`
}

// GenerateRandom returns 1 to 1024 random bytes of the HSM.
func (c *Client) GenerateRandom(ctx context.Context, length int) ([]byte, error) {
	out, err := value[Random](ctx, c, "generate-random", RandomRequest{length})
	return out.Random, err
}
