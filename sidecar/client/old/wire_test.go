package client

import (
	"context"
	"encoding/hex"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// wireCase is one call: what goes over the wire, and what is made of the answer. Answers have the JSON types that the
// cloud's own SDK insists on.
type wireCase struct {
	method string
	call   func(context.Context, *Client) (any, error)
	sent   string // method and path below /v1.0/p1/kms/, unless that begins with a slash
	body   string
	status int // of the answer; 0: 200
	answer string
	want   any
}

func nothing(err error) (any, error) { return nil, err }

// result hides a result's type, so that calls of all types fit in one table.
func result[T any](v T, err error) (any, error) { return v, err }

var bytes4 = []byte{0xde, 0xad, 0xbe, 0xef}

const (
	digest4 = "5f78c33274e43fa9de5659265c1d917e25c03722dcb0b8d27db8d5feaa813953" // SHA-256 of bytes4
	details = `{"key_id":"k","domain_id":"d","key_alias":"a","realm":"r","key_spec":"AES_256","key_usage":"ENCRYPT_DECRYPT",` +
		`"key_description":"","creation_date":"1502799822000","key_state":"4","origin":"kms","scheduled_deletion_date":"1502799823000",` +
		`"default_key_flag":"1","key_type":"1","expiration_time":"","key_rotation_enabled":"true","sys_enterprise_project_id":"0","keystore_id":"0",` +
		`"opened_in":"driver","check_value":"0011223344556677"}`
	grant = `{"key_id":"k","grant_id":"g","grantee_principal":"app","grantee_principal_type":"user","operations":["sign"],` +
		`"issuing_principal":"owner","creation_date":"1502799822000","name":"n","retiring_principal":"boss",` +
		`"encryption_context_equals":{"a":"b"},"expires_at":"7","source":"gid:1","parent_grant_id":"p"}`
	alias = `{"domain_id":"d","key_id":"k","alias":"x","alias_urn":"kms:r:d:alias:x","create_time":"2024-01-02T03:04:05Z","update_time":"2024-01-02T03:04:06Z"}`
)

var (
	wantKey = Key{ID: "k", Alias: "a", Spec: "AES_256", Usage: "ENCRYPT_DECRYPT", Origin: "kms", State: PendingDeletion,
		Created: "1502799822000", Deletion: "1502799823000", Default: "1", Rotates: "true", Realm: "r", DomainID: "d",
		CheckValue: "0011223344556677", OpenedIn: "driver"}
	wantAlias = Alias{Name: "x", KeyID: "k", URN: "kms:r:d:alias:x",
		Created: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC), Updated: time.Date(2024, 1, 2, 3, 4, 6, 0, time.UTC)}
	wantCredential = Credential{AccessKey: "AK", SecretKey: "s", ProjectID: "p", User: "u", Role: "service:obs", Created: wantAlias.Created}

	wantGrant = Grant{KeyID: "k", ID: "g", Name: "n", Grantee: "app", Kind: "user", Operations: []string{"sign"}, Retiring: "boss",
		Issuer: "owner", Created: time.UnixMilli(1502799822000), Parent: "p", GrantLimits: GrantLimits{
			ContextEquals: map[string]string{"a": "b"}, Expires: time.Unix(7, 0), Source: "gid:1"}}

	bound = Bound{Context: map[string]string{"c": "d"}, AAD: "e"}
)

const boundBody = `"encryption_context":{"c":"d"},"additional_authenticated_data":"e"`

var wireCases = []wireCase{
	{"CreateCredential", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateCredential(ctx, "u", "service:obs"))
	}, "POST /keyside/v1/credentials", `{"role":"service:obs","user":"u"}`,
		0, `{"secret_key":"s","access_key":"AK","project_id":"p","user":"u","role":"service:obs","created":"2024-01-02T03:04:05Z"}`, &wantCredential},
	{"ListCredentials", func(ctx context.Context, c *Client) (any, error) { return result(c.ListCredentials(ctx)) },
		"GET /keyside/v1/credentials", ``, 0,
		`{"credentials":[{"access_key":"AK","user":"u","role":"none","created":"2024-01-02T03:04:05Z"}]}`,
		[]Credential{{AccessKey: "AK", User: "u", Role: RoleNone, Created: wantAlias.Created}}},
	{"DeleteCredential", func(ctx context.Context, c *Client) (any, error) { return nothing(c.DeleteCredential(ctx, "A&B")) },
		"DELETE /keyside/v1/credentials?access_key=A%26B", ``, 0, `{}`, nil},
	{"CreateToken", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateToken(ctx, "u", 90*time.Second))
	}, "POST /keyside/v1/tokens", `{"ttl_seconds":90,"user":"u"}`,
		0, `{"token":"t","user":"u","role":"none","expires":"2024-01-02T03:04:05Z"}`,
		&Token{Token: "t", User: "u", Role: RoleNone, Expires: wantAlias.Created}},

	{"QueryAudit", func(ctx context.Context, c *Client) (any, error) {
		var got []AuditEntry
		err := c.QueryAudit(ctx, AuditQuery{Since: time.Unix(7, 0).UTC(), Principal: "p", KeyID: "k", Operation: "o", Decision: "deny", Outcome: "x",
			RequestID: "r", Last: 3, Follow: true}, func(e *AuditEntry) error {
			e.Entry = e.Entry.Clone()
			got = append(got, *e)
			return nil
		})
		return got, err
	}, "POST /keyside/v1/audit/query", `{"since":"1970-01-01T00:00:07Z","principal":"p","key_id":"k","operation":"o","decision":"deny","outcome":"x",` +
		`"request_id":"r","last":3,"follow":true}`, 0,
		`{"record":4,"file":"f","line":2,"entry":{"a":1}}` + "\n" + `{"record":5,"file":"f","line":3,"entry":{}}` + "\n",
		[]AuditEntry{{4, "f", 2, []byte(`{"a":1}`)}, {5, "f", 3, []byte(`{}`)}}},
	{"VerifyAudit", func(ctx context.Context, c *Client) (any, error) { return result(c.VerifyAudit(ctx, "v")) },
		"POST /keyside/v1/audit/verify", `{"key":"v"}`, 0,
		`{"origin":"o","keys":["v"],"first":1,"records":9,"signed":8,"findings":[{"kind":"changed","file":"f","record":3,"line":2,"detail":"d"}]}`,
		&AuditReport{Origin: "o", Keys: []string{"v"}, First: 1, Records: 9, Signed: 8,
			Findings: []AuditFinding{{Kind: "changed", File: "f", Record: 3, Line: 2, Detail: "d"}}}},
	{"ExportAudit", func(ctx context.Context, c *Client) (any, error) {
		var got []byte
		err := c.ExportAudit(ctx, func(r io.Reader) (err error) { got, err = io.ReadAll(r); return err })
		return string(got), err
	}, "POST /keyside/v1/audit/export", `{}`, 0, `archive`, "archive"},

	{"CreateKey", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateKey(ctx, CreateKeyRequest{Alias: "a", Description: "d", Spec: "EC_P256", Usage: "SIGN_VERIFY", Origin: "kms"}))
	}, "POST create-key", `{"key_alias":"a","key_description":"d","key_spec":"EC_P256","key_usage":"SIGN_VERIFY","origin":"kms"}`,
		0, `{"key_info":{"key_id":"k","domain_id":"d"}}`, "k"},
	{"DescribeKey", func(ctx context.Context, c *Client) (any, error) { return result(c.DescribeKey(ctx, "k")) },
		"POST describe-key", `{"key_id":"k"}`, 0, `{"key_info":` + details + `}`, &wantKey},
	{"ListKeys", func(ctx context.Context, c *Client) (any, error) {
		return result(c.ListKeys(ctx, ListKeysRequest{State: string(Disabled), Limit: 2, Marker: "4"}))
	}, "POST list-keys", `{"key_spec":"ALL","key_state":"3","limit":2,"marker":"4"}`,
		0, `{"keys":["k"],"key_details":[` + details + `],"next_marker":"6","truncated":"true","total":7}`,
		&KeyPage{Keys: []Key{wantKey}, Total: 7, Next: "6"}},
	{"EnableKey", func(ctx context.Context, c *Client) (any, error) { return result(c.EnableKey(ctx, "k")) },
		"POST enable-key", `{"key_id":"k"}`, 0, `{"key_info":{"key_id":"k","key_state":"2"}}`, Enabled},
	{"DisableKey", func(ctx context.Context, c *Client) (any, error) { return result(c.DisableKey(ctx, "k")) },
		"POST disable-key", `{"key_id":"k"}`, 0, `{"key_info":{"key_id":"k","key_state":"3"}}`, Disabled},
	{"ScheduleKeyDeletion", func(ctx context.Context, c *Client) (any, error) {
		return result(c.ScheduleKeyDeletion(ctx, "k", 7))
	}, "POST schedule-key-deletion", `{"key_id":"k","pending_days":"7"}`, 0, `{"key_id":"k","key_state":"4"}`, PendingDeletion},
	{"CancelKeyDeletion", func(ctx context.Context, c *Client) (any, error) { return result(c.CancelKeyDeletion(ctx, "k")) },
		"POST cancel-key-deletion", `{"key_id":"k"}`, 0, `{"key_id":"k","key_state":"5"}`, PendingImport},
	{"UpdateKeyAlias", func(ctx context.Context, c *Client) (any, error) { return nothing(c.UpdateKeyAlias(ctx, "k", "b")) },
		"POST update-key-alias", `{"key_id":"k","key_alias":"b"}`, 0, `{"key_info":{"key_id":"k","key_alias":"b"}}`, nil},
	{"UpdateKeyDescription", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.UpdateKeyDescription(ctx, "k", ""))
	}, "POST update-key-description", `{"key_id":"k","key_description":""}`, 0, `{"key_info":{"key_id":"k","key_description":""}}`, nil},
	{"PublicKey", func(ctx context.Context, c *Client) (any, error) { return result(c.PublicKey(ctx, "k")) },
		"POST get-publickey", `{"key_id":"k"}`, 0, `{"key_id":"k","public_key":"P\r\n"}`, "P\r\n"},

	{"EnableKeyRotation", func(ctx context.Context, c *Client) (any, error) { return nothing(c.EnableKeyRotation(ctx, "k")) },
		"POST enable-key-rotation", `{"key_id":"k"}`, 0, `{}`, nil},
	{"UpdateKeyRotationInterval", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.UpdateKeyRotationInterval(ctx, "k", 30))
	}, "POST update-key-rotation-interval", `{"key_id":"k","rotation_interval":30}`, 0, `{}`, nil},
	{"DisableKeyRotation", func(ctx context.Context, c *Client) (any, error) { return nothing(c.DisableKeyRotation(ctx, "k")) },
		"POST disable-key-rotation", `{"key_id":"k"}`, 0, `{}`, nil},
	{"RotationStatus", func(ctx context.Context, c *Client) (any, error) { return result(c.RotationStatus(ctx, "k")) },
		"POST get-key-rotation-status", `{"key_id":"k"}`, 0,
		`{"key_rotation_enabled":true,"rotation_interval":30,"last_rotation_time":"1502799822000","number_of_rotations":3}`,
		&Rotation{Enabled: true, Interval: 30, Last: "1502799822000", Count: 3}},

	{"CreateTag", func(ctx context.Context, c *Client) (any, error) { return nothing(c.CreateTag(ctx, "k", Tag{"a", ""})) },
		"POST k/tags", `{"tag":{"key":"a","value":""}}`, 204, ``, nil},
	{"CreateTags", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.CreateTags(ctx, "k", []Tag{{"a", "b"}}))
	}, "POST k/tags/action", `{"action":"create","tags":[{"key":"a","value":"b"}]}`, 204, ``, nil},
	{"DeleteTags", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.DeleteTags(ctx, "k", []Tag{{Key: "a"}}))
	}, "POST k/tags/action", `{"action":"delete","tags":[{"key":"a","value":""}]}`, 204, ``, nil},
	{"DeleteTag", func(ctx context.Context, c *Client) (any, error) { return nothing(c.DeleteTag(ctx, "k", "a b/ü")) },
		"DELETE k/tags/a%20b%2F%C3%BC", ``, 204, ``, nil},
	{"KeyTags", func(ctx context.Context, c *Client) (any, error) { return result(c.KeyTags(ctx, "k")) },
		"GET k/tags", ``, 0, `{"tags":[{"key":"a","value":"b"}],"existTagsNum":1,"sys_tags":[]}`, []Tag{{"a", "b"}}},
	{"ListTags", func(ctx context.Context, c *Client) (any, error) { return result(c.ListTags(ctx)) },
		"GET tags", ``, 0, `{"tags":[{"key":"a","values":["b","c"]}]}`, []TagValues{{"a", []string{"b", "c"}}}},
	{"FindKeys", func(ctx context.Context, c *Client) (any, error) {
		return result(c.FindKeys(ctx, FindKeysRequest{Tags: []TagValues{{"t", []string{"v"}}}, Alias: "a", Limit: 100, Offset: 200}))
	}, "POST resource_instances/action",
		`{"action":"filter","tags":[{"key":"t","values":["v"]}],"matches":[{"key":"resource_name","value":"a"}],"limit":"100","offset":"200"}`, 0,
		`{"resources":[{"resource_id":"k","resource_detail":` + details + `,"resource_name":"a","tags":[{"key":"t","value":"v"}]}],"total_count":201}`,
		&FoundKeys{Keys: []FoundKey{{wantKey, []Tag{{"t", "v"}}}}, Total: 201}},
	{"CountFoundKeys", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CountFoundKeys(ctx, FindKeysRequest{Alias: "a", Limit: 100, Offset: 5}))
	}, "POST resource_instances/action", `{"action":"count","matches":[{"key":"resource_name","value":"a"}]}`, 0,
		`{"resources":null,"total_count":3}`, 3},

	{"CreateGrant", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateGrant(ctx, Grant{KeyID: "k", Name: "n", Grantee: "app", Kind: "user", Operations: []string{"encrypt-data"},
			Retiring: "boss", GrantLimits: GrantLimits{ContextSubset: map[string]string{"a": "b"}, Expires: time.Unix(7, 0), Source: "uid:1"}}))
	}, "POST create-grant", `{"key_id":"k","name":"n","grantee_principal":"app","grantee_principal_type":"user","operations":["encrypt-data"],` +
		`"retiring_principal":"boss","encryption_context_subset":{"a":"b"},"expires_at":"7","source":"uid:1"}`, 0, `{"grant_id":"g"}`, "g"},
	{"CreateGrant", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateGrant(ctx, Grant{KeyID: "k", Grantee: "app", Operations: []string{"encrypt-data"},
			GrantLimits: GrantLimits{ContextEquals: map[string]string{}}}))
	}, "POST create-grant", `{"key_id":"k","grantee_principal":"app","operations":["encrypt-data"],"encryption_context_equals":{}}`, 0,
		`{"grant_id":"g"}`, "g"},
	{"ListGrants", func(ctx context.Context, c *Client) (any, error) { return result(c.ListGrants(ctx, "k", "1")) },
		"POST list-grants", `{"key_id":"k","marker":"1"}`, 0, `{"grants":[` + grant + `],"next_marker":"2","truncated":"true","total":3}`,
		&GrantPage{Grants: []Grant{wantGrant}, Next: "2", Total: 3}},
	{"ListRetirableGrants", func(ctx context.Context, c *Client) (any, error) { return result(c.ListRetirableGrants(ctx, "")) },
		"POST list-retirable-grants", `{}`, 0, `{"grants":[],"next_marker":"","truncated":"false","total":0}`, &GrantPage{}},
	{"RevokeGrant", func(ctx context.Context, c *Client) (any, error) { return nothing(c.RevokeGrant(ctx, "k", "g")) },
		"POST revoke-grant", `{"key_id":"k","grant_id":"g"}`, 0, `{}`, nil},
	{"RetireGrant", func(ctx context.Context, c *Client) (any, error) { return nothing(c.RetireGrant(ctx, "k", "g")) },
		"POST retire-grant", `{"key_id":"k","grant_id":"g"}`, 0, `{}`, nil},
	{"CanI", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CanI(ctx, CanIRequest{Operation: "sign", Key: "k", As: "app", Context: map[string]string{"a": "b"}}))
	}, "POST /keyside/v1/can-i", `{"operation":"sign","key":"k","as":"app","encryption_context":{"a":"b"}}`, 0,
		`{"allowed":false,"reason":"r","hints":["h"],"user":"app","role":"none"}`,
		&Decision{Reason: "r", Hints: []string{"h"}, User: "app", Role: RoleNone}},
	{"CreateAlias", func(ctx context.Context, c *Client) (any, error) { return result(c.CreateAlias(ctx, "k", "x")) },
		"POST aliases", `{"key_id":"k","alias":"x"}`, 201, alias, &wantAlias},
	{"AssociateAlias", func(ctx context.Context, c *Client) (any, error) { return result(c.AssociateAlias(ctx, "x", "k")) },
		"POST alias/associate", `{"alias":"x","target_key_id":"k"}`, 0, alias, &wantAlias},
	{"DeleteAliases", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.DeleteAliases(ctx, "k", []string{"x", "y"}))
	}, "DELETE aliases", `{"key_id":"k","aliases":["x","y"]}`, 204, ``, nil},
	{"ListAliases", func(ctx context.Context, c *Client) (any, error) {
		return result(c.ListAliases(ctx, ListAliasesRequest{KeyID: "k", Limit: 1, Marker: "alias/w"}))
	}, "GET aliases?key_id=k&limit=1&marker=alias%2Fw", ``, 0,
		`{"aliases":[` + alias + `],"page_info":{"next_marker":"x","current_count":1}}`,
		&AliasPage{Aliases: []Alias{wantAlias}, Next: "x"}},

	{"Quotas", func(ctx context.Context, c *Client) (any, error) { return result(c.Quotas(ctx)) }, "GET user-quotas", ``, 0,
		`{"quotas":{"resources":[{"type":"CMK","used":1,"quota":100},{"type":"grant_per_CMK","used":0,"quota":50}]}}`,
		[]Quota{{"CMK", 1, 100}, {"grant_per_CMK", 0, 50}}},
	{"CountKeys", func(ctx context.Context, c *Client) (any, error) { return result(c.CountKeys(ctx)) },
		"GET user-instances", ``, 0, `{"instance_num":3}`, 3},
	{"Versions", func(ctx context.Context, c *Client) (any, error) { return result(c.Versions(ctx)) }, "GET /", ``, 0,
		`{"versions":[{"id":"v1.0","links":[],"version":"","status":"CURRENT","updated":"2018-09-05T08:18:05Z","min_version":""}]}`,
		[]Version{{"v1.0", "CURRENT", "2018-09-05T08:18:05Z"}}},
	{"Version", func(ctx context.Context, c *Client) (any, error) { return result(c.Version(ctx, "v1.0")) }, "GET /v1.0", ``, 0,
		`{"version":{"id":"v1.0","status":"CURRENT","updated":"u"}}`, &Version{"v1.0", "CURRENT", "u"}},

	{"Encrypt", func(ctx context.Context, c *Client) (any, error) {
		return result(c.Encrypt(ctx, EncryptRequest{KeyID: "k", Plaintext: "p", Bound: bound}))
	}, "POST encrypt-data", `{"key_id":"k","plain_text":"p",` + boundBody + `}`, 0, `{"key_id":"k","cipher_text":"c"}`, "c"},
	{"Encrypt", func(ctx context.Context, c *Client) (any, error) {
		return result(c.Encrypt(ctx, EncryptRequest{KeyID: "k", Plaintext: "p", Algorithm: RSAOAEPSHA256}))
	}, "POST encrypt-data", `{"key_id":"k","plain_text":"p","encryption_algorithm":"RSAES_OAEP_SHA_256"}`, 0,
		`{"key_id":"k","cipher_text":"c"}`, "c"},
	{"Decrypt", func(ctx context.Context, c *Client) (any, error) {
		return result(c.Decrypt(ctx, DecryptRequest{KeyID: "k", Ciphertext: "c", Algorithm: RSAOAEPSHA256}))
	}, "POST decrypt-data", `{"cipher_text":"c","key_id":"k","encryption_algorithm":"RSAES_OAEP_SHA_256"}`, 0,
		`{"key_id":"k","plain_text":"?","plain_text_base64":"3q2+7w=="}`, &Decrypted{"k", bytes4}},
	{"ReEncrypt", func(ctx context.Context, c *Client) (any, error) {
		return result(c.ReEncrypt(ctx, ReEncryptRequest{Ciphertext: "c", SourceKeyID: "k", SourceAlgorithm: RSAOAEPSHA1, SourceAAD: "s",
			DestinationKeyID: "l", DestinationAlgorithm: SymmetricDefault, DestinationAAD: "d"}))
	}, "POST re-encrypt", `{"cipher_text":"c","source_key_id":"k","source_encryption_algorithm":"RSAES_OAEP_SHA_1",` +
		`"source_additional_authenticated_data":"s","destination_key_id":"l","destination_encryption_algorithm":"SYMMETRIC_DEFAULT",` +
		`"destination_additional_authenticated_data":"d"}`, 0,
		`{"key_id":"l","source_key_id":"k","source_encryption_algorithm":"A","destination_encryption_algorithm":"B","cipher_text":"e"}`,
		&ReEncrypted{KeyID: "l", Algorithm: "B", SourceKeyID: "k", SourceAlgorithm: "A", Ciphertext: "e"}},
	{"Random", func(ctx context.Context, c *Client) (any, error) { return result(c.Random(ctx, 4)) },
		"POST gen-random", `{"random_data_length":"32"}`, 0, `{"random_data":"DEADBEEF"}`, bytes4},

	{"CreateDataKey", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateDataKey(ctx, DataKeyRequest{"k", 4, bound}))
	}, "POST create-datakey", `{"key_id":"k","datakey_length":"32",` + boundBody + `}`, 0,
		`{"key_id":"k","plain_text":"DEADBEEF","cipher_text":"DEADBEEF"}`, &DataKey{"k", bytes4, bytes4}},
	{"CreateDataKeyWithoutPlaintext", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateDataKeyWithoutPlaintext(ctx, DataKeyRequest{KeyID: "k", Bytes: 4}))
	}, "POST create-datakey-without-plaintext", `{"key_id":"k","datakey_length":"32"}`, 0,
		`{"key_id":"k","cipher_text":"DEADBEEF"}`, &DataKey{"k", nil, bytes4}},
	{"EncryptDataKey", func(ctx context.Context, c *Client) (any, error) {
		return result(c.EncryptDataKey(ctx, EncryptDataKeyRequest{"k", bytes4, bound}))
	}, "POST encrypt-datakey", `{"key_id":"k","plain_text":"deadbeef` + digest4 + `","datakey_plain_length":"4",` + boundBody + `}`, 0,
		`{"key_id":"k","cipher_text":"DEADBEEF","datakey_length":"4"}`, bytes4},
	{"DecryptDataKey", func(ctx context.Context, c *Client) (any, error) {
		return result(c.DecryptDataKey(ctx, DecryptDataKeyRequest{"k", bytes4, 4, bound}))
	}, "POST decrypt-datakey", `{"key_id":"k","cipher_text":"deadbeef","datakey_cipher_length":"4",` + boundBody + `}`, 0,
		`{"data_key":"DEADBEEF","datakey_length":"4","datakey_dgst":"` + digest4 + `"}`, bytes4},
	{"CreateDataKeyPair", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateDataKeyPair(ctx, DataKeyPairRequest{KeyID: "k", Spec: "RSA_2048", AAD: "e"}))
	}, "POST create-rsa-datakey-pair", `{"key_id":"k","key_spec":"RSA_2048","additional_authenticated_data":"e","with_plain_text":true}`, 0,
		`{"key_id":"k","key_spec":"RSA_2048","public_key":"3q2+7w==","private_key_cipher_text":"3q2+7w==","private_key_plain_text":"3q2+7w=="}`,
		&DataKeyPair{"k", "RSA_2048", bytes4, bytes4, bytes4}},
	{"CreateDataKeyPair", func(ctx context.Context, c *Client) (any, error) {
		return result(c.CreateDataKeyPair(ctx, DataKeyPairRequest{KeyID: "k", Spec: "ECC_NIST_P256", WithoutPlaintext: true}))
	}, "POST create-ec-datakey-pair", `{"key_id":"k","key_spec":"ECC_NIST_P256","with_plain_text":false}`, 0,
		`{"key_id":"k","key_spec":"ECC_NIST_P256","public_key":"3q2+7w==","private_key_cipher_text":"3q2+7w=="}`,
		&DataKeyPair{"k", "ECC_NIST_P256", bytes4, nil, bytes4}},

	{"GetImportParameters", func(ctx context.Context, c *Client) (any, error) {
		return result(c.GetImportParameters(ctx, ImportParametersRequest{KeyID: "k", Algorithm: "RSAES_OAEP_SHA_256"}))
	}, "POST get-parameters-for-import", `{"key_id":"k","wrapping_algorithm":"RSAES_OAEP_SHA_256"}`, 0,
		`{"key_id":"k","import_token":"3q2+7w==","expiration_time":1501578672,"public_key":"3q2+7w=="}`,
		&ImportParameters{KeyID: "k", PublicKey: bytes4, Token: bytes4, Expires: time.Unix(1501578672, 0)}},
	{"GetImportParameters", func(ctx context.Context, c *Client) (any, error) {
		return result(c.GetImportParameters(ctx, ImportParametersRequest{"k", "RSAES_OAEP_SHA_1", "RSA_4096", true, true}))
	}, "POST get-parameters-for-import",
		`{"key_id":"k","wrapping_algorithm":"RSAES_OAEP_SHA_1","wrapping_key_spec":"RSA_4096","only_last":true,"repeat":true}`, 0,
		`{"key_id":"k","import_token":"3q2+7w==","expiration_time":1,"public_key":"3q2+7w==","warning":"w"}`,
		&ImportParameters{"k", bytes4, bytes4, time.Unix(1, 0), "w"}},
	{"ImportKeyMaterial", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.ImportKeyMaterial(ctx, ImportRequest{KeyID: "k", Token: bytes4, Material: bytes4}))
	}, "POST import-key-material", `{"key_id":"k","import_token":"3q2+7w==","encrypted_key_material":"3q2+7w=="}`, 0, `{}`, nil},
	{"ImportKeyMaterial", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.ImportKeyMaterial(ctx, ImportRequest{"k", bytes4, bytes4, bytes4, time.Unix(7, 0), bytes4, true}))
	}, "POST import-key-material", `{"key_id":"k","import_token":"3q2+7w==","encrypted_key_material":"3q2+7w==",` +
		`"encrypted_privatekey":"3q2+7w==","expiration_time":7,"check_value":"deadbeef","repeat":true}`, 0, `{}`, nil},
	{"DeleteImportedKeyMaterial", func(ctx context.Context, c *Client) (any, error) {
		return nothing(c.DeleteImportedKeyMaterial(ctx, "k"))
	}, "POST delete-imported-key-material", `{"key_id":"k"}`, 0, `{}`, nil},

	{"Sign", func(ctx context.Context, c *Client) (any, error) {
		return result(c.Sign(ctx, SignRequest{"k", "ECDSA_SHA_256", bytes4, true}))
	}, "POST sign", `{"key_id":"k","signing_algorithm":"ECDSA_SHA_256","message":"3q2+7w==","message_type":"DIGEST"}`, 0,
		`{"key_id":"k","signature":"3q2+7w=="}`, bytes4},
	{"Verify", func(ctx context.Context, c *Client) (any, error) {
		return result(c.Verify(ctx, SignRequest{"k", "ECDSA_SHA_256", bytes4, false}, bytes4))
	}, "POST verify", `{"key_id":"k","signing_algorithm":"ECDSA_SHA_256","message":"3q2+7w==","message_type":"RAW","signature":"3q2+7w=="}`, 0,
		`{"key_id":"k","signature_valid":"true"}`, true},
	{"GenerateMAC", func(ctx context.Context, c *Client) (any, error) {
		return result(c.GenerateMAC(ctx, MACRequest{"k", "HMAC_SHA_256", bytes4}))
	}, "POST generate-mac", `{"key_id":"k","mac_algorithm":"HMAC_SHA_256","message":"3q2+7w=="}`, 0,
		`{"key_id":"k","mac_algorithm":"HMAC_SHA_256","mac":"deadbeef"}`, bytes4},
	{"VerifyMAC", func(ctx context.Context, c *Client) (any, error) {
		return result(c.VerifyMAC(ctx, MACRequest{"k", "HMAC_SHA_256", bytes4}, bytes4))
	}, "POST verify-mac", `{"key_id":"k","mac_algorithm":"HMAC_SHA_256","message":"3q2+7w==","mac":"deadbeef"}`, 0,
		`{"key_id":"k","mac_algorithm":"HMAC_SHA_256","mac_valid":true}`, true},
	{"DeriveSharedSecret", func(ctx context.Context, c *Client) (any, error) {
		return result(c.DeriveSharedSecret(ctx, "k", bytes4))
	}, "POST derive-shared-secret", `{"key_id":"k","key_agreement_algorithm":"ECDH","public_key":"3q2+7w=="}`, 0,
		`{"key_id":"k","key_agreement_algorithm":"ECDH","shared_secret":"3q2+7w=="}`, bytes4},
}

// TestWire compares every call with what the cloud documents, in both directions.
func TestWire(t *testing.T) {
	for _, w := range wireCases {
		var sent, body string
		c := serve(t, func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == HealthPath {
				_, _ = rw.Write([]byte(health))
				return
			}
			b, _ := io.ReadAll(r.Body)
			sent, body = r.Method+" "+strings.TrimPrefix(r.RequestURI, "/v1.0/p1/kms/"), string(b)
			rw.WriteHeader(max(w.status, http.StatusOK))
			_, _ = rw.Write([]byte(w.answer))
		})
		got, err := w.call(t.Context(), c)
		if err != nil || !reflect.DeepEqual(got, w.want) {
			t.Errorf("%s: %+v, %v; want %+v", w.method, got, err, w.want)
		}
		if sent != w.sent || body != w.body {
			t.Errorf("%s sent\n%s\n%s, want\n%s\n%s", w.method, sent, body, w.sent, w.body)
		}
	}
}

// TestWireIsTotal holds that no operation of the client is missing above.
func TestWireIsTotal(t *testing.T) {
	// Keyside's own routes: tests of package sidecar.
	elsewhere := map[string]bool{"Close": true, "Health": true, "HSMStatus": true}
	for _, w := range wireCases {
		elsewhere[w.method] = true
	}
	for m := range reflect.TypeFor[*Client]().Methods() {
		if !elsewhere[m.Name] {
			t.Errorf("no wire case for %s", m.Name)
		}
	}
}

// TestStrictAnswers refuses answers whose JSON has other types than the cloud's, and repeats nothing of them.
func TestStrictAnswers(t *testing.T) {
	var answer string
	c := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path == HealthPath {
			_, _ = rw.Write([]byte(health))
			return
		}
		_, _ = rw.Write([]byte(answer))
	})
	secret := hex.EncodeToString(bytes4)
	for _, s := range []struct {
		answer string
		call   func(context.Context) error
	}{
		{`{"mac_valid":"` + secret + `"}`, func(ctx context.Context) error { _, err := c.VerifyMAC(ctx, MACRequest{}, nil); return err }},
		{`{"signature_valid":true}`, func(ctx context.Context) error { _, err := c.Verify(ctx, SignRequest{}, nil); return err }},
		{`{"shared_secret":"` + secret + `!"}`, func(ctx context.Context) error { _, err := c.DeriveSharedSecret(ctx, "k", nil); return err }},
		{`{"plain_text":"` + secret + `!"}`, func(ctx context.Context) error { _, err := c.CreateDataKey(ctx, DataKeyRequest{}); return err }},
		{`{"total_count":"3"}`, func(ctx context.Context) error { _, err := c.FindKeys(ctx, FindKeysRequest{}); return err }},
		{secret, func(ctx context.Context) error { _, err := c.Quotas(ctx); return err }},
		{`{"public_key":"3q2+7w==","private_key_cipher_text":"3q2+7w=="}`, func(ctx context.Context) error {
			_, err := c.CreateDataKeyPair(ctx, DataKeyPairRequest{})
			return err
		}},
	} {
		answer = s.answer
		if err := s.call(t.Context()); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", s.answer, err)
		}
	}
}
