package client

import "context"

// SignRequest is a message to sign.
type SignRequest struct {
	KeyID     string `json:"key_id"`
	Algorithm string `json:"signing_algorithm"` // ECDSA_SHA_256, RSASSA_PSS_SHA_256, …
	Message   []byte `json:"message"`           // 1 to 4096 bytes
	Digest    bool   `json:"digest,omitzero"`   // Message is the digest already
}

// Signature is a signature: for ECDSA in ASN.1 DER.
type Signature struct {
	KeyID     string `json:"key_id"`
	Signature []byte `json:"signature"`
}

// Sign signs a message or a digest.
func (c *Client) Sign(ctx context.Context, req SignRequest) ([]byte, error) {
	out, err := value[Signature](ctx, c, "sign", req)
	return out.Signature, err
}

// VerifyRequest is a signature to verify.
type VerifyRequest struct {
	SignRequest
	Signature []byte `json:"signature"`
}

// Verified is the result of verifying a signature or a MAC.
type Verified struct {
	KeyID string `json:"key_id"`
	Valid bool   `json:"valid"`
}

// Verify reports whether a signature is valid.
func (c *Client) Verify(ctx context.Context, req SignRequest, signature []byte) (bool, error) {
	return c.valid(ctx, "verify", VerifyRequest{req, signature})
}

func (c *Client) valid(ctx context.Context, operation string, in any) (bool, error) {
	out, err := value[Verified](ctx, c, operation, in)
	return out.Valid, err
}

// PublicKey is the public half of an asymmetric key.
type PublicKey struct {
	KeyID string `json:"key_id"`
	Spec  string `json:"key_spec"`
	Usage string `json:"key_usage"`
	DER   []byte `json:"public_key"` // SubjectPublicKeyInfo
}

// GetPublicKey returns the public half of an asymmetric key.
func (c *Client) GetPublicKey(ctx context.Context, keyID string) (*PublicKey, error) {
	return call[PublicKey](ctx, c, "get-public-key", keyRequest{keyID})
}

// MACRequest is a message to compute the HMAC of.
type MACRequest struct {
	KeyID     string `json:"key_id"`
	Algorithm string `json:"mac_algorithm"` // that of the key's spec: HMAC_SHA_256, HMAC_SHA_384 or HMAC_SHA_512
	Message   []byte `json:"message"`       // 1 to 4096 bytes
}

// MAC is the HMAC of a message.
type MAC struct {
	KeyID string `json:"key_id"`
	MAC   []byte `json:"mac"`
}

// GenerateMAC returns the HMAC of a message.
func (c *Client) GenerateMAC(ctx context.Context, req MACRequest) ([]byte, error) {
	out, err := value[MAC](ctx, c, "generate-mac", req)
	return out.MAC, err
}

// VerifyMACRequest is an HMAC to verify.
type VerifyMACRequest struct {
	MACRequest
	MAC []byte `json:"mac"`
}

// VerifyMAC reports whether mac is the HMAC of the message.
func (c *Client) VerifyMAC(ctx context.Context, req MACRequest, mac []byte) (bool, error) {
	return c.valid(ctx, "verify-mac", VerifyMACRequest{req, mac})
}

// DeriveRequest is a peer's public key.
type DeriveRequest struct {
	KeyID     string `json:"key_id"`
	PublicKey []byte `json:"public_key"` // SubjectPublicKeyInfo, DER, of the key's curve
}

// SharedSecret is the X coordinate of the shared point of ECDH.
type SharedSecret struct {
	KeyID  string `json:"key_id"`
	Secret []byte `json:"shared_secret"`
}

// DeriveSharedSecret does ECDH with a peer's public key and returns the X coordinate of the shared point, which the caller
// clears.
func (c *Client) DeriveSharedSecret(ctx context.Context, keyID string, publicKey []byte) ([]byte, error) {
	out, err := value[SharedSecret](ctx, c, "derive-shared-secret", DeriveRequest{keyID, publicKey})
	return out.Secret, err
}
