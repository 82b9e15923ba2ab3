package sdk

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// as makes a walk of one caller's.
func as(t *testing.T, y way, c credential) *walk {
	t.Helper()
	w := &walk{T: t, way: y, answered: map[string]bool{}, refused: map[string]bool{}}
	w.client, w.wire = y.connectAs(t, c, "")
	return w
}

// describeNowhere is a request that a caller without rights must not get an answer to, not even that the key does not exist.
var describeNowhere = &model.ListKeyDetailRequest{Body: operate(nowhere)}

// TestWrongSignature signs with what is no secret, no access key or no longer one: the SDK is told so, on localhost and on
// the socket, where a signature may be absent but not wrong.
func TestWrongSignature(t *testing.T) {
	for _, y := range []way{{name: "localhost"}, {name: "derived", derived: true}, {name: "socket", socket: true}} {
		t.Run(y.name, func(t *testing.T) {
			good, deleted := newCredential(t, "right"), newCredential(t, "right")
			keyside(t, "credential", "delete", "--yes", deleted.AccessKey)
			other, absent := good, good
			other.SecretKey = strings.ToUpper(good.SecretKey)
			absent.AccessKey = "A" + strings.Repeat("0", len(good.AccessKey)-1)
			for _, c := range []credential{other, absent, deleted} {
				refuse(as(t, y, c), (*kms.KmsClient).ListKeyDetail, describeNowhere, http.StatusUnauthorized, "APIGW.0301")
			}
			refuse(as(t, y, good), (*kms.KmsClient).ListKeyDetail, describeNowhere, http.StatusNotFound, "KMS.0207")
		})
	}
}

// TestRoles: an access key without a role may do nothing, on the socket of the owner's process too; the signature, not the
// process, is who calls.
func TestRoles(t *testing.T) {
	ungranted := newCredential(t, "ungranted", "--role", "none")
	for _, y := range []way{{name: "localhost"}, {name: "socket", socket: true}} {
		w := as(t, y, ungranted)
		refuse(w, (*kms.KmsClient).ListKeyDetail, describeNowhere, http.StatusForbidden, "KMS.0307")
		refuse(w, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{}, http.StatusForbidden, "KMS.0307")
		refuse(w, (*kms.KmsClient).CreateKey, &model.CreateKeyRequest{
			Body: &model.CreateKeyRequestBody{KeyAlias: "ungranted"},
		}, http.StatusForbidden, "KMS.0307")
	}
}

// TestDefaultKey has a cloud service use its default master key, which is made with that, and an administrator fail to
// change it.
func TestDefaultKey(t *testing.T) {
	service := as(t, way{}, newCredential(t, "storage", "--role", "service:obs"))
	w := as(t, way{}, newCredential(t, "sdk"))
	const name = "obs/default"
	refuse(w, (*kms.KmsClient).ListKeyDetail, &model.ListKeyDetailRequest{Body: operate(name)}, http.StatusNotFound, "KMS.0207")
	made := call(service, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &model.CreateDatakeyRequestBody{KeyId: name}})
	key := *made.KeyId
	again := call(service, (*kms.KmsClient).CreateDatakey, &model.CreateDatakeyRequest{Body: &model.CreateDatakeyRequestBody{KeyId: name}})
	equal(service, "key_id", again.KeyId, key)
	equal(service, "plain_text", made.PlainText, service.openDataKey(name, *made.CipherText, 32, nil))

	d := w.describe(key)
	equal(w, "key_alias", d.KeyAlias, name)
	equal(w, "default_key_flag", d.DefaultKeyFlag, "1")
	equal(w, "key_state", d.KeyState, "2")
	const status, code = http.StatusBadRequest, "KMS.0211"
	refuse(w, (*kms.KmsClient).DisableKey, &model.DisableKeyRequest{Body: operate(key)}, status, code)
	refuse(w, (*kms.KmsClient).DeleteKey, &model.DeleteKeyRequest{
		Body: &model.ScheduleKeyDeletionRequestBody{KeyId: key, PendingDays: "7"},
	}, status, code)
	refuse(w, (*kms.KmsClient).UpdateKeyAlias, &model.UpdateKeyAliasRequest{
		Body: &model.UpdateKeyAliasRequestBody{KeyId: key, KeyAlias: "mine"},
	}, status, code)
	refuse(w, (*kms.KmsClient).UpdateKeyDescription, &model.UpdateKeyDescriptionRequest{
		Body: &model.UpdateKeyDescriptionRequestBody{KeyId: key, KeyDescription: "mine"},
	}, status, code)
	refuse(w, (*kms.KmsClient).EnableKeyRotation, &model.EnableKeyRotationRequest{Body: operate(key)}, status, code)
	refuse(w, (*kms.KmsClient).CreateKmsTag, &model.CreateKmsTagRequest{
		KeyId: key, Body: &model.CreateKmsTagRequestBody{Tag: &model.TagItem{Key: "a", Value: new("b")}},
	}, status, code)
	refuse(w, (*kms.KmsClient).CreateAlias, &model.CreateAliasRequest{
		Body: &model.CreateAliasRequestBody{KeyId: key, Alias: "alias/mine"},
	}, status, code)
	// A service uses its own key and nothing else.
	refuse(service, (*kms.KmsClient).EncryptData, &model.EncryptDataRequest{
		Body: &model.EncryptDataRequestBody{KeyId: "evs/default", PlainText: "x"},
	}, http.StatusForbidden, "KMS.0307")
	refuse(service, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{}, http.StatusForbidden, "KMS.0307")
}

// TestToken proves by a token who calls, as clients with a password do.
func TestToken(t *testing.T) {
	token := strings.TrimSpace(string(keyside(t, "credential", "token", "--ttl", "10m")))
	p := newPlain(t, "golangsdk/2.0.0", func(_ *plain, r *http.Request, _ string) { r.Header.Set("X-Auth-Token", token) })
	named := fmt.Sprintf(`{"key_id":%q}`, p.key(`{"key_alias":"token"}`))
	p.want(p.post("describe-key", named), "2", "key_info", "key_state")
	token += "x"
	p.want(p.do(http.MethodPost, "describe-key", named, 403), "KMS.0302", "error", "error_code")
}
