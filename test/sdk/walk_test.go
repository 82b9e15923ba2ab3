package sdk

import (
	"encoding/json"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/huaweicloud/huaweicloud-sdk-go-v3/core/sdkerr"
	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// walk goes through all operations by one way.
type walk struct {
	*testing.T
	way      way
	client   *kms.KmsClient
	wire     *wire
	answered map[string]bool // methods that were
	refused  map[string]bool

	// keys that several groups use
	aes, aes2, rsaSign, rsaEncrypt, ec, agree, mac string
}

// groups are the walk's parts.
var groups = []struct {
	name string
	run  func(*walk)
}{
	{"keys", (*walk).lifecycle}, {"list", (*walk).list}, {"random", (*walk).random}, {"data keys", (*walk).dataKeys},
	{"data key pairs", (*walk).dataKeyPairs}, {"data", (*walk).data}, {"re-encryption", (*walk).reEncryption},
	{"signatures", (*walk).signatures}, {"macs", (*walk).macs}, {"agreement", (*walk).agreement}, {"imports", (*walk).imports},
	{"rotation", (*walk).rotation}, {"tags", (*walk).tags}, {"aliases", (*walk).aliases}, {"grants", (*walk).grants}, {"quotas", (*walk).quotas}, {"versions", (*walk).versions},
	{"refusals", (*walk).refusals}, {"not served", (*walk).notServed},
}

// TestSDK calls every method of the SDK's client by every way.
func TestSDK(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			w := &walk{T: t, way: way, answered: map[string]bool{}, refused: map[string]bool{}}
			w.client, w.wire = way.connect(t, "")
			w.makeKeys()
			for _, g := range groups {
				t.Run(g.name, func(t *testing.T) {
					w.T = t
					g.run(w)
				})
			}
			w.T = t
			w.covered()
		})
	}
}

// covered holds that nothing was left out: a method is served, and then it was answered and refused, or it is not, and
// then notServed says so. A new route without a test fails here, and so does a new method of a newer SDK.
func (w *walk) covered() {
	client := reflect.TypeOf(w.client)
	for i := range client.NumMethod() {
		name := client.Method(i).Name
		_, served := answers[name]
		switch {
		case strings.HasSuffix(name, "Invoker"): // the same methods in another dress
		case served == slices.Contains(notServed, name):
			w.Errorf("%s is in answers and in notServed, or in neither", name)
		case served && !w.answered[name]:
			w.Errorf("%s was never answered", name)
		case served && !w.refused[name] && !slices.Contains(neverRefused, name):
			w.Errorf("%s was never refused", name)
		}
	}
}

// neverRefused are methods that every caller may call and that have no parameter.
var neverRefused = []string{"ShowVersions"}

// call does one operation, which must succeed, and holds its answer against answers.
func call[Q, A any](w *walk, method func(*kms.KmsClient, *Q) (*A, error), request *Q) *A {
	w.Helper()
	name := nameOf(method)
	got, err := method(w.client, request)
	if err != nil {
		w.Fatalf("%s(%v): %v", name, request, err)
	}
	w.answered[name] = true
	want, ok := answers[name]
	switch {
	case !ok:
		w.Errorf("%s is not in answers", name)
	case w.wire.status != want.status:
		w.Errorf("%s: answered %d, want %d", name, w.wire.status, want.status)
	case want.body != nil:
		if err := checkShape(w.wire.body, want.body); err != nil {
			w.Errorf("%s: answer %v\n%s", name, err, w.wire.body)
		}
	}
	return got
}

// refuse does one operation, which must fail with a status and a code, in the wire's form and as the SDK's error.
func refuse[Q, A any](w *walk, method func(*kms.KmsClient, *Q) (*A, error), request *Q, status int, code string) {
	w.Helper()
	name := nameOf(method)
	_, err := method(w.client, request)
	if err == nil {
		w.Errorf("%s(%v) was not refused; want %d %s\n%s", name, request, status, code, w.wire.body)
		return
	}
	w.refused[name] = true
	w.checkRefusal(name, err, status, code)
}

func (w *walk) checkRefusal(name string, err error, status int, code string) {
	w.Helper()
	var refused *sdkerr.ServiceResponseError
	if !errors.As(err, &refused) {
		w.Errorf("%s: %v, want the service's error", name, err)
		return
	}
	if refused.StatusCode != status || refused.ErrorCode != code {
		w.Errorf("%s: refused with %d %s (%s), want %d %s", name, refused.StatusCode, refused.ErrorCode, refused.ErrorMessage, status, code)
	}
	if refused.ErrorMessage == "" || refused.RequestId != w.wire.header.Get("X-Request-Id") {
		w.Errorf("%s: message %q, request id %q", name, refused.ErrorMessage, refused.RequestId)
	}
	if got, err := w.wire.failure(); err != nil || got != refused.ErrorCode {
		w.Errorf("%s: error body says %q (%v)\n%s", name, got, err, w.wire.body)
	}
}

// nameOf returns the name of a method of the SDK's client.
func nameOf(method any) string {
	full := runtime.FuncForPC(reflect.ValueOf(method).Pointer()).Name()
	return full[strings.LastIndexByte(full, '.')+1:]
}

// enum makes a value of one of the SDK's enumerations, also one that it does not enumerate.
func enum[E any, P interface {
	*E
	json.Unmarshaler
}](value string) *E {
	e := new(E)
	if err := P(e).UnmarshalJSON([]byte(strconv.Quote(value))); err != nil {
		panic(err)
	}
	return e
}

// equal compares what an answer says with what it must.
func equal[T comparable](w *walk, what string, got *T, want T) {
	w.Helper()
	if got == nil {
		w.Errorf("%s is absent, want %v", what, want)
	} else if *got != want {
		w.Errorf("%s is %v, want %v", what, *got, want)
	}
}

// alias makes a name of this walk's own.
func (w *walk) alias(name string) string { return "sdk/" + w.way.name + "/" + name }

// key makes a key.
func (w *walk) key(name, spec, usage string) string {
	w.Helper()
	out := call(w, (*kms.KmsClient).CreateKey, &model.CreateKeyRequest{Body: &model.CreateKeyRequestBody{
		KeyAlias: w.alias(name), KeySpec: enum[model.CreateKeyRequestBodyKeySpec](spec),
		KeyUsage: enum[model.CreateKeyRequestBodyKeyUsage](usage),
	}})
	return *out.KeyInfo.KeyId
}

func (w *walk) makeKeys() {
	w.aes = w.key("aes", "AES_256", "ENCRYPT_DECRYPT")
	w.aes2 = w.key("aes2", "AES_256", "ENCRYPT_DECRYPT")
	w.rsaSign = w.key("rsa-sign", "RSA_2048", "SIGN_VERIFY")
	w.rsaEncrypt = w.key("rsa-encrypt", "RSA_2048", "ENCRYPT_DECRYPT")
	w.ec = w.key("ec", "EC_P256", "SIGN_VERIFY")
	w.agree = w.key("agree", "EC_P256", "KEY_AGREEMENT")
	w.mac = w.key("mac", "HMAC_256", "GENERATE_VERIFY_MAC")
}

// operate is the body of the operations that name a key and nothing else.
func operate(key string) *model.OperateKeyRequestBody {
	return &model.OperateKeyRequestBody{KeyId: key}
}

// describe reads a key.
func (w *walk) describe(key string) *model.KeyDetails {
	w.Helper()
	return call(w, (*kms.KmsClient).ListKeyDetail, &model.ListKeyDetailRequest{Body: operate(key)}).KeyInfo
}

// notServed calls the methods whose routes there are not.
func (w *walk) notServed() {
	for _, name := range notServed {
		method := reflect.ValueOf(w.client).MethodByName(name)
		request := reflect.New(method.Type().In(0).Elem())
		if body := request.Elem().FieldByName("Body"); body.IsValid() {
			body.Set(reflect.New(body.Type().Elem()))
		}
		err, _ := method.Call([]reflect.Value{request})[1].Interface().(error)
		w.checkRefusal(name, err, 404, "APIGW.0101")
	}
}
