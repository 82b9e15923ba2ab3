package main

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/drivertest"
)

// TestConformance is all the testing that the contract needs.
func TestConformance(t *testing.T) {
	d, err := configure(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Run(t, drivertest.Config{Driver: d, Tenant: "one", OtherTenant: "two", Drain: true})
}

// TestFile is about what is this driver's own: the file, the PIN, the settings.
func TestFile(t *testing.T) {
	settings := fmt.Appendf(nil, "file: %s\n", filepath.Join(t.TempDir(), "box.json"))
	open := func(pin string) (driver.Driver, error) { return configure(t.Context(), settings, []byte(pin)) }
	first, err := open("1234")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.InitTenant(t.Context(), &driver.InitTenantRequest{Tenant: "t"}); err != nil {
		t.Fatal(err)
	}
	id := &driver.KeyIdentity{KeyId: make([]byte, driver.KeyIDSize), Version: 1, Spec: driver.AES256, Usage: driver.EncryptDecrypt}
	key, err := first.MakeKey(t.Context(), &driver.MakeKeyRequest{Tenant: "t", Key: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open("4321"); driver.CodeOf(err) != driver.PINIncorrect {
		t.Errorf("wrong pin: %v", err)
	}
	second, err := open("1234")
	if err != nil {
		t.Fatal(err)
	}
	op := &driver.Op{Kind: driver.Encrypt, Key: id, Sealed: key.GetSealed(), Data: []byte("data")}
	if _, err := second.Execute(t.Context(), "t", op); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := configure(t.Context(), []byte("fil: x\n"), nil); driver.CodeOf(err) != driver.InvalidArgument {
		t.Errorf("unknown setting: %v", err)
	}
}
