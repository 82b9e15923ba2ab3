package hsmd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyside/keyside/plugins/driver"
)

// TestFailedImportsAreLimited sends bad and good material for two tenants: only failures count, for each tenant on its own, and each
// interval allows one more.
func TestFailedImportsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newMux(t, MuxConfig{FailedImports: ImportsConfig{Failures: 3, Every: 10 * time.Second}}, &device{})
		try := func(tenant, material string, want driver.Code, retryAfter time.Duration) {
			t.Helper()
			_, err := x.ImportKey(t.Context(), &driver.ImportKeyRequest{Tenant: tenant, EncryptedMaterial: []byte(material)})
			if driver.CodeOf(err) != want || want == driver.Busy && driver.AsError(err).RetryAfter != retryAfter {
				t.Errorf("%s import of %s: %v, want %s after %s", material, tenant, err, want, retryAfter)
			}
		}
		for range 10 {
			try("a", "good", 0, 0)
		}
		try("a", "bad", driver.BadMaterial, 0)
		try("a", "bad", driver.BadMaterial, 0)
		try("a", "good", 0, 0)
		try("a", "bad", driver.BadMaterial, 0)
		try("a", "bad", driver.Busy, 10*time.Second)
		try("a", "good", driver.Busy, 10*time.Second)
		try("b", "bad", driver.BadMaterial, 0)
		time.Sleep(4 * time.Second)
		try("a", "good", driver.Busy, 6*time.Second)
		time.Sleep(6 * time.Second)
		try("a", "good", 0, 0)
		try("a", "bad", driver.BadMaterial, 0)
		try("a", "bad", driver.Busy, 10*time.Second)
		time.Sleep(time.Hour) // no more failures than the limit are saved up
		for range 3 {
			try("a", "bad", driver.BadMaterial, 0)
		}
		try("a", "bad", driver.Busy, 10*time.Second)
	})
}

// TestImportsThatEndAtTheirDeadlineCount: whether an answer comes before a short deadline tells about the material, too.
func TestImportsThatEndAtTheirDeadlineCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newMux(t, MuxConfig{FailedImports: ImportsConfig{Failures: 1, Every: time.Minute}}, &device{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := x.ImportKey(ctx, &driver.ImportKeyRequest{Tenant: "a", EncryptedMaterial: []byte("slow")})
		if driver.CodeOf(err) != driver.Deadline {
			t.Errorf("%v, want a passed deadline", err)
		}
		synctest.Wait()
		_, err = x.ImportKey(t.Context(), &driver.ImportKeyRequest{Tenant: "a", EncryptedMaterial: []byte("good")})
		if driver.CodeOf(err) != driver.Busy {
			t.Errorf("%v, want Busy", err)
		}
	})
}
