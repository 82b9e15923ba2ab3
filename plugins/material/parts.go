package material

import "github.com/keyside/keyside/plugins/driver"

// MaxContainer is the most that may follow the RSA block of an import, in bytes. The PEM text of an RSA-4096 key has 3.3 KB.
const MaxContainer = 4096

// Bad returns the one error for every fault of material.
func Bad() *driver.Error {
	return &driver.Error{Code: driver.BadMaterial, Message: "the material does not open, or is not a key of this spec"}
}

// Keyed reports whether the algorithm's RSA block contains an AES key, followed by the material.
func Keyed(a driver.Algorithm) bool {
	return a == driver.RSAAESKeyWrapSHA1 || a == driver.RSAAESKeyWrapSHA256
}

// TemporarySizes are the lengths in bytes that the AES key in an RSA block can have, if material follows the block.
var TemporarySizes = []int{16, 24, 32}

// Parts splits an import into the RSA block, which is as long as the wrapping key's modulus, and the container that follows it under
// the AES key in the block. Without a container, the block contains the key itself: VNG Cloud calls plain OAEP of a symmetric key
// RSA_AES_KEY_WRAP_SHA_1. The error is InvalidArgument for fields that contradict each other, otherwise Bad.
func Parts(req *driver.ImportKeyRequest) (block, container []byte, err error) {
	modulus := driver.SpecOf(req.GetWrappingKey().GetSpec()).Size()
	block, container = req.GetEncryptedMaterial(), req.GetEncryptedPrivateKey()
	keyed, private := Keyed(req.GetAlgorithm()), !driver.SpecOf(req.GetKey().GetSpec()).Symmetric()
	switch {
	case (private && !keyed) != (len(container) > 0):
		return nil, nil, driver.Errorf(driver.InvalidArgument, "encrypted_private_key is required for private keys under OAEP or PKCS #1 v1.5, and not allowed otherwise")
	case keyed && len(block) > modulus:
		block, container = block[:modulus], block[modulus:]
	}
	// RFC 5649 and openssl produce whole blocks of 8 bytes, at least two. Some modules report another length as a device failure.
	if n := len(container); len(block) != modulus || private && n == 0 || n > MaxContainer || n%8 != 0 || n == 8 {
		return nil, nil, Bad()
	}
	return block, container, nil
}
