package sdk

import (
	"encoding/base64"
	"net/http"
	"strings"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// nowhere is the id of no key.
const nowhere = "0d0466b0-e727-4d9c-b35d-f84bb474a37f"

// refusals has every operation refused for the reason that its callers meet most.
func (w *walk) refusals() {
	w.refuseKeys()
	w.refuseData()
	w.refuseAsymmetric()
	w.refuseManagement()
	w.refuseImports()
}

func (w *walk) refuseKeys() {
	create := func(body model.CreateKeyRequestBody, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).CreateKey, &model.CreateKeyRequest{Body: &body}, http.StatusBadRequest, code)
	}
	spec, usage := enum[model.CreateKeyRequestBodyKeySpec], enum[model.CreateKeyRequestBodyKeyUsage]
	create(model.CreateKeyRequestBody{KeyAlias: "a space"}, "KMS.1101")
	create(model.CreateKeyRequestBody{KeyAlias: "obs/default"}, "KMS.1101")
	create(model.CreateKeyRequestBody{KeyAlias: w.alias("aes")}, "KMS.1104")
	create(model.CreateKeyRequestBody{KeyAlias: w.alias("no"), KeyDescription: new(strings.Repeat("d", 256))}, "KMS.1103")
	create(model.CreateKeyRequestBody{KeyAlias: w.alias("no"), KeySpec: spec("SM4")}, "KMS.1110")
	create(model.CreateKeyRequestBody{KeyAlias: w.alias("no"), KeySpec: spec("DES_56")}, "KMS.1110")
	create(model.CreateKeyRequestBody{KeyAlias: w.alias("no"), KeyUsage: usage("SIGN_VERIFY")}, "KMS.0308")
	create(model.CreateKeyRequestBody{KeyAlias: w.alias("no"), Sequence: new("1")}, "KMS.0206")
	create(model.CreateKeyRequestBody{KeyAlias: w.alias("no"), KeystoreId: new("1")}, "KMS.0340")

	refuse(w, (*kms.KmsClient).ListKeyDetail, &model.ListKeyDetailRequest{Body: operate(nowhere)}, http.StatusNotFound, "KMS.0207")
	refuse(w, (*kms.KmsClient).ListKeyDetail, &model.ListKeyDetailRequest{Body: operate("")}, http.StatusBadRequest, "KMS.0204")
	refuse(w, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{Body: &model.ListKeysRequestBody{Limit: new("x")}}, http.StatusBadRequest, "KMS.1601")
	refuse(w, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{Body: &model.ListKeysRequestBody{Marker: new("-1")}}, http.StatusBadRequest, "KMS.1602")
	refuse(w, (*kms.KmsClient).EnableKey, &model.EnableKeyRequest{Body: operate(w.aes)}, http.StatusBadRequest, "KMS.1201")
	refuse(w, (*kms.KmsClient).CancelKeyDeletion, &model.CancelKeyDeletionRequest{Body: operate(w.aes)}, http.StatusBadRequest, "KMS.1501")

	schedule := func(key, days, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).DeleteKey, &model.DeleteKeyRequest{
			Body: &model.ScheduleKeyDeletionRequestBody{KeyId: key, PendingDays: days},
		}, http.StatusBadRequest, code)
	}
	schedule(w.aes, "6", "KMS.1401")
	schedule(w.aes, "1097", "KMS.1401")
	doomed := w.key("doomed", "AES_256", "ENCRYPT_DECRYPT")
	call(w, (*kms.KmsClient).DisableKey, &model.DisableKeyRequest{Body: operate(doomed)})
	refuse(w, (*kms.KmsClient).DisableKey, &model.DisableKeyRequest{Body: operate(doomed)}, http.StatusBadRequest, "KMS.1301")
	encrypt := &model.EncryptDataRequest{Body: &model.EncryptDataRequestBody{KeyId: doomed, PlainText: "x"}}
	refuse(w, (*kms.KmsClient).EncryptData, encrypt, http.StatusBadRequest, "KMS.0209")
	refuse(w, (*kms.KmsClient).EnableKeyRotation, &model.EnableKeyRotationRequest{Body: operate(doomed)}, http.StatusBadRequest, "KMS.0209")
	w.schedule(doomed, 7)
	schedule(doomed, "7", "KMS.1402")
	refuse(w, (*kms.KmsClient).EncryptData, encrypt, http.StatusBadRequest, "KMS.0210")
	rename := func(key, alias, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).UpdateKeyAlias, &model.UpdateKeyAliasRequest{
			Body: &model.UpdateKeyAliasRequestBody{KeyId: key, KeyAlias: alias},
		}, http.StatusBadRequest, code)
	}
	rename(doomed, w.alias("other"), "KMS.0210")
	rename(w.aes, w.alias("doomed"), "KMS.1104")
	rename(w.aes, "any/default", "KMS.1101")
	refuse(w, (*kms.KmsClient).UpdateKeyDescription, &model.UpdateKeyDescriptionRequest{
		Body: &model.UpdateKeyDescriptionRequestBody{KeyId: w.aes, KeyDescription: strings.Repeat("d", 256)},
	}, http.StatusBadRequest, "KMS.1103")

	random := func(bits, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).CreateRandom, &model.CreateRandomRequest{
			Body: &model.GenRandomRequestBody{RandomDataLength: bits},
		}, http.StatusBadRequest, code)
	}
	random("8200", "KMS.1801")
	random("12", "KMS.1802")
	refuse(w, (*kms.KmsClient).ShowVersion, &model.ShowVersionRequest{VersionId: "v9"}, http.StatusNotFound, "APIGW.0101")
}

func (w *walk) refuseData() {
	const bad = http.StatusBadRequest
	type dataKey = model.CreateDatakeyRequestBody
	refuse(w, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &dataKey{KeyId: w.rsaEncrypt}}, bad, "KMS.0325")
	refuse(w, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &dataKey{KeyId: w.mac}}, bad, "KMS.0341")
	refuse(w, (*kms.KmsClient).CreateDatakeyWithoutPlaintext, &model.CreateDatakeyWithoutPlaintextRequest{
		Body: &dataKey{KeyId: w.aes, DatakeyLength: new("8200")},
	}, bad, "KMS.1901")
	refuse(w, (*kms.KmsClient).CreateDatakeyWithoutPlaintext, &model.CreateDatakeyWithoutPlaintextRequest{
		Body: &dataKey{KeyId: w.aes, DatakeyLength: new("12")},
	}, bad, "KMS.1903")
	refuse(w, (*kms.KmsClient).EncryptDatakey, &model.EncryptDatakeyRequest{Body: &model.EncryptDatakeyRequestBody{
		KeyId: w.aes, PlainText: strings.Repeat("00", 64), DatakeyPlainLength: "32",
	}}, bad, "KMS.2103")
	made := call(w, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &dataKey{KeyId: w.aes}})
	open := func(key, length string, aad *string, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).DecryptDatakey, &model.DecryptDatakeyRequest{Body: &model.DecryptDatakeyRequestBody{
			KeyId: key, CipherText: *made.CipherText, DatakeyCipherLength: length, AdditionalAuthenticatedData: aad,
		}}, bad, code)
	}
	open(w.aes, "16", nil, "KMS.2204")
	open(w.aes2, "32", nil, "KMS.2201")
	open(w.aes, "32", new("other"), "KMS.2201")
	refuse(w, (*kms.KmsClient).CreateRsaDatakeyPair, &model.CreateRsaDatakeyPairRequest{Body: &model.CreateRsaDatakeyPairRequestBody{
		KeyId: w.rsaEncrypt, KeySpec: model.GetCreateRsaDatakeyPairRequestBodyKeySpecEnum().RSA_2048,
	}}, bad, "KMS.0325")
	refuse(w, (*kms.KmsClient).CreateEcDatakeyPair, &model.CreateEcDatakeyPairRequest{Body: &model.CreateEcDatakeyPairRequestBody{
		KeyId: w.aes, KeySpec: model.GetCreateEcDatakeyPairRequestBodyKeySpecEnum().SM2,
	}}, bad, "KMS.1902")

	encrypt := func(body model.EncryptDataRequestBody, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).EncryptData, &model.EncryptDataRequest{Body: &body}, bad, code)
	}
	oaep := enum[model.EncryptDataRequestBodyEncryptionAlgorithm]("RSAES_OAEP_SHA_256")
	encrypt(model.EncryptDataRequestBody{KeyId: w.aes, PlainText: strings.Repeat("x", 4097)}, "KMS.2101")
	encrypt(model.EncryptDataRequestBody{KeyId: w.aes, PlainText: "x", EncryptionAlgorithm: oaep}, "KMS.2105")
	encrypt(model.EncryptDataRequestBody{KeyId: w.rsaEncrypt, PlainText: "x"}, "KMS.2106")
	encrypt(model.EncryptDataRequestBody{KeyId: w.rsaEncrypt, PlainText: strings.Repeat("x", 191), EncryptionAlgorithm: oaep}, "KMS.2108")
	encrypt(model.EncryptDataRequestBody{KeyId: w.rsaSign, PlainText: "x", EncryptionAlgorithm: oaep}, "KMS.0335")
	encrypt(model.EncryptDataRequestBody{KeyId: w.ec, PlainText: "x"}, "KMS.1114")
	encrypt(model.EncryptDataRequestBody{KeyId: w.agree, PlainText: "x"}, "KMS.1114")
	encrypt(model.EncryptDataRequestBody{KeyId: w.mac, PlainText: "x"}, "KMS.0341")

	damaged := w.decode(w.encrypt(w.aes, "intact", nil, false))
	damaged[len(damaged)-1] ^= 1
	cipherText := base64.StdEncoding.EncodeToString(damaged)
	refuse(w, (*kms.KmsClient).DecryptData, &model.DecryptDataRequest{
		Body: &model.DecryptDataRequestBody{CipherText: cipherText},
	}, bad, "KMS.2201")
	// A data key is no data: a right to decrypt the one opens nothing of the other.
	refuse(w, (*kms.KmsClient).DecryptData, &model.DecryptDataRequest{Body: &model.DecryptDataRequestBody{
		CipherText: base64.StdEncoding.EncodeToString(w.unhex(*made.CipherText)),
	}}, bad, "KMS.2201")
	refuse(w, (*kms.KmsClient).ReEncrypt, &model.ReEncryptRequest{
		Body: &model.ReEncryptRequestBody{CipherText: cipherText, DestinationKeyId: w.aes2},
	}, bad, "KMS.2201")
}

func (w *walk) refuseAsymmetric() {
	const bad = http.StatusBadRequest
	short := base64.StdEncoding.EncodeToString([]byte("short"))
	digest := base64.StdEncoding.EncodeToString(make([]byte, 32))
	sign := func(key, algorithm, message, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).Sign, &model.SignRequest{Body: &model.SignRequestBody{
			KeyId: key, Message: message, SigningAlgorithm: *enum[model.SignRequestBodySigningAlgorithm](algorithm),
		}}, bad, code)
		refuse(w, (*kms.KmsClient).ValidateSignature, &model.ValidateSignatureRequest{Body: &model.VerifyRequestBody{
			KeyId: key, Message: message, Signature: digest, SigningAlgorithm: *enum[model.VerifyRequestBodySigningAlgorithm](algorithm),
		}}, bad, code)
	}
	sign(w.ec, "ECDSA_SHA_256", short, "KMS.0329")
	sign(w.ec, "RSASSA_PSS_SHA_256", digest, "KMS.0332")
	sign(w.ec, "SM2DSA_SM3", digest, "KMS.0332")
	sign(w.ec, "ECDSA_SHA_256", "***", "KMS.0308")
	sign(w.rsaEncrypt, "RSASSA_PSS_SHA_256", digest, "KMS.0334")
	sign(w.mac, "ECDSA_SHA_256", digest, "KMS.0341")
	sign(w.aes, "ECDSA_SHA_256", digest, "KMS.0331")
	refuse(w, (*kms.KmsClient).ShowPublicKey, &model.ShowPublicKeyRequest{Body: operate(w.aes)}, bad, "KMS.0331")

	mac := func(key, algorithm, message, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).GenerateMac, &model.GenerateMacRequest{Body: &model.GenerateMacRequestBody{
			KeyId: key, MacAlgorithm: *enum[model.GenerateMacRequestBodyMacAlgorithm](algorithm), Message: message,
		}}, bad, code)
		refuse(w, (*kms.KmsClient).VerifyMac, &model.VerifyMacRequest{Body: &model.VerifyMacRequestBody{
			KeyId: key, MacAlgorithm: *enum[model.VerifyMacRequestBodyMacAlgorithm](algorithm), Message: message, Mac: "00",
		}}, bad, code)
	}
	mac(w.mac, "HMAC_SHA_512", short, "KMS.0308")
	mac(w.mac, "HMAC_SM3", short, "KMS.0308")
	mac(w.aes, "HMAC_SHA_256", short, "KMS.0308")
	mac(w.mac, "HMAC_SHA_256", "", "KMS.0204")
	refuse(w, (*kms.KmsClient).DeriveSharedSecret, &model.DeriveSharedSecretRequest{Body: &model.DeriveSharedSecretRequestBody{
		KeyId: w.agree, KeyAgreementAlgorithm: model.GetDeriveSharedSecretRequestBodyKeyAgreementAlgorithmEnum().ECDH,
		PublicKey: short,
	}}, bad, "KMS.0308")
}

func (w *walk) refuseManagement() {
	const bad, absent = http.StatusBadRequest, http.StatusNotFound
	interval := func(days int32, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).UpdateKeyRotationInterval, &model.UpdateKeyRotationIntervalRequest{
			Body: &model.UpdateKeyRotationIntervalRequestBody{KeyId: w.aes2, RotationInterval: days},
		}, bad, code)
	}
	interval(30, "KMS.0313")
	refuse(w, (*kms.KmsClient).DisableKeyRotation, &model.DisableKeyRotationRequest{Body: operate(w.aes2)}, bad, "KMS.0313")
	call(w, (*kms.KmsClient).EnableKeyRotation, &model.EnableKeyRotationRequest{Body: operate(w.aes2)})
	interval(29, "KMS.3001")
	interval(366, "KMS.3001")
	refuse(w, (*kms.KmsClient).EnableKeyRotation, &model.EnableKeyRotationRequest{Body: operate(w.aes2)}, bad, "KMS.2901")
	refuse(w, (*kms.KmsClient).EnableKeyRotation, &model.EnableKeyRotationRequest{Body: operate(w.rsaSign)}, bad, "KMS.0325")
	refuse(w, (*kms.KmsClient).EnableKeyRotation, &model.EnableKeyRotationRequest{Body: operate(w.ec)}, bad, "KMS.0325")
	refuse(w, (*kms.KmsClient).ShowKeyRotationStatus, &model.ShowKeyRotationStatusRequest{Body: operate(nowhere)}, absent, "KMS.0207")

	tag := func(key, value, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).CreateKmsTag, &model.CreateKmsTagRequest{KeyId: w.aes, Body: &model.CreateKmsTagRequestBody{
			Tag: &model.TagItem{Key: key, Value: &value},
		}}, bad, code)
	}
	tag(strings.Repeat("k", 37), "v", "KMS.0411")
	tag("k", strings.Repeat("v", 44), "KMS.0410")
	tag("a*b", "v", "KMS.0406")
	tag("k", "a<b", "KMS.0405")
	batch := func(action, code string, n int) {
		w.Helper()
		refuse(w, (*kms.KmsClient).BatchCreateKmsTags, &model.BatchCreateKmsTagsRequest{
			KeyId: w.aes, Body: &model.BatchCreateKmsTagsRequestBody{Action: action, Tags: manyTags(n)},
		}, bad, code)
	}
	batch("replace", "KMS.0404", 1)
	batch("create", "KMS.0401", 0)
	batch("create", "KMS.0409", 21)
	refuse(w, (*kms.KmsClient).DeleteTag, &model.DeleteTagRequest{KeyId: w.aes, Key: "absent"}, absent, "KMS.0416")
	refuse(w, (*kms.KmsClient).ShowKmsTags, &model.ShowKmsTagsRequest{KeyId: nowhere}, absent, "KMS.0207")
	search := func(body model.ListKmsByTagsRequestBody, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).ListKmsByTags, &model.ListKmsByTagsRequest{ResourceInstances: "resource_instances", Body: &body}, bad, code)
	}
	search(model.ListKmsByTagsRequestBody{Action: new("all")}, "KMS.0404")
	search(model.ListKmsByTagsRequestBody{Action: new("filter"), Limit: new("0")}, "KMS.1601")
	search(model.ListKmsByTagsRequestBody{Action: new("filter"), Offset: new("-1")}, "KMS.0417")
	search(model.ListKmsByTagsRequestBody{Action: new("count"), Limit: new("1")}, "KMS.0418")
	search(model.ListKmsByTagsRequestBody{Action: new("filter"), Matches: &[]model.TagItem{{Key: "color", Value: new("x")}}}, "KMS.0403")

	alias := func(key, name string, status int, code string) {
		w.Helper()
		refuse(w, (*kms.KmsClient).CreateAlias, &model.CreateAliasRequest{
			Body: &model.CreateAliasRequestBody{KeyId: key, Alias: name},
		}, status, code)
	}
	alias(w.aes, "a space", bad, "KMS.1101")
	alias(w.aes2, "alias/"+w.way.name+":2", bad, "KMS.1104")
	alias(nowhere, "alias/nowhere", absent, "KMS.0207")
	refuse(w, (*kms.KmsClient).AssociateAlias, &model.AssociateAliasRequest{
		Body: &model.AssociateAliasRequestBody{Alias: "alias/absent", TargetKeyId: w.aes},
	}, absent, "KMS.0207")
	refuse(w, (*kms.KmsClient).DeleteAlias, &model.DeleteAliasRequest{
		Body: &model.DeleteAliasRequestBody{KeyId: w.aes, Aliases: []string{"alias/absent"}},
	}, absent, "KMS.0207")
	refuse(w, (*kms.KmsClient).ListAliases, &model.ListAliasesRequest{Limit: new("0")}, bad, "KMS.1601")
	w.refuseProject()
}

// refuseProject asks the operations that take nothing for another project's.
func (w *walk) refuseProject() {
	own, wire := w.client, w.wire
	w.client, w.wire = w.way.connect(w.T, "another")
	defer func() { w.client, w.wire = own, wire }()
	const status, code = http.StatusForbidden, "KMS.0321"
	refuse(w, (*kms.KmsClient).ListKmsTags, &model.ListKmsTagsRequest{}, status, code)
	refuse(w, (*kms.KmsClient).ShowUserInstances, &model.ShowUserInstancesRequest{}, status, code)
	refuse(w, (*kms.KmsClient).ShowUserQuotas, &model.ShowUserQuotasRequest{}, status, code)
}

func manyTags(n int) []model.TagItem {
	tags := make([]model.TagItem, n)
	for i := range tags {
		tags[i] = model.TagItem{Key: "key" + string(rune('a'+i)), Value: new("v")}
	}
	return tags
}
