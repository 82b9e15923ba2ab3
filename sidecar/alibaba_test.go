package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/alibaba"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/kms"
)

// alibabaSuite drives Alibaba's dialect. The members of a request's object are its parameters.
var alibabaSuite = dialecttest.Suite{
	Registration: alibaba.Registration, Routes: alibaba.Routes(), Missing: "MissingParameter", Flat: true,
	Requests: map[string]dialecttest.Request{
		"CreateKey":                {Body: `{"Description":"$fresh","DKMSInstanceId":"kst-1","KeySpec":"Aliyun_AES_256","Tags":[{"TagKey":"k","TagValue":"v"}]}`},
		"DescribeKey":              {Body: `{"KeyId":"$aes"}`},
		"ListKeys":                 {Body: `{"PageSize":5}`},
		"EnableKey":                {Body: `{"KeyId":"$aes"}`},
		"DisableKey":               {Body: `{"KeyId":"$aes"}`},
		"UpdateKeyDescription":     {Body: `{"KeyId":"$aes","Description":"x"}`},
		"ScheduleKeyDeletion":      {Body: `{"KeyId":"$aes","PendingWindowInDays":7}`, Before: `CancelKeyDeletion {"KeyId":"$aes"}`},
		"CancelKeyDeletion":        {Body: `{"KeyId":"$aes"}`, Before: `ScheduleKeyDeletion {"KeyId":"$aes","PendingWindowInDays":7}`},
		"SetDeletionProtection":    {Body: `{"KeyId":"$aes","EnableDeletionProtection":false}`},
		"DescribeRegions":          {Body: `{}`},
		"DescribeAccountKmsStatus": {Body: `{}`},
		"ListKmsInstances":         {Body: `{}`},
		"GetKmsInstance":           {Body: `{"KmsInstanceId":"kst-1"}`, Before: `CreateKey {"DKMSInstanceId":"kst-1"}`},

		"GetParametersForImport": {Body: `{"KeyId":"$external","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`},
		"ImportKeyMaterial":      {Body: `{"KeyId":"$external","ImportToken":"$token64","EncryptedKeyMaterial":"$material64","KeyMaterialExpireUnix":0}`},
		"DeleteKeyMaterial":      {Body: `{"KeyId":"$external"}`},

		"Encrypt":                         {Body: `{"KeyId":"$aes","Plaintext":"eA==","EncryptionContext":{"a":"b"}}`},
		"Decrypt":                         {Body: `{"CiphertextBlob":"$cipher"}`},
		"ReEncrypt":                       {Body: `{"CiphertextBlob":"$cipher","DestinationKeyId":"$aes2"}`},
		"GenerateDataKey":                 {Body: `{"KeyId":"$aes","NumberOfBytes":16}`},
		"GenerateDataKeyWithoutPlaintext": {Body: `{"KeyId":"$aes","KeySpec":"AES_128"}`},
		"ExportDataKey":                   {Body: `{"CiphertextBlob":"$blob64","PublicKeyBlob":"$public64","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`},
		"GenerateAndExportDataKey":        {Body: `{"KeyId":"$aes","PublicKeyBlob":"$public64","WrappingAlgorithm":"RSAES_OAEP_SHA_1","WrappingKeySpec":"RSA_2048"}`},
		"GenerateMac":                     {Body: `{"KeyId":"$hmac","Algorithm":"HMAC_SHA_256","Message":"QUJD"}`},
		"VerifyMac":                       {Body: `{"KeyId":"$hmac","Algorithm":"HMAC_SHA_256","Message":"QUJD","Mac":"QUJD"}`},

		"AsymmetricEncrypt": {Body: `{"KeyId":"$rsa","KeyVersionId":"$rsa_v1","Algorithm":"RSAES_OAEP_SHA_256","Plaintext":"QUJD"}`, NoService: true},
		"AsymmetricDecrypt": {Body: `{"KeyId":"$rsa","KeyVersionId":"$rsa_v1","Algorithm":"RSAES_OAEP_SHA_256","CiphertextBlob":"$block"}`, NoService: true},
		"AsymmetricSign":    {Body: `{"KeyId":"$ec","KeyVersionId":"$ec_v1","Algorithm":"ECDSA_SHA_256","Digest":"$digest64"}`},
		"AsymmetricVerify":  {Body: `{"KeyId":"$ec","KeyVersionId":"$ec_v1","Algorithm":"ECDSA_SHA_256","Digest":"$digest64","Value":"QUJD"}`},
		"GetPublicKey":      {Body: `{"KeyId":"$ec","KeyVersionId":"$ec_v1"}`},

		"CreateKeyVersion":     {Body: `{"KeyId":"$ec"}`},
		"DescribeKeyVersion":   {Body: `{"KeyId":"$aes","KeyVersionId":"$aes_v1"}`},
		"ListKeyVersions":      {Body: `{"KeyId":"$aes"}`},
		"UpdateRotationPolicy": {Body: `{"KeyId":"$aes","EnableAutomaticRotation":true,"RotationInterval":"7d"}`},

		"CreateAlias":        {Body: `{"KeyId":"$aes","AliasName":"alias/$fresh"}`},
		"UpdateAlias":        {Body: `{"KeyId":"$aes","AliasName":"alias/$fresh"}`, Before: `CreateAlias {"KeyId":"$aes2","AliasName":"alias/$fresh"}`},
		"DeleteAlias":        {Body: `{"AliasName":"alias/$fresh"}`, Before: `CreateAlias {"KeyId":"$aes","AliasName":"alias/$fresh"}`},
		"ListAliases":        {Body: `{}`},
		"ListAliasesByKeyId": {Body: `{"KeyId":"$aes"}`},

		"TagResource":      {Body: `{"KeyId":"$aes","Tags":[{"TagKey":"k","TagValue":"v"}]}`},
		"UntagResource":    {Body: `{"KeyId":"$aes","TagKeys":["k"]}`},
		"ListResourceTags": {Body: `{"KeyId":"$aes"}`},
		"TagResources":     {Body: `{"ResourceType":"key","ResourceId":["$aes"],"Tag":[{"Key":"k","Value":"v"}]}`},
		"UntagResources":   {Body: `{"ResourceType":"key","ResourceId":["$aes"],"TagKey":["k"]}`},
		"ListTagResources": {Body: `{"ResourceType":"key"}`},
	},
	New: func(rt *dialect.Route, body string) *http.Request {
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &members); err != nil {
			panic(err)
		}
		query := url.Values{}
		for name, value := range members {
			var text string
			if json.Unmarshal(value, &text) != nil {
				text = string(value)
			}
			query.Set(name, text)
		}
		r := httptest.NewRequest(rt.Method, "http://127.0.0.1/?"+query.Encode(), http.NoBody)
		r.Header.Set("X-Acs-Action", rt.Path)
		r.Header.Set("X-Acs-Version", alibaba.Version)
		return r
	},
	Sign: signACS3,
	Code: func(body []byte) string {
		_, rest, _ := strings.Cut(string(body), `"Code":"`)
		code, _, _ := strings.Cut(rest, `"`)
		return code
	},
	Refused: func(code string) bool {
		return slices.Contains([]string{"IncompleteSignature", "SignatureDoesNotMatch", "Forbidden.NoPermission", "Forbidden.AccessKey"}, code)
	},
	Wrong: func(f *dialect.Field) (values []string, code string) {
		code = map[kms.Code]string{
			kms.CodeInvalidImportToken: "InvalidImportToken", kms.CodeInvalidKeyMaterial: "InvalidKeyMaterial", kms.CodeUnsupported: "UnsupportedOperation",
		}[f.Core]
		if code == "" {
			code = "InvalidParameter"
		}
		for _, value := range dialecttest.Wrong(f) {
			// Every parameter is a text: there are no wrong types where a text is right.
			if f.Kind != dialect.Text && f.Kind != dialect.Base64 || value[0] == '"' {
				values = append(values, value)
			}
		}
		return values, code
	},
}

// signACS3 signs a request as the vendor's SDKs do.
func signACS3(r *http.Request, body, accessKey, secret string, at time.Time) {
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	r.Header.Set("X-Acs-Date", at.UTC().Format("2006-01-02T15:04:05Z"))
	r.Header.Set("X-Acs-Signature-Nonce", "nonce")
	r.Header.Set("X-Acs-Content-Sha256", digest(""))
	names := []string{"content-type", "host", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-signature-nonce", "x-acs-version"}
	canonical := r.Method + "\n/\n" + strings.NewReplacer("+", "%20", "*", "%2A").Replace(r.URL.Query().Encode()) + "\n"
	for _, name := range names {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		canonical += name + ":" + value + "\n"
	}
	canonical += "\n" + strings.Join(names, ";") + "\n" + digest("")
	mac := dialect.HMAC(sha256.New, []byte(secret), []byte("ACS3-HMAC-SHA256\n"+digest(canonical)))
	r.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential="+accessKey+",SignedHeaders="+strings.Join(names, ";")+",Signature="+hex.EncodeToString(mac))
}
