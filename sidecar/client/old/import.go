package client

import (
	"context"
	"encoding/hex"
	"time"
)

// ImportParametersRequest asks for what the material of an external key is wrapped with.
type ImportParametersRequest struct {
	KeyID        string `json:"key_id"`
	Algorithm    string `json:"wrapping_algorithm"`          // RSAES_OAEP_SHA_256, RSA_AES_KEY_WRAP_SHA_256, …
	WrappingSpec string `json:"wrapping_key_spec,omitempty"` // RSA_2048, RSA_3072, RSA_4096; default RSA_2048
	OnlyLast     bool   `json:"only_last,omitzero"`          // earlier tokens of the key end
	Repeat       bool   `json:"repeat,omitzero"`             // also for a key that has its material
}

// ImportParameters is a wrapping key and the token that an import under it needs. Both may be used until Expires, as often
// as it takes.
type ImportParameters struct {
	KeyID     string
	PublicKey []byte // DER SubjectPublicKeyInfo
	Token     []byte
	Expires   time.Time
	Warning   string // what is to be said against the algorithm; may be empty
}

// GetImportParameters returns a new wrapping key and its token.
func (c *Client) GetImportParameters(ctx context.Context, req ImportParametersRequest) (*ImportParameters, error) {
	var out struct {
		KeyID     string `json:"key_id"`
		Token     []byte `json:"import_token"`
		Expires   int64  `json:"expiration_time"` // seconds, where keys have milliseconds
		PublicKey []byte `json:"public_key"`
		Warning   string `json:"warning"`
	}
	if err := c.call(ctx, "get-parameters-for-import", req, &out); err != nil {
		return nil, err
	}
	return &ImportParameters{
		KeyID: out.KeyID, PublicKey: out.PublicKey, Token: out.Token, Expires: time.Unix(out.Expires, 0), Warning: out.Warning,
	}, nil
}

// ImportRequest is wrapped material for an external key, under the wrapping key and the algorithm of the token.
type ImportRequest struct {
	KeyID string
	Token []byte
	// Material is the material of a symmetric key; for a private key the temporary key that PrivateKey is under. With
	// RSA_AES_KEY_WRAP it is the whole of either.
	Material   []byte
	PrivateKey []byte
	Expires    time.Time // when the material is destroyed, whole seconds; zero: never
	// CheckValue says what the material is; other material is refused. It is 8 bytes, as Key shows them, or one of the two other
	// forms that ARCHITECTURE.md has; may be nil.
	CheckValue []byte
	Repeat     bool // the key may have the same material already; then nothing but Expires changes
}

// ImportKeyMaterial gives an external key its material. Every import after the first must bring the same.
func (c *Client) ImportKeyMaterial(ctx context.Context, req ImportRequest) error {
	in := struct {
		KeyID      string `json:"key_id"`
		Token      []byte `json:"import_token"`
		Material   []byte `json:"encrypted_key_material"`
		PrivateKey []byte `json:"encrypted_privatekey,omitempty"`
		Expires    int64  `json:"expiration_time,omitzero"`
		CheckValue string `json:"check_value,omitempty"`
		Repeat     bool   `json:"repeat,omitzero"`
	}{
		KeyID: req.KeyID, Token: req.Token, Material: req.Material, PrivateKey: req.PrivateKey, CheckValue: hex.EncodeToString(req.CheckValue),
		Repeat: req.Repeat,
	}
	if !req.Expires.IsZero() {
		in.Expires = req.Expires.Unix()
	}
	return c.call(ctx, "import-key-material", in, nil)
}

// DeleteImportedKeyMaterial destroys the material of an external symmetric key, which waits for the same material then.
func (c *Client) DeleteImportedKeyMaterial(ctx context.Context, id string) error {
	return c.call(ctx, "delete-imported-key-material", keyRequest{id}, nil)
}
