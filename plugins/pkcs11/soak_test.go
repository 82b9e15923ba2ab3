//go:build soak

package pkcs11

import "testing"

func TestSoakVNGUploads(t *testing.T) { vngUploads(t, 2000) }
