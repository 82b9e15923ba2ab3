package sdk

import (
	"encoding/hex"
	"strconv"
	"time"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

// near reports whether a time in milliseconds is not further than a minute from the expected one.
func near(ms *string, want time.Time) bool {
	n, err := strconv.ParseInt(*ms, 10, 64)
	return err == nil && time.UnixMilli(n).Sub(want).Abs() < time.Minute
}

func (w *walk) lifecycle() {
	made := call(w, (*kms.KmsClient).CreateKey, &model.CreateKeyRequest{Body: &model.CreateKeyRequestBody{
		KeyAlias: w.alias("life"), KeyDescription: new("first <words> & ümlauts"), EnterpriseProjectId: new("0"), KeystoreId: new("0"),
		Sequence: new("919c82d4-8046-4722-9094-35c3c6524cff"),
	}}).KeyInfo
	equal(w, "domain_id", made.DomainId, target.huawei.DomainID)
	key := *made.KeyId

	d := w.describe(key)
	equal(w, "key_id", d.KeyId, key)
	equal(w, "domain_id", d.DomainId, target.huawei.DomainID)
	equal(w, "realm", d.Realm, target.huawei.Region)
	equal(w, "key_alias", d.KeyAlias, w.alias("life"))
	equal(w, "key_description", d.KeyDescription, "first <words> & ümlauts")
	equal(w, "key_spec", d.KeySpec, model.GetKeyDetailsKeySpecEnum().AES_256)
	equal(w, "key_usage", d.KeyUsage, model.GetKeyDetailsKeyUsageEnum().ENCRYPT_DECRYPT)
	equal(w, "origin", d.Origin, model.GetKeyDetailsOriginEnum().KMS)
	equal(w, "key_state", d.KeyState, "2")
	equal(w, "default_key_flag", d.DefaultKeyFlag, "0")
	equal(w, "key_rotation_enabled", d.KeyRotationEnabled, "false")
	equal(w, "scheduled_deletion_date", d.ScheduledDeletionDate, "")
	if !near(d.CreationDate, time.Now()) {
		w.Errorf("creation_date is %s", *d.CreationDate)
	}

	renamed := call(w, (*kms.KmsClient).UpdateKeyAlias, &model.UpdateKeyAliasRequest{Body: &model.UpdateKeyAliasRequestBody{
		KeyId: key, KeyAlias: w.alias("renamed"),
	}})
	equal(w, "key_alias", renamed.KeyInfo.KeyAlias, w.alias("renamed"))
	described := call(w, (*kms.KmsClient).UpdateKeyDescription, &model.UpdateKeyDescriptionRequest{
		Body: &model.UpdateKeyDescriptionRequestBody{KeyId: key, KeyDescription: ""},
	})
	equal(w, "key_description", described.KeyInfo.KeyDescription, "")
	d = w.describe(key)
	equal(w, "key_alias", d.KeyAlias, w.alias("renamed"))
	equal(w, "key_description", d.KeyDescription, "")

	disabled := call(w, (*kms.KmsClient).DisableKey, &model.DisableKeyRequest{Body: operate(key)})
	equal(w, "key_state", disabled.KeyInfo.KeyState, "3")
	equal(w, "key_state", w.describe(key).KeyState, "3")
	enabled := call(w, (*kms.KmsClient).EnableKey, &model.EnableKeyRequest{Body: operate(key)})
	equal(w, "key_state", enabled.KeyInfo.KeyState, "2")

	equal(w, "key_state", w.schedule(key, 7).KeyState, "4")
	d = w.describe(key)
	equal(w, "key_state", d.KeyState, "4")
	if !near(d.ScheduledDeletionDate, time.Now().AddDate(0, 0, 7)) {
		w.Errorf("scheduled_deletion_date is %s", *d.ScheduledDeletionDate)
	}
	equal(w, "key_state", w.cancel(key).KeyState, "3")
	equal(w, "scheduled_deletion_date", w.describe(key).ScheduledDeletionDate, "")
	w.schedule(key, 1096)

	external := *call(w, (*kms.KmsClient).CreateKey, &model.CreateKeyRequest{Body: &model.CreateKeyRequestBody{
		KeyAlias: w.alias("external"), Origin: new(model.GetCreateKeyRequestBodyOriginEnum().EXTERNAL),
	}}).KeyInfo.KeyId
	equal(w, "key_state", w.describe(external).KeyState, "5")
	w.schedule(external, 7)
	equal(w, "key_state", w.cancel(external).KeyState, "5")
}

func (w *walk) schedule(key string, days int) *model.DeleteKeyResponse {
	w.Helper()
	return call(w, (*kms.KmsClient).DeleteKey, &model.DeleteKeyRequest{
		Body: &model.ScheduleKeyDeletionRequestBody{KeyId: key, PendingDays: strconv.Itoa(days)},
	})
}

func (w *walk) cancel(key string) *model.CancelKeyDeletionResponse {
	w.Helper()
	return call(w, (*kms.KmsClient).CancelKeyDeletion, &model.CancelKeyDeletionRequest{Body: operate(key)})
}

// list pages through all keys. Without key_spec there are AES_256 keys alone.
func (w *walk) list() {
	page := func(body *model.ListKeysRequestBody) *model.ListKeysResponse {
		return call(w, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{Body: body})
	}
	every := enum[model.ListKeysRequestBodyKeySpec]("ALL")
	seen := map[string]bool{}
	for marker := "0"; marker != ""; {
		got := page(&model.ListKeysRequestBody{Limit: new("5"), Marker: &marker, KeySpec: every})
		if len(*got.Keys) != len(*got.KeyDetails) || len(*got.Keys) > 5 {
			w.Fatalf("page of %d ids and %d keys", len(*got.Keys), len(*got.KeyDetails))
		}
		for i, key := range *got.Keys {
			if seen[key] || *(*got.KeyDetails)[i].KeyId != key {
				w.Errorf("key %s comes twice, or as another's id", key)
			}
			seen[key] = true
		}
		if more := *got.NextMarker != ""; (got.Truncated.Value() == "true") != more {
			w.Errorf("truncated is %s, next_marker %q", got.Truncated.Value(), *got.NextMarker)
		} else if !more && int(*got.Total) != len(seen) {
			w.Errorf("total is %d of %d keys", *got.Total, len(seen))
		}
		marker = *got.NextMarker
	}
	for _, key := range []string{w.aes, w.aes2, w.rsaSign, w.rsaEncrypt, w.ec, w.agree, w.mac} {
		if !seen[key] {
			w.Errorf("key %s is not listed", key)
		}
	}
	// Also with no body at all, as the SDK sends it for an empty request.
	aes := page(nil)
	for _, key := range *aes.KeyDetails {
		equal(w, "key_spec", key.KeySpec, model.GetKeyDetailsKeySpecEnum().AES_256)
	}
	if n := int(*aes.Total); n == 0 || n >= len(seen) {
		w.Errorf("%d of %d keys are AES_256", n, len(seen))
	}
	pending := page(&model.ListKeysRequestBody{KeyState: new("4"), KeySpec: every})
	for _, key := range *pending.KeyDetails {
		equal(w, "key_state", key.KeyState, "4")
	}
	if *pending.Total == 0 {
		w.Error("no key waits for its deletion")
	}
}

func (w *walk) random() {
	last := ""
	for _, bits := range []int{8, 512, 512, 8192} {
		got := *call(w, (*kms.KmsClient).CreateRandom, &model.CreateRandomRequest{
			Body: &model.GenRandomRequestBody{RandomDataLength: strconv.Itoa(bits)},
		}).RandomData
		if raw, err := hex.DecodeString(got); err != nil || len(raw) != bits/8 || got == last {
			w.Errorf("%d bits: %s", bits, got)
		}
		last = got
	}
}

// versions are requests that every caller may make.
func (w *walk) versions() {
	all := call(w, (*kms.KmsClient).ShowVersions, &model.ShowVersionsRequest{})
	if n := len(*all.Versions); n != 1 {
		w.Fatalf("%d versions", n)
	}
	equal(w, "id", (*all.Versions)[0].Id, "v1.0")
	call(w, (*kms.KmsClient).ShowVersion, &model.ShowVersionRequest{VersionId: "v1.0"})
}

func (w *walk) quotas() {
	instances := call(w, (*kms.KmsClient).ShowUserInstances, &model.ShowUserInstancesRequest{})
	all := call(w, (*kms.KmsClient).ListKeys, &model.ListKeysRequest{Body: &model.ListKeysRequestBody{
		KeySpec: enum[model.ListKeysRequestBodyKeySpec]("ALL"),
	}})
	own := *all.Total // default keys do not count
	for _, k := range *all.KeyDetails {
		if *k.DefaultKeyFlag == "1" {
			own--
		}
	}
	equal(w, "instance_num", instances.InstanceNum, own)
	quotas := call(w, (*kms.KmsClient).ShowUserQuotas, &model.ShowUserQuotasRequest{})
	found := 0
	for _, r := range *quotas.Quotas.Resources {
		found++
		switch r.Type.Value() {
		case "CMK":
			equal(w, "used keys", r.Used, own)
			equal(w, "limit of keys", r.Quota, keyLimit)
		case "grant_per_CMK":
			equal(w, "used grants", r.Used, 0)
			equal(w, "limit of grants", r.Quota, 100)
		}
	}
	if found != 2 {
		w.Errorf("%d quotas", found)
	}
}
