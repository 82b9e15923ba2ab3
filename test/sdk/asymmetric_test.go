package sdk

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strconv"
	"strings"

	_ "crypto/sha256" // the hashes of the algorithms
	_ "crypto/sha512"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

// publicKey reads the public half of a key of the service.
func (w *walk) publicKey(key string) crypto.PublicKey {
	w.Helper()
	out := call(w, (*kms.KmsClient).ShowPublicKey, &model.ShowPublicKeyRequest{Body: operate(key)})
	equal(w, "key_id", out.KeyId, key)
	block, rest := pem.Decode([]byte(*out.PublicKey))
	if block == nil || len(rest) > 0 {
		w.Fatalf("public_key is not PEM: %q", *out.PublicKey)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		w.Fatal(err)
	}
	return public
}

// verifies checks a digest's signature with Go's own cryptography.
func verifies(public crypto.PublicKey, algorithm string, hash crypto.Hash, digest, signature []byte) bool {
	switch public := public.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, digest, signature)
	case *rsa.PublicKey:
		if strings.HasPrefix(algorithm, "RSASSA_PSS") {
			return rsa.VerifyPSS(public, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
	}
	return false
}

func (w *walk) signatures() {
	message := []byte("a message to sign")
	for key, families := range map[string][]string{
		w.rsaSign: {"RSASSA_PSS_SHA_", "RSASSA_PKCS1_V1_5_SHA_"}, w.ec: {"ECDSA_SHA_"},
	} {
		public := w.publicKey(key)
		for _, family := range families {
			for size, hash := range hashes {
				h := hash.New()
				h.Write(message)
				digest := h.Sum(nil)
				// A digest is the default; RAW messages are hashed by the service.
				for kind, content := range map[string][]byte{"": digest, "DIGEST": digest, "RAW": message} {
					signature := w.signOne(key, family+size, kind, content)
					if !verifies(public, family+size, hash, digest, signature) {
						w.Errorf("signature %s of %s does not verify", family+size, kind)
					}
					w.verifyOne(key, family+size, kind, content, signature)
				}
			}
		}
	}
}

func (w *walk) signOne(key, algorithm, kind string, content []byte) []byte {
	w.Helper()
	body := &model.SignRequestBody{
		KeyId: key, Message: base64.StdEncoding.EncodeToString(content),
		SigningAlgorithm: *enum[model.SignRequestBodySigningAlgorithm](algorithm),
	}
	if kind != "" {
		body.MessageType = enum[model.SignRequestBodyMessageType](kind)
	}
	out := call(w, (*kms.KmsClient).Sign, &model.SignRequest{Body: body})
	equal(w, "key_id", out.KeyId, key)
	return w.decode(*out.Signature)
}

// verifyOne has the service verify a signature, and one that is not right: that is an answer and no error.
func (w *walk) verifyOne(key, algorithm, kind string, content, signature []byte) {
	w.Helper()
	bad := append([]byte(nil), signature...)
	bad[len(bad)-1] ^= 1
	for _, s := range [][]byte{signature, bad, {1, 2, 3}} {
		body := &model.VerifyRequestBody{
			KeyId: key, Message: base64.StdEncoding.EncodeToString(content), Signature: base64.StdEncoding.EncodeToString(s),
			SigningAlgorithm: *enum[model.VerifyRequestBodySigningAlgorithm](algorithm),
		}
		if kind != "" {
			body.MessageType = enum[model.VerifyRequestBodyMessageType](kind)
		}
		out := call(w, (*kms.KmsClient).ValidateSignature, &model.ValidateSignatureRequest{Body: body})
		equal(w, "signature_valid", out.SignatureValid, strconv.FormatBool(string(s) == string(signature)))
	}
}

func (w *walk) macs() {
	message := base64.StdEncoding.EncodeToString([]byte("a message to authenticate"))
	made := call(w, (*kms.KmsClient).GenerateMac, &model.GenerateMacRequest{Body: &model.GenerateMacRequestBody{
		KeyId: w.mac, MacAlgorithm: model.GetGenerateMacRequestBodyMacAlgorithmEnum().HMAC_SHA_256, Message: message,
	}})
	equal(w, "mac_algorithm", made.MacAlgorithm, "HMAC_SHA_256")
	if len(*made.Mac) != 64 {
		w.Errorf("mac has %d characters", len(*made.Mac))
	}
	bad := w.unhex(*made.Mac)
	bad[0] ^= 1
	for _, c := range []struct {
		mac, message string
		valid        bool
	}{
		{*made.Mac, message, true}, {strings.ToUpper(*made.Mac), message, true},
		{hex.EncodeToString(bad), message, false}, {(*made.Mac)[:62], message, false}, {*made.Mac, "AA==", false},
	} {
		out := call(w, (*kms.KmsClient).VerifyMac, &model.VerifyMacRequest{Body: &model.VerifyMacRequestBody{
			KeyId: w.mac, MacAlgorithm: model.GetVerifyMacRequestBodyMacAlgorithmEnum().HMAC_SHA_256, Message: c.message, Mac: c.mac,
		}})
		equal(w, "mac_valid", out.MacValid, c.valid)
		equal(w, "mac_algorithm", out.MacAlgorithm, "HMAC_SHA_256")
	}
}

func (w *walk) agreement() {
	own, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(own.PublicKey())
	if err != nil {
		w.Fatal(err)
	}
	theirs, err := w.publicKey(w.agree).(*ecdsa.PublicKey).ECDH()
	if err != nil {
		w.Fatal(err)
	}
	want, err := own.ECDH(theirs)
	if err != nil {
		w.Fatal(err)
	}
	out := call(w, (*kms.KmsClient).DeriveSharedSecret, &model.DeriveSharedSecretRequest{Body: &model.DeriveSharedSecretRequestBody{
		KeyId: w.agree, KeyAgreementAlgorithm: model.GetDeriveSharedSecretRequestBodyKeyAgreementAlgorithmEnum().ECDH,
		PublicKey: base64.StdEncoding.EncodeToString(der),
	}})
	equal(w, "key_id", out.KeyId, w.agree)
	equal(w, "shared_secret", out.SharedSecret, base64.StdEncoding.EncodeToString(want))
}
