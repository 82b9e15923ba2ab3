package sdk

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	alikms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"
	oldsdk "github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	olderrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
)

// caller does one action with the members of a JSON object, and returns the members of the answer, or the code of an error.
type caller func(action, members string) (answer map[string]any, code string)

// newAlibaba returns the vendor's newer SDK, whose typed methods are found by their names. version is that of the signature: empty for
// ACS3, or v4.
func newAlibaba(t *testing.T, version string, socket bool) caller {
	c := newCredential(t, "alibaba")
	config := &openapi.Config{
		AccessKeyId: tea.String(c.AccessKey), AccessKeySecret: tea.String(c.SecretKey), Protocol: tea.String("HTTP"),
		Endpoint: tea.String(strings.TrimPrefix(target.url, "http://")), RegionId: tea.String("cn-hangzhou"),
	}
	if version != "" {
		config.SignatureVersion = tea.String(version)
	}
	if socket {
		config.HttpClient, config.Endpoint = overSocket{toSocket()}, tea.String("localhost")
	}
	client, err := alikms.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return func(action, members string) (map[string]any, string) {
		t.Helper()
		method := reflect.ValueOf(client).MethodByName(action)
		if !method.IsValid() {
			t.Fatalf("the SDK has no action %s", action)
		}
		var in []reflect.Value
		if method.Type().NumIn() == 1 {
			request := reflect.New(method.Type().In(0).Elem())
			if err := json.Unmarshal([]byte(members), request.Interface()); err != nil {
				t.Fatal(action, err)
			}
			in = append(in, request)
		}
		out := method.Call(in)
		if err, _ := out[1].Interface().(error); err != nil {
			return nil, codeOfSDK(t, err)
		}
		return decoded(t, must(json.Marshal(out[0].Elem().FieldByName("Body").Interface())))
	}
}

// overSocket sends the SDK's requests over the Unix socket.
type overSocket struct{ transport *http.Transport }

// Call implements dara.HttpClient.
func (o overSocket) Call(r *http.Request, _ *http.Transport) (*http.Response, error) {
	return o.transport.RoundTrip(r)
}

var _ dara.HttpClient = overSocket{}

func codeOfSDK(t *testing.T, err error) string {
	t.Helper()
	var e *tea.SDKError
	var d dara.BaseError
	switch {
	case errors.As(err, &e):
		return tea.StringValue(e.Code)
	case errors.As(err, &d):
		return tea.StringValue(d.GetCode())
	}
	t.Fatalf("%T: %v", err, err)
	return ""
}

// newOldAlibaba returns the vendor's older SDK, which signs with HMAC-SHA1, in the query or in a form.
func newOldAlibaba(t *testing.T, method string, socket bool) caller {
	c := newCredential(t, "alibaba-old")
	client, err := oldsdk.NewClientWithAccessKey("cn-hangzhou", c.AccessKey, c.SecretKey)
	if err != nil {
		t.Fatal(err)
	}
	domain := strings.TrimPrefix(target.url, "http://")
	if socket {
		client.SetTransport(struct{ http.RoundTripper }{toSocket()}) // it would set the dialer of an http.Transport
		domain = "localhost"
	}
	return func(action, members string) (map[string]any, string) {
		t.Helper()
		r := requests.NewCommonRequest()
		r.Method, r.Domain, r.Scheme, r.Version, r.ApiName = method, domain, "http", "2016-01-20", action
		var fields map[string]any
		in := json.NewDecoder(strings.NewReader(members))
		in.UseNumber()
		if err := in.Decode(&fields); err != nil {
			t.Fatal(action, err)
		}
		into := r.QueryParams
		if method == http.MethodPost {
			into = r.FormParams
		}
		delete(fields, "RegionId") // which the SDK adds by itself
		for name, value := range fields {
			flatten(into, name, value)
		}
		out, err := client.ProcessCommonRequest(r)
		var e *olderrors.ServerError
		if errors.As(err, &e) {
			return nil, e.ErrorCode()
		}
		if err != nil {
			t.Fatal(action, err)
		}
		return decoded(t, out.GetHttpContentBytes())
	}
}

// flatten writes a value as parameters: lists by indexes from 1, objects as JSON.
func flatten(into map[string]string, name string, value any) {
	switch value := value.(type) {
	case []any:
		for i, element := range value {
			flatten(into, fmt.Sprintf("%s.%d", name, i+1), element)
		}
	case map[string]any:
		if strings.Contains(name, ".") {
			for member, v := range value {
				flatten(into, name+"."+member, v)
			}
			return
		}
		into[name] = string(must(json.Marshal(value)))
	default:
		into[name] = fmt.Sprint(value)
	}
}

func decoded(t *testing.T, text []byte) (answer map[string]any, code string) {
	t.Helper()
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatal(err)
	}
	if answer["RequestId"] == "" {
		t.Errorf("answer without a RequestId: %s", text)
	}
	return answer, ""
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// aliWalk calls every action once or more.
type aliWalk struct {
	*testing.T
	call   caller
	called map[string]bool
}

// do does an action that must succeed; expect is one that must fail with a code.
func (w *aliWalk) do(action, members string, args ...any) map[string]any {
	w.Helper()
	w.called[action] = true
	answer, code := w.call(action, fmt.Sprintf(members, args...))
	if code != "" {
		w.Fatalf("%s %s: %s", action, fmt.Sprintf(members, args...), code)
	}
	return answer
}

func (w *aliWalk) expect(code, action, members string, args ...any) {
	w.Helper()
	if _, got := w.call(action, fmt.Sprintf(members, args...)); got != code {
		w.Errorf("%s %s: %q, want %s", action, fmt.Sprintf(members, args...), got, code)
	}
}

// member returns a text in an answer, by its path.
func member(answer map[string]any, path ...string) string {
	for _, name := range path[:len(path)-1] {
		answer, _ = answer[name].(map[string]any)
	}
	s, _ := answer[path[len(path)-1]].(string)
	return s
}

func (w *aliWalk) create(members string) string {
	w.Helper()
	return member(w.do("CreateKey", "%s", members), "KeyMetadata", "KeyId")
}

func (w *aliWalk) version(key string) string {
	w.Helper()
	versions := w.do("ListKeyVersions", `{"KeyId":%q}`, key)["KeyVersions"].(map[string]any)["KeyVersion"].([]any)
	return versions[len(versions)-1].(map[string]any)["KeyVersionId"].(string)
}

// TestAlibaba calls every action through the vendor's SDKs, under each of their signatures, on localhost and on the Unix socket.
func TestAlibaba(t *testing.T) {
	for name, connect := range map[string]func(t *testing.T) caller{
		"acs3":        func(t *testing.T) caller { return newAlibaba(t, "", false) },
		"acs4":        func(t *testing.T) caller { return newAlibaba(t, "v4", false) },
		"acs3-socket": func(t *testing.T) caller { return newAlibaba(t, "", true) },
		"old-get":     func(t *testing.T) caller { return newOldAlibaba(t, http.MethodGet, false) },
		"old-form":    func(t *testing.T) caller { return newOldAlibaba(t, http.MethodPost, false) },
		"old-socket":  func(t *testing.T) caller { return newOldAlibaba(t, http.MethodGet, true) },
	} {
		t.Run(name, func(t *testing.T) {
			w := &aliWalk{t, connect(t), map[string]bool{}}
			w.symmetric()
			w.asymmetric()
			w.imports()
			w.lists(name)
			for _, action := range alibabaActions(t) {
				if !w.called[action] {
					t.Errorf("%s was not called", action)
				}
			}
		})
	}
}

// alibabaActions are the actions in the documented table of operations.
func alibabaActions(t *testing.T) (actions []string) {
	t.Helper()
	column := -1
	for line := range strings.Lines(string(must(readOperations()))) {
		cells := strings.Split(line, "|")
		if i := slices.Index(cells, " Alibaba Cloud "); i >= 0 {
			column = i
		} else if column > 0 && len(cells) > column {
			for _, cell := range strings.Split(cells[column], ",") {
				if action := strings.Trim(cell, " `"); strings.HasPrefix(strings.TrimSpace(cell), "`") {
					actions = append(actions, action)
				}
			}
		}
	}
	if len(actions) < 40 {
		t.Fatalf("the table has %d actions", len(actions))
	}
	return actions
}

func (w *aliWalk) symmetric() {
	key := w.create(`{"Description":"größe <1+2>"}`)
	for _, plain := range []string{base64.StdEncoding.EncodeToString([]byte{0, 255, 7}), "attack at dawn *~+", "größe"} {
		sealed := w.do("Encrypt", `{"KeyId":%q,"Plaintext":%q,"EncryptionContext":{"stage":"a b*~"}}`, key, plain)
		opened := w.do("Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":{"stage":"a b*~"}}`, member(sealed, "CiphertextBlob"))
		if member(opened, "Plaintext") != plain || member(opened, "KeyId") != key || member(opened, "KeyVersionId") != member(sealed, "KeyVersionId") {
			w.Errorf("%q was decrypted as %v", plain, opened)
		}
		w.expect("InvalidParameter", "Decrypt", `{"CiphertextBlob":%q}`, member(sealed, "CiphertextBlob"))
		w.expect("DryRunOperationError", "Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":{"stage":"a b*~"},"DryRun":"true"}`, member(sealed, "CiphertextBlob"))
	}
	dataKey := w.do("GenerateDataKey", `{"KeyId":%q,"KeySpec":"AES_128"}`, key)
	if got := w.do("Decrypt", `{"CiphertextBlob":%q}`, member(dataKey, "CiphertextBlob")); member(got, "Plaintext") != member(dataKey, "Plaintext") {
		w.Errorf("data key: %v", got)
	}
	sealed := w.do("GenerateDataKeyWithoutPlaintext", `{"KeyId":%q,"NumberOfBytes":24}`, key)
	other := w.create(`{}`)
	moved := w.do("ReEncrypt", `{"CiphertextBlob":%q,"DestinationKeyId":%q,"DestinationEncryptionContext":{"a":"b"}}`, member(sealed, "CiphertextBlob"), other)
	if member(moved, "KeyId") != other {
		w.Errorf("re-encrypted under %v", moved)
	}
	exporter := must(rsa.GenerateKey(rand.Reader, 2048))
	public := base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(&exporter.PublicKey)))
	const export = `"PublicKeyBlob":%q,"WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`
	exported := w.do("ExportDataKey", `{"CiphertextBlob":%q,"EncryptionContext":{"a":"b"},`+export, member(moved, "CiphertextBlob"), public)
	opened := w.do("Decrypt", `{"CiphertextBlob":%q,"EncryptionContext":{"a":"b"}}`, member(moved, "CiphertextBlob"))
	plain, err := rsa.DecryptOAEP(sha256.New(), nil, exporter, must(base64.StdEncoding.DecodeString(member(exported, "ExportedDataKey"))), nil)
	if err != nil || base64.StdEncoding.EncodeToString(plain) != member(opened, "Plaintext") || len(plain) != 24 {
		w.Errorf("exported %d bytes, %v", len(plain), err)
	}
	w.do("GenerateAndExportDataKey", `{"KeyId":%q,`+export, key, public)
	w.do("UpdateKeyDescription", `{"KeyId":%q,"Description":"other"}`, key)
	w.do("UpdateRotationPolicy", `{"KeyId":%q,"EnableAutomaticRotation":true,"RotationInterval":"7d"}`, key)
	w.do("SetDeletionProtection", `{"ProtectedResourceArn":"acs:kms:cn-hangzhou:1:key/%s","EnableDeletionProtection":true,"DeletionProtectionDescription":"why"}`, key)
	w.expect("Rejected.StateModifiedFailed", "ScheduleKeyDeletion", `{"KeyId":%q,"PendingWindowInDays":7}`, key)
	info := w.do("DescribeKey", `{"KeyId":%q}`, key)["KeyMetadata"].(map[string]any)
	for name, want := range map[string]string{
		"KeyState": "Enabled", "KeySpec": "Aliyun_AES_256", "KeyUsage": "ENCRYPT/DECRYPT", "Origin": "Aliyun_KMS", "Description": "other",
		"AutomaticRotation": "Enabled", "RotationInterval": "604800s", "DeletionProtection": "Enabled", "DeletionProtectionDescription": "why",
		"PrimaryKeyVersion": w.version(key), "DeleteDate": "", "MaterialExpireTime": "",
	} {
		if info[name] != want {
			w.Errorf("%s is %v, want %s", name, info[name], want)
		}
	}
	w.do("SetDeletionProtection", `{"ProtectedResourceArn":%q,"EnableDeletionProtection":false}`, "acs:kms:::key/"+key)
	w.do("DisableKey", `{"KeyId":%q}`, key)
	w.expect("Rejected.Disabled", "Encrypt", `{"KeyId":%q,"Plaintext":"x"}`, key)
	w.do("ScheduleKeyDeletion", `{"KeyId":%q,"PendingWindowInDays":366}`, key)
	w.do("CancelKeyDeletion", `{"KeyId":%q}`, key)
	w.do("EnableKey", `{"KeyId":%q}`, key) // it is
	w.do("DescribeKeyVersion", `{"KeyId":%q,"KeyVersionId":%q}`, key, w.version(key))
}

func (w *aliWalk) asymmetric() {
	digest := base64.StdEncoding.EncodeToString(make([]byte, 32))
	signing := w.create(`{"KeySpec":"EC_P256","KeyUsage":"SIGN/VERIFY"}`)
	version := w.version(signing)
	signed := w.do("AsymmetricSign", `{"KeyId":%q,"KeyVersionId":%q,"Algorithm":"ECDSA_SHA_256","Digest":%q}`, signing, version, digest)
	verified := w.do("AsymmetricVerify", `{"KeyId":%q,"KeyVersionId":%q,"Algorithm":"ECDSA_SHA_256","Digest":%q,"Value":%q}`, signing, version, digest, member(signed, "Value"))
	if verified["Value"] != true {
		w.Errorf("signature: %v", verified)
	}
	if key := member(w.do("GetPublicKey", `{"KeyId":%q,"KeyVersionId":%q}`, signing, version), "PublicKey"); !strings.HasPrefix(key, "-----BEGIN PUBLIC KEY-----") {
		w.Errorf("public key %s", key)
	}
	w.called["CreateKeyVersion"] = true
	w.expect("Rejected.LimitExceeded", "CreateKeyVersion", `{"KeyId":%q}`, signing) // the first version is too young
	sealing := w.create(`{"KeySpec":"RSA_2048","KeyUsage":"ENCRYPT/DECRYPT"}`)
	version = w.version(sealing)
	sealed := w.do("AsymmetricEncrypt", `{"KeyId":%q,"KeyVersionId":%q,"Algorithm":"RSAES_OAEP_SHA_256","Plaintext":"QUJD"}`, sealing, version)
	opened := w.do("AsymmetricDecrypt", `{"KeyId":%q,"KeyVersionId":%q,"Algorithm":"RSAES_OAEP_SHA_256","CiphertextBlob":%q}`, sealing, version, member(sealed, "CiphertextBlob"))
	if member(opened, "Plaintext") != "QUJD" {
		w.Errorf("decrypted %v", opened)
	}
	// The SDKs have no methods for MACs.
	w.called["GenerateMac"], w.called["VerifyMac"] = true, true
}

// imports does the steps of the cloud's guide for Dedicated KMS through the API (procedure_004.txtar does them with openssl).
func (w *aliWalk) imports() {
	key := w.create(`{"Origin":"EXTERNAL","DKMSInstanceId":"kst-sdk","KeySpec":"Aliyun_AES_128"}`)
	p := w.do("GetParametersForImport", `{"KeyId":%q,"WrappingKeySpec":"RSA_2048","WrappingAlgorithm":"RSAES_OAEP_SHA_256"}`, key)
	public := must(x509.ParsePKIXPublicKey(must(base64.StdEncoding.DecodeString(member(p, "PublicKey"))))).(*rsa.PublicKey)
	wrapped := base64.StdEncoding.EncodeToString(must(rsa.EncryptOAEP(sha256.New(), rand.Reader, public, make([]byte, 16), nil)))
	const material = `{"KeyId":%q,"EncryptedKeyMaterial":%q,"ImportToken":%q,"KeyMaterialExpireUnix":%d}`
	w.do("ImportKeyMaterial", material, key, wrapped, member(p, "ImportToken"), 0)
	w.do("ImportKeyMaterial", material, key, wrapped, member(p, "ImportToken"), time.Now().Add(time.Hour).Unix())
	w.expect("UnsupportedOperation", "DeleteKeyMaterial", `{"KeyId":%q}`, key)
	w.called["DeleteKeyMaterial"] = true
	w.do("ListKmsInstances", `{}`)
	if got := member(w.do("GetKmsInstance", `{"KmsInstanceId":"kst-sdk"}`), "KmsInstance", "Status"); got != "Connected" {
		w.Errorf("instance is %s", got)
	}
	w.expect("Unsupported.Origin", "GetParametersForImport", `{"KeyId":%q,"WrappingKeySpec":"RSA_2048","WrappingAlgorithm":"RSAES_OAEP_SHA_256"}`, w.create(`{}`))
}

func (w *aliWalk) lists(name string) {
	key, other := w.create(`{"Tags":"[{\"TagKey\":\"k\",\"TagValue\":\"v\"}]"}`), w.create(`{}`)
	alias := "alias/walk-" + name
	w.do("CreateAlias", `{"KeyId":%q,"AliasName":%q}`, key, alias)
	w.do("UpdateAlias", `{"KeyId":%q,"AliasName":%q}`, other, alias)
	if got := member(w.do("DescribeKey", `{"KeyId":%q}`, alias), "KeyMetadata", "KeyId"); got != other {
		w.Errorf("alias is of %s", got)
	}
	w.do("ListAliases", `{"PageNumber":1,"PageSize":100}`)
	w.do("ListAliasesByKeyId", `{"KeyId":%q}`, other)
	w.do("DeleteAlias", `{"AliasName":%q}`, alias)
	w.expect("Forbidden.AliasNotFound", "DeleteAlias", `{"AliasName":%q}`, alias)
	if keys := w.do("ListKeys", `{"Filters":"[{\"Key\":\"KeyId\",\"Values\":[\"%s\"]}]"}`, key)["Keys"].(map[string]any)["Key"].([]any); len(keys) != 1 {
		w.Errorf("filtered: %v", keys)
	}
	w.do("TagResource", `{"KeyId":%q,"Tags":"[{\"TagKey\":\"l\",\"TagValue\":\"w\"}]"}`, key)
	w.do("UntagResource", `{"KeyId":%q,"TagKeys":"[\"k\"]"}`, key)
	w.do("TagResources", `{"RegionId":"r","ResourceType":"key","ResourceId":[%q,%q],"Tag":[{"Key":"m","Value":%q}]}`, key, other, name)
	w.do("UntagResources", `{"RegionId":"r","ResourceType":"key","ResourceId":[%q],"TagKey":["l"]}`, key)
	tagged := w.do("ListTagResources", `{"RegionId":"r","ResourceType":"key","Tag":[{"Key":"m","Value":%q}]}`, name)["TagResources"].(map[string]any)["TagResource"].([]any)
	tags := w.do("ListResourceTags", `{"KeyId":%q}`, key)["Tags"].(map[string]any)["Tag"].([]any)
	if len(tagged) != 2 || len(tags) != 1 {
		w.Errorf("tags: %v %v", tagged, tags)
	}
	w.do("DescribeRegions", `{}`)
	if got := member(w.do("DescribeAccountKmsStatus", `{}`), "AccountStatus"); got != "Enabled" {
		w.Errorf("account is %s", got)
	}
	w.expect("Forbidden.KeyNotFound", "DescribeKey", `{"KeyId":"key-hzz0123456789"}`)
	w.expect("UnsupportedOperation", "ListSecrets", `{}`)
}

func readOperations() ([]byte, error) { return os.ReadFile("../../docs/operations.md") }
