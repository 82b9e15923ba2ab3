package keyside

import (
	"context"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) createAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	a, err := d.cfg.Core.CreateAlias(ctx, id, string(x.Text(alias)))
	return answerWith(x, err, a, aliasOf)
}

func (d *Dialect) moveAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	a, err := d.cfg.Core.AssociateAlias(ctx, string(x.Text(alias)), id)
	return answerWith(x, err, a, aliasOf)
}

func (d *Dialect) deleteAliases(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	return d.cfg.Core.DeleteAliases(ctx, id, texts(x.Texts(aliases)))
}

func (d *Dialect) listAliases(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in := kms.ListAliasesInput{After: string(x.Text(marker)), Limit: int(x.Number(anyLimit))}
	if x.Has(keyID) {
		id, err := d.key(ctx, op, x, keyID)
		if err != nil {
			return err
		}
		in.KeyID = &id
	}
	page, err := d.cfg.Core.ListAliases(ctx, in)
	return answerWith(x, err, page, func(p *kms.AliasPage) client.AliasPage {
		return client.AliasPage{Aliases: dialect.Each(p.Aliases, aliasOf), NextMarker: p.Next}
	})
}

func (d *Dialect) tagKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	list := tagsIn(x.Items(tags))
	inBatch(ctx, len(list), policy.TraceTagInBatch)
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.SetTags(ctx, id, list)
	}, nothing)
}

// tagsIn returns the tags of a request, nil if it has none.
func tagsIn(items []dialect.Values) []kms.Tag {
	if len(items) == 0 {
		return nil
	}
	return dialect.Each(items, func(t dialect.Values) kms.Tag {
		return kms.Tag{Key: string(t.Text(tagKey)), Value: string(t.Text(tagValue))}
	})
}

func (d *Dialect) untagKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	keys := texts(x.Texts(tagKeys))
	inBatch(ctx, len(keys), policy.TraceUntagInBatch)
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.DeleteTags(ctx, id, keys, !x.Flag(ignoreMissing, false))
	}, nothing)
}

// inBatch sets the trace name of a change of several tags.
func inBatch(ctx context.Context, n int, trace string) {
	if n > 1 {
		kms.CallFrom(ctx).Trace = trace
	}
}

func (d *Dialect) listKeyTags(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.KeyTags, func(k *kms.Key) client.Tags { return client.Tags{Tags: tagsOf(k)} })
}

func (d *Dialect) listTags(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	list, err := d.cfg.Core.ListTags(ctx)
	return answerWith(x, err, list, func(list []kms.TagValues) client.AllTags {
		return client.AllTags{Tags: dialect.Each(list, func(t kms.TagValues) client.TagValues { return client.TagValues(t) })}
	})
}

// findKeys searches by tags and by a part of the alias. A key must have all of the tags, with any of the values of each.
func (d *Dialect) findKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.FindKeysInput{
		Name: string(x.Text(aliasPart)), Offset: offset(x), Limit: int(x.Number(anyLimit)), CountOnly: x.Flag(countOnly, false),
	}
	for _, t := range x.Items(searchedTags) {
		in.Tags = append(in.Tags, kms.TagValues{Key: string(t.Text(tagKey)), Values: texts(t.Texts(tagValues))})
	}
	page, err := d.cfg.Core.FindKeys(ctx, in)
	return answerWith(x, err, page, func(p *kms.KeyPage) client.KeyPage {
		return keyPage(p, func(k *kms.Key) client.Key {
			key := keyOf(k)
			key.Tags = tagsOf(k)
			return key
		})
	})
}

// texts returns the elements of an array of strings.
func texts(list [][]byte) []string {
	return dialect.Each(list, func(text []byte) string { return string(text) })
}
