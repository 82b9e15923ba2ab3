package kms

import (
	"context"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
)

// TestPairsWaitTheirTurn holds that RSA pairs wait for a place no longer than their request lives, and that elliptic ones,
// which take no time, do not wait.
func TestPairsWaitTheirTurn(t *testing.T) {
	s := &Service{pairs: make(gate, 1)}
	s.pairs <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.makeDataKeyPair(ctx, RSA2048); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for a place: %v", err)
	}
	if public, private, err := s.makeDataKeyPair(t.Context(), ECP256); err != nil || len(public) == 0 || len(private) == 0 {
		t.Errorf("an elliptic pair: %v", err)
	}
	<-s.pairs
	if _, _, err := s.makeDataKeyPair(t.Context(), RSA2048); err != nil {
		t.Error(err)
	}
	s.pairs <- struct{}{} // the place came back
}

// TestLongestPrivateKeyFits holds that PKCS #8 of an RSA-4096 key, were every number in it as long as can be, is within
// the limit of what DecryptDataKey opens.
func TestLongestPrivateKeyFits(t *testing.T) {
	ones := func(bits uint) *big.Int {
		n := new(big.Int).Lsh(big.NewInt(1), bits)
		return n.Sub(n, big.NewInt(1))
	}
	key, err := asn1.Marshal(struct {
		Version                      int
		N                            *big.Int
		E                            int
		D, P, Q, DP, DQ, Coefficient *big.Int
	}{0, ones(4096), 65537, ones(4096), ones(2048), ones(2048), ones(2048), ones(2048), ones(2048)})
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Version int
		Alg     pkix.AlgorithmIdentifier
		Key     []byte
	}{0, pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue}, key})
	if err != nil {
		t.Fatal(err)
	}
	if len(der) > maxPrivateKey {
		t.Errorf("%d bytes", len(der))
	}
}
