package huawei

import (
	"context"
	"strings"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) keyTags(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(key *kms.Key) keyTags { return keyTags{tagsOf(key), len(key.Tags), nil} })(d.cfg.Core.KeyTags(ctx, id))
}

// keyTags are the tags of a key. It has no system tags.
type keyTags struct {
	Tags    []tag `json:"tags"`
	Count   int   `json:"existTagsNum"`
	SysTags []tag `json:"sys_tags"`
}

func (d *Dialect) createTag(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.cfg.Core.SetTags(ctx, id, requestedTags(x.Items(oneTag))))
}

// changeTags creates or deletes several tags. Deleting a tag that does not exist succeeds; its value is ignored.
func (d *Dialect) changeTags(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	if op == policy.OpTagKey {
		kms.CallFrom(ctx).Trace = policy.TraceTagInBatch
		return d.onKey(d.createTags)(ctx, op, x)
	}
	kms.CallFrom(ctx).Trace = policy.TraceUntagInBatch
	return d.onKey(d.deleteTags)(ctx, op, x)
}

func (d *Dialect) createTags(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.cfg.Core.SetTags(ctx, id, requestedTags(x.Items(someTags))))
}

func (d *Dialect) deleteTags(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	keys := dialect.Each(x.Items(someTags), func(t dialect.Values) string { return string(t.Text(tagKey)) })
	return answerNothing(d.cfg.Core.DeleteTags(ctx, id, keys, false))
}

func (d *Dialect) deleteTag(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.cfg.Core.DeleteTags(ctx, id, []string{string(x.Text(tagInPath))}, true))
}

// texts returns the elements of a list of strings.
func texts(list [][]byte) []string {
	return dialect.Each(list, func(text []byte) string { return string(text) })
}

// requestedTags returns the tags of a request.
func requestedTags(items []dialect.Values) []kms.Tag {
	return dialect.Each(items, func(t dialect.Values) kms.Tag {
		return kms.Tag{Key: string(t.Text(tagKey)), Value: string(t.Text(tagValue))}
	})
}

func (d *Dialect) projectTags(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	return answer(x, func(tags []kms.TagValues) map[string][]tagValuesInfo {
		return map[string][]tagValuesInfo{"tags": dialect.Each(tags, func(t kms.TagValues) tagValuesInfo { return tagValuesInfo(t) })}
	})(d.cfg.Core.ListTags(ctx))
}

// tagValuesInfo is a tag's key with the values that keys have for it.
type tagValuesInfo struct {
	Key    string   `json:"key"`
	Values []string `json:"values"`
}

// findKeys searches by tags and names. Tags are joined by "and", the values of one tag by "or".
func (d *Dialect) findKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.FindKeysInput{
		Offset: int(x.Number(offset)), Limit: int(x.Number(limit)), CountOnly: string(x.Text(findAction)) == countKeys,
	}
	if in.CountOnly && (x.Has(limit) || x.Has(offset)) {
		return refuse(codeOffsetUnwelcome, kms.CodeInvalidRequest, "action", "count takes neither limit nor offset")
	}
	for _, t := range x.Items(wantedTags) {
		in.Tags = append(in.Tags, kms.TagValues{Key: string(t.Text(tagKey)), Values: texts(t.Texts(tagValues))})
	}
	for _, m := range x.Items(matches) {
		in.Name = string(m.Text(matchValue))
	}
	page, err := d.cfg.Core.FindKeys(ctx, in)
	if err != nil {
		return err
	}
	found := foundKeys{Total: page.Total}
	if !in.CountOnly {
		found.Resources = dialect.Each(page.Keys, func(key *kms.Key) foundKey {
			return foundKey{key.ID.String(), d.keyOf(key), key.Alias, tagsOf(key)}
		})
	}
	return x.JSON(found)
}

// foundKeys is what a search finds; resources are absent if it only counts.
type foundKeys struct {
	Resources []foundKey `json:"resources,omitzero"`
	Total     int        `json:"total_count"`
}

type foundKey struct {
	ID     string  `json:"resource_id"`
	Detail keyInfo `json:"resource_detail"`
	Name   string  `json:"resource_name"`
	Tags   []tag   `json:"tags"`
}

func (d *Dialect) createAlias(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, d.aliasOf)(d.cfg.Core.CreateAlias(ctx, id, string(x.Text(alias))))
}

func (d *Dialect) associateAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, targetKey)
	if err != nil {
		return err
	}
	return answer(x, d.aliasOf)(d.cfg.Core.AssociateAlias(ctx, string(x.Text(alias)), id))
}

func (d *Dialect) deleteAliases(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return d.cfg.Core.DeleteAliases(ctx, id, texts(x.Texts(someAliases)))
}

// sdkAgent is how all of the vendor's SDKs of the third generation begin to say who they are. They take the list of aliases
// as an array of pages; everyone else takes one page as an object, as the documents have it.
const sdkAgent = "huaweicloud-usdk-"

func (d *Dialect) listAliases(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in := kms.ListAliasesInput{After: string(x.Text(lastAlias)), Limit: int(x.Number(limit))}
	if x.Has(idOfKey) {
		id, err := d.key(ctx, op, x, idOfKey)
		if err != nil {
			return err
		}
		in.KeyID = &id
	}
	page, err := d.cfg.Core.ListAliases(ctx, in)
	if err != nil {
		return err
	}
	list := aliasList{Aliases: dialect.Each(page.Aliases, d.aliasOf)}
	list.Page.Next, list.Page.Count = page.Next, len(page.Aliases)
	if strings.HasPrefix(string(x.Text(userAgent)), sdkAgent) {
		return x.JSON([]aliasList{list})
	}
	return x.JSON(list)
}

// aliasList is a page of aliases.
type aliasList struct {
	Aliases []aliasInfo `json:"aliases"`
	Page    struct {
		Next  string `json:"next_marker"`
		Count int    `json:"current_count"`
	} `json:"page_info"`
}
