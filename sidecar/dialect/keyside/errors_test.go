package keyside

import (
	"testing"

	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// TestStatuses checks that the table has a row for each code of the core, and no others.
func TestStatuses(t *testing.T) {
	for _, code := range kms.Codes {
		if status := statuses[code]; status < 400 || status > 599 {
			t.Errorf("%s has status %d", code, status)
		}
	}
	if len(statuses) != len(kms.Codes) {
		t.Errorf("the table has %d rows, the core %d codes", len(statuses), len(kms.Codes))
	}
}

// TestClientErrors checks that package client has an error for each code of the core, in the same order.
func TestClientErrors(t *testing.T) {
	errs := []*client.Error{
		client.ErrInvalidRequest, client.ErrUnsupported, client.ErrAlreadyExists, client.ErrQuotaExceeded, client.ErrNotFound,
		client.ErrDenied, client.ErrUnauthenticated, client.ErrTokenExpired, client.ErrKeyDisabled, client.ErrKeyArchived,
		client.ErrKeyPendingDeletion, client.ErrKeyPendingImport, client.ErrKeyUnavailable, client.ErrKeyExhausted,
		client.ErrKeyNotDisabled, client.ErrKeyNotEnabled, client.ErrKeyNotPendingDeletion, client.ErrKeyNotPendingImport,
		client.ErrInvalidKeyUsage, client.ErrInvalidAlgorithm, client.ErrKeyProtected, client.ErrDryRun, client.ErrServiceKey, client.ErrInvalidOrigin,
		client.ErrRotationEnabled, client.ErrRotationDisabled, client.ErrInvalidCiphertext, client.ErrInvalidKeyMaterial,
		client.ErrKeyMaterialMismatch, client.ErrKeyMaterialMissing, client.ErrKeyMaterialPermanent,
		client.ErrInvalidImportToken, client.ErrImportTokenExpired, client.ErrInvalidGrant, client.ErrBusy,
		client.ErrDeadlineExceeded, client.ErrInternal,
	}
	for i, code := range kms.Codes {
		if i >= len(errs) || errs[i].Code != string(code) {
			t.Fatalf("the client has no error for %s, or in another place", code)
		}
	}
}
