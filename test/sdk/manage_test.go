package sdk

import (
	"slices"
	"strconv"

	kms "github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2"
	"github.com/huaweicloud/huaweicloud-sdk-go-v3/services/kms/v2/model"
)

func (w *walk) rotation() {
	status := func(key string, on bool, interval, count int32) {
		w.Helper()
		got := call(w, (*kms.KmsClient).ShowKeyRotationStatus, &model.ShowKeyRotationStatusRequest{Body: operate(key)})
		equal(w, "key_rotation_enabled", got.KeyRotationEnabled, on)
		equal(w, "number_of_rotations", got.NumberOfRotations, count)
		if on {
			equal(w, "rotation_interval", got.RotationInterval, interval)
		}
		equal(w, "key_rotation_enabled of describe-key", w.describe(key).KeyRotationEnabled, strconv.FormatBool(on))
	}
	status(w.aes2, false, 0, 0)
	call(w, (*kms.KmsClient).EnableKeyRotation, &model.EnableKeyRotationRequest{Body: operate(w.aes2)})
	status(w.aes2, true, 365, 0)
	call(w, (*kms.KmsClient).UpdateKeyRotationInterval, &model.UpdateKeyRotationIntervalRequest{
		Body: &model.UpdateKeyRotationIntervalRequestBody{KeyId: w.aes2, RotationInterval: 30},
	})
	status(w.aes2, true, 30, 0)
	call(w, (*kms.KmsClient).DisableKeyRotation, &model.DisableKeyRotationRequest{Body: operate(w.aes2)})
	status(w.aes2, false, 0, 0)
	// Terraform asks it of every key, also of one that cannot rotate.
	status(w.rsaSign, false, 0, 0)
}

func (w *walk) tags() {
	// No two walks share a tag, so that each finds what is its own. The space and the letters beyond ASCII have to get
	// through the path and its signature.
	const keyWord = "größe 1+2:50%?#&;@"
	value := w.way.name
	call(w, (*kms.KmsClient).CreateKmsTag, &model.CreateKmsTagRequest{KeyId: w.aes, Body: &model.CreateKmsTagRequestBody{
		Tag: &model.TagItem{Key: keyWord, Value: &value},
	}})
	batch := func(key, action string, tags ...model.TagItem) {
		w.Helper()
		call(w, (*kms.KmsClient).BatchCreateKmsTags, &model.BatchCreateKmsTagsRequest{
			KeyId: key, Body: &model.BatchCreateKmsTagsRequestBody{Action: action, Tags: tags},
		})
	}
	way := model.TagItem{Key: "way", Value: &value}
	batch(w.aes, "create", way, model.TagItem{Key: "stage", Value: new("production")})
	batch(w.aes2, "create", way, model.TagItem{Key: "stage", Value: new("test")})
	batch(w.aes2, "create", way, model.TagItem{Key: "stage", Value: new("")}) // the second value is the one that stays
	w.hasTags(w.aes, map[string]string{keyWord: value, "way": value, "stage": "production"})
	w.hasTags(w.aes2, map[string]string{"way": value, "stage": ""})

	all := call(w, (*kms.KmsClient).ListKmsTags, &model.ListKmsTagsRequest{})
	found := slices.ContainsFunc(*all.Tags, func(t model.Tag) bool { return *t.Key == "way" && slices.Contains(*t.Values, value) })
	if !found {
		w.Errorf("the project's tags lack way=%s: %v", value, *all.Tags)
	}
	w.search()

	call(w, (*kms.KmsClient).DeleteTag, &model.DeleteTagRequest{KeyId: w.aes, Key: keyWord})
	batch(w.aes, "delete", model.TagItem{Key: "stage"})
	w.hasTags(w.aes, map[string]string{"way": value})
}

func (w *walk) hasTags(key string, want map[string]string) {
	w.Helper()
	got := call(w, (*kms.KmsClient).ShowKmsTags, &model.ShowKmsTagsRequest{KeyId: key})
	equal(w, "existTagsNum", got.ExistTagsNum, int32(len(want)))
	for _, tag := range *got.Tags {
		if value, ok := want[tag.Key]; !ok || *tag.Value != value {
			w.Errorf("tag %s=%s, want %v", tag.Key, *tag.Value, want)
		}
	}
	if len(*got.Tags) != len(want) {
		w.Errorf("%d tags, want %d", len(*got.Tags), len(want))
	}
}

// search finds keys by tags: all of the tags, and of each any of its values. The way's own tag is always among them.
func (w *walk) search() {
	tag := func(key string, values ...string) model.Tag { return model.Tag{Key: &key, Values: &values} }
	own := tag("way", w.way.name)
	for _, c := range []struct {
		tags []model.Tag
		name string
		want []string
	}{
		{[]model.Tag{own}, "", []string{w.aes, w.aes2}},
		{[]model.Tag{own, tag("stage", "production", "other")}, "", []string{w.aes}},
		{[]model.Tag{own, tag("stage", "production"), tag("größe 1+2:50%?#&;@")}, "", []string{w.aes}},
		{[]model.Tag{own, tag("stage")}, "", []string{w.aes, w.aes2}},
		{[]model.Tag{own, tag("stage", "none")}, "", nil},
		{[]model.Tag{own}, "AES2", []string{w.aes2}},
	} {
		body := model.ListKmsByTagsRequestBody{Action: new("filter"), Limit: new("1"), Offset: new("0"), Tags: &c.tags}
		if c.name != "" {
			body.Matches = &[]model.TagItem{{Key: "resource_name", Value: &c.name}}
		}
		var got []string
		for offset := 0; ; offset++ { // as Terraform does, until a page is empty
			body.Offset = new(strconv.Itoa(offset))
			page := w.find(body)
			equal(w, "total_count", page.TotalCount, int32(len(c.want)))
			if len(*page.Resources) == 0 {
				break
			}
			r := (*page.Resources)[0]
			equal(w, "key_id", r.ResourceDetail.KeyId, *r.ResourceId)
			equal(w, "resource_name", r.ResourceName, *r.ResourceDetail.KeyAlias)
			got = append(got, *r.ResourceId)
		}
		if !slices.Equal(got, c.want) {
			w.Errorf("%v named %q: found %v, want %v", c.tags, c.name, got, c.want)
		}
		count := w.find(model.ListKmsByTagsRequestBody{Action: new("count"), Tags: &c.tags, Matches: body.Matches})
		equal(w, "total_count", count.TotalCount, int32(len(c.want)))
		if count.Resources != nil && len(*count.Resources) > 0 {
			w.Error("count answers keys")
		}
	}
}

func (w *walk) find(body model.ListKmsByTagsRequestBody) *model.ListKmsByTagsResponse {
	w.Helper()
	return call(w, (*kms.KmsClient).ListKmsByTags, &model.ListKmsByTagsRequest{ResourceInstances: "resource_instances", Body: &body})
}

func (w *walk) aliases() {
	first, second := "alias/"+w.way.name+":1", "alias/"+w.way.name+":2"
	for _, name := range []string{second, first} {
		made := call(w, (*kms.KmsClient).CreateAlias, &model.CreateAliasRequest{Body: &model.CreateAliasRequestBody{KeyId: w.aes, Alias: name}})
		equal(w, "alias", made.Alias, name)
		equal(w, "key_id", made.KeyId, w.aes)
		equal(w, "domain_id", made.DomainId, target.huawei.DomainID)
		equal(w, "alias_urn", made.AliasUrn, "kms:"+target.huawei.Region+":"+target.huawei.DomainID+":alias:"+name)
		equal(w, "update_time", made.UpdateTime, *made.CreateTime)
	}
	w.listAliases(w.aes, first, second)
	w.listAliases(w.aes2)

	// An alias stands for its key, with the prefix or without it, and as a URN.
	for _, name := range []string{first, w.way.name + ":1", "kms:" + target.huawei.Region + ":" + target.huawei.DomainID + ":alias:" + first} {
		equal(w, "key_id by "+name, w.describe(name).KeyId, w.aes)
	}
	sealed := call(w, (*kms.KmsClient).EncryptData, &model.EncryptDataRequest{Body: &model.EncryptDataRequestBody{KeyId: first, PlainText: "by alias"}})
	equal(w, "key_id", sealed.KeyId, w.aes)

	moved := call(w, (*kms.KmsClient).AssociateAlias, &model.AssociateAliasRequest{
		Body: &model.AssociateAliasRequestBody{Alias: first, TargetKeyId: w.aes2},
	})
	equal(w, "key_id", moved.KeyId, w.aes2)
	equal(w, "key_id by moved alias", w.describe(first).KeyId, w.aes2)
	if got := w.decrypt(w.aes, *sealed.CipherText, nil, false); got != "by alias" {
		w.Errorf("after the alias moved: %q", got)
	}
	w.listAliases(w.aes, second)
	w.listAliases(w.aes2, first)
	call(w, (*kms.KmsClient).DeleteAlias, &model.DeleteAliasRequest{Body: &model.DeleteAliasRequestBody{KeyId: w.aes2, Aliases: []string{first}}})
	w.listAliases(w.aes2)
	refuse(w, (*kms.KmsClient).ListKeyDetail, &model.ListKeyDetailRequest{Body: operate(first)}, 404, "KMS.0207")
}

// listAliases pages through a key's aliases one by one.
func (w *walk) listAliases(key string, want ...string) {
	w.Helper()
	var got []string
	for marker := new(""); marker != nil; {
		answer := call(w, (*kms.KmsClient).ListAliases, &model.ListAliasesRequest{KeyId: &key, Limit: new("1"), Marker: marker})
		if len(*answer.Body) != 1 {
			w.Fatalf("a list of %d pages", len(*answer.Body))
		}
		page := (*answer.Body)[0]
		equal(w, "current_count", page.PageInfo.CurrentCount, int32(len(page.Aliases)))
		for _, a := range page.Aliases {
			equal(w, "key_id", a.KeyId, key)
			got = append(got, a.Alias)
		}
		if marker = page.PageInfo.NextMarker; *marker == "" {
			marker = nil
		}
	}
	if !slices.Equal(got, want) {
		w.Errorf("aliases are %v, want %v", got, want)
	}
}
