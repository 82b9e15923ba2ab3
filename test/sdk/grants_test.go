package sdk

import (
	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// grants makes, lists, retires and revokes grants.
func (w *walk) grants() {
	key := w.key("granted", "AES_256", "ENCRYPT_DECRYPT")
	name := "by/" + w.way.name
	first := *call(w, (*kms.KmsClient).CreateGrant, &model.CreateGrantRequest{Body: &model.CreateGrantRequestBody{
		KeyId: key, GranteePrincipal: "owner", Operations: []string{"describe-key", "create-datakey", "retire-grant"}, Name: &name,
	}}).GrantId
	account := model.GetCreateGrantRequestBodyGranteePrincipalTypeEnum().DOMAIN
	second := *call(w, (*kms.KmsClient).CreateGrant, &model.CreateGrantRequest{Body: &model.CreateGrantRequestBody{
		KeyId: key, GranteePrincipal: target.huawei.DomainID, GranteePrincipalType: &account, Operations: []string{"encrypt-data"},
	}}).GrantId

	one, marker := "1", "1"
	page := call(w, (*kms.KmsClient).ListGrants, &model.ListGrantsRequest{Body: &model.ListGrantsRequestBody{KeyId: key, Limit: &one}})
	equal(w, "total", page.Total, 2)
	equal(w, "next_marker", page.NextMarker, "1")
	equal(w, "name", (*page.Grants)[0].Name, name)
	equal(w, "grant_id", (*page.Grants)[0].GrantId, first)
	page = call(w, (*kms.KmsClient).ListGrants, &model.ListGrantsRequest{Body: &model.ListGrantsRequestBody{KeyId: key, Limit: &one, Marker: &marker}})
	equal(w, "grant_id", (*page.Grants)[0].GrantId, second)
	retirable := call(w, (*kms.KmsClient).ListRetirableGrants, &model.ListRetirableGrantsRequest{Body: &model.ListRetirableGrantsRequestBody{}})
	if *retirable.Total < 2 {
		w.Errorf("%d grants may be retired by who made two", *retirable.Total)
	}

	both := func(grant string) *model.RevokeGrantRequestBody {
		return &model.RevokeGrantRequestBody{KeyId: key, GrantId: grant}
	}
	call(w, (*kms.KmsClient).CancelSelfGrant, &model.CancelSelfGrantRequest{Body: both(first)})
	call(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: both(second)})

	refuse(w, (*kms.KmsClient).CancelGrant, &model.CancelGrantRequest{Body: both(second)}, 400, "KMS.2502")
	refuse(w, (*kms.KmsClient).CancelSelfGrant, &model.CancelSelfGrantRequest{Body: both("x")}, 400, "KMS.2501")
	refuse(w, (*kms.KmsClient).CreateGrant, &model.CreateGrantRequest{Body: &model.CreateGrantRequestBody{
		KeyId: key, GranteePrincipal: "no-such-user", Operations: []string{"encrypt-data"},
	}}, 400, "KMS.2402")
	refuse(w, (*kms.KmsClient).CreateGrant, &model.CreateGrantRequest{Body: &model.CreateGrantRequestBody{
		KeyId: key, GranteePrincipal: "owner", Operations: []string{"create-grant"},
	}}, 400, "KMS.2401")
	refuse(w, (*kms.KmsClient).ListGrants, &model.ListGrantsRequest{Body: &model.ListGrantsRequestBody{
		KeyId: "00000000-0000-4000-8000-000000000000",
	}}, 404, "KMS.0207")
	none := "0"
	refuse(w, (*kms.KmsClient).ListRetirableGrants, &model.ListRetirableGrantsRequest{Body: &model.ListRetirableGrantsRequestBody{Limit: &none}}, 400, "KMS.1601")
}
