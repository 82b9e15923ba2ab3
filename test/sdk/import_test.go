package sdk

import (
	"crypto/aes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strconv"
	"time"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// external makes a key that waits for its material.
func (w *walk) external(name, spec, usage string) string {
	w.Helper()
	out := call(w, (*kms.KmsClient).CreateKey, &model.CreateKeyRequest{Body: &model.CreateKeyRequestBody{
		KeyAlias: w.alias(name), KeySpec: enum[model.CreateKeyRequestBodyKeySpec](spec),
		KeyUsage: enum[model.CreateKeyRequestBodyKeyUsage](usage), Origin: enum[model.CreateKeyRequestBodyOrigin]("external"),
	}})
	return *out.KeyInfo.KeyId
}

func (w *walk) parameters(key string) *model.CreateParametersForImportResponse {
	w.Helper()
	return call(w, (*kms.KmsClient).CreateParametersForImport, &model.CreateParametersForImportRequest{
		Body: &model.GetParametersForImportRequestBody{
			KeyId: key, WrappingAlgorithm: model.GetGetParametersForImportRequestBodyWrappingAlgorithmEnum().RSAES_OAEP_SHA_256,
		},
	})
}

// wrapped is material as the guide has it encrypted under the wrapping key.
func (w *walk) wrapped(p *model.CreateParametersForImportResponse, material []byte) string {
	w.Helper()
	der, err := base64.StdEncoding.DecodeString(*p.PublicKey)
	if err != nil {
		w.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		w.Fatal(err)
	}
	block, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), material, nil)
	if err != nil {
		w.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(block)
}

func (w *walk) state(key, want string) *model.KeyDetails {
	w.Helper()
	info := call(w, (*kms.KmsClient).ListKeyDetail, &model.ListKeyDetailRequest{Body: operate(key)}).KeyInfo
	equal(w, "key_state", info.KeyState, want)
	return info
}

// imports brings material of the caller's own into a symmetric and into an elliptic key, takes it away, and brings it back.
func (w *walk) imports() {
	key := w.external("imported", "AES_256", "ENCRYPT_DECRYPT")
	w.state(key, "5")
	material := make([]byte, 32)
	rand.Read(material)
	p := w.parameters(key)
	equal(w, "key_id", p.KeyId, key)
	if left := time.Until(time.Unix(*p.ExpirationTime, 0)); left < 23*time.Hour || left > 24*time.Hour {
		w.Errorf("the token is good for %s", left)
	}
	expires := time.Now().Add(time.Hour).Unix()
	body := &model.ImportKeyMaterialRequestBody{
		KeyId: key, ImportToken: *p.ImportToken, EncryptedKeyMaterial: w.wrapped(p, material), ExpirationTime: &expires,
	}
	call(w, (*kms.KmsClient).ImportKeyMaterial, &model.ImportKeyMaterialRequest{Body: body})
	info := w.state(key, "2")
	equal(w, "expiration_time", info.ExpirationTime, strconv.FormatInt(expires*1000, 10)) // of a key, it is milliseconds
	text := "under a key of my own"
	sealed := call(w, (*kms.KmsClient).EncryptData, &model.EncryptDataRequest{Body: &model.EncryptDataRequestBody{KeyId: key, PlainText: text}})
	call(w, (*kms.KmsClient).DeleteImportedKeyMaterial, &model.DeleteImportedKeyMaterialRequest{Body: operate(key)})
	w.state(key, "5")
	open := &model.DecryptDataRequest{Body: &model.DecryptDataRequestBody{CipherText: *sealed.CipherText}}
	refuse(w, (*kms.KmsClient).DecryptData, open, http.StatusBadRequest, "KMS.1301")
	other := *body
	other.EncryptedKeyMaterial = w.wrapped(p, make([]byte, 32))
	refuse(w, (*kms.KmsClient).ImportKeyMaterial, &model.ImportKeyMaterialRequest{Body: &other}, http.StatusBadRequest, "KMS.2606")
	call(w, (*kms.KmsClient).ImportKeyMaterial, &model.ImportKeyMaterialRequest{Body: body})
	equal(w, "plain_text", call(w, (*kms.KmsClient).DecryptData, open).PlainText, text)
	w.importPrivateKey()
}

// importPrivateKey imports an elliptic key, and verifies its signature with the public half that stayed here.
func (w *walk) importPrivateKey() {
	w.Helper()
	key := w.external("imported-ec", "EC_P256", "SIGN_VERIFY")
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		w.Fatal(err)
	}
	temporary := make([]byte, 32)
	rand.Read(temporary)
	p := w.parameters(key)
	body := &model.ImportKeyMaterialRequestBody{KeyId: key, ImportToken: *p.ImportToken, EncryptedKeyMaterial: w.wrapped(p, temporary)}
	refuse(w, (*kms.KmsClient).ImportKeyMaterial, &model.ImportKeyMaterialRequest{Body: body}, http.StatusBadRequest, "KMS.2608")
	body.EncryptedPrivatekey = new(base64.StdEncoding.EncodeToString(keyWrap(temporary, der)))
	call(w, (*kms.KmsClient).ImportKeyMaterial, &model.ImportKeyMaterialRequest{Body: body})
	w.state(key, "2")
	digest := sha256.Sum256([]byte("message"))
	out := call(w, (*kms.KmsClient).Sign, &model.SignRequest{Body: &model.SignRequestBody{
		KeyId: key, Message: base64.StdEncoding.EncodeToString(digest[:]),
		SigningAlgorithm: *enum[model.SignRequestBodySigningAlgorithm]("ECDSA_SHA_256"),
	}})
	signature, err := base64.StdEncoding.DecodeString(*out.Signature)
	if err != nil || !ecdsa.VerifyASN1(&private.PublicKey, digest[:], signature) {
		w.Errorf("the signature is not the imported key's (%v)", err)
	}
	refuse(w, (*kms.KmsClient).DeleteImportedKeyMaterial, &model.DeleteImportedKeyMaterialRequest{Body: operate(key)}, http.StatusBadRequest, "KMS.2702")
}

// keyWrap is RFC 5649 of more than 8 bytes.
func keyWrap(key, plain []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	out := binary.BigEndian.AppendUint32([]byte{0xA6, 0x59, 0x59, 0xA6}, uint32(len(plain)))
	out = append(out, plain...)
	out = append(out, make([]byte, -len(plain)&7)...)
	n := uint64(len(out)/8 - 1)
	for t := range 6 * n {
		r := out[8*(t%n+1):][:8]
		b := append(append([]byte{}, out[:8]...), r...)
		block.Encrypt(b, b)
		binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b)^(t+1))
		copy(r, b[8:])
	}
	return out
}

// refuseImports has imports refused.
func (w *walk) refuseImports() {
	const bad = http.StatusBadRequest
	parameters := func(key, alg, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).CreateParametersForImport, &model.CreateParametersForImportRequest{
			Body: &model.GetParametersForImportRequestBody{
				KeyId: key, WrappingAlgorithm: *enum[model.GetParametersForImportRequestBodyWrappingAlgorithm](alg),
			},
		}, bad, code)
	}
	key, other := w.external("waiting", "AES_256", "ENCRYPT_DECRYPT"), w.external("waiting-too", "AES_256", "ENCRYPT_DECRYPT")
	parameters(w.aes, "RSAES_OAEP_SHA_256", "KMS.0309")
	parameters(key, "SM2_ENCRYPT", "KMS.0308")
	parameters(w.external("waiting-mac", "HMAC_256", "GENERATE_VERIFY_MAC"), "RSAES_OAEP_SHA_256", "KMS.0341")
	p := w.parameters(key)
	right := model.ImportKeyMaterialRequestBody{KeyId: key, ImportToken: *p.ImportToken, EncryptedKeyMaterial: w.wrapped(p, make([]byte, 32))}
	for code, change := range map[string]func(*model.ImportKeyMaterialRequestBody){
		"KMS.0309": func(b *model.ImportKeyMaterialRequestBody) { b.KeyId = w.aes },
		"KMS.0311": func(b *model.ImportKeyMaterialRequestBody) { b.EncryptedKeyMaterial = w.wrapped(p, make([]byte, 31)) },
		"KMS.2602": func(b *model.ImportKeyMaterialRequestBody) { b.ExpirationTime = new(time.Now().Unix() - 1) },
		"KMS.2603": func(b *model.ImportKeyMaterialRequestBody) { b.KeyId = other },
		"KMS.2605": func(b *model.ImportKeyMaterialRequestBody) { b.ImportToken = b.EncryptedKeyMaterial },
	} {
		body := right
		change(&body)
		refuse(w, (*kms.KmsClient).ImportKeyMaterial, &model.ImportKeyMaterialRequest{Body: &body}, bad, code)
	}
	w.state(key, "5")
	refuse(w, (*kms.KmsClient).DeleteImportedKeyMaterial, &model.DeleteImportedKeyMaterialRequest{Body: operate(key)}, bad, "KMS.2701")
}
