package sdk

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// granting is a request for a grant.
func granting(key, grantee string, operations ...string) *model.CreateGrantRequest {
	return &model.CreateGrantRequest{Body: &model.CreateGrantRequestBody{KeyId: key, GranteePrincipal: grantee, Operations: operations}}
}

// ending is a request to revoke or retire a grant.
func ending(key, grant string) *model.RevokeGrantRequestBody {
	return &model.RevokeGrantRequestBody{KeyId: key, GrantId: grant}
}

// withoutGrants takes all grants on keys away, which other tests do not expect.
func withoutGrants(w *walk, keys ...string) {
	for _, key := range keys {
		page := call(w, (*kms.KmsClient).ListGrants, &model.ListGrantsRequest{Body: &model.ListGrantsRequestBody{KeyId: key}})
		for _, g := range *page.Grants {
			call(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: ending(key, *g.GrantId)})
		}
	}
}

// TestBadGrants asks for what cannot be granted: operations that do not exist, on keys that take no grants, one grant too
// many, the same again, and the end of other keys' grants.
func TestBadGrants(t *testing.T) {
	w := as(t, way{}, newCredential(t, "sdk"))
	newCredential(t, "grantee", "--role", "none")
	key, other := w.key("bad-grants", "AES_256", "ENCRYPT_DECRYPT"), w.key("bad-grants-2", "AES_256", "ENCRYPT_DECRYPT")
	defer withoutGrants(w, key)
	grant := (*kms.KmsClient).CreateGrant
	for _, operations := range [][]string{{"encrypt-everything"}, {"encrypt-data", "revoke-grant"}, {"Encrypt-Data"}, {""}, {"enable-key"}, {"*"}} {
		refuse(w, grant, granting(key, "grantee", operations...), http.StatusBadRequest, "KMS.0308")
	}
	refuse(w, grant, granting(key, "grantee", "create-grant"), http.StatusBadRequest, "KMS.2401")
	refuse(w, grant, granting(key, "grantee", "create-grant", "create-grant"), http.StatusBadRequest, "KMS.2401")
	refuse(w, grant, granting(key, "no-such-user", "encrypt-data"), http.StatusBadRequest, "KMS.2402")
	refuse(w, grant, granting(nowhere, "grantee", "encrypt-data"), http.StatusNotFound, "KMS.0207")

	name := "once"
	named := granting(key, "grantee", "encrypt-data", "describe-key")
	named.Body.Name = &name
	first := *call(w, grant, named).GrantId
	equal(w, "the same again", call(w, grant, named).GrantId, first)
	another := *call(w, grant, granting(key, "grantee", "encrypt-data", "describe-key")).GrantId
	if another == first {
		t.Error("a grant without a name is an older one")
	}

	foreign := *call(w, grant, granting(other, "grantee", "encrypt-data")).GrantId
	refuse(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: ending(key, foreign)}, http.StatusBadRequest, "KMS.2502")
	refuse(w, (*kms.KmsClient).CancelSelfGrant, &model.CancelSelfGrantRequest{Body: ending(key, foreign)}, http.StatusBadRequest, "KMS.2502")
	refuse(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: ending(nowhere, foreign)}, http.StatusNotFound, "KMS.0207")
	page := call(w, (*kms.KmsClient).ListGrants, &model.ListGrantsRequest{Body: &model.ListGrantsRequestBody{KeyId: other}})
	equal(w, "grants of the other key", page.Total, 1)

	for i := 2; i < 100; i++ {
		request := granting(key, "grantee", "encrypt-data")
		request.Body.Name = new(fmt.Sprintf("n-%d", i))
		call(w, grant, request)
	}
	refuse(w, grant, granting(key, "grantee", "encrypt-data"), http.StatusBadRequest, "KMS.2404")
	call(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: ending(key, another)})
	call(w, grant, granting(key, "grantee", "encrypt-data"))

	call(w, (*kms.KmsClient).DisableKey, &model.DisableKeyRequest{Body: operate(other)})
	refuse(w, grant, granting(other, "grantee", "encrypt-data"), http.StatusBadRequest, "KMS.0209")
	call(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: ending(other, foreign)}) // rights can be taken away all the same
	call(w, (*kms.KmsClient).DeleteKey, &model.DeleteKeyRequest{Body: &model.ScheduleKeyDeletionRequestBody{KeyId: other, PendingDays: "7"}})
	refuse(w, grant, granting(other, "grantee", "encrypt-data"), http.StatusBadRequest, "KMS.0210")

	disks := as(t, way{}, newCredential(t, "disks", "--role", "service:evs"))
	made := call(disks, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &model.CreateDatakeyRequestBody{KeyId: "evs/default"}})
	refuse(w, grant, granting(*made.KeyId, "grantee", "encrypt-data"), http.StatusBadRequest, "KMS.0211")
}

// TestDelegatedGrants has a grantee hand on what it has, and try to hand on more: other operations, and the same without
// the end and the context that its own have.
func TestDelegatedGrants(t *testing.T) {
	w := as(t, way{}, newCredential(t, "sdk"))
	lead := as(t, way{}, newCredential(t, "lead", "--role", "none"))
	newCredential(t, "member", "--role", "none")
	free := w.key("delegated", "AES_256", "ENCRYPT_DECRYPT")
	grant := (*kms.KmsClient).CreateGrant
	const status, code = http.StatusForbidden, "KMS.0307"
	refuse(lead, grant, granting(free, "member", "encrypt-data"), status, code)
	refuse(lead, grant, granting(nowhere, "member", "encrypt-data"), status, code)
	parent := *call(w, grant, granting(free, "lead", "create-grant", "encrypt-data")).GrantId
	child := *call(lead, grant, granting(free, "member", "encrypt-data")).GrantId
	refuse(lead, grant, granting(free, "member", "decrypt-data"), status, code)
	refuse(lead, grant, granting(free, "member", "encrypt-data", "retire-grant"), status, code)
	refuse(lead, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: ending(free, child)}, status, code)

	defer withoutGrants(w, free)
	for _, limit := range [][]string{{"--expires", "1h"}, {"--context-equals", "a=b"}, {"--source", "uid:7"}} {
		bound := strings.TrimSpace(string(keyside(t, "key", "create", "delegated"+limit[0])))
		made := string(keyside(t, append([]string{"grant", "create", bound, "--to", "lead", "--operations", "create-grant,encrypt-data"}, limit...)...))
		refuse(lead, grant, granting(bound, "member", "encrypt-data"), status, code)
		keyside(t, "grant", "revoke", bound, strings.TrimSpace(made))
	}

	call(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: ending(free, parent)})
	refuse(lead, grant, granting(free, "member", "encrypt-data"), status, code)
	call(lead, (*kms.KmsClient).CancelSelfGrant, &model.CancelSelfGrantRequest{Body: ending(free, child)}) // whose issuer it is
}
