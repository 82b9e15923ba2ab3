package sidecar

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/alibaba"
	"github.com/keyside/keyside/sidecar/kms"
)

// alibabaStates are the columns of alibabaMatrix.
var alibabaStates = []string{"Enabled", "Disabled", "PendingDeletion", "PendingImport"}

// alibabaMatrix is the cloud's table of states and actions (Alibaba Cloud KMS, impact of the states of a key on API operations), row by
// row: what each action answers in each state. SMF is Rejected.StateModifiedFailed; a - is for what no key of the kind can be.
const alibabaMatrix = `
DescribeKey                     ok  ok                 ok                        ok
ListKeys                        ok  ok                 ok                        ok
ListAliases                     ok  ok                 ok                        ok
ListAliasesByKeyId              ok  ok                 ok                        ok
DeleteAlias                     ok  ok                 ok                        ok
ListResourceTags                ok  ok                 ok                        ok
DescribeKeyVersion              ok  ok                 ok                        -
ListKeyVersions                 ok  ok                 ok                        ok
Encrypt                         ok  Rejected.Disabled  Rejected.PendingDeletion  Rejected.PendingImport
Decrypt                         ok  Rejected.Disabled  Rejected.PendingDeletion  -
GenerateDataKey                 ok  Rejected.Disabled  Rejected.PendingDeletion  Rejected.PendingImport
GenerateDataKeyWithoutPlaintext ok  Rejected.Disabled  Rejected.PendingDeletion  Rejected.PendingImport
ReEncrypt                       ok  Rejected.Disabled  Rejected.PendingDeletion  -
EnableKey                       ok  ok                 SMF                       SMF
DisableKey                      ok  ok                 SMF                       SMF
ScheduleKeyDeletion             ok  ok                 SMF                       ok
CancelKeyDeletion               SMF SMF                ok                        SMF
UpdateKeyDescription            ok  ok                 Rejected.PendingDeletion  ok
TagResource                     ok  ok                 Rejected.PendingDeletion  ok
UntagResource                   ok  ok                 Rejected.PendingDeletion  ok
CreateAlias                     ok  ok                 SMF                       ok
UpdateAlias                     ok  ok                 Rejected.PendingDeletion  ok
CreateKeyVersion                ok  Rejected.Disabled  Rejected.PendingDeletion  -
UpdateRotationPolicy            ok  Rejected.Disabled  Rejected.PendingDeletion  Rejected.PendingImport
GetParametersForImport          ok  ok                 ok                        ok
ImportKeyMaterial               ok  ok                 SMF                       ok
DeleteKeyMaterial               ok  ok                 ok                        ok
AsymmetricSign                  ok  Rejected.Disabled  Rejected.PendingDeletion  -
GetPublicKey                    ok  Rejected.Disabled  Rejected.PendingDeletion  -
SetDeletionProtection           ok  ok                 Rejected.PendingDeletion  ok
`

// alibabaAfter are the states that actions leave, where they change one: by action and state before.
var alibabaAfter = map[string]string{
	"EnableKey/Disabled": "Enabled", "DisableKey/Enabled": "Disabled", "ScheduleKeyDeletion/Enabled": "PendingDeletion",
	"ScheduleKeyDeletion/Disabled": "PendingDeletion", "ScheduleKeyDeletion/PendingImport": "PendingDeletion",
	"CancelKeyDeletion/PendingDeletion": "Enabled", "ImportKeyMaterial/PendingImport": "Enabled", "DeleteKeyMaterial/Enabled": "PendingImport",
	"DeleteKeyMaterial/Disabled": "PendingImport",
}

// TestAlibabaMatrix does every action of the table with a key in every state, and looks at the state afterwards.
func TestAlibabaMatrix(t *testing.T) {
	w := newRightsWorld(t)
	for row := range strings.Lines(strings.TrimSpace(alibabaMatrix)) {
		cells := strings.Fields(row)
		for i, state := range alibabaStates {
			want := strings.Replace(cells[1+i], "SMF", "Rejected.StateModifiedFailed", 1)
			if want == "-" {
				continue
			}
			w.words = map[string]string{}
			w.renew()
			w.keyIn(cells[0], state)
			got := w.alibaba(cells[0], alibabaSuite.Requests[cells[0]].Body, nil)
			if got == "" {
				got = "ok"
			}
			if got != want {
				t.Errorf("%s in %s: %s, want %s", cells[0], state, got, want)
			}
			after := alibabaAfter[cells[0]+"/"+state]
			if after == "" {
				after = state
			}
			var described struct{ KeyMetadata struct{ KeyState string } }
			if w.alibaba("DescribeKey", `{"KeyId":"$key"}`, &described); described.KeyMetadata.KeyState != after {
				t.Errorf("%s in %s leaves %s, want %s", cells[0], state, described.KeyMetadata.KeyState, after)
			}
		}
	}
}

// keyIn makes the key that the request of an action names, in a state, as the words of that request and as $key.
func (w *rightsWorld) keyIn(action, state string) {
	w.Helper()
	word := "aes"
	switch {
	case strings.Contains(action, "KeyMaterial") || action == "GetParametersForImport":
		word = "external"
	case strings.HasPrefix(action, "Asymmetric"), action == "GetPublicKey", action == "CreateKeyVersion":
		word = "ec"
	}
	if word != "external" && state == "PendingImport" {
		w.words[word] = w.make("external")
	}
	w.words["key"] = w.word(word)
	if word == "external" && (state != "PendingImport" || action == "ImportKeyMaterial") {
		w.word("token64")
		if state != "PendingImport" {
			w.must("ImportKeyMaterial", alibabaSuite.Requests["ImportKeyMaterial"].Body)
		}
	}
	for _, need := range []string{"cipher", "aes2"} {
		if strings.Contains(alibabaSuite.Requests[action].Body, "$"+need) {
			w.word(need)
		}
	}
	if before, body, ok := strings.Cut(alibabaSuite.Requests[action].Before, " "); ok && strings.HasSuffix(before, "Alias") {
		w.must(before, body)
	}
	switch state {
	case "Disabled":
		w.must("DisableKey", `{"KeyId":"$key"}`)
	case "PendingDeletion":
		w.must("ScheduleKeyDeletion", `{"KeyId":"$key","PendingWindowInDays":7}`)
	}
}

// must does an action that must succeed.
func (w *rightsWorld) must(action, body string) {
	w.Helper()
	if code := w.alibaba(action, body, nil); code != "" {
		w.Fatalf("%s %s: %s", action, body, code)
	}
}

// alibaba does an action as the owner and returns the code of an error. It decodes the answer into out, unless that is nil.
func (w *rightsWorld) alibaba(action, body string, out any) (code string) {
	w.Helper()
	answer := w.alibabaAnswer(action, body)
	if out != nil {
		if err := json.Unmarshal(answer.Body.Bytes(), out); err != nil {
			w.Fatal(err)
		}
	}
	return alibabaSuite.Code(answer.Body.Bytes())
}

func (w *rightsWorld) alibabaAnswer(action, body string) *httptest.ResponseRecorder {
	w.Helper()
	i := slices.IndexFunc(alibabaSuite.Routes, func(rt dialect.Route) bool { return rt.Path == action })
	if i < 0 {
		w.Fatalf("no action %s", action)
	}
	text := os.Expand(body, func(name string) string {
		if key, ok := strings.CutSuffix(name, "_v1"); ok {
			return alibaba.VersionID(must(kms.ParseKeyID(w.word(key))), 1)
		}
		return w.word(name)
	})
	return w.askSuite(&alibabaSuite, &alibabaSuite.Routes[i], rightsCallers[0], text)
}

// TestAlibabaTexts encrypts what clients send as Plaintext, and opens each in both of the dialects.
func TestAlibabaTexts(t *testing.T) {
	w := newRightsWorld(t)
	w.words = map[string]string{}
	for sent, bytes := range map[string]string{
		"YXR0YWNr": "attack", "attack at dawn": "attack at dawn", "QUJD\n": "QUJD\n", "QUI": "QUI", "QUJ=": "QUJ=", "größe": "größe", "a": "a",
		"AAEC": "\x00\x01\x02", "\u2028<&>": "\u2028<&>",
	} {
		for _, context := range []string{`{}`, `{"a":"b","c.d":"e"}`} {
			var sealed, opened struct {
				CiphertextBlob, Plaintext string
				Version                   string `json:"KeyVersionId"`
			}
			body := fmt.Sprintf(`{"KeyId":"$aes","Plaintext":%s,"EncryptionContext":%s}`, must(json.Marshal(sent)), context)
			if code := w.alibaba("Encrypt", body, &sealed); code != "" {
				t.Fatalf("%q: %s", sent, code)
			}
			body = fmt.Sprintf(`{"CiphertextBlob":%q,"EncryptionContext":%s}`, sealed.CiphertextBlob, context)
			if code := w.alibaba("Decrypt", body, &opened); code != "" || opened.Plaintext != sent || opened.Version != sealed.Version {
				t.Errorf("%q comes back as %q, %s", sent, opened.Plaintext, code)
			}
			var huawei struct {
				Text []byte `json:"plain_text_base64"`
			}
			w.owner("POST", "decrypt-data", fmt.Sprintf(`{"cipher_text":%q,"encryption_context":%s}`, sealed.CiphertextBlob, context), &huawei)
			if string(huawei.Text) != bytes {
				t.Errorf("%q is %q in the other dialect", sent, huawei.Text)
			}
			if context != "{}" {
				w.expectCode("InvalidParameter", "Decrypt", fmt.Sprintf(`{"CiphertextBlob":%q}`, sealed.CiphertextBlob))
				w.expectCode("", "Decrypt", fmt.Sprintf(`{"CiphertextBlob":%q,"EncryptionContext.a":"b","EncryptionContext.c.d":"e"}`, sealed.CiphertextBlob))
			}
		}
	}
}

func (w *rightsWorld) expectCode(code, action, body string) {
	w.Helper()
	if got := w.alibaba(action, body, nil); got != code {
		w.Errorf("%s %s: %q, want %q", action, body, got, code)
	}
}

// TestAlibabaDryRuns tries every action that can be a dry run: it always fails, does nothing, and says why.
func TestAlibabaDryRuns(t *testing.T) {
	w := newRightsWorld(t)
	w.words = map[string]string{}
	tried := 0
	for _, rt := range alibabaSuite.Routes {
		if len(rt.Fields) == 0 || rt.Fields[0].Name != "DryRun" {
			continue
		}
		tried++
		body := strings.Replace(alibabaSuite.Requests[rt.Path].Body, "{", `{"DryRun":true,`, 1)
		w.expectCode("DryRunOperationError", rt.Path, body)
		answer := w.alibabaAnswer(rt.Path, body)
		for _, member := range []string{"Plaintext", "CiphertextBlob", "Value", "Mac", "PublicKey", "ExportedDataKey"} {
			if strings.Contains(answer.Body.String(), `"`+member+`"`) {
				t.Errorf("%s answers %s", rt.Path, answer.Body)
			}
		}
	}
	if tried != 14 {
		t.Errorf("%d actions have DryRun", tried)
	}
	w.must("DisableKey", `{"KeyId":"$aes"}`)
	w.expectCode("ValidationError", "Encrypt", `{"KeyId":"$aes","Plaintext":"x","DryRun":true}`)
	w.expectCode("ValidationError", "Encrypt", `{"KeyId":"$aes","DryRun":true}`)
	w.expectCode("ValidationError", "Encrypt", `{"KeyId":"unknown","Plaintext":"x","DryRun":true}`)
	w.expectCode("Rejected.Disabled", "Encrypt", `{"KeyId":"$aes","Plaintext":"x","DryRun":false}`)
	i := slices.IndexFunc(alibabaSuite.Routes, func(rt dialect.Route) bool { return rt.Path == "Encrypt" })
	nobody := rightsCaller{uid: 12}
	answer := w.askSuite(&alibabaSuite, &alibabaSuite.Routes[i], nobody, `{"DryRun":true,"KeyId":"`+w.word("aes2")+`","Plaintext":"x"}`)
	if code := alibabaSuite.Code(answer.Body.Bytes()); code != "Forbidden.NoPermission" { // it is no principal: no field was read
		t.Errorf("a caller without a name: %s", code)
	}
	plain := rightsCaller{uid: 6}
	answer = w.askSuite(&alibabaSuite, &alibabaSuite.Routes[i], plain, `{"DryRun":true,"KeyId":"`+w.word("aes2")+`","Plaintext":"x"}`)
	if code := alibabaSuite.Code(answer.Body.Bytes()); code != "AccessDeniedError" {
		t.Errorf("a caller without rights: %s", code)
	}
}

// TestAlibabaFormats asks for answers in XML.
func TestAlibabaFormats(t *testing.T) {
	w := newRightsWorld(t)
	w.words = map[string]string{}
	w.must("TagResource", `{"KeyId":"$aes","Tags":[{"TagKey":"a","TagValue":"a&b"},{"TagKey":"b","TagValue":""}]}`)
	answer := w.alibabaAnswer("ListResourceTags", `{"KeyId":"$aes","Format":"xml"}`)
	id := answer.Header().Get("X-Request-Id")
	want := `<?xml version="1.0" encoding="UTF-8"?>` + "\n<ListResourceTagsResponse><Tags><Tag><KeyId>" + w.word("aes") + "</KeyId><TagKey>a</TagKey><TagValue>a&amp;b</TagValue></Tag>" +
		"<Tag><KeyId>" + w.word("aes") + "</KeyId><TagKey>b</TagKey><TagValue></TagValue></Tag></Tags><RequestId>" + id + "</RequestId></ListResourceTagsResponse>"
	if got := answer.Body.String(); got != want || answer.Header().Get("Content-Type") != "text/xml;charset=utf-8" {
		t.Errorf("%s %s\nwant %s", answer.Header().Get("Content-Type"), got, want)
	}
	answer = w.alibabaAnswer("DescribeKey", `{"KeyId":"unknown","Format":"XML"}`)
	id = answer.Header().Get("X-Request-Id")
	want = `<?xml version="1.0" encoding="UTF-8"?>` + "\n<KMS><RequestId>" + id + "</RequestId><HttpStatus>404</HttpStatus><Code>Forbidden.KeyNotFound</Code>" +
		"<Message>KeyId: is no key&#39;s</Message></KMS>"
	if got := answer.Body.String(); got != want || answer.Code != 404 {
		t.Errorf("%d %s\nwant %s", answer.Code, got, want)
	}
	answer = w.alibabaAnswer("DescribeKey", `{"KeyId":"unknown","Format":"json"}`)
	id = answer.Header().Get("X-Request-Id")
	if got := answer.Body.String(); got != `{"RequestId":"`+id+`","HttpStatus":404,"Code":"Forbidden.KeyNotFound","Message":"KeyId: is no key's"}` || answer.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s", got)
	}
}

// TestAlibabaRefusals sends what the cloud takes and Keyside does not honor, and what neither takes.
func TestAlibabaRefusals(t *testing.T) {
	w := newRightsWorld(t)
	w.words = map[string]string{}
	for _, c := range []struct{ code, action, body string }{
		{"InvalidParameter", "CreateKey", `{"Unknown":"x"}`},
		{"UnsupportedOperation", "CreateKey", `{"Policy":"{}"}`}, {"", "CreateKey", `{"Policy":""}`},
		{"UnsupportedOperation", "CreateKey", `{"KeyStorageMechanism":"HsmInternal"}`}, {"", "CreateKey", `{"KeyStorageMechanism":"HsmEncryptedDatabase"}`},
		{"Unsupported.ProtectionLevel", "CreateKey", `{"ProtectionLevel":"HSM"}`}, {"", "CreateKey", `{"ProtectionLevel":"SOFTWARE"}`},
		{"", "CreateKey", `{"ProtectionLevel":"HSM","DKMSInstanceId":"kst-1"}`}, {"Unsupported.ProtectionLevel", "CreateKey", `{"ProtectionLevel":"HSM","Origin":"EXTERNAL"}`},
		{"InvalidParameter", "CreateKey", `{"KeySpec":"EC_SM2"}`}, {"InvalidParameter", "CreateKey", `{"KeySpec":"Aliyun_SM4"}`},
		{"InvalidParameter", "CreateKey", `{"KeySpec":"Aliyun_AES_128"}`}, {"InvalidParameter", "CreateKey", `{"Origin":"external"}`},
		{"UnsupportedOperation", "CreateKey", `{"Origin":"EXTERNAL","KeySpec":"RSA_2048","DKMSInstanceId":"kst-1"}`},
		{"MissingParameter", "CreateKey", `{"EnableAutomaticRotation":true}`}, {"InvalidParameter", "CreateKey", `{"RotationInterval":"30d"}`},
		{"InvalidParameter", "CreateKey", `{"EnableAutomaticRotation":true,"RotationInterval":"6d"}`}, {"", "CreateKey", `{"EnableAutomaticRotation":true,"RotationInterval":"730d"}`},
		{"InvalidParameter", "CreateKey", `{"EnableAutomaticRotation":true,"RotationInterval":"731d"}`}, {"InvalidParameter", "CreateKey", `{"EnableAutomaticRotation":true,"RotationInterval":"169h"}`},
		{"Unsupported.Origin", "CreateKey", `{"Origin":"EXTERNAL","EnableAutomaticRotation":true,"RotationInterval":"30d"}`},
		{"InvalidParameter", "CreateKey", `{"Tags":[{"TagKey":"acs:x"}]}`}, {"InvalidParameter", "CreateKey", `{"KeyUsage":"SIGN/VERIFY"}`},
		{"UnsupportedOperation", "GenerateDataKey", `{"KeyId":"$aes","Recipient":"x"}`}, {"", "GenerateDataKey", `{"KeyId":"$aes","Recipient":""}`},
		{"Unsupported.Alias", "EnableKey", `{"KeyId":"alias/x"}`}, {"Forbidden.AliasNotFound", "DescribeKey", `{"KeyId":"alias/x"}`},
		{"Forbidden.KeyNotFound", "DescribeKey", `{"KeyId":"0a1b2c3d-0a1b-4a1b-8a1b-0a1b2c3d4e5f"}`}, {"", "DescribeKey", `{"KeyId":"acs:kms:any:1:key/$aes"}`},
		{"Forbidden.KeyVersionNotFound", "DescribeKeyVersion", `{"KeyId":"$aes","KeyVersionId":"$aes2_v1"}`}, {"Forbidden.KeyVersionNotFound", "DescribeKeyVersion", `{"KeyId":"$aes","KeyVersionId":"$aes"}`},
		{"UnsupportedOperation", "AsymmetricSign", `{"KeyId":"$aes","KeyVersionId":"$aes_v1","Algorithm":"ECDSA_SHA_256","Digest":"$digest64"}`},
		{"InvalidParameter", "AsymmetricSign", `{"KeyId":"$ec","KeyVersionId":"$ec_v1","Algorithm":"RSA_PSS_SHA_256","Digest":"$digest64"}`},
		{"InvalidParameter", "AsymmetricSign", `{"KeyId":"$ec","KeyVersionId":"$ec_v1","Algorithm":"ECDSA_SHA_256","Digest":"QUJD"}`},
		{"InvalidParameter", "Decrypt", `{"CiphertextBlob":"QUJD"}`}, {"UnsupportedOperation", "UntagResources", `{"ResourceType":"key","ResourceId":["$aes"],"TagKey":["k"],"All":"true"}`},
		{"UnsupportedOperation", "ListTagResources", `{"ResourceType":"secret"}`}, {"UnsupportedOperation", "ListKmsInstances", `{"Filters":"[]"}`},
		{"InvalidParameter", "ImportKeyMaterial", `{"KeyId":"$external","ImportToken":"$token64","EncryptedKeyMaterial":"$material64","KeyMaterialExpireUnix":1}`},
		{"InvalidImportToken", "ImportKeyMaterial", `{"KeyId":"$external","ImportToken":"QUJD","EncryptedKeyMaterial":"$material64"}`},
		{"InvalidKeyMaterial", "ImportKeyMaterial", `{"KeyId":"$external","ImportToken":"$token64","EncryptedKeyMaterial":"QUJD"}`},
		{"Unsupported.Origin", "GetParametersForImport", `{"KeyId":"$aes","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`},
		{"InvalidParameter", "GetParametersForImport", `{"KeyId":"$external","WrappingAlgorithm":"SM2PKE","WrappingKeySpec":"EC_SM2"}`},
		{"InvalidParameter", "ExportDataKey", `{"CiphertextBlob":"$blob64","PublicKeyBlob":"QUJD","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`},
		{"InvalidParameter", "ExportDataKey", `{"CiphertextBlob":"$cipher","PublicKeyBlob":"$public64","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`},
		{"Forbidden.DKMSInstanceNotFound", "GetKmsInstance", `{"KmsInstanceId":"kst-2"}`}, {"MissingParameter", "SetDeletionProtection", `{"EnableDeletionProtection":true}`},
		{"UnsupportedOperation", "SetDeletionProtection", `{"EnableDeletionProtection":true,"KmsInstanceId":"kst-1"}`},
	} {
		w.expectCode(c.code, c.action, c.body)
	}
}
