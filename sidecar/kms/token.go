package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"

	"github.com/google/uuid"
)

// An import token is, without gaps:
//
//	domain             23 characters and a zero: tokenMagic, which also is what separates its MAC from others
//	algorithm          1 byte, see wraps
//	wrapping key's id  16 bytes
//	key id             16 bytes
//	expiry             milliseconds since 1970, 8 bytes, big-endian
//	tenant             SHA-256 of its name
//	wrapping key       SHA-256 of its spec, a zero and its public half
//	MAC                32 bytes, the tenant's, over all of the above
//
// Another format needs another number in the domain. Tokens are valid for a day.
const (
	tokenMagic = "keyside import token 1\n\x00"
	tokenBody  = len(tokenMagic) + 1 + 16 + 16 + 8 + 2*sha256.Size
	tokenMAC   = 32
)

// importToken is the content of an import token.
type importToken struct {
	algorithm WrappingAlgorithm
	pair      *WrappingPair
}

// body returns the token without its MAC.
func (t importToken) body(tenant string) []byte {
	b := append(make([]byte, 0, tokenBody+tokenMAC), tokenMagic...)
	b = append(b, wraps[t.algorithm].number)
	b = append(b, t.pair.ID[:]...)
	b = append(b, t.pair.KeyID[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(t.pair.ExpiresAt.UnixMilli()))
	sum := sha256.Sum256([]byte(tenant))
	b = append(b, sum[:]...)
	sum = sha256.Sum256(append([]byte(string(t.pair.Spec)+"\x00"), t.pair.PublicKey...))
	return append(b, sum[:]...)
}

// makeToken returns the token in bytes.
func (s *Service) makeToken(ctx context.Context, t importToken) ([]byte, error) {
	b := t.body(s.tenant)
	mac, err := s.tenantMAC(ctx, b)
	if err != nil {
		return nil, err
	}
	return append(b, mac...), nil
}

func (s *Service) tenantMAC(ctx context.Context, b []byte) ([]byte, error) {
	mac, err := s.hsm.TenantMAC(ctx, b)
	if err != nil {
		return nil, err
	}
	if len(mac) != tokenMAC || allZero(mac) {
		return nil, hostile("MAC of %d bytes, or zero", len(mac))
	}
	return mac, nil
}

// openToken returns the content of a token for an import into a key. Like the cloud, it checks first the MAC, then the
// expiry, then the key.
func (s *Service) openToken(ctx context.Context, b []byte, id KeyID) (*importToken, error) {
	if len(b) != tokenBody+tokenMAC || !bytes.HasPrefix(b, []byte(tokenMagic)) {
		return nil, badToken("not an import token")
	}
	mac, err := s.tenantMAC(ctx, b[:tokenBody])
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(mac, b[tokenBody:]) != 1 {
		return nil, badToken("import token is not authentic")
	}
	rest := b[len(tokenMagic):]
	t := &importToken{}
	for alg, w := range wraps {
		if w.number == rest[0] {
			t.algorithm = alg
		}
	}
	expires := int64(binary.BigEndian.Uint64(rest[33:]))
	if s.now().UnixMilli() >= expires {
		return nil, tokenExpired()
	}
	if KeyID(rest[17:33]) != id {
		return nil, Errorf(CodeInvalidImportToken, "import token is another key's").In("import_token").with(ReasonOtherKey)
	}
	t.pair, err = s.store.Pair(ctx, uuid.UUID(rest[1:17]))
	switch {
	case err != nil && AsError(err).Code == CodeNotFound:
		return nil, tokenExpired()
	case err != nil:
		return nil, err
	case !s.now().Before(t.pair.ExpiresAt): // a later token replaced it
		return nil, tokenExpired()
	case !bytes.Equal(t.body(s.tenant), b[:tokenBody]):
		return nil, badToken("import token is not that of its wrapping key")
	}
	return t, nil
}

func badToken(message string) *Error {
	return Errorf(CodeInvalidImportToken, "%s", message).In("import_token").with(ReasonMalformed)
}

func tokenExpired() *Error {
	return Errorf(CodeImportTokenExpired, "import token has expired: get new parameters").In("import_token")
}
