package huawei

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
)

// TestAnswersAreExact holds every answer's JSON types to the reference: the strictest SDK fails on a number where it
// expects a string.
func TestAnswersAreExact(t *testing.T) {
	s := newServer(t, os.Getuid())
	samples := newSamples(s)
	for i := range routes {
		rt := &routes[i]
		name := rt.Method + " " + rt.Path
		want, ok := answerTypes[name]
		if !ok {
			t.Fatalf("%s is in no table", name)
		}
		q := s.request(rt, samples.of(rt).right)
		a := s.send(q.method, q.path, q.body)
		if a.status != want.status {
			t.Errorf("%s: %d %s, want %d", name, a.status, a.body, want.status)
			continue
		}
		got := map[string]string{}
		if a.status != http.StatusNoContent {
			var v any
			if err := json.Unmarshal(a.body, &v); err != nil {
				t.Fatalf("%s: %d %s: %v", name, a.status, a.body, err)
			}
			shape("", v, got)
		}
		if text := fmt.Sprint(got); text != fmt.Sprint(want.types) {
			t.Errorf("%s answers with\n%v, want\n%v", name, text, want.types)
		}
	}
}

// shape notes the type of every leaf of a JSON value.
func shape(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			shape(strings.TrimPrefix(path+"."+name, "."), member, into)
		}
	case []any:
		if len(v) == 0 {
			into[path+"[]"] = "nothing"
		}
		for _, element := range v {
			shape(path+"[]", element, into)
		}
	case string:
		into[path] = "string"
	case float64:
		into[path] = "number"
	default:
		into[path] = fmt.Sprintf("%T", v)
	}
}

// answerType is an answer's status and the JSON types of its leaves, as the vendor's Go SDK v0.1.207 decodes them.
type answerType struct {
	status int
	types  map[string]string
}

var answerTypes = func() map[string]answerType {
	strs := func(names ...string) map[string]string {
		m := map[string]string{}
		for _, n := range names {
			m[n] = "string"
		}
		return m
	}
	in := func(name string, m map[string]string) map[string]string {
		out := map[string]string{}
		for n, kind := range m {
			out[name+"."+n] = kind
		}
		return out
	}
	and := func(maps_ ...map[string]string) map[string]string {
		out := map[string]string{}
		for _, m := range maps_ {
			maps.Copy(out, m)
		}
		return out
	}
	types := func(pairs ...string) map[string]string {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	key := strs("key_id", "domain_id", "key_alias", "realm", "key_spec", "key_usage", "key_description", "creation_date",
		"key_state", "origin", "scheduled_deletion_date", "default_key_flag", "key_type", "expiration_time",
		"key_rotation_enabled", "sys_enterprise_project_id", "keystore_id", "protection")
	state := strs("key_id", "key_state")
	aliasEntity := strs("domain_id", "key_id", "alias", "alias_urn", "create_time", "update_time")
	pair := strs("key_id", "key_spec", "public_key", "private_key_cipher_text", "private_key_plain_text")
	grants := and(in("grants[]", strs("key_id", "grant_id", "grantee_principal", "grantee_principal_type", "operations[]", "issuing_principal",
		"creation_date", "name", "retiring_principal")), types("next_marker", "string", "truncated", "string", "total", "number"))
	nothing := answerType{200, types()}
	noBody := answerType{204, types()}
	return map[string]answerType{
		"POST create-key":             {200, in("key_info", strs("key_id", "domain_id"))},
		"POST describe-key":           {200, in("key_info", key)},
		"POST list-keys":              {200, and(in("key_details[]", key), types("keys[]", "string", "next_marker", "string", "truncated", "string", "total", "number"))},
		"POST enable-key":             {200, in("key_info", state)},
		"POST disable-key":            {200, in("key_info", state)},
		"POST schedule-key-deletion":  {200, state},
		"POST cancel-key-deletion":    {200, state},
		"POST update-key-alias":       {200, in("key_info", strs("key_id", "key_alias"))},
		"POST update-key-description": {200, in("key_info", strs("key_id", "key_description"))},

		"POST create-datakey":                   {200, strs("key_id", "plain_text", "cipher_text")},
		"POST create-datakey-without-plaintext": {200, strs("key_id", "cipher_text")},
		"POST encrypt-datakey":                  {200, strs("key_id", "cipher_text", "datakey_length")},
		"POST decrypt-datakey":                  {200, strs("data_key", "datakey_length", "datakey_dgst")},
		"POST create-rsa-datakey-pair":          {200, pair},
		"POST create-ec-datakey-pair":           {200, pair},

		"POST encrypt-data":         {200, strs("key_id", "cipher_text")},
		"POST decrypt-data":         {200, strs("key_id", "plain_text", "plain_text_base64")},
		"POST re-encrypt":           {200, strs("key_id", "source_key_id", "source_encryption_algorithm", "destination_encryption_algorithm", "cipher_text")},
		"POST sign":                 {200, strs("key_id", "signature")},
		"POST verify":               {200, strs("key_id", "signature_valid")},
		"POST get-publickey":        {200, strs("key_id", "public_key")},
		"POST generate-mac":         {200, strs("key_id", "mac_algorithm", "mac")},
		"POST verify-mac":           {200, and(strs("key_id", "mac_algorithm"), types("mac_valid", "bool"))},
		"POST derive-shared-secret": {200, strs("key_id", "key_agreement_algorithm", "shared_secret")},
		"POST gen-random":           {200, strs("random_data")},

		"POST get-parameters-for-import":    {200, and(strs("key_id", "import_token", "public_key", "warning"), types("expiration_time", "number"))},
		"POST import-key-material":          nothing,
		"POST delete-imported-key-material": nothing,

		"POST enable-key-rotation":          nothing,
		"POST update-key-rotation-interval": nothing,
		"POST disable-key-rotation":         nothing,
		"POST get-key-rotation-status": {200, types("key_rotation_enabled", "bool", "rotation_interval", "number", "last_rotation_time", "string",
			"number_of_rotations", "number")},

		"GET {key_id}/tags":          {200, types("tags[].key", "string", "tags[].value", "string", "existTagsNum", "number", "sys_tags[]", "nothing")},
		"POST {key_id}/tags":         noBody,
		"POST {key_id}/tags/action":  noBody,
		"DELETE {key_id}/tags/{key}": noBody,
		"GET tags":                   {200, types("tags[].key", "string", "tags[].values[]", "string")},
		"POST resource_instances/action": {200, and(in("resources[].resource_detail", key), types("resources[].resource_id", "string",
			"resources[].resource_name", "string", "resources[].tags[].key", "string", "resources[].tags[].value", "string", "total_count", "number"))},

		"POST aliases":         {201, aliasEntity},
		"GET aliases":          {200, and(in("aliases[]", aliasEntity), types("page_info.next_marker", "string", "page_info.current_count", "number"))},
		"DELETE aliases":       noBody,
		"POST alias/associate": {200, aliasEntity},

		"POST create-grant":          {200, strs("grant_id")},
		"POST list-grants":           {200, grants},
		"POST list-retirable-grants": {200, and(grants, in("grants[]", strs("encryption_context_subset.a", "expires_at", "source")))}, // those made above
		"POST revoke-grant":          nothing,
		"POST retire-grant":          nothing,

		"GET user-instances": {200, types("instance_num", "number")},
		"GET user-quotas":    {200, types("quotas.resources[].type", "string", "quotas.resources[].used", "number", "quotas.resources[].quota", "number")},

		"GET /v3/projects":     {200, strs("projects[].id", "projects[].name")},
		"GET /v3/auth/domains": {200, strs("domains[].id", "domains[].name")},
	}
}()
