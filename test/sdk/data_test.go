package sdk

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// openDataKey decrypts an encrypted data key and checks the answer with itself.
func (w *walk) openDataKey(key, cipherText string, bytes int, aad *string) string {
	w.Helper()
	out := call(w, (*kms.KmsClient).DecryptDatakey, &model.DecryptDatakeyRequest{Body: &model.DecryptDatakeyRequestBody{
		KeyId: key, CipherText: cipherText, DatakeyCipherLength: strconv.Itoa(bytes), AdditionalAuthenticatedData: aad,
	}})
	equal(w, "datakey_length", out.DatakeyLength, strconv.Itoa(bytes))
	raw, err := hex.DecodeString(*out.DataKey)
	if err != nil || len(raw) != bytes {
		w.Fatalf("data key of %d bytes (%v), want %d", len(raw), err, bytes)
	}
	digest := sha256.Sum256(raw)
	equal(w, "datakey_dgst", out.DatakeyDgst, strings.ToUpper(hex.EncodeToString(digest[:])))
	return *out.DataKey
}

// dataKeys: datakey_length is in bits where a key is made, and wins over key_spec; elsewhere it is in bytes.
func (w *walk) dataKeys() {
	type body = model.CreateDatakeyRequestBody
	spec := enum[model.CreateDatakeyRequestBodyKeySpec]
	for _, c := range []struct {
		body  body
		bytes int
	}{
		{body{}, 32}, {body{KeySpec: spec("AES_128")}, 16}, {body{KeySpec: spec("HMAC_384")}, 48},
		{body{DatakeyLength: new("512")}, 64}, {body{DatakeyLength: new("8"), KeySpec: spec("AES_256")}, 1},
		{body{DatakeyLength: new("8192"), AdditionalAuthenticatedData: new("a context")}, 1024},
	} {
		c.body.KeyId = w.aes
		made := call(w, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &c.body})
		equal(w, "key_id", made.KeyId, w.aes)
		aad := c.body.AdditionalAuthenticatedData
		equal(w, "plain_text", made.PlainText, w.openDataKey(w.aes, *made.CipherText, c.bytes, aad))
		hidden := call(w, (*kms.KmsClient).CreateDatakeyWithoutPlaintext, &model.CreateDatakeyWithoutPlaintextRequest{Body: &c.body})
		w.openDataKey(w.aes, *hidden.CipherText, c.bytes, aad)
	}

	own := sha256.Sum256([]byte("a key of the application's own"))
	digest := sha256.Sum256(own[:])
	sealed := call(w, (*kms.KmsClient).EncryptDatakey, &model.EncryptDatakeyRequest{Body: &model.EncryptDatakeyRequestBody{
		KeyId: w.aes, PlainText: hex.EncodeToString(own[:]) + hex.EncodeToString(digest[:]), DatakeyPlainLength: "32",
		AdditionalAuthenticatedData: new("own"),
	}})
	equal(w, "datakey_length", sealed.DatakeyLength, "32")
	if got := w.openDataKey(w.aes, *sealed.CipherText, 32, new("own")); got != strings.ToUpper(hex.EncodeToString(own[:])) {
		w.Errorf("own data key came back as %s", got)
	}
}

// dataKeyPairs: the public half is DER SubjectPublicKeyInfo, the private one PKCS #8, both in Base64; what is encrypted
// opens like any data key.
func (w *walk) dataKeyPairs() {
	check := func(public, sealed, plain *string) {
		w.Helper()
		der := w.decode(*public)
		parsed, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			w.Fatal(err)
		}
		private := w.decode(*plain)
		key, err := x509.ParsePKCS8PrivateKey(private)
		if err != nil {
			w.Fatal(err)
		}
		if !key.(interface{ Public() crypto.PublicKey }).Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(parsed) {
			w.Error("the halves do not belong together")
		}
		opened := w.openDataKey(w.aes, hex.EncodeToString(w.decode(*sealed)), len(private), new("pair"))
		if opened != strings.ToUpper(hex.EncodeToString(private)) {
			w.Error("the encrypted private half opens as another")
		}
	}
	rsa := func(plain *bool) *model.CreateRsaDatakeyPairResponse {
		return call(w, (*kms.KmsClient).CreateRsaDatakeyPair, &model.CreateRsaDatakeyPairRequest{Body: &model.CreateRsaDatakeyPairRequestBody{
			KeyId: w.aes, KeySpec: model.GetCreateRsaDatakeyPairRequestBodyKeySpecEnum().RSA_2048, WithPlainText: plain,
			AdditionalAuthenticatedData: new("pair"),
		}})
	}
	pair := rsa(nil)
	equal(w, "key_spec", pair.KeySpec, model.GetCreateRsaDatakeyPairResponseKeySpecEnum().RSA_2048)
	check(pair.PublicKey, pair.PrivateKeyCipherText, pair.PrivateKeyPlainText)
	if rsa(new(false)).PrivateKeyPlainText != nil {
		w.Error("the private half was not to be answered")
	}
	for _, spec := range []string{"ECC_NIST_P256", "ECC_NIST_P384"} {
		pair := call(w, (*kms.KmsClient).CreateEcDatakeyPair, &model.CreateEcDatakeyPairRequest{Body: &model.CreateEcDatakeyPairRequestBody{
			KeyId: w.aes, KeySpec: *enum[model.CreateEcDatakeyPairRequestBodyKeySpec](spec), WithPlainText: new(true),
			AdditionalAuthenticatedData: new("pair"),
		}})
		equal(w, "key_spec", pair.KeySpec, *enum[model.CreateEcDatakeyPairResponseKeySpec](spec))
		check(pair.PublicKey, pair.PrivateKeyCipherText, pair.PrivateKeyPlainText)
	}
}

func (w *walk) decode(text string) []byte {
	w.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		w.Fatal(err)
	}
	return raw
}

func (w *walk) unhex(text string) []byte {
	w.Helper()
	raw, err := hex.DecodeString(text)
	if err != nil {
		w.Fatal(err)
	}
	return raw
}

func (w *walk) encrypt(key, plain string, aad *string, rsa bool) string {
	w.Helper()
	body := &model.EncryptDataRequestBody{KeyId: key, PlainText: plain, AdditionalAuthenticatedData: aad}
	if rsa {
		body.EncryptionAlgorithm = new(model.GetEncryptDataRequestBodyEncryptionAlgorithmEnum().RSAES_OAEP_SHA_256)
	}
	out := call(w, (*kms.KmsClient).EncryptData, &model.EncryptDataRequest{Body: body})
	equal(w, "key_id", out.KeyId, key)
	return *out.CipherText
}

// decrypt opens a ciphertext under the key that made it; an RSA key has to be named.
func (w *walk) decrypt(key, cipherText string, aad *string, rsa bool) string {
	w.Helper()
	body := &model.DecryptDataRequestBody{CipherText: cipherText, AdditionalAuthenticatedData: aad}
	if rsa {
		body.KeyId, body.EncryptionAlgorithm = &key, new(model.GetDecryptDataRequestBodyEncryptionAlgorithmEnum().RSAES_OAEP_SHA_256)
	}
	out := call(w, (*kms.KmsClient).DecryptData, &model.DecryptDataRequest{Body: body})
	equal(w, "key_id", out.KeyId, key)
	equal(w, "plain_text_base64", out.PlainTextBase64, base64.StdEncoding.EncodeToString([]byte(*out.PlainText)))
	return *out.PlainText
}

func (w *walk) data() {
	for _, plain := range []string{"x", "a <b> & \"c\"\n\\u0000 \x01 é 世界 \U0001F511", strings.Repeat("4096", 1024)} {
		for _, aad := range []*string{nil, new("bound to this")} {
			sealed := w.encrypt(w.aes, plain, aad, false)
			if raw := w.decode(sealed); len(raw) != len(plain)+140 {
				w.Errorf("%d bytes of plaintext make %d of ciphertext", len(plain), len(raw))
			}
			if got := w.decrypt(w.aes, sealed, aad, false); got != plain {
				w.Errorf("%q came back as %q", plain, got)
			}
		}
	}
	longest := strings.Repeat("r", 256-66) // OAEP with SHA-256 leaves k-66 bytes
	sealed := w.encrypt(w.rsaEncrypt, longest, nil, true)
	if raw := w.decode(sealed); len(raw) != 256 {
		w.Errorf("an RSA block has %d bytes", len(raw))
	}
	if got := w.decrypt(w.rsaEncrypt, sealed, nil, true); got != longest {
		w.Errorf("from an RSA block came %q", got)
	}
}

// reEncryption moves ciphertexts between keys; data stays data and a data key stays a data key.
func (w *walk) reEncryption() {
	move := func(body model.ReEncryptRequestBody, sourceAlgorithm, algorithm string) string {
		w.Helper()
		out := call(w, (*kms.KmsClient).ReEncrypt, &model.ReEncryptRequest{Body: &body})
		equal(w, "key_id", out.KeyId, body.DestinationKeyId)
		equal(w, "source_encryption_algorithm", out.SourceEncryptionAlgorithm, sourceAlgorithm)
		equal(w, "destination_encryption_algorithm", out.DestinationEncryptionAlgorithm, algorithm)
		return *out.CipherText
	}
	const symmetric, oaep = "SYMMETRIC_DEFAULT", "RSAES_OAEP_SHA_256"
	moved := move(model.ReEncryptRequestBody{
		CipherText: w.encrypt(w.aes, "moving", new("old"), false), SourceAdditionalAuthenticatedData: new("old"),
		DestinationKeyId: w.aes2, DestinationAdditionalAuthenticatedData: new("new"),
	}, symmetric, symmetric)
	if got := w.decrypt(w.aes2, moved, new("new"), false); got != "moving" {
		w.Errorf("moved to another key: %q", got)
	}
	moved = move(model.ReEncryptRequestBody{
		CipherText: moved, SourceAdditionalAuthenticatedData: new("new"), SourceKeyId: &w.aes2,
		DestinationKeyId: w.rsaEncrypt, DestinationEncryptionAlgorithm: new(oaep),
	}, symmetric, oaep)
	if got := w.decrypt(w.rsaEncrypt, moved, nil, true); got != "moving" {
		w.Errorf("moved to an RSA key: %q", got)
	}
	moved = move(model.ReEncryptRequestBody{
		CipherText: moved, SourceKeyId: &w.rsaEncrypt, SourceEncryptionAlgorithm: new(oaep), DestinationKeyId: w.aes,
	}, oaep, symmetric)
	if got := w.decrypt(w.aes, moved, nil, false); got != "moving" {
		w.Errorf("moved from an RSA key: %q", got)
	}
	made := call(w, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &model.CreateDatakeyRequestBody{KeyId: w.aes}})
	moved = move(model.ReEncryptRequestBody{CipherText: *made.CipherText, DestinationKeyId: w.aes2}, symmetric, symmetric)
	equal(w, "the moved data key", made.PlainText, w.openDataKey(w.aes2, moved, 32, nil))
}
