package client

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// DataKeyRequest asks for a data key of so many bytes, 1 to 1024.
type DataKeyRequest struct {
	KeyID string
	Bytes int
	Bound
}

// DataKey is a data key, plain and encrypted.
type DataKey struct {
	KeyID      string
	Plaintext  []byte // nil where none was asked for; the caller clears it
	Ciphertext []byte
}

// CreateDataKey makes a data key.
func (c *Client) CreateDataKey(ctx context.Context, req DataKeyRequest) (*DataKey, error) {
	return c.dataKey(ctx, "create-datakey", req)
}

// CreateDataKeyWithoutPlaintext makes a data key and returns it encrypted only.
func (c *Client) CreateDataKeyWithoutPlaintext(ctx context.Context, req DataKeyRequest) (*DataKey, error) {
	return c.dataKey(ctx, "create-datakey-without-plaintext", req)
}

func (c *Client) dataKey(ctx context.Context, operation string, req DataKeyRequest) (*DataKey, error) {
	in := struct {
		KeyID string `json:"key_id"`
		Bits  string `json:"datakey_length"`
		Bound
	}{req.KeyID, strconv.Itoa(8 * req.Bytes), req.Bound}
	var out struct {
		KeyID      string `json:"key_id"`
		Plaintext  string `json:"plain_text"`
		Ciphertext string `json:"cipher_text"`
	}
	if err := c.call(ctx, operation, in, &out); err != nil {
		return nil, err
	}
	plaintext, err := fromHex(out.Plaintext)
	if err != nil {
		return nil, err
	}
	ciphertext, err := fromHex(out.Ciphertext)
	if err != nil {
		return nil, err
	}
	return &DataKey{KeyID: out.KeyID, Plaintext: plaintext, Ciphertext: ciphertext}, nil
}

// EncryptDataKeyRequest says which data key to encrypt.
type EncryptDataKeyRequest struct {
	KeyID     string
	Plaintext []byte
	Bound
}

// EncryptDataKey encrypts a data key of the caller's own.
func (c *Client) EncryptDataKey(ctx context.Context, req EncryptDataKeyRequest) (ciphertext []byte, err error) {
	digest := sha256.Sum256(req.Plaintext)
	in := struct {
		KeyID     string `json:"key_id"`
		Plaintext string `json:"plain_text"`
		Length    string `json:"datakey_plain_length"`
		Bound
	}{req.KeyID, hex.EncodeToString(req.Plaintext) + hex.EncodeToString(digest[:]), strconv.Itoa(len(req.Plaintext)), req.Bound}
	var out struct {
		Ciphertext string `json:"cipher_text"`
	}
	if err := c.call(ctx, "encrypt-datakey", in, &out); err != nil {
		return nil, err
	}
	return fromHex(out.Ciphertext)
}

// DecryptDataKeyRequest says which data key to decrypt. Bytes is the plain key's length.
type DecryptDataKeyRequest struct {
	KeyID      string
	Ciphertext []byte
	Bytes      int
	Bound
}

// DecryptDataKey opens a data key and checks its digest.
func (c *Client) DecryptDataKey(ctx context.Context, req DecryptDataKeyRequest) ([]byte, error) {
	in := struct {
		KeyID      string `json:"key_id"`
		Ciphertext string `json:"cipher_text"`
		Length     string `json:"datakey_cipher_length"`
		Bound
	}{req.KeyID, hex.EncodeToString(req.Ciphertext), strconv.Itoa(req.Bytes), req.Bound}
	var out struct {
		DataKey string `json:"data_key"`
		Digest  string `json:"datakey_dgst"`
	}
	if err := c.call(ctx, "decrypt-datakey", in, &out); err != nil {
		return nil, err
	}
	key, err := fromHex(out.DataKey)
	if err != nil {
		return nil, err
	}
	want, err := fromHex(out.Digest)
	if got := sha256.Sum256(key); err != nil || subtle.ConstantTimeCompare(got[:], want) != 1 {
		clear(key)
		return nil, errors.New("data key does not match its digest")
	}
	return key, nil
}

// DataKeyPairRequest asks for an asymmetric key pair of the caller's own, its private half encrypted under a key.
type DataKeyPairRequest struct {
	KeyID            string `json:"key_id"`
	Spec             string `json:"key_spec"` // RSA_2048, RSA_3072, RSA_4096, ECC_NIST_P256, ECC_NIST_P384, ECC_NIST_P521
	WithoutPlaintext bool   `json:"-"`
	AAD              string `json:"additional_authenticated_data,omitempty"` // as in Bound; these operations take no context
}

// DataKeyPair is a key pair. DecryptDataKey opens the ciphertext.
type DataKeyPair struct {
	KeyID      string `json:"key_id"`
	Spec       string `json:"key_spec"`
	PublicKey  []byte `json:"public_key"`             // SubjectPublicKeyInfo, DER
	PrivateKey []byte `json:"private_key_plain_text"` // PKCS #8, DER; nil where none was asked for; the caller clears it
	Ciphertext []byte `json:"private_key_cipher_text"`
}

// CreateDataKeyPair makes a key pair.
func (c *Client) CreateDataKeyPair(ctx context.Context, req DataKeyPairRequest) (*DataKeyPair, error) {
	operation := "create-ec-datakey-pair"
	if strings.HasPrefix(req.Spec, "RSA_") {
		operation = "create-rsa-datakey-pair"
	}
	in := struct {
		DataKeyPairRequest
		WithPlaintext bool `json:"with_plain_text"`
	}{req, !req.WithoutPlaintext}
	out := new(DataKeyPair)
	if err := c.call(ctx, operation, in, out); err != nil {
		return nil, err
	}
	if len(out.PublicKey) == 0 || len(out.Ciphertext) == 0 || (len(out.PrivateKey) == 0) != req.WithoutPlaintext {
		clear(out.PrivateKey)
		return nil, errors.New("sidecar answered half a key pair")
	}
	return out, nil
}
