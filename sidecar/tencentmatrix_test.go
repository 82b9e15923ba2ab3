package sidecar

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// tencentWorld is a sidecar that the owner calls through Tencent Cloud's API.
type tencentWorld struct {
	*rightsWorld
	made int
}

func newTencentWorld(t *testing.T) *tencentWorld { return &tencentWorld{newRightsWorld(t), 0} }

// tencentAnswer is what an answer has, of all actions.
type tencentAnswer struct {
	Error                                             struct{ Code, Message string }
	KeyID                                             string `json:"KeyId"`
	KeyState, ImportToken, PublicKey, PublicKeyPem    string
	CiphertextBlob, Plaintext, Signature, SourceKeyID string
	ReEncrypted, SignatureValid, KeyRotationEnabled   bool
	ParametersValidTo, DeletionDate, CreateTime       int64
	TotalCount, CmkUserCount, CmkLimit                int
	KeyMetadata                                       tencentKey
	KeyMetadatas                                      []tencentKey
	Keys                                              []struct {
		KeyID string `json:"KeyId"`
	}
	SymmetricAlgorithms, AsymmetricSignVerifyAlgorithms []struct{ KeyUsage, Algorithm string }
	Regions                                             []string
	RequestID                                           string `json:"RequestId"`
}

type tencentKey struct {
	KeyID                                                 string `json:"KeyId"`
	Alias, Description, KeyState, KeyUsage, Origin, Owner string
	ResourceID                                            string `json:"ResourceId"`
	Type, RotateDays                                      int
	CreateTime, NextRotateTime, DeletionDate, ValidTo     int64
	KeyRotationEnabled                                    bool
}

// call does an action and returns its answer. Its fields are pairs of names and values.
func (w *tencentWorld) call(action string, fields map[string]any) *tencentAnswer {
	w.Helper()
	for i := range tencentSuite.Routes {
		if rt := &tencentSuite.Routes[i]; rt.Path == action {
			answer := w.askSuite(&tencentSuite, rt, rightsCallers[0], string(must(json.Marshal(fields))))
			var out struct{ Response *tencentAnswer }
			if err := json.Unmarshal(answer.Body.Bytes(), &out); err != nil || out.Response == nil || out.Response.RequestID != answer.Header().Get("X-Request-Id") || answer.Header().Get("Content-Type") != "application/json" {
				w.Fatalf("%s: %v in %s", action, err, answer.Body)
			}
			return out.Response
		}
	}
	w.Fatalf("no action %s", action)
	return nil
}

// fields are the fields of a request.
type fields = map[string]any

// ok does an action that must succeed.
func (w *tencentWorld) ok(action string, in fields) *tencentAnswer {
	w.Helper()
	out := w.call(action, in)
	if out.Error.Code != "" {
		w.Fatalf("%s with %v: %+v", action, in, out.Error)
	}
	return out
}

// code does an action and compares the last part of its error's code, or the whole, with what is wanted: ok for none.
func (w *tencentWorld) code(action string, in fields, want string) {
	w.Helper()
	got := w.call(action, in).Error.Code
	if got == "" {
		got = "ok"
	}
	if got != want && got[strings.LastIndex(got, ".")+1:] != want {
		w.Errorf("%s with %v: %s, want %s", action, in, got, want)
	}
}

func (w *tencentWorld) alias() string {
	w.made++
	return fmt.Sprint("key-", w.made)
}

// key makes a key of a usage, or an external one with material.
func (w *tencentWorld) key(usage string) string {
	w.Helper()
	if usage == "EXTERNAL" {
		id := w.ok("CreateKey", fields{"Alias": w.alias(), "Type": 2}).KeyID
		w.ok("ImportKeyMaterial", w.material(id, "RSAES_OAEP_SHA_256", bytes.Repeat([]byte{7}, 32)))
		return id
	}
	return w.ok("CreateKey", fields{"Alias": w.alias(), "KeyUsage": usage}).KeyID
}

// material returns the fields of an import.
func (w *tencentWorld) material(id, algorithm string, material []byte) fields {
	w.Helper()
	p := w.ok("GetParametersForImport", fields{"KeyId": id, "WrappingAlgorithm": algorithm, "WrappingKeySpec": "RSA_2048"})
	public := must(x509.ParsePKIXPublicKey(must(base64.StdEncoding.DecodeString(p.PublicKey)))).(*rsa.PublicKey)
	var wrapped []byte
	switch algorithm {
	case "RSAES_OAEP_SHA_1":
		wrapped = must(rsa.EncryptOAEP(sha1.New(), rand.Reader, public, material, nil))
	case "RSAES_OAEP_SHA_256":
		wrapped = must(rsa.EncryptOAEP(sha256.New(), rand.Reader, public, material, nil))
	default:
		//lint:ignore SA1019 the cloud offers it
		wrapped = must(rsa.EncryptPKCS1v15(rand.Reader, public, material))
	}
	return fields{"KeyId": id, "ImportToken": p.ImportToken, "EncryptedKeyMaterial": base64.StdEncoding.EncodeToString(wrapped)}
}

func (w *tencentWorld) state(id string) string {
	w.Helper()
	return w.ok("DescribeKey", fields{"KeyId": id}).KeyMetadata.KeyState
}

// into brings an enabled key into a state.
func (w *tencentWorld) into(id, state string) {
	w.Helper()
	switch state {
	case "Disabled":
		w.ok("DisableKey", fields{"KeyId": id})
	case "PendingImport":
		w.ok("DeleteImportedKeyMaterial", fields{"KeyId": id})
	case "PendingDelete":
		w.ok("DisableKey", fields{"KeyId": id})
		w.ok("ScheduleKeyDeletion", fields{"KeyId": id, "PendingWindowInDays": 7})
	case "Archived":
		w.ok("ArchiveKey", fields{"KeyId": id})
	}
	if got := w.state(id); got != state {
		w.Fatalf("key is %s, not %s", got, state)
	}
}

// TestTencentStates does every action with a key in every state (KMS API, state matrix), and looks at the state after it.
func TestTencentStates(t *testing.T) {
	w := newTencentWorld(t)
	states := []string{"Enabled", "Disabled", "PendingImport", "PendingDelete", "Archived"}
	const no, gone = "CmkStateNotSupport", "CmkNotPendingDelete"
	other := w.key("ENCRYPT_DECRYPT")
	rsaKey := w.key("ASYMMETRIC_DECRYPT_RSA_2048")
	public := must(x509.ParsePKIXPublicKey(must(base64.StdEncoding.DecodeString(w.ok("GetPublicKey", fields{"KeyId": rsaKey}).PublicKey)))).(*rsa.PublicKey)
	block := base64.StdEncoding.EncodeToString(must(rsa.EncryptOAEP(sha256.New(), rand.Reader, public, []byte("x"), nil)))
	for _, row := range []struct {
		action, usage string
		in            fields
		want          string // in the order of states; - where no key can be in that state
		after         string // state of the key after success; empty: as before
	}{
		{"Encrypt", "ANY", fields{"Plaintext": "eA=="}, "ok CmkDisabled " + no + " " + no + " CmkArchived", ""},
		{"GenerateDataKey", "ANY", fields{"KeySpec": "AES_256"}, "ok CmkDisabled " + no + " KeyPendingDelete CmkArchived", ""},
		{"Decrypt", "ANY", nil, "ok CmkDisabled " + no + " " + no + " ok", ""},
		{"ReEncrypt", "ANY", fields{"DestinationKeyId": other}, "ok CmkDisabled " + no + " " + no + " ok", ""},
		{"SignByAsymmetricKey", "ASYMMETRIC_SIGN_VERIFY_ECC", fields{"Algorithm": "ECC_P256_R1", "Message": "QUJD"}, "ok " + no + " - " + no + " " + no, ""},
		{"VerifyByAsymmetricKey", "ASYMMETRIC_SIGN_VERIFY_ECC", fields{"Algorithm": "ECC_P256_R1", "Message": "QUJD", "SignatureValue": "QUJD"}, "ok " + no + " - " + no + " " + no, ""},
		{"GetPublicKey", "ASYMMETRIC_SIGN_VERIFY_ECC", nil, "ok " + no + " - " + no + " " + no, ""},
		{"AsymmetricRsaDecrypt", "RSA", fields{"Algorithm": "RSAES_OAEP_SHA_256", "Ciphertext": block}, "ok " + no + " - " + no + " " + no, ""},
		{"EnableKey", "ANY", nil, "ok ok " + no + " " + no + " " + no, "Enabled"},
		{"EnableKeys", "ANY", nil, "ok ok " + no + " " + no + " " + no, "Enabled"},
		{"DisableKey", "ANY", nil, "ok ok " + no + " " + no + " " + no, "Disabled"},
		{"DisableKeys", "ANY", nil, "ok ok " + no + " " + no + " " + no, "Disabled"},
		{"ArchiveKey", "ANY", nil, "ok ok " + no + " " + no + " ok", "Archived"},
		{"CancelKeyArchive", "ANY", nil, no + " " + no + " " + no + " " + no + " ok", "Enabled"},
		{"ScheduleKeyDeletion", "ANY", fields{"PendingWindowInDays": 30}, "CmkShouldBeDisabled ok ok " + no + " CmkShouldBeDisabled", "PendingDelete"},
		{"CancelKeyDeletion", "ANY", nil, gone + " " + gone + " " + gone + " ok " + gone, "Disabled"},
		{"UpdateAlias", "ANY", fields{"Alias": "$"}, "ok ok ok " + no + " ok", ""},
		{"UpdateKeyDescription", "ANY", fields{"Description": "x"}, "ok ok ok " + no + " ok", ""},
		{"EnableKeyRotation", "ENCRYPT_DECRYPT", nil, "ok " + no + " - " + no + " " + no, ""},
		{"RotateKey", "ROTATED", nil, "ok " + no + " - " + no + " " + no, ""},
		{"GetKeyRotationStatus", "ANY", nil, "ok ok ok ok ok", ""},
		{"DescribeKey", "ANY", nil, "ok ok ok ok ok", ""},
		{"DescribeKeys", "ANY", nil, "ok ok ok ok ok", ""},
		{"GetParametersForImport", "EXTERNAL", fields{"WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_2048"}, "ok ok ok ok ok", ""},
		{"ImportKeyMaterial", "EXTERNAL", nil, "ok " + no + " ok " + no + " " + no, "Enabled"},
		{"DeleteImportedKeyMaterial", "EXTERNAL", nil, "ok ok ok " + no + " " + no, "PendingImport"},
		{"BindCloudResource", "ANY", nil, "UnsupportedOperation UnsupportedOperation UnsupportedOperation UnsupportedOperation UnsupportedOperation", ""},
	} {
		for i, state := range states {
			want := strings.Fields(row.want)[i]
			if want == "-" {
				continue
			}
			id := rsaKey
			switch row.usage {
			case "RSA":
			case "ROTATED":
				id = w.key("ENCRYPT_DECRYPT")
				w.ok("EnableKeyRotation", fields{"KeyId": id})
			case "ANY": // external only where it must be, and with material only where something was encrypted
				switch {
				case state != "PendingImport":
					id = w.key("ENCRYPT_DECRYPT")
				case row.action == "Decrypt" || row.action == "ReEncrypt":
					id = w.key("EXTERNAL")
				default:
					id = w.ok("CreateKey", fields{"Alias": w.alias(), "Type": 2}).KeyID
				}
			default:
				id = w.key(row.usage)
			}
			in := fields{"KeyId": id, "KeyIds": []string{id}}
			switch row.action {
			case "Decrypt", "ReEncrypt":
				in["CiphertextBlob"] = w.ok("Encrypt", fields{"KeyId": id, "Plaintext": "eA=="}).CiphertextBlob
			case "ImportKeyMaterial":
				in = w.material(id, "RSAES_OAEP_SHA_256", bytes.Repeat([]byte{7}, 32))
			}
			for name, value := range row.in {
				if in[name] = value; value == "$" {
					in[name] = w.alias()
				}
			}
			w.into(id, state)
			w.code(row.action, in, want)
			after := state
			if want == "ok" && row.after != "" {
				after = row.after
			}
			if got := w.state(id); got != after {
				t.Errorf("%s leaves a key that was %s %s, want %s", row.action, state, got, after)
			}
			if row.usage == "RSA" && state != "Enabled" {
				w.call("CancelKeyDeletion", in)
				w.call("CancelKeyArchive", in)
				w.ok("EnableKey", in)
			}
		}
	}
	id := w.ok("CreateKey", fields{"Alias": w.alias(), "Type": 2}).KeyID
	w.ok("ScheduleKeyDeletion", fields{"KeyId": id, "PendingWindowInDays": 7})
	w.ok("CancelKeyDeletion", fields{"KeyId": id})
	if got := w.state(id); got != "PendingImport" {
		t.Errorf("without material, a key whose deletion is canceled is %s", got)
	}
}

// TestTencentCodes provokes the codes that the API declares for each action, as far as this service can have them.
func TestTencentCodes(t *testing.T) {
	w := newTencentWorld(t)
	const unknown = "00000000-0000-4000-8000-000000000000"
	id, external := w.key("ENCRYPT_DECRYPT"), w.key("EXTERNAL")
	sign, decrypt := w.key("ASYMMETRIC_SIGN_VERIFY_ECC"), w.key("ASYMMETRIC_DECRYPT_RSA_2048")
	taken := w.ok("DescribeKey", fields{"KeyId": external}).KeyMetadata.Alias
	bound := w.ok("Encrypt", fields{"KeyId": id, "Plaintext": "eA==", "EncryptionContext": `{"a":"1","b":"2"}`}).CiphertextBlob
	long := base64.StdEncoding.EncodeToString(make([]byte, 4097))
	first := w.material(external, "RSAES_PKCS1_V1_5", bytes.Repeat([]byte{7}, 32))
	second := w.material(external, "RSAES_OAEP_SHA_1", bytes.Repeat([]byte{7}, 32))
	with := func(in fields, name string, value any) fields {
		out := fields{name: value}
		for n, v := range in {
			if n != name {
				out[n] = v
			}
		}
		return out
	}
	foreign := with(second, "KeyId", w.ok("CreateKey", fields{"Alias": w.alias(), "Type": "2"}).KeyID)
	blob := make([]byte, 256)
	for _, c := range []struct {
		action string
		in     fields
		want   string
	}{
		{"CreateKey", fields{"Alias": taken}, "AliasAlreadyExists"}, {"CreateKey", fields{"Alias": "kms-a"}, "InvalidAlias"}, {"CreateKey", fields{"Alias": "-a"}, "InvalidAlias"},
		{"CreateKey", fields{"Alias": "a b"}, "InvalidAlias"}, {"CreateKey", fields{"Alias": strings.Repeat("a", 61)}, "InvalidAlias"}, {"CreateKey", fields{}, "MissingParameter"},
		{"CreateKey", fields{"Alias": "a", "HsmClusterId": "c"}, "InvalidHsmClusterId"}, {"CreateKey", fields{"Alias": "a", "KeyUsage": "X"}, "InvalidKeyUsage"},
		{"CreateKey", fields{"Alias": "a", "Type": 3}, "InvalidType"}, {"CreateKey", fields{"Alias": "a", "KeyUsage": "ASYMMETRIC_DECRYPT_SM2"}, "UnsupportedKeyUsageInCurrentRegion"},
		{"CreateKey", fields{"Alias": "a", "Type": 2, "KeyUsage": "ASYMMETRIC_SIGN_VERIFY_ECC"}, "InvalidKeyUsage"}, {"CreateKey", fields{"Alias": "a", "Description": strings.Repeat("x", 1025)}, "InvalidParameter"},
		{"CreateKey", fields{"Alias": "a", "Tags": []fields{{"TagKey": "k", "TagValue": "1"}, {"TagKey": "k", "TagValue": "2"}}}, "TagKeysDuplicated"},
		{"DescribeKey", fields{"KeyId": "x"}, "InvalidKeyId"}, {"DescribeKey", fields{"KeyId": unknown}, "CmkNotFound"}, {"DescribeKey", fields{"KeyId": taken}, "InvalidKeyId"},
		{"DescribeKeys", fields{"KeyIds": []string{id, id}}, "DuplicatedKeyId"}, {"EnableKeys", fields{"KeyIds": []string{id, id}}, "DuplicatedKeyId"},
		{"DisableKeys", fields{"KeyIds": []string{id, unknown}}, "CmkNotFound"}, {"DisableKeys", fields{"KeyIds": []string{}}, "InvalidParameter"}, {"DescribeKeys", fields{"KeyIds": []string{"x"}}, "InvalidKeyId"},
		{"ListKeys", fields{"HsmClusterId": "c"}, "InvalidHsmClusterId"}, {"ListKeyDetail", fields{"HsmClusterId": "c"}, "InvalidHsmClusterId"}, {"ListKeys", fields{"Limit": 201}, "InvalidParameter"},
		{"ScheduleKeyDeletion", fields{"KeyId": id, "PendingWindowInDays": 6}, "InvalidPendingWindowInDays"}, {"ScheduleKeyDeletion", fields{"KeyId": id, "PendingWindowInDays": "31"}, "InvalidPendingWindowInDays"},
		{"UpdateAlias", fields{"KeyId": id, "Alias": taken}, "AliasAlreadyExists"}, {"UpdateAlias", fields{"KeyId": id, "Alias": "a/b"}, "InvalidAlias"},

		{"GetParametersForImport", fields{"KeyId": id, "WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_2048"}, "NotExternalCmk"},
		{"GetParametersForImport", fields{"KeyId": external, "WrappingAlgorithm": "RSAES_PKCS1_V1_5", "WrappingKeySpec": "RSA_4096"}, "InvalidParameter"},
		{"ImportKeyMaterial", first, "TokenExpired"}, {"ImportKeyMaterial", foreign, "InvalidParameter"}, {"ImportKeyMaterial", with(second, "KeyId", id), "NotExternalCmk"},
		{"ImportKeyMaterial", with(second, "EncryptedKeyMaterial", "!"), "InvalidParameter"}, {"ImportKeyMaterial", with(second, "EncryptedKeyMaterial", base64.StdEncoding.EncodeToString(blob)), "DecryptMaterialError"},
		{"ImportKeyMaterial", with(second, "ImportToken", "AAAA"), "InvalidParameter"}, {"ImportKeyMaterial", with(second, "ValidTo", w.clock.now.Unix()-1), "InvalidParameterValue"},
		{"ImportKeyMaterial", with(second, "ValidTo", 2147443201), "InvalidParameterValue"}, {"ImportKeyMaterial", with(second, "ValidTo", "0"), "ok"},
		{"DeleteImportedKeyMaterial", fields{"KeyId": id}, "NotExternalCmk"},

		{"Encrypt", fields{"KeyId": id, "Plaintext": "!"}, "InvalidPlaintext"}, {"Encrypt", fields{"KeyId": id, "Plaintext": long}, "InvalidPlaintext"},
		{"Encrypt", fields{"KeyId": id, "Plaintext": "eA==", "EncryptionContext": `{"a":1}`}, "InvalidParameter"}, {"Encrypt", fields{"KeyId": id, "Plaintext": "eA==", "EncryptionContext": "a=b"}, "InvalidParameter"},
		{"Encrypt", fields{"KeyId": id, "Plaintext": "eA==", "EncryptionContext": `{"a":"` + strings.Repeat("x", 1024) + `"}`}, "InvalidParameter"},
		{"Encrypt", fields{"KeyId": sign, "Plaintext": "eA=="}, "InvalidKeyUsage"}, {"Encrypt", fields{"KeyId": decrypt, "Plaintext": "eA=="}, "InvalidKeyUsage"},
		{"Decrypt", fields{"CiphertextBlob": "QUJD"}, "InvalidCiphertext"}, {"Decrypt", fields{"CiphertextBlob": "!"}, "InvalidCiphertext"}, {"Decrypt", fields{"CiphertextBlob": bound}, "InvalidCiphertext"},
		{"Decrypt", fields{"CiphertextBlob": bound, "EncryptionContext": `{"a":"1"}`}, "InvalidCiphertext"}, {"Decrypt", fields{"CiphertextBlob": bound, "EncryptionContext": ` {"b":"2", "a":"1"}`}, "ok"},
		{"Decrypt", fields{"CiphertextBlob": bound, "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}, "MissingParameter"}, {"Decrypt", fields{"CiphertextBlob": bound, "EncryptionPublicKey": "x"}, "UnsupportedOperation"},
		{"Decrypt", fields{"CiphertextBlob": bound, "EncryptionPublicKey": "x", "EncryptionAlgorithm": "RSAES_OAEP_SHA_1"}, "InvalidParameter"},
		{"ReEncrypt", fields{"CiphertextBlob": bound}, "InvalidCiphertext"}, {"ReEncrypt", fields{"CiphertextBlob": bound, "SourceEncryptionContext": `{"a":"1","b":"2"}`, "DestinationKeyId": unknown}, "CmkNotFound"},
		{"GenerateDataKey", fields{"KeyId": id}, "MissingParameter"}, {"GenerateDataKey", fields{"KeyId": id, "NumberOfBytes": 1025}, "InvalidParameterValue"}, {"GenerateDataKey", fields{"KeyId": sign, "NumberOfBytes": 8}, "InvalidKeyUsage"},
		{"GenerateDataKey", fields{"KeyId": id, "NumberOfBytes": 8, "IsHostedByKms": 1}, "UnsupportedOperation"}, {"GenerateDataKey", fields{"KeyId": id, "NumberOfBytes": 8, "DataKeyName": "n"}, "UnsupportedOperation"},
		{"GenerateRandom", fields{"NumberOfBytes": 0}, "InvalidParameterValue"},

		{"AsymmetricRsaDecrypt", fields{"KeyId": decrypt, "Algorithm": "RSAES_OAEP_SHA_1", "Ciphertext": base64.StdEncoding.EncodeToString(blob)}, "DecryptError"},
		{"AsymmetricRsaDecrypt", fields{"KeyId": decrypt, "Algorithm": "RSAES_OAEP_SHA_1", "Ciphertext": "QUJD"}, "DecryptError"}, {"AsymmetricRsaDecrypt", fields{"KeyId": sign, "Algorithm": "RSAES_OAEP_SHA_1", "Ciphertext": "QUJD"}, "InvalidKeyUsage"},
		{"AsymmetricRsaDecrypt", fields{"KeyId": id, "Algorithm": "RSAES_OAEP_SHA_1", "Ciphertext": "QUJD"}, "InvalidKeyUsage"}, {"AsymmetricRsaDecrypt", fields{"KeyId": decrypt, "Algorithm": "RSAES_PKCS1_V1_5", "Ciphertext": "QUJD"}, "UnsupportedOperation"},
		{"AsymmetricSm2Decrypt", fields{}, "UnsupportedKeyUsageInCurrentRegion"}, {"GetPublicKey", fields{"KeyId": id}, "InvalidKeyUsage"},
		{"SignByAsymmetricKey", fields{"KeyId": sign, "Algorithm": "SM2DSA", "Message": "QUJD"}, "UnsupportedOperation"}, {"SignByAsymmetricKey", fields{"KeyId": sign, "Algorithm": "RSA_PSS_SHA_256", "Message": "QUJD"}, "InvalidParameterValue"},
		{"SignByAsymmetricKey", fields{"KeyId": sign, "Algorithm": "ECC_P256_R1", "Message": "QUJD", "MessageType": "DIGEST"}, "InvalidParameterValue"}, {"SignByAsymmetricKey", fields{"KeyId": sign, "Algorithm": "ECC_P256_R1", "Message": long}, "InvalidParameterValue"},
		{"SignByAsymmetricKey", fields{"KeyId": id, "Algorithm": "ECC_P256_R1", "Message": "QUJD"}, "InvalidKeyUsage"}, {"VerifyByAsymmetricKey", fields{"KeyId": sign, "Algorithm": "X", "Message": "QUJD", "SignatureValue": "QUJD"}, "InvalidParameterValue"},

		{"EnableKeyRotation", fields{"KeyId": external}, "ExternalCmkCanNotRotate"}, {"EnableKeyRotation", fields{"KeyId": id, "RotateDays": 6}, "InvalidParameterValue"}, {"EnableKeyRotation", fields{"KeyId": sign}, "RotateNotSupported"},
		{"RotateKey", fields{"KeyId": id}, "RotateNotSupported"}, {"RotateKey", fields{"KeyId": external}, "RotateNotSupported"}, {"EnableKeyRotation", fields{"KeyId": id, "RotateDays": "7"}, "ok"},
		{"RotateKey", fields{"KeyId": id}, "ok"}, {"RotateKey", fields{"KeyId": id}, "RotateRateLimited"}, {"DisableKeyRotation", fields{"KeyId": id}, "ok"}, {"DisableKeyRotation", fields{"KeyId": id}, "ok"},

		{"UnbindCloudResource", fields{}, "CloudResourceBindingNotFound"}, {"CreateWhiteBoxKey", fields{}, "NotPurchased"}, {"PostQuantumCryptoSign", fields{}, "UnsupportedOperation"}, {"ImportDataKey", fields{}, "UnsupportedOperation"},
	} {
		w.code(c.action, c.in, c.want)
	}
	w.into(external, "PendingImport")
	w.code("ImportKeyMaterial", w.material(external, "RSAES_OAEP_SHA_256", bytes.Repeat([]byte{8}, 32)), "MaterialNotMatch")
	w.code("ImportKeyMaterial", w.material(external, "RSAES_OAEP_SHA_256", bytes.Repeat([]byte{7}, 16)), "MaterialNotMatch")
	aged := w.material(external, "RSAES_PKCS1_V1_5", bytes.Repeat([]byte{7}, 32))
	w.clock.now = w.clock.now.Add(24*time.Hour + time.Second)
	w.code("ImportKeyMaterial", aged, "TokenExpired")
	short := w.ok("CreateKey", fields{"Alias": w.alias(), "Type": 2}).KeyID
	w.code("ImportKeyMaterial", w.material(short, "RSAES_PKCS1_V1_5", bytes.Repeat([]byte{7}, 24)), "DecryptMaterialError")
	w.code("ImportKeyMaterial", w.material(short, "RSAES_PKCS1_V1_5", bytes.Repeat([]byte{7}, 16)), "ok")
	made := w.ok("Encrypt", fields{"KeyId": short, "Plaintext": "eA=="})
	if out := w.ok("Decrypt", fields{"CiphertextBlob": made.CiphertextBlob}); out.Plaintext != "eA==" || out.KeyID != short {
		t.Errorf("decrypted %+v", out)
	}
}
