package sdk

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	tcerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	tchttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"
	tencent "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/kms/v20190118"
)

// tencentWays are the ways in which an application with Tencent Cloud's SDK comes to a sidecar.
var tencentWays = []struct {
	name, method, sign string
	socket, unsigned   bool
}{
	{"localhost", "POST", "TC3-HMAC-SHA256", false, false}, {"localhost-get", "GET", "TC3-HMAC-SHA256", false, false},
	{"localhost-v1", "POST", "HmacSHA1", false, false}, {"localhost-v1-get", "GET", "HmacSHA256", false, false},
	{"socket", "POST", "TC3-HMAC-SHA256", true, false}, {"socket-unsigned", "POST", "TC3-HMAC-SHA256", true, true},
}

// TestTencent does every action that Keyside serves with the cloud's SDK, unmodified, in every way.
func TestTencent(t *testing.T) {
	for i, y := range tencentWays {
		t.Run(y.name, func(t *testing.T) {
			seen := actions{}
			p := profile.NewClientProfile()
			p.SignMethod, p.HttpProfile.ReqMethod, p.HttpProfile.Scheme, p.DisableRegionBreaker = y.sign, y.method, "HTTP", true
			p.HttpProfile.Endpoint = strings.TrimPrefix(target.url, "http://")
			seen.next = &http.Transport{}
			if y.socket {
				p.HttpProfile.Endpoint, seen.next = "kms.tencentcloudapi.com", toSocket()
			}
			key := credential{AccessKey: "none", SecretKey: "none"}
			if y.unsigned {
				seen.next = unsigned{seen.next}
			} else {
				key = newCredential(t, "tencent-sdk")
			}
			client, err := tencent.NewClient(common.NewCredential(key.AccessKey, key.SecretKey), "ap-guangzhou", p)
			if err != nil {
				t.Fatal(err)
			}
			client.WithHttpTransport(&seen)
			w := &tencentWalk{t, client, fmt.Sprint("tencent-", i, "-"), y.method == "POST" && y.sign == "TC3-HMAC-SHA256", y.sign != "TC3-HMAC-SHA256"}
			w.keys()
			w.crypt()
			w.asymmetric()
			w.imports()
			w.others()
			for _, action := range servedActions(t) {
				if !seen.names[action] && (w.common || action != "RotateKey") { // which this version of the SDK does not have
					t.Errorf("%s was not asked for", action)
				}
			}
		})
	}
}

// actions notes the actions of requests.
type actions struct {
	next  http.RoundTripper
	names map[string]bool
}

// RoundTrip implements http.RoundTripper.
func (a *actions) RoundTrip(r *http.Request) (*http.Response, error) {
	name := strings.Join(r.Header["X-TC-Action"], ",") // as the SDK spells it, which is not the canonical form
	if query := r.URL.RawQuery; name == "" {
		if r.Body != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			query += "&" + string(body)
		}
		values, err := url.ParseQuery(query)
		if err != nil {
			return nil, err
		}
		name = values.Get("Action")
	}
	if a.names == nil {
		a.names = map[string]bool{}
	}
	a.names[name] = true
	return a.next.RoundTrip(r)
}

// servedActions reads the actions of Tencent Cloud's column in the table of operations.
func servedActions(t *testing.T) []string {
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	var served []string
	column := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		for i, cell := range cells {
			if strings.TrimSpace(cell) == "Tencent Cloud" && column == 0 {
				column = i
			}
		}
		if column > 0 && column < len(cells) {
			for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(cells[column], -1) {
				served = append(served, m[1])
			}
		}
		if strings.HasPrefix(line, "<!-- end") {
			break
		}
	}
	if len(served) < 30 {
		t.Fatalf("only %d actions in the table", len(served))
	}
	return served
}

// tencentWalk does actions with one client.
type tencentWalk struct {
	*testing.T
	client *tencent.Client
	prefix string
	common bool // the SDK can send actions that it does not know
	v1     bool // the signature is of version 1
}

// done returns the answer of an action that must succeed.
func done[A any](w *tencentWalk, answer A, err error) A {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	return answer
}

// wantCode checks the code of an error.
func (w *tencentWalk) wantCode(err error, code string) {
	w.Helper()
	var e *tcerrors.TencentCloudSDKError
	if !errors.As(err, &e) || e.Code != code || e.RequestId == "" || e.Message == "" {
		w.Errorf("%v, want %s", err, code)
	}
}

func (w *tencentWalk) create(name, usage string, kind uint64) *string {
	w.Helper()
	r := tencent.NewCreateKeyRequest()
	r.Alias, r.Description, r.KeyUsage, r.Type = new(w.prefix+name), new("made by the SDK"), &usage, &kind
	r.Tags = []*tencent.Tag{{TagKey: new("k"), TagValue: new(w.prefix)}}
	answer, err := w.client.CreateKey(r)
	out := done(w, answer, err)
	if want := map[uint64]string{1: "Enabled", 2: "PendingImport"}[kind]; *out.Response.KeyState != want || *out.Response.KeyUsage != usage {
		w.Errorf("%s: %s", name, out.ToJsonString())
	}
	return out.Response.KeyId
}

func (w *tencentWalk) state(id *string, want string) *tencent.KeyMetadata {
	w.Helper()
	r := tencent.NewDescribeKeyRequest()
	r.KeyId = id
	answer, err := w.client.DescribeKey(r)
	m := done(w, answer, err).Response.KeyMetadata
	if *m.KeyState != want || *m.Owner != "user" || *m.Type != 2 {
		w.Errorf("%s, want %s", *m.KeyState, want)
	}
	return m
}

// do does an action by its name. One that this version of the SDK does not have is a common request, which it sends as JSON alone.
func (w *tencentWalk) do(action string, in map[string]any) error {
	method := reflect.ValueOf(w.client).MethodByName(action)
	if !method.IsValid() {
		if !w.common {
			return nil
		}
		r := tchttp.NewCommonRequest("kms", tencent.APIVersion, action)
		if err := r.SetActionParameters(in); err != nil {
			return err
		}
		return w.client.Send(r, tchttp.NewCommonResponse())
	}
	request := reflect.New(method.Type().In(0).Elem())
	base := new(tchttp.BaseRequest)
	base.Init().WithApiInfo("kms", tencent.APIVersion, action)
	request.Elem().FieldByName("BaseRequest").Set(reflect.ValueOf(base))
	for name, value := range in {
		request.Elem().FieldByName(name).Set(reflect.ValueOf(new(value.(string))))
	}
	err, _ := method.Call([]reflect.Value{request})[1].Interface().(error)
	return err
}

func (w *tencentWalk) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// keys leads a key through its life.
func (w *tencentWalk) keys() {
	id := w.create("key", "ENCRYPT_DECRYPT", 1)
	alias := tencent.NewUpdateAliasRequest()
	alias.KeyId, alias.Alias = id, new(w.prefix+"renamed")
	_, err := w.client.UpdateAlias(alias)
	w.must(err)
	text := tencent.NewUpdateKeyDescriptionRequest()
	text.KeyId, text.Description = id, new("another & other text")
	_, err = w.client.UpdateKeyDescription(text)
	if w.v1 { // it protects no ampersand
		w.wantCode(err, "AuthFailure.SignatureFailure")
	} else if w.must(err); *w.state(id, "Enabled").Description != "another & other text" {
		w.Error("the description is another")
	}
	if m := w.state(id, "Enabled"); *m.Alias != w.prefix+"renamed" || *m.Origin != "TENCENT_KMS" || *m.ResourceId == "" {
		w.Errorf("%+v", m)
	}
	many := tencent.NewDescribeKeysRequest()
	many.KeyIds = []*string{id}
	answer, err := w.client.DescribeKeys(many)
	if out := done(w, answer, err); len(out.Response.KeyMetadatas) != 1 {
		w.Error(out.ToJsonString())
	}
	list := tencent.NewListKeysRequest()
	list.Limit = new(uint64(200))
	listed, err := w.client.ListKeys(list)
	if out := done(w, listed, err); len(out.Response.Keys) == 0 || *out.Response.TotalCount < uint64(len(out.Response.Keys)) {
		w.Error(out.ToJsonString())
	}
	detail := tencent.NewListKeyDetailRequest()
	detail.SearchKeyAlias, detail.TagFilters = new(w.prefix), []*tencent.TagFilter{{TagKey: new("k"), TagValue: []*string{new(w.prefix)}}}
	detailed, err := w.client.ListKeyDetail(detail)
	if out := done(w, detailed, err); *out.Response.TotalCount != 1 || *out.Response.KeyMetadatas[0].KeyId != *id {
		w.Error(out.ToJsonString())
	}
	in := map[string]any{"KeyId": *id}
	off := tencent.NewDisableKeysRequest()
	off.KeyIds = many.KeyIds
	_, err = w.client.DisableKeys(off)
	w.must(err)
	w.state(id, "Disabled")
	on := tencent.NewEnableKeysRequest()
	on.KeyIds = many.KeyIds
	_, err = w.client.EnableKeys(on)
	w.must(err)
	w.state(id, "Enabled")
	w.must(w.do("ArchiveKey", in))
	w.state(id, "Archived")
	w.must(w.do("CancelKeyArchive", in))
	schedule := tencent.NewScheduleKeyDeletionRequest()
	schedule.KeyId, schedule.PendingWindowInDays = id, new(uint64(7))
	_, err = w.client.ScheduleKeyDeletion(schedule)
	w.wantCode(err, "ResourceUnavailable.CmkShouldBeDisabled")
	w.must(w.do("DisableKey", in))
	scheduled, err := w.client.ScheduleKeyDeletion(schedule)
	if out := done(w, scheduled, err); *out.Response.DeletionDate != *w.state(id, "PendingDelete").DeletionDate {
		w.Error(out.ToJsonString())
	}
	w.must(w.do("CancelKeyDeletion", in))
	w.must(w.do("EnableKey", in))
	rotate := tencent.NewEnableKeyRotationRequest()
	rotate.KeyId = id
	_, err = w.client.EnableKeyRotation(rotate)
	w.must(err)
	w.must(w.do("RotateKey", in))
	status := tencent.NewGetKeyRotationStatusRequest()
	status.KeyId = id
	rotated, err := w.client.GetKeyRotationStatus(status)
	if out := done(w, rotated, err); !*out.Response.KeyRotationEnabled {
		w.Error(out.ToJsonString())
	}
	w.must(w.do("DisableKeyRotation", in))
	_, err = w.client.DescribeKey(tencent.NewDescribeKeyRequest())
	w.wantCode(err, "MissingParameter")
}

// crypt encrypts, decrypts and makes data keys.
func (w *tencentWalk) crypt() {
	id := w.create("crypt", "ENCRYPT_DECRYPT", 1)
	plain, bound := base64.StdEncoding.EncodeToString([]byte("attack at dawn + more/")), new(`{"purpose":"test","a":"1"}`)
	encrypt := tencent.NewEncryptRequest()
	encrypt.KeyId, encrypt.Plaintext, encrypt.EncryptionContext = id, &plain, bound
	encrypted, err := w.client.Encrypt(encrypt)
	blob := done(w, encrypted, err).Response.CiphertextBlob
	decrypt := func(blob, bound *string) (*tencent.DecryptResponse, error) {
		r := tencent.NewDecryptRequest()
		r.CiphertextBlob, r.EncryptionContext = blob, bound
		return w.client.Decrypt(r)
	}
	opened, err := decrypt(blob, new(`{"a":"1","purpose":"test"}`))
	if out := done(w, opened, err); *out.Response.Plaintext != plain || *out.Response.KeyId != *id {
		w.Error(out.ToJsonString())
	}
	_, err = decrypt(blob, nil)
	w.wantCode(err, "InvalidParameterValue.InvalidCiphertext")
	again := tencent.NewReEncryptRequest()
	again.CiphertextBlob, again.SourceEncryptionContext, again.DestinationEncryptionContext = blob, bound, bound
	moved, err := w.client.ReEncrypt(again)
	if out := done(w, moved, err); *out.Response.ReEncrypted || *out.Response.CiphertextBlob != *blob {
		w.Error(out.ToJsonString())
	}
	again = tencent.NewReEncryptRequest() // with parameters, the SDK sends again what a request had before
	again.CiphertextBlob, again.SourceEncryptionContext = blob, bound
	moved, err = w.client.ReEncrypt(again)
	out := done(w, moved, err)
	opened, err = decrypt(out.Response.CiphertextBlob, nil)
	if *done(w, opened, err).Response.Plaintext != plain || !*out.Response.ReEncrypted || *out.Response.SourceKeyId != *id {
		w.Error(out.ToJsonString())
	}

	secret, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	der, err := x509.MarshalPKIXPublicKey(&secret.PublicKey)
	w.must(err)
	r := tencent.NewGenerateDataKeyRequest()
	r.KeyId, r.NumberOfBytes, r.EncryptionAlgorithm = id, new(uint64(24)), new("RSAES_OAEP_SHA_1")
	r.EncryptionPublicKey = new(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
	generated, err := w.client.GenerateDataKey(r)
	dataKey := done(w, generated, err).Response
	sealed, err := base64.StdEncoding.DecodeString(*dataKey.Plaintext)
	w.must(err)
	key, err := rsa.DecryptOAEP(sha1.New(), nil, secret, sealed, nil)
	w.must(err)
	opened, err = decrypt(dataKey.CiphertextBlob, nil)
	if got := *done(w, opened, err).Response.Plaintext; got != base64.StdEncoding.EncodeToString(key) || len(key) != 24 {
		w.Errorf("data key of %d bytes opens as %s", len(key), got)
	}
	random := tencent.NewGenerateRandomRequest()
	random.NumberOfBytes = new(uint64(16))
	made, err := w.client.GenerateRandom(random)
	if got, err := base64.StdEncoding.DecodeString(*done(w, made, err).Response.Plaintext); err != nil || len(got) != 16 {
		w.Errorf("%d random bytes, %v", len(got), err)
	}
}

// asymmetric signs, and decrypts what a public key encrypted.
func (w *tencentWalk) asymmetric() {
	id := w.create("sign", "ASYMMETRIC_SIGN_VERIFY_ECC", 1)
	message := base64.StdEncoding.EncodeToString([]byte("message"))
	sign := tencent.NewSignByAsymmetricKeyRequest()
	sign.KeyId, sign.Algorithm, sign.Message, sign.MessageType = id, new("ECC_P256_R1"), &message, new("RAW")
	signed, err := w.client.SignByAsymmetricKey(sign)
	verify := tencent.NewVerifyByAsymmetricKeyRequest()
	verify.KeyId, verify.Algorithm, verify.Message, verify.SignatureValue = id, sign.Algorithm, &message, done(w, signed, err).Response.Signature
	verified, err := w.client.VerifyByAsymmetricKey(verify)
	if out := done(w, verified, err); !*out.Response.SignatureValid {
		w.Error(out.ToJsonString())
	}
	verify.Message = new("b3RoZXI=")
	verified, err = w.client.VerifyByAsymmetricKey(verify)
	if out := done(w, verified, err); *out.Response.SignatureValid {
		w.Error(out.ToJsonString())
	}

	id = w.create("decrypt", "ASYMMETRIC_DECRYPT_RSA_2048", 1)
	get := tencent.NewGetPublicKeyRequest()
	get.KeyId = id
	got, err := w.client.GetPublicKey(get)
	block, _ := pem.Decode([]byte(*done(w, got, err).Response.PublicKeyPem))
	if block == nil || base64.StdEncoding.EncodeToString(block.Bytes) != *got.Response.PublicKey {
		w.Fatal(got.ToJsonString())
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	w.must(err)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), []byte("message"), nil)
	w.must(err)
	decrypt := tencent.NewAsymmetricRsaDecryptRequest()
	decrypt.KeyId, decrypt.Ciphertext, decrypt.Algorithm = id, new(base64.StdEncoding.EncodeToString(sealed)), new("RSAES_OAEP_SHA_1")
	opened, err := w.client.AsymmetricRsaDecrypt(decrypt)
	if out := done(w, opened, err); *out.Response.Plaintext != message {
		w.Error(out.ToJsonString())
	}
	algorithms, err := w.client.ListAlgorithms(tencent.NewListAlgorithmsRequest())
	if out := done(w, algorithms, err); len(out.Response.SymmetricAlgorithms) != 1 || len(out.Response.AsymmetricSignVerifyAlgorithms) == 0 {
		w.Error(out.ToJsonString())
	}
}

// imports follows the document on external keys.
func (w *tencentWalk) imports() {
	id := w.create("external", "ENCRYPT_DECRYPT", 2)
	get := tencent.NewGetParametersForImportRequest()
	get.KeyId, get.WrappingAlgorithm, get.WrappingKeySpec = id, new("RSAES_OAEP_SHA_1"), new("RSA_2048")
	got, err := w.client.GetParametersForImport(get)
	parameters := done(w, got, err).Response
	der, err := base64.StdEncoding.DecodeString(*parameters.PublicKey)
	w.must(err)
	public, err := x509.ParsePKIXPublicKey(der)
	w.must(err)
	sealed, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, public.(*rsa.PublicKey), []byte("0123456789abcdef"), nil)
	w.must(err)
	in := tencent.NewImportKeyMaterialRequest()
	in.KeyId, in.ImportToken, in.EncryptedKeyMaterial = id, parameters.ImportToken, new(base64.StdEncoding.EncodeToString(sealed))
	in.ValidTo = new(uint64(2147443200))
	_, err = w.client.ImportKeyMaterial(in)
	w.must(err)
	if m := w.state(id, "Enabled"); *m.ValidTo != *in.ValidTo || *m.Origin != "EXTERNAL" {
		w.Errorf("%+v", m)
	}
	drop := tencent.NewDeleteImportedKeyMaterialRequest()
	drop.KeyId = id
	_, err = w.client.DeleteImportedKeyMaterial(drop)
	w.must(err)
	w.state(id, "PendingImport")
}

// others asks about the service.
func (w *tencentWalk) others() {
	regions, err := w.client.GetRegions(tencent.NewGetRegionsRequest())
	if out := done(w, regions, err); len(out.Response.Regions) != 1 {
		w.Error(out.ToJsonString())
	}
	status, err := w.client.GetServiceStatus(tencent.NewGetServiceStatusRequest())
	if out := done(w, status, err); !*out.Response.ServiceEnabled {
		w.Error(out.ToJsonString())
	}
	box, err := w.client.DescribeWhiteBoxServiceStatus(tencent.NewDescribeWhiteBoxServiceStatusRequest())
	if out := done(w, box, err); *out.Response.ServiceEnabled {
		w.Error(out.ToJsonString())
	}
	bound := map[string]any{"KeyId": "k", "ProductId": "p", "ResourceId": "r"}
	w.wantCode(w.do("UnbindCloudResource", bound), "ResourceUnavailable.CloudResourceBindingNotFound")
}
