package keyside

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/keyside/keyside/sidecar/client"
)

var update = flag.Bool("update", false, "write docs/openapi.json")

// TestOpenAPI compares docs/openapi.json with the tables. Run it with -update to write the file.
func TestOpenAPI(t *testing.T) {
	const file = "../../../docs/openapi.json"
	if *update {
		if err := os.WriteFile(file, Document(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != string(Document()) {
		t.Errorf("%s is out of date: run go test ./sidecar/dialect/keyside -run TestOpenAPI -update", file)
	}
}

// TestOpenAPIDescriptions checks that the document describes every member and operation, that every reference is resolved,
// and that no description is unused.
func TestOpenAPIDescriptions(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(Document(), &doc); err != nil {
		t.Fatal(err)
	}
	schemas := doc["components"].(map[string]any)["schemas"].(map[string]any)
	used := map[string]bool{}
	var walk func(place string, v any)
	walk = func(place string, v any) {
		switch v := v.(type) {
		case map[string]any:
			properties, _ := v["properties"].(map[string]any)
			for name, member := range properties {
				text, _ := member.(map[string]any)["description"].(string)
				if used[text] = true; text == "" {
					t.Errorf("%s.%s has no description", place, name)
				}
			}
			if name, ok := v["operationId"].(string); ok {
				if place = name; v["summary"] == "" {
					t.Errorf("%s has no summary", name)
				}
			}
			if ref, ok := v["$ref"].(string); ok && ref != "#/components/responses/Error" && schemas[ref[len("#/components/schemas/"):]] == nil {
				t.Errorf("%s is not defined", ref)
			}
			for name, member := range v {
				walk(place+"/"+name, member)
			}
		case []any:
			for _, element := range v {
				walk(place, element)
			}
		}
	}
	walk("", doc)
	for name, text := range descriptions {
		if !used[text] {
			t.Errorf("the description of %s is unused", name)
		}
	}
}

// TestRequestTypes checks that the request types of package client have the fields of the operations, with the same names
// and JSON types.
func TestRequestTypes(t *testing.T) {
	types := map[string]any{
		"create-key": client.CreateKeyRequest{}, "list-keys": client.ListKeysRequest{}, "schedule-key-deletion": client.ScheduleDeletionRequest{},
		"set-deletion-protection": client.SetDeletionProtectionRequest{},
		"rename-key":              client.RenameKeyRequest{}, "set-key-description": client.SetKeyDescriptionRequest{},
		"encrypt": client.EncryptRequest{}, "decrypt": client.DecryptRequest{}, "re-encrypt": client.ReEncryptRequest{},
		"generate-data-key": client.DataKeyRequest{}, "generate-data-key-without-plaintext": client.DataKeyRequest{},
		"encrypt-data-key": client.EncryptDataKeyRequest{}, "decrypt-data-key": client.DecryptDataKeyRequest{},
		"generate-rsa-data-key-pair": client.DataKeyPairRequest{}, "generate-ec-data-key-pair": client.DataKeyPairRequest{},
		"generate-random": client.RandomRequest{}, "sign": client.SignRequest{}, "verify": client.VerifyRequest{},
		"generate-mac": client.MACRequest{}, "verify-mac": client.VerifyMACRequest{}, "derive-shared-secret": client.DeriveRequest{},
		"get-import-parameters": client.ImportParametersRequest{}, "import-key-material": client.ImportRequest{},
		"enable-key-rotation": client.RotationRequest{}, "set-key-rotation-interval": client.RotationRequest{},
		"tag-key": client.TagKeyRequest{}, "untag-key": client.UntagKeyRequest{}, "find-keys": client.FindKeysRequest{},
		"create-alias": client.AliasRequest{}, "list-aliases": client.ListAliasesRequest{}, "delete-alias": client.DeleteAliasesRequest{},
		"move-alias": client.AliasRequest{}, "create-grant": client.CreateGrantRequest{}, "list-grants": client.ListGrantsRequest{},
		"list-retirable-grants": client.Page{}, "revoke-grant": client.GrantRequest{}, "retire-grant": client.GrantRequest{},
		"can-i": client.CanIRequest{}, "create-credential": client.CreateCredentialRequest{},
		"delete-credential": client.DeleteCredentialRequest{}, "create-token": client.CreateTokenRequest{},
		"read-audit-log": client.AuditQuery{}, "verify-audit-log": client.VerifyAuditRequest{},
	}
	onlyKey := struct {
		KeyID string `json:"key_id"`
	}{}
	for i := range table {
		rt := table[i].route(nil)
		in, ok := types[rt.Path]
		switch {
		case ok:
		case len(rt.Fields) == 1:
			in = onlyKey
		default:
			in = struct{}{}
		}
		properties, required := object{}, []string{}
		(&document{schemas: object{}}).members("", reflect.TypeOf(in), properties, &required)
		for j := range rt.Fields {
			f := &rt.Fields[j]
			has, ok := properties[f.Name].(object)
			if want := fieldSchema(f)["type"]; !ok || has["type"] != want {
				t.Errorf("%s: %s is %v in the client, and %s on the wire", rt.Path, f.Name, has["type"], want)
			}
			if f.Required && !slices.Contains(required, f.Name) && rt.Path != "set-key-rotation-interval" {
				t.Errorf("%s: the client may leave %s out", rt.Path, f.Name)
			}
		}
		if len(properties) != len(rt.Fields) {
			t.Errorf("%s: the client has %d members, the operation %d fields", rt.Path, len(properties), len(rt.Fields))
		}
	}
}
