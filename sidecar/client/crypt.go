package client

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"strconv"
)

// Bound is what a ciphertext is bound to: decryption needs the same. Both are optional.
type Bound struct {
	Context map[string]string `json:"encryption_context,omitempty"`
	AAD     string            `json:"additional_authenticated_data,omitempty"` // at most 128 bytes
}

// EncryptRequest says what to encrypt: text of 1 to 4096 bytes. Other data goes by a data key.
type EncryptRequest struct {
	KeyID     string `json:"key_id"`
	Plaintext string `json:"plain_text"`
	Bound
}

// Encrypt encrypts a short text and returns the ciphertext in base64.
func (c *Client) Encrypt(ctx context.Context, req EncryptRequest) (ciphertext string, err error) {
	var out struct {
		Ciphertext string `json:"cipher_text"`
	}
	err = c.call(ctx, "encrypt-data", req, &out)
	return out.Ciphertext, err
}

// DecryptRequest says what to decrypt. The ciphertext names its key; a KeyID that is set must be the same.
type DecryptRequest struct {
	Ciphertext string `json:"cipher_text"` // base64
	KeyID      string `json:"key_id,omitempty"`
	Bound
}

// Decrypted is a plaintext and the key that opened it.
type Decrypted struct {
	KeyID     string `json:"key_id"`
	Plaintext []byte `json:"plain_text_base64"`
}

// Decrypt opens what Encrypt made.
func (c *Client) Decrypt(ctx context.Context, req DecryptRequest) (*Decrypted, error) {
	out := new(Decrypted)
	if err := c.call(ctx, "decrypt-data", req, out); err != nil {
		return nil, err
	}
	return out, nil
}

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

func fromHex(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, errors.New("sidecar answered what is not hexadecimal") // not err: it quotes the data
	}
	return b, nil
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

// Random returns n random bytes of the HSM, 1 to 1024.
func (c *Client) Random(ctx context.Context, n int) ([]byte, error) {
	in := struct {
		Bits string `json:"random_data_length"`
	}{strconv.Itoa(8 * n)}
	var out struct {
		Random string `json:"random_data"`
	}
	if err := c.call(ctx, "gen-random", in, &out); err != nil {
		return nil, err
	}
	return fromHex(out.Random)
}

// SignRequest says what to sign, and how.
type SignRequest struct {
	KeyID     string
	Algorithm string // ECDSA_SHA_256, RSASSA_PSS_SHA_256, …
	Message   []byte // shorter than 4096 bytes
	Digest    bool   // Message is the digest already
}

// signBody is a SignRequest on the wire.
type signBody struct {
	KeyID     string `json:"key_id"`
	Algorithm string `json:"signing_algorithm"`
	Message   []byte `json:"message"`
	Type      string `json:"message_type"`
}

func (r SignRequest) body() signBody {
	kind := "RAW"
	if r.Digest {
		kind = "DIGEST"
	}
	return signBody{r.KeyID, r.Algorithm, r.Message, kind}
}

// Sign returns a signature: for ECDSA in ASN.1 DER.
func (c *Client) Sign(ctx context.Context, req SignRequest) ([]byte, error) {
	var out struct {
		Signature []byte `json:"signature"`
	}
	err := c.call(ctx, "sign", req.body(), &out)
	return out.Signature, err
}

// Verify reports whether a signature is valid.
func (c *Client) Verify(ctx context.Context, req SignRequest, signature []byte) (bool, error) {
	in := struct {
		signBody
		Signature []byte `json:"signature"`
	}{req.body(), signature}
	var out struct {
		Valid string `json:"signature_valid"`
	}
	err := c.call(ctx, "verify", in, &out)
	return out.Valid == "true", err
}
