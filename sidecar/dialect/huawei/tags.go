package huawei

import (
	"context"
	"strconv"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) keyTags(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.KeyTags, func(key *kms.Key) {
		x.Out = appendTags(append(x.Out, `{"tags":`...), key.Tags)
		x.Out = append(appendNumber(x.Out, `,"existTagsNum":`, len(key.Tags)), `,"sys_tags":[]}`...)
	})
}

func (d *Dialect) createTag(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	tags := tagsOf(x.Items(oneTag))
	set := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) { return d.cfg.Core.SetTags(ctx, id, tags) }
	return d.onKey(ctx, op, x, set, nothing)
}

// changeTags creates or deletes several tags. To delete one that is not there is no fault, and its value counts for nothing.
func (d *Dialect) changeTags(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	tags := tagsOf(x.Items(someTags))
	change := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) { return d.cfg.Core.SetTags(ctx, id, tags) }
	kms.CallFrom(ctx).Trace = policy.TraceTagInBatch
	if string(x.Text(tagAction)) == deleteTags {
		keys := make([]string, len(tags))
		for i := range tags {
			keys[i] = tags[i].Key
		}
		kms.CallFrom(ctx).Trace = policy.TraceUntagInBatch
		change = func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
			return d.cfg.Core.DeleteTags(ctx, id, keys, false)
		}
	}
	return d.onKey(ctx, op, x, change, nothing)
}

func (d *Dialect) deleteTag(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	keys := []string{string(x.Text(tagInPath))}
	remove := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.DeleteTags(ctx, id, keys, true)
	}
	return d.onKey(ctx, op, x, remove, nothing)
}

// tagsOf returns the tags of a request.
func tagsOf(items []dialect.Values) []kms.Tag {
	tags := make([]kms.Tag, len(items))
	for i := range items {
		tags[i] = kms.Tag{Key: string(items[i].Text(tagKey)), Value: string(items[i].Text(tagValue))}
	}
	return tags
}

func (d *Dialect) projectTags(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	tags, err := d.cfg.Core.ListTags(ctx)
	if err != nil {
		return err
	}
	x.Out = append(x.Out, `{"tags":[`...)
	for i, t := range tags {
		x.Out = append(appendText(separate(x.Out, i), `{"key":`, t.Key), `,"values":[`...)
		for j, v := range t.Values {
			x.Out = dialect.AppendString(separate(x.Out, j), v)
		}
		x.Out = append(x.Out, "]}"...)
	}
	x.Out = append(x.Out, "]}"...)
	return nil
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
		tag := kms.TagValues{Key: string(t.Text(tagKey))}
		for _, v := range t.Texts(tagValues) {
			tag.Values = append(tag.Values, string(v))
		}
		in.Tags = append(in.Tags, tag)
	}
	for _, m := range x.Items(matches) {
		in.Name = string(m.Text(matchValue))
	}
	page, err := d.cfg.Core.FindKeys(ctx, in)
	if err != nil {
		return err
	}
	x.Out = append(x.Out, '{')
	if !in.CountOnly {
		x.Out = append(x.Out, `"resources":[`...)
		for i, key := range page.Keys {
			x.Out = dialect.AppendID(append(separate(x.Out, i), `{"resource_id":"`...), key.ID)
			x.Out = d.appendKey(append(x.Out, `","resource_detail":`...), key)
			x.Out = appendText(x.Out, `,"resource_name":`, key.Alias)
			x.Out = append(appendTags(append(x.Out, `,"tags":`...), key.Tags), '}')
		}
		x.Out = append(x.Out, `],`...)
	}
	x.Out = append(appendNumber(x.Out, `"total_count":`, page.Total), '}')
	return nil
}

func (d *Dialect) createAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, idOfKey)
	if err != nil {
		return err
	}
	a, err := d.cfg.Core.CreateAlias(ctx, id, string(x.Text(alias)))
	if err != nil {
		return err
	}
	x.Out = d.appendAlias(x.Out, a)
	return nil
}

func (d *Dialect) associateAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, targetKey)
	if err != nil {
		return err
	}
	a, err := d.cfg.Core.AssociateAlias(ctx, string(x.Text(alias)), id)
	if err != nil {
		return err
	}
	x.Out = d.appendAlias(x.Out, a)
	return nil
}

func (d *Dialect) deleteAliases(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, idOfKey)
	if err != nil {
		return err
	}
	texts := x.Texts(someAliases)
	names := make([]string, len(texts))
	for i := range texts {
		names[i] = string(texts[i])
	}
	return d.cfg.Core.DeleteAliases(ctx, id, names)
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
	array := len(x.Text(userAgent)) >= len(sdkAgent) && string(x.Text(userAgent)[:len(sdkAgent)]) == sdkAgent
	if array {
		x.Out = append(x.Out, '[')
	}
	x.Out = append(x.Out, `{"aliases":[`...)
	for i, a := range page.Aliases {
		x.Out = d.appendAlias(separate(x.Out, i), a)
	}
	x.Out = appendText(x.Out, `],"page_info":{"next_marker":`, page.Next)
	x.Out = append(strconv.AppendInt(append(x.Out, `,"current_count":`...), int64(len(page.Aliases)), 10), "}}"...)
	if array {
		x.Out = append(x.Out, ']')
	}
	return nil
}
