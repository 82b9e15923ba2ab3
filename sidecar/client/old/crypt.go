package client

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
)

// Encryption algorithms. Symmetric keys have the first one, which is the default; RSA keys the others, whose ciphertexts
// are bare RSA blocks and can be bound to nothing.
const (
	SymmetricDefault = "SYMMETRIC_DEFAULT"
	RSAOAEPSHA1      = "RSAES_OAEP_SHA_1" // re-encryption alone knows it
	RSAOAEPSHA256    = "RSAES_OAEP_SHA_256"
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
	Algorithm string `json:"encryption_algorithm,omitempty"` // default SymmetricDefault
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

// DecryptRequest says what to decrypt. A symmetric ciphertext names its key, and a KeyID that is set must be the same; that
// of an RSA key needs the KeyID and the algorithm.
type DecryptRequest struct {
	Ciphertext string `json:"cipher_text"` // base64
	KeyID      string `json:"key_id,omitempty"`
	Algorithm  string `json:"encryption_algorithm,omitempty"`
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

// ReEncryptRequest says what to decrypt under one key and encrypt under another. Data stays data (base64), and a data key
// stays a data key (hex). The source's key and algorithm may be empty where the ciphertext names its key.
type ReEncryptRequest struct {
	Ciphertext           string `json:"cipher_text"`
	SourceKeyID          string `json:"source_key_id,omitempty"`
	SourceAlgorithm      string `json:"source_encryption_algorithm,omitempty"`
	SourceAAD            string `json:"source_additional_authenticated_data,omitempty"`
	DestinationKeyID     string `json:"destination_key_id"`
	DestinationAlgorithm string `json:"destination_encryption_algorithm,omitempty"`
	DestinationAAD       string `json:"destination_additional_authenticated_data,omitempty"`
}

// ReEncrypted is the new ciphertext, and what it was made from.
type ReEncrypted struct {
	KeyID           string `json:"key_id"`
	Algorithm       string `json:"destination_encryption_algorithm"`
	SourceKeyID     string `json:"source_key_id"`
	SourceAlgorithm string `json:"source_encryption_algorithm"`
	Ciphertext      string `json:"cipher_text"`
}

// ReEncrypt moves a ciphertext to another key. The plaintext does not leave the sidecar.
func (c *Client) ReEncrypt(ctx context.Context, req ReEncryptRequest) (*ReEncrypted, error) {
	out := new(ReEncrypted)
	if err := c.call(ctx, "re-encrypt", req, out); err != nil {
		return nil, err
	}
	return out, nil
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
