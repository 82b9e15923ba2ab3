package sidecar

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/dialecttest"
	"github.com/keyside/keyside/sidecar/dialect/tencent"
)

// tencentSuite is Tencent Cloud's dialect for TestSuites.
var tencentSuite = dialecttest.Suite{
	Registration: tencent.Registration, Routes: tencent.Routes(), New: tencentRequest, Sign: signTC3, Code: tencentCode,
	Malformed: "InvalidParameter", Missing: "MissingParameter",
	ErrorStatus: http.StatusOK, Refused: func(code string) bool {
		return code == "UnauthorizedOperation" || strings.HasPrefix(code, "AuthFailure.")
	},
	Requests: map[string]dialecttest.Request{
		"CreateKey":            {Body: `{"Alias":"$fresh","Type":2,"Tags":[{"TagKey":"k","TagValue":"v"}]}`},
		"DescribeKey":          {Body: `{"KeyId":"$aes"}`},
		"DescribeKeys":         {Body: `{"KeyIds":["$aes"]}`},
		"ListKeys":             {Body: `{}`},
		"ListKeyDetail":        {Body: `{"KeyUsage":"ALL"}`},
		"EnableKey":            {Body: `{"KeyId":"$aes"}`},
		"EnableKeys":           {Body: `{"KeyIds":["$aes"]}`},
		"DisableKey":           {Body: `{"KeyId":"$aes"}`},
		"DisableKeys":          {Body: `{"KeyIds":["$aes"]}`},
		"ArchiveKey":           {Body: `{"KeyId":"$aes"}`},
		"CancelKeyArchive":     {Body: `{"KeyId":"$aes"}`, Before: `ArchiveKey {"KeyId":"$aes"}`},
		"ScheduleKeyDeletion":  {Body: `{"KeyId":"$aes","PendingWindowInDays":7}`, Before: `CancelKeyDeletion {"KeyId":"$aes"}` + "\n" + `DisableKey {"KeyId":"$aes"}`},
		"CancelKeyDeletion":    {Body: `{"KeyId":"$aes"}`, Before: `DisableKey {"KeyId":"$aes"}` + "\n" + `ScheduleKeyDeletion {"KeyId":"$aes","PendingWindowInDays":7}`},
		"UpdateAlias":          {Body: `{"Alias":"$fresh","KeyId":"$aes"}`},
		"UpdateKeyDescription": {Body: `{"Description":"","KeyId":"$aes"}`},

		"GetParametersForImport":    {Body: `{"KeyId":"$external","WrappingAlgorithm":"RSAES_OAEP_SHA_1","WrappingKeySpec":"RSA_2048"}`},
		"ImportKeyMaterial":         {Body: `{"KeyId":"$external",$tencentmaterial}`},
		"DeleteImportedKeyMaterial": {Body: `{"KeyId":"$external"}`},

		"Encrypt":         {Body: `{"KeyId":"$aes","Plaintext":"eA=="}`},
		"Decrypt":         {Body: `{"CiphertextBlob":"$cipher"}`},
		"ReEncrypt":       {Body: `{"CiphertextBlob":"$cipher","DestinationKeyId":"$aes2"}`},
		"GenerateDataKey": {Body: `{"KeyId":"$aes","KeySpec":"AES_128"}`},
		"GenerateRandom":  {Body: `{"NumberOfBytes":8}`},

		"GetPublicKey":          {Body: `{"KeyId":"$ec"}`},
		"AsymmetricRsaDecrypt":  {Body: `{"KeyId":"$rsa","Ciphertext":"$rsacipher","Algorithm":"RSAES_OAEP_SHA_256"}`, NoService: true},
		"SignByAsymmetricKey":   {Body: `{"KeyId":"$ec","Algorithm":"ECC_P256_R1","Message":"QUJD"}`},
		"VerifyByAsymmetricKey": {Body: `{"KeyId":"$ec","Algorithm":"ECC_P256_R1","Message":"QUJD","SignatureValue":"$signature"}`},
		"ListAlgorithms":        {Body: `{}`},

		"EnableKeyRotation":             {Body: `{"KeyId":"$aes","RotateDays":7}`},
		"DisableKeyRotation":            {Body: `{"KeyId":"$aes"}`},
		"GetKeyRotationStatus":          {Body: `{"KeyId":"$aes"}`},
		"RotateKey":                     {Body: `{"KeyId":"$own"}`, Before: `EnableKeyRotation {"KeyId":"$own"}`},
		"GetRegions":                    {Body: `{}`},
		"GetServiceStatus":              {Body: `{}`},
		"DescribeWhiteBoxServiceStatus": {Body: `{}`},
	},
}

func tencentRequest(rt *dialect.Route, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/", strings.NewReader(body))
	r.Header.Set("X-TC-Action", rt.Path)
	r.Header.Set("X-TC-Version", "2019-01-18")
	return r
}

// signTC3 signs a request as the cloud's SDKs do.
func signTC3(r *http.Request, body, accessKey, secret string, at time.Time) {
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	chain := func(key []byte, text string) []byte {
		mac := hmac.New(sha256.New, key)
		_, _ = io.WriteString(mac, text)
		return mac.Sum(nil)
	}
	stamp, date := strconv.FormatInt(at.Unix(), 10), at.UTC().Format("2006-01-02")
	canonical := strings.Join([]string{
		r.Method, "/", r.URL.RawQuery, "content-type:" + r.Header.Get("Content-Type") + "\nhost:" + r.Host + "\n", "content-type;host", digest(body),
	}, "\n")
	text := strings.Join([]string{"TC3-HMAC-SHA256", stamp, date + "/kms/tc3_request", digest(canonical)}, "\n")
	key := chain(chain(chain([]byte("TC3"+secret), date), "kms"), "tc3_request")
	r.Header.Set("X-TC-Timestamp", stamp)
	r.Header.Set("Authorization", "TC3-HMAC-SHA256 Credential="+accessKey+"/"+date+"/kms/tc3_request, SignedHeaders=content-type;host, Signature="+
		hex.EncodeToString(chain(key, text)))
}

// tencentCode returns the code of an error, empty for an answer that is none.
func tencentCode(body []byte) string {
	var answer struct {
		Response struct{ Error struct{ Code string } }
	}
	if json.Unmarshal(body, &answer) != nil {
		return "not JSON"
	}
	return answer.Response.Error.Code
}
