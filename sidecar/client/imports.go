package client

import (
	"context"
	"time"
)

// ImportParametersRequest asks for a wrapping key for the material of an external key.
type ImportParametersRequest struct {
	KeyID        string `json:"key_id"`
	Algorithm    string `json:"wrapping_algorithm"`         // RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_256, …
	WrappingSpec string `json:"wrapping_key_spec,omitzero"` // RSA_2048, RSA_3072, RSA_4096; default RSA_2048
	OnlyLast     bool   `json:"only_last,omitzero"`         // earlier tokens of the key expire now
	Repeat       bool   `json:"repeat,omitzero"`            // also if the key has its material
}

// ImportParameters is a wrapping key and the token that an import under it needs. Both are valid until Expires, for any
// number of attempts.
type ImportParameters struct {
	KeyID        string    `json:"key_id"`
	Algorithm    string    `json:"wrapping_algorithm"`
	WrappingSpec string    `json:"wrapping_key_spec"`
	PublicKey    []byte    `json:"public_key"` // SubjectPublicKeyInfo, DER
	Token        []byte    `json:"import_token"`
	Expires      time.Time `json:"expires_at"`
	Warning      string    `json:"warning,omitzero"` // a weakness of the algorithm
}

// GetImportParameters returns a new wrapping key and its token.
func (c *Client) GetImportParameters(ctx context.Context, req ImportParametersRequest) (*ImportParameters, error) {
	return call[ImportParameters](ctx, c, "get-import-parameters", req)
}

// ImportRequest is material for an external key, wrapped with the wrapping key and the algorithm of the token.
type ImportRequest struct {
	KeyID string `json:"key_id"`
	Token []byte `json:"import_token"`
	// Material is the wrapped material of a symmetric key, or the wrapped temporary key of PrivateKey. With
	// RSA_AES_KEY_WRAP it is all there is.
	Material   []byte    `json:"material"`
	PrivateKey []byte    `json:"private_key,omitempty"` // PKCS #8 under the temporary key (RFC 5649)
	Expires    time.Time `json:"expires_at,omitzero"`   // when the material is destroyed; zero: never
	// CheckValue identifies the material; other material is refused. It is the 8 bytes of [Key], the SHA-256 of an asymmetric
	// key's SubjectPublicKeyInfo, or a proof (docs/huawei.md); nil: no check.
	CheckValue []byte `json:"check_value,omitempty"`
	Repeat     bool   `json:"repeat,omitzero"` // the key may have the same material already; then only Expires changes
}

// ImportKeyMaterial imports the material of an external key. Every later import must bring the same material.
func (c *Client) ImportKeyMaterial(ctx context.Context, req ImportRequest) (*KeyStatus, error) {
	return call[KeyStatus](ctx, c, "import-key-material", req)
}

// DeleteKeyMaterial destroys the material of an external symmetric key, which is PendingImport then.
func (c *Client) DeleteKeyMaterial(ctx context.Context, keyID string) (*KeyStatus, error) {
	return call[KeyStatus](ctx, c, "delete-key-material", keyRequest{keyID})
}
