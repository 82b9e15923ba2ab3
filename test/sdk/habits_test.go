package sdk

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// at walks down an answer: names of members, numbers of elements.
func (p *plain) at(v any, path ...any) any {
	p.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			v = v.(map[string]any)[step]
		case int:
			v = v.([]any)[step]
		}
	}
	return v
}

// want compares a piece of an answer.
func (p *plain) want(answer any, want any, path ...any) {
	p.Helper()
	if got := p.at(answer, path...); got != want {
		p.Errorf("%v is %#v, want %#v", path, got, want)
	}
}

// filled returns a piece of an answer that must be a string with something in it.
func (p *plain) filled(answer any, path ...any) string {
	p.Helper()
	got, _ := p.at(answer, path...).(string)
	if got == "" {
		p.Errorf("%v is %#v, want a string that is not empty", path, p.at(answer, path...))
	}
	return got
}

func (p *plain) key(body string) string {
	p.Helper()
	return p.filled(p.post("create-key", body), "key_info", "key_id")
}

// TestTerraform does what the Huawei Cloud provider does with a key, an alias, a search and the data sources: numbers
// where strings are documented, pages until there is nothing more, and 404 for what is gone.
func TestTerraform(t *testing.T) {
	p := newPlain(t, "HashiCorp Terraform/1.9.5 (+https://www.terraform.io) Terraform Plugin SDK/2.34 golangsdk/2.0.0", signAccess)
	key := p.key(`{"key_alias":"terraform/key","key_description":"","key_spec":"AES_256","key_usage":"ENCRYPT_DECRYPT","origin":"kms","enterprise_project_id":"0","realm":"local"}`)
	named := fmt.Sprintf(`{"key_id":%q}`, key)

	// Resource huaweicloud_kms_key: create, wait for the state, tag, read, change, delete.
	p.want(p.post("describe-key", named), "2", "key_info", "key_state")
	p.do(http.MethodPost, key+"/tags/action", `{"action":"create","tags":[{"key":"owner","value":"terraform"},{"key":"empty","value":""}]}`, 200, 204)
	p.want(p.do(http.MethodGet, key+"/tags", "", 200), json.Number("2"), "existTagsNum")
	status := p.post("get-key-rotation-status", named)
	p.want(status, false, "key_rotation_enabled")
	p.want(status, json.Number("0"), "rotation_interval") // another would be refused in its next plan
	p.post("enable-key-rotation", named)
	p.post("update-key-rotation-interval", fmt.Sprintf(`{"key_id":%q,"rotation_interval":200}`, key))
	p.want(p.post("get-key-rotation-status", named), json.Number("200"), "rotation_interval")
	p.post("update-key-alias", fmt.Sprintf(`{"key_id":%q,"key_alias":"terraform/renamed"}`, key))
	p.post("update-key-description", fmt.Sprintf(`{"key_id":%q,"key_description":"described"}`, key))
	p.post("disable-key", named)
	p.post("enable-key", named)
	p.do(http.MethodPost, key+"/tags/action", `{"action":"delete","tags":[{"key":"empty","value":""}]}`, 200, 204)

	// Data source huaweicloud_kms_key and _keys.
	p.pages("list-keys", `{"key_spec":"ALL","limit":100,"marker":%q}`, "key_details")
	p.pages("list-keys", `{"limit":"","marker":%q,"key_state":"2","enterprise_project_id":"all"}`, "key_details")
	for _, limit := range []string{`100`, `2000`, `"2000"`} {
		found := p.post("list-keys", `{"key_spec":"ALL","limit":`+limit+`}`)
		p.want(found, "", "next_marker")
	}
	for offset := 0; ; offset++ {
		found := p.post("resource_instances/action", fmt.Sprintf(`{"action":"filter","limit":1,"offset":%d,"tags":[{"key":"owner","values":["terraform"]}]}`, offset))
		p.want(found, json.Number("1"), "total_count")
		if resources := found["resources"].([]any); len(resources) == 0 {
			break
		}
		p.want(found, key, "resources", 0, "resource_id")
		p.want(found, "terraform", "resources", 0, "tags", 0, "value")
	}

	// Resource huaweicloud_kms_alias: the list is an object to whoever is not the new SDK.
	p.do(http.MethodPost, "aliases", fmt.Sprintf(`{"key_id":%q,"alias":"alias/terraform"}`, key), 200, 201, 202)
	found := p.do(http.MethodGet, "aliases?limit=50&key_id="+url.QueryEscape(key), "", 200)
	p.want(found, "alias/terraform", "aliases", 0, "alias")
	p.want(found, "", "page_info", "next_marker")
	p.want(found, json.Number("1"), "page_info", "current_count")
	p.do(http.MethodDelete, "aliases", fmt.Sprintf(`{"key_id":%q,"aliases":["alias/terraform"]}`, key), 204)

	// Resource huaweicloud_kms_data_encrypt and data source _data_decrypt, which wants both forms of the plaintext.
	sealed := p.filled(p.post("encrypt-data", fmt.Sprintf(`{"key_id":%q,"plain_text":"a secret","encryption_algorithm":"SYMMETRIC_DEFAULT"}`, key)), "cipher_text")
	opened := p.post("decrypt-data", fmt.Sprintf(`{"cipher_text":%q,"encryption_algorithm":"SYMMETRIC_DEFAULT"}`, sealed))
	p.want(opened, "a secret", "plain_text")
	p.filled(opened, "plain_text_base64")

	// Data source huaweicloud_kms_grants asks for longer pages than there are.
	for _, limit := range []string{`1000`, `"1000"`, `9223372036854775807`} {
		p.want(p.post("list-grants", fmt.Sprintf(`{"key_id":%q,"limit":%s}`, key, limit)), json.Number("0"), "total")
	}
	p.do(http.MethodPost, "list-grants", fmt.Sprintf(`{"key_id":%q,"limit":0}`, key), 400)
	p.do(http.MethodGet, "aliases?limit=5000", "", 200)

	asymmetric := p.key(`{"key_alias":"terraform/ec","key_spec":"EC_P384"}`)
	p.want(p.post("get-key-rotation-status", fmt.Sprintf(`{"key_id":%q}`, asymmetric)), false, "key_rotation_enabled")
	for _, id := range []string{key, asymmetric} {
		p.want(p.post("schedule-key-deletion", fmt.Sprintf(`{"key_id":%q,"pending_days":"7","sequence":""}`, id)), "4", "key_state")
	}
	p.want(p.do(http.MethodPost, "describe-key", fmt.Sprintf(`{"key_id":%q}`, nowhere), 404), "KMS.0207", "error", "error_code")
}

// pages asks for pages until next_marker is empty.
func (p *plain) pages(path, body, list string) {
	p.Helper()
	for marker := "0"; marker != ""; {
		page := p.post(path, fmt.Sprintf(body, marker))
		if len(p.at(page, list).([]any)) == 0 && marker == "0" {
			p.Errorf("%s is empty", list)
		}
		marker = p.at(page, "next_marker").(string)
	}
}

// TestGolangsdk does what the SDK before the present one does, which the Open Telekom Cloud's tools still use. It takes
// 200 alone from most operations, and fails where an answer has no JSON.
func TestGolangsdk(t *testing.T) {
	p := newPlain(t, "golangsdk/2.0.0", signCredential)
	key := p.key(`{"key_alias":"golangsdk/key","key_description":"d","realm":"local","key_policy":"","key_usage":"","key_type":""}`)
	named := fmt.Sprintf(`{"key_id":%q,"sequence":""}`, key)
	p.want(p.post("describe-key", named), key, "key_info", "key_id")
	for _, op := range []string{"disable-key", "enable-key"} {
		p.want(p.post(op, named), key, "key_info", "key_id")
	}
	// The context is a string there. A data key has 512 bits, and what shall hide its plaintext asks create-datakey too.
	context := `"encryption_context":"{\"origin\":\"golangsdk\"}"`
	made := p.post("create-datakey", fmt.Sprintf(`{"key_id":%q,%s,"datakey_length":"512"}`, key, context))
	opened := p.post("decrypt-datakey", fmt.Sprintf(`{"key_id":%q,%s,"cipher_text":%q,"datakey_cipher_length":"64"}`, key, context, p.filled(made, "cipher_text")))
	p.want(opened, p.filled(made, "plain_text"), "data_key")
	// The same context as an object opens it, and in lower case.
	opened = p.post("decrypt-datakey", fmt.Sprintf(`{"key_id":%q,"encryption_context":{"origin":"golangsdk"},"cipher_text":%q,"datakey_cipher_length":64}`,
		key, strings.ToLower(p.filled(made, "cipher_text"))))
	p.want(opened, p.filled(made, "plain_text"), "data_key")
	own := make([]byte, 64)
	digest := sha256.Sum256(own)
	plainText := hex.EncodeToString(own) + hex.EncodeToString(digest[:])
	p.want(p.post("encrypt-datakey", fmt.Sprintf(`{"key_id":%q,%s,"plain_text":%q,"datakey_plain_length":"64"}`, key, context, plainText)), "64", "datakey_length")

	sealed := p.post("encrypt-data", fmt.Sprintf(`{"key_id":%q,%s,"plain_text":"hello","encryption_algorithm":"SYMMETRIC_DEFAULT"}`, key, context))
	p.want(p.post("decrypt-data", fmt.Sprintf(`{"cipher_text":%q,%s}`, p.filled(sealed, "cipher_text"), context)), base64.StdEncoding.EncodeToString([]byte("hello")), "plain_text_base64")

	// Empty answers are an object.
	for _, op := range []string{"enable-key-rotation", "disable-key-rotation"} {
		if answer := p.post(op, named); len(answer) != 0 {
			t.Errorf("%s: %v", op, answer)
		}
	}
	p.want(p.post("list-keys", `{"limit":"1000","marker":""}`), "false", "truncated")
	p.want(p.post("schedule-key-deletion", fmt.Sprintf(`{"key_id":%q,"pending_days":"7"}`, key)), "4", "key_state")
	p.want(p.post("cancel-key-deletion", named), "3", "key_state")
	p.post("schedule-key-deletion", fmt.Sprintf(`{"key_id":%q,"pending_days":1096}`, key))

	// It reads error.error_code and error.error_msg, and logs in again on 401.
	p.filled(p.do(http.MethodPost, "enable-key", named, 400), "error", "error_msg")
	p.SecretKey += "x"
	p.want(p.do(http.MethodPost, "describe-key", named, 401), "APIGW.0301", "error_code")
}
