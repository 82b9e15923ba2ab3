package driver_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/driverv1"
	"github.com/keyside/keyside/plugins/soft"
)

// answer submits one encoded operation and waits for its response, with a copy of the body.
func answer(t *testing.T, s driver.Submitter, kind driver.OpKind, body []byte) *driver.Response {
	t.Helper()
	got := make(chan *driver.Response, 1)
	s.Submit(&driver.Request{Kind: kind, Tenant: "t", Deadline: time.Now().Add(time.Minute), Body: body}, func(r *driver.Response) {
		got <- &driver.Response{Code: r.Code, Body: append([]byte(nil), r.Body...)}
	})
	return <-got
}

// FuzzOp sends arbitrary messages to a real driver behind its workers: each gets one answer, none of them a panic.
func FuzzOp(f *testing.F) {
	d, err := soft.Configure(f.Context(), fmt.Appendf(nil, "file: %s\n", filepath.Join(f.TempDir(), "soft.keys")), []byte("passphrase"))
	if err != nil {
		f.Fatal(err)
	}
	if _, err := d.InitTenant(f.Context(), &driver.InitTenantRequest{Tenant: "t"}); err != nil {
		f.Fatal(err)
	}
	for spec, op := range map[driver.KeySpec]*driver.Op{
		driver.AES256:  {Kind: driver.Encrypt, Data: []byte("data"), Aad: []byte("aad"), Iv: make([]byte, 12), Length: 32},
		driver.ECP256:  {Kind: driver.Sign, Algorithm: driver.ECDSASHA256, Data: make([]byte, 32)},
		driver.HMAC256: {Kind: driver.VerifyMAC, Algorithm: driver.HMACSHA256, Data: []byte("data"), Signature: make([]byte, 32)},
	} {
		usage := map[driver.OpKind]driver.KeyUsage{
			driver.Encrypt: driver.EncryptDecrypt, driver.Sign: driver.SignVerify, driver.VerifyMAC: driver.GenerateVerifyMAC,
		}[op.GetKind()]
		op.Key = &driver.KeyIdentity{KeyId: make([]byte, driver.KeyIDSize), Version: 1, Spec: spec, Usage: usage}
		key, err := d.MakeKey(f.Context(), &driver.MakeKeyRequest{Tenant: "t", Key: op.GetKey()})
		if err != nil {
			f.Fatal(err)
		}
		op.Sealed = key.GetSealed()
		body, err := proto.Marshal(op)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(op.GetKind()), body)
		if op.GetKind() == driver.Encrypt {
			f.Add(byte(driver.Decrypt), append(body, 8, byte(driver.Decrypt)))
			f.Add(byte(driver.DataKey), append(body, 8, byte(driver.DataKey)))
		}
	}
	f.Add(byte(driver.Random), []byte{8, byte(driver.Random), 72, 32})
	w := driver.NewWorkers(d, 1, 1)
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		r := answer(t, w, driver.OpKind(kind), body)
		if err := r.Err(); driver.CodeOf(err) == driver.Internal {
			t.Errorf("%v", err)
		}
		var res driver.Result
		if err := proto.Unmarshal(r.Body, &res); err != nil {
			t.Errorf("answer does not parse: %v", err)
		}
	})
}

// fixed answers every request with the same response, as a hostile peer may.
type fixed driver.Response

func (r *fixed) Submit(_ *driver.Request, done func(*driver.Response)) { done((*driver.Response)(r)) }

// FuzzResult reads arbitrary answers: there is a result or an error of the closed list, never both and never neither.
func FuzzResult(f *testing.F) {
	for _, res := range []*driver.Result{
		{Data: []byte("data"), Iv: make([]byte, 12), Plaintext: []byte("p"), Valid: true}, {Error: driver.Errorf(driver.Busy, "full").Proto()},
	} {
		body, err := proto.Marshal(res)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(res.GetError().GetCode()), body)
	}
	f.Add(byte(200), []byte{0xff})
	f.Fuzz(func(t *testing.T, code byte, body []byte) {
		res, err := driver.Do(t.Context(), &fixed{Code: driver.Code(code), Body: body}, "t", &driver.Op{Kind: driver.Random, Length: 1})
		if (res == nil) == (err == nil) {
			t.Fatalf("result %v and error %v", res, err)
		}
		if err == nil && code != 0 {
			t.Errorf("code %d was taken for success", code)
		}
		if _, known := driverv1.ErrorCode_name[int32(driver.CodeOf(err))]; !known {
			t.Errorf("error of the unknown code %d", driver.CodeOf(err))
		}
		if err == nil && res.GetError() != nil {
			t.Error("a result with an error inside")
		}
	})
}
