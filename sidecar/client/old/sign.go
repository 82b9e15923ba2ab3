package client

import (
	"context"
	"encoding/hex"
)

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

// MACRequest says what to make a MAC of: 1 to 4096 bytes.
type MACRequest struct {
	KeyID     string `json:"key_id"`
	Algorithm string `json:"mac_algorithm"` // HMAC_SHA_256, HMAC_SHA_384, HMAC_SHA_512: that of the key's spec
	Message   []byte `json:"message"`
}

// GenerateMAC returns the HMAC of a message.
func (c *Client) GenerateMAC(ctx context.Context, req MACRequest) ([]byte, error) {
	var out struct {
		MAC string `json:"mac"`
	}
	if err := c.call(ctx, "generate-mac", req, &out); err != nil {
		return nil, err
	}
	return fromHex(out.MAC)
}

// VerifyMAC reports whether mac is the HMAC of the message.
func (c *Client) VerifyMAC(ctx context.Context, req MACRequest, mac []byte) (bool, error) {
	in := struct {
		MACRequest
		MAC string `json:"mac"`
	}{req, hex.EncodeToString(mac)}
	var out struct {
		Valid bool `json:"mac_valid"`
	}
	err := c.call(ctx, "verify-mac", in, &out)
	return out.Valid, err
}

// DeriveSharedSecret agrees on a secret with the owner of a public key (SubjectPublicKeyInfo, DER) of the same curve: the
// X coordinate of the ECDH point, which the caller clears.
func (c *Client) DeriveSharedSecret(ctx context.Context, keyID string, publicKey []byte) ([]byte, error) {
	in := struct {
		KeyID     string `json:"key_id"`
		Algorithm string `json:"key_agreement_algorithm"`
		PublicKey []byte `json:"public_key"`
	}{keyID, "ECDH", publicKey}
	var out struct {
		Secret []byte `json:"shared_secret"`
	}
	err := c.call(ctx, "derive-shared-secret", in, &out)
	return out.Secret, err
}
