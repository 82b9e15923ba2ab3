package alibaba

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// keyHandler does an action with the key that KeyId names.
type keyHandler func(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error

// onKey returns the handler that finds the key by its id or its ARN and then calls do.
func (d *Dialect) onKey(do keyHandler) dialect.Handler {
	return func(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
		id, err := d.key(ctx, op, x.Text(keyID), false)
		if err != nil {
			return err
		}
		return do(ctx, id, x)
	}
}

// onName is onKey for actions that take the names of aliases as well.
func (d *Dialect) onName(do keyHandler) dialect.Handler {
	return func(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
		id, err := d.key(ctx, op, x.Text(keyID), true)
		if err != nil {
			return err
		}
		return do(ctx, id, x)
	}
}

// tried returns the handler of an action that may be a dry run.
func (d *Dialect) tried(do dialect.Handler) dialect.Handler {
	return func(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
		kms.CallFrom(ctx).DryRun = x.Flag(dryRun, false)
		return do(ctx, op, x)
	}
}

// used is onName for actions that may be dry runs.
func (d *Dialect) used(do keyHandler) dialect.Handler { return d.tried(d.onName(do)) }

// key returns the id of the key that a text names: by its id, its ARN, or with aliases by an alias or its ARN. The region and the
// account of an ARN count for nothing.
func (d *Dialect) key(ctx context.Context, op policy.Operation, name []byte, aliases bool) (kms.KeyID, error) {
	text := string(name)
	if parts := strings.SplitN(text, ":", 5); len(parts) == 5 && parts[0] == "acs" && parts[1] == "kms" {
		text = strings.TrimPrefix(parts[4], "key/")
	}
	if alias, ok := strings.CutPrefix(text, aliasPrefix); ok {
		if !aliases {
			return kms.KeyID{}, refuse(unsupportedAlias, kms.CodeInvalidRequest, "KeyId", "this action takes no aliases")
		}
		id, err := d.core.Resolve(ctx, op, alias)
		if e := kms.AsError(err); err != nil && e.Code == kms.CodeNotFound {
			err = e.In("alias")
		}
		return id, err
	}
	id, err := kms.ParseKeyID(text)
	if err != nil {
		return kms.KeyID{}, refuse(keyNotFound, kms.CodeNotFound, "KeyId", "is no key's")
	}
	return id, nil
}

// version returns the number of the version of a key that KeyVersionId names.
func version(id kms.KeyID, name []byte) (uint32, error) {
	number := versionNumber(id, string(name))
	if number == 0 {
		return 0, refuse(versionNotFound, kms.CodeNotFound, "KeyVersionId", "is no version's of the key")
	}
	return number, nil
}

// answer returns a function that answers with a result of the core in the form that show gives it, or returns the error.
func answer[T, A any](x *dialect.Exchange, show func(T) A) func(T, error) error {
	return func(result T, err error) error {
		if err != nil {
			return err
		}
		return x.JSON(show(result))
	}
}

// answerNothing is answer for an action whose answer has no members of its own.
func answerNothing(_ *kms.Key, err error) error { return err }

func (d *Dialect) createKey(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.CreateKeyInput{
		Unnamed: true, Description: string(x.Text(description)), Spec: specs[string(x.Text(keySpec))], Usage: usages[string(x.Text(keyUsage))],
		Origin: origins[string(x.Text(origin))], Instance: string(x.Text(instance)), Rotation: daysOf(x.Text(rotationInterval)),
	}
	for _, t := range x.Items(newKeyTags) {
		in.Tags = append(in.Tags, kms.Tag{Key: string(t.Text(tagKey)), Value: string(t.Text(tagValue))})
	}
	in.Spec = cmp.Or(in.Spec, kms.AES256)
	if string(x.Text(protection)) == levelHSM && in.Instance == "" {
		in.Protection = kms.ProtectionHSM
	}
	switch on := x.Flag(rotation, false); {
	case on && in.Rotation == 0:
		return refuse(missing, kms.CodeInvalidRequest, "RotationInterval", "is required with EnableAutomaticRotation")
	case !on && in.Rotation != 0:
		return refuse(invalid, kms.CodeInvalidRequest, "RotationInterval", "is for keys with EnableAutomaticRotation")
	}
	if err := checkNewKey(in); err != nil {
		return err
	}
	return answer(x, func(k *kms.Key) any { return inMetadata[keyMetadata]{d.metadataOf(k)} })(d.core.CreateKey(ctx, in))
}

// checkNewKey checks that the cloud has such keys: imported ones are symmetric, and the shorter AES keys are an instance's.
func checkNewKey(in kms.CreateKeyInput) error {
	short := in.Spec == kms.AES128 || in.Spec == kms.AES192
	switch {
	case short && in.Instance == "":
		return refuse(invalid, kms.CodeInvalidRequest, "KeySpec", "is for keys with a DKMSInstanceId")
	case in.Origin == kms.OriginExternal && in.Spec != kms.AES256 && !short:
		return refuse(unsupportedOperation, kms.CodeUnsupported, "KeySpec", "keys of this spec cannot be EXTERNAL")
	}
	return nil
}

func (d *Dialect) describeKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, d.descriptionOf)(d.core.DescribeKey(ctx, id))
}

// filterKeys are the properties that ListKeys can select keys by.
var filterKeys = map[string]func(d *Dialect, k *kms.Key) string{
	"KeyState":        func(_ *Dialect, k *kms.Key) string { return stateOf(k.State) },
	"KeySpec":         func(_ *Dialect, k *kms.Key) string { return nameOf(specs, k.Spec) },
	"KeyUsage":        func(_ *Dialect, k *kms.Key) string { return nameOf(usages, k.Usage) },
	"ProtectionLevel": func(_ *Dialect, k *kms.Key) string { return levelOf(k) },
	"DKMSInstanceId":  func(_ *Dialect, k *kms.Key) string { return k.Instance },
	"KeyId":           func(_ *Dialect, k *kms.Key) string { return k.ID.String() },
	"Creator":         func(d *Dialect, _ *kms.Key) string { return d.account },
	"CreatorType": func(_ *Dialect, k *kms.Key) string {
		if k.IsDefault() {
			return "Service"
		}
		return "User"
	},
}

// selected returns the keys that have, for each filter, one of its values.
func (d *Dialect) selected(keys []*kms.Key, filters []dialect.Values) []*kms.Key {
	for i := range filters {
		property := filterKeys[string(filters[i].Text(filterKey))]
		values := texts(filters[i].Texts(filterValues))
		keys = slices.DeleteFunc(slices.Clone(keys), func(k *kms.Key) bool { return !slices.Contains(values, property(d, k)) })
	}
	return keys
}

// listedKey is a key in a list.
type listedKey struct{ KeyId, KeyArn string }

func (d *Dialect) listKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	keys, total, err := d.pageOfKeys(ctx, x)
	if err != nil {
		return err
	}
	number, size := paging(x, defaultPage)
	return x.JSON(struct {
		Keys struct{ Key []listedKey }
		page
	}{struct{ Key []listedKey }{dialect.Each(keys, func(k *kms.Key) listedKey {
		return listedKey{k.ID.String(), d.arn("key/" + k.ID.String())}
	})}, page{total, number, size}})
}

// pageOfKeys returns the page of keys that a request asks for. With filters, it reads all keys.
func (d *Dialect) pageOfKeys(ctx context.Context, x *dialect.Exchange) ([]*kms.Key, int, error) {
	if number, size := paging(x, defaultPage); len(x.Items(filters)) == 0 {
		p, err := d.core.ListKeys(ctx, kms.ListKeysInput{Offset: (number - 1) * size, Limit: size})
		if err != nil {
			return nil, 0, err
		}
		return p.Keys, p.Total, nil
	}
	all, err := pages(func(offset int) (*kms.KeyPage, error) { return d.core.ListKeys(ctx, kms.ListKeysInput{Offset: offset}) })
	if err != nil {
		return nil, 0, err
	}
	keys, p := pageOf(x, d.selected(all, x.Items(filters)), defaultPage)
	return keys, p.TotalCount, nil
}

// pages returns the keys of all pages.
func pages(list func(offset int) (*kms.KeyPage, error)) (all []*kms.Key, err error) {
	for offset := 0; ; {
		p, err := list(offset)
		if err != nil {
			return nil, err
		}
		if all, offset = append(all, p.Keys...), p.Next; offset == 0 {
			return all, nil
		}
	}
}

func (d *Dialect) enableKey(ctx context.Context, id kms.KeyID, _ *dialect.Exchange) error {
	return answerNothing(d.core.EnableKey(ctx, id))
}

func (d *Dialect) disableKey(ctx context.Context, id kms.KeyID, _ *dialect.Exchange) error {
	return answerNothing(d.core.DisableKey(ctx, id))
}

func (d *Dialect) updateDescription(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.core.UpdateDescription(ctx, id, string(x.Text(newDescription))))
}

func (d *Dialect) scheduleDeletion(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.core.ScheduleKeyDeletion(ctx, id, int(x.Number(pendingWindow))))
}

func (d *Dialect) cancelDeletion(ctx context.Context, id kms.KeyID, _ *dialect.Exchange) error {
	return answerNothing(d.core.CancelKeyDeletion(ctx, id))
}

// setDeletionProtection takes the key's id or its ARN, in one of two parameters.
func (d *Dialect) setDeletionProtection(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	name := x.Text(protectedARN)
	switch {
	case x.Has(protectedKey) && name != nil:
		return refuse(invalid, kms.CodeInvalidRequest, "KeyId", "must not be given with ProtectedResourceArn")
	case x.Has(protectedKey):
		name = x.Text(protectedKey)
	case name == nil:
		return refuse(missing, kms.CodeInvalidRequest, "ProtectedResourceArn", "is required")
	}
	id, err := d.key(ctx, op, name, false)
	if err != nil {
		return err
	}
	return answerNothing(d.core.SetDeletionProtection(ctx, id, kms.DeletionProtection{
		Enabled: x.Flag(protect, false), Description: string(x.Text(protectedFor)),
	}))
}

func (d *Dialect) importParameters(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(p *kms.ImportParameters) any {
		return struct {
			KeyId           string
			ImportToken     []byte
			PublicKey       []byte
			TokenExpireTime string
		}{p.KeyID.String(), p.Token, p.PublicKey, date(p.ExpiresAt)}
	})(d.core.GetImportParameters(ctx, kms.ImportParametersInput{
		KeyID: id, Algorithm: kms.WrappingAlgorithm(x.Text(wrappingAlgorithm)), WrappingSpec: kms.KeySpec(x.Text(wrappingSpec)), Repeat: true,
	}))
}

func (d *Dialect) importMaterial(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	in := kms.ImportInput{KeyID: id, Token: x.Bytes(importToken), Material: x.Bytes(material), Repeat: true}
	if at := x.Number(materialExpiry); at != 0 {
		in.ExpiresAt = time.Unix(at, 0)
	}
	return answerNothing(d.core.ImportKeyMaterial(ctx, in))
}

func (d *Dialect) deleteMaterial(ctx context.Context, id kms.KeyID, _ *dialect.Exchange) error {
	return answerNothing(d.core.DeleteImportedKeyMaterial(ctx, id))
}

// inKeyVersion is an answer whose members are in KeyVersion.
type inKeyVersion struct{ KeyVersion keyVersion }

func (d *Dialect) createKeyVersion(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(k *kms.Key) inKeyVersion { return inKeyVersion{versionOf(k, k.Current())} })(d.core.CreateKeyVersion(ctx, id))
}

func (d *Dialect) describeKeyVersion(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	number, err := version(id, x.Text(keyVersionID))
	if err != nil {
		return err
	}
	key, err := d.core.DescribeKey(ctx, id)
	if err != nil {
		return err
	}
	v := key.Version(number)
	if v == nil {
		return kms.Errorf(kms.CodeNotFound, "key has no such version").In("version")
	}
	return x.JSON(inKeyVersion{versionOf(key, v)})
}

func (d *Dialect) listKeyVersions(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(k *kms.Key) any {
		versions, p := pageOf(x, dialect.Each(k.Versions, func(v kms.KeyVersion) keyVersion { return versionOf(k, &v) }), defaultPage)
		return struct {
			KeyVersions struct{ KeyVersion []keyVersion }
			page
		}{struct{ KeyVersion []keyVersion }{versions}, p}
	})(d.core.DescribeKey(ctx, id))
}

func (d *Dialect) updateRotation(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	on, days := x.Flag(rotationRequired, false), daysOf(x.Text(rotationInterval))
	if on && days == 0 {
		return refuse(missing, kms.CodeInvalidRequest, "RotationInterval", "is required to enable the rotation")
	}
	return answerNothing(d.core.SetRotation(ctx, id, on, days))
}

// aliasOf returns the alias of a request as the core has it, without the prefix.
func aliasOf(x *dialect.Exchange) string { return string(x.Text(aliasName)[len(aliasPrefix):]) }

func (d *Dialect) createAlias(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	_, err := d.core.CreateAlias(ctx, id, aliasOf(x))
	return err
}

func (d *Dialect) updateAlias(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	_, err := d.core.AssociateAlias(ctx, aliasOf(x), id)
	return err
}

func (d *Dialect) deleteAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.core.Resolve(ctx, op, aliasOf(x))
	if err != nil {
		return err
	}
	return d.core.DeleteAliases(ctx, id, []string{aliasOf(x)})
}

// aliasInfo is an alias in a list.
type aliasInfo struct{ AliasName, AliasArn, KeyId string }

func (d *Dialect) listAliases(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	return d.aliases(ctx, nil, x)
}

func (d *Dialect) listKeyAliases(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return d.aliases(ctx, &id, x)
}

// aliases lists the aliases of a key, or of all.
func (d *Dialect) aliases(ctx context.Context, id *kms.KeyID, x *dialect.Exchange) error {
	var all []aliasInfo
	for after := ""; ; {
		p, err := d.core.ListAliases(ctx, kms.ListAliasesInput{KeyID: id, After: after, Limit: 1000})
		if err != nil {
			return err
		}
		for _, a := range p.Aliases {
			all = append(all, aliasInfo{aliasPrefix + a.Name, d.arn(aliasPrefix + a.Name), a.KeyID.String()})
		}
		if after = p.Next; after == "" {
			break
		}
	}
	list, p := pageOf(x, all, defaultPage)
	return x.JSON(struct {
		Aliases struct{ Alias []aliasInfo }
		page
	}{struct{ Alias []aliasInfo }{append([]aliasInfo{}, list...)}, p})
}

// texts returns the elements of a list of strings.
func texts(list [][]byte) []string {
	return dialect.Each(list, func(text []byte) string { return string(text) })
}

// tagsOf returns the tags of a request's list, whose elements have them in two fields.
func tagsOf(items []dialect.Values, key, value *dialect.TextField) []kms.Tag {
	return dialect.Each(items, func(t dialect.Values) kms.Tag { return kms.Tag{Key: string(t.Text(key)), Value: string(t.Text(value))} })
}

func (d *Dialect) tagResource(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.core.SetTags(ctx, id, tagsOf(x.Items(tags), tagKey, tagValue)))
}

// untagResource takes the tags' keys as a list in JSON or with commas. A tag that the key does not have counts as deleted.
func (d *Dialect) untagResource(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	text := x.Text(tagKeys)
	keys := strings.Split(string(text), ",")
	if text[0] == '[' {
		keys = nil
		if json.Unmarshal(text, &keys) != nil {
			return refuse(invalid, kms.CodeInvalidRequest, "TagKeys", "must be a list of strings")
		}
	}
	return answerNothing(d.core.DeleteTags(ctx, id, keys, false))
}

func (d *Dialect) listResourceTags(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(k *kms.Key) any {
		return struct{ Tags struct{ Tag []tag } }{struct{ Tag []tag }{
			dialect.Each(k.Tags, func(t kms.Tag) tag { return tag{k.ID.String(), t.Key, t.Value} }),
		}}
	})(d.core.KeyTags(ctx, id))
}

// resources returns the ids of a request's keys.
func (d *Dialect) resources(ctx context.Context, op policy.Operation, x *dialect.Exchange) (ids []kms.KeyID, err error) {
	for _, name := range x.Texts(resourceIDs) {
		id, err := d.key(ctx, op, name, false)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// tagResources tags keys one after the other, and ends at the first that it cannot tag.
func (d *Dialect) tagResources(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	kms.CallFrom(ctx).Trace = policy.TraceTagInBatch
	ids, err := d.resources(ctx, op, x)
	for i := 0; i < len(ids) && err == nil; i++ {
		_, err = d.core.SetTags(ctx, ids[i], tagsOf(x.Items(resourceTags), shortKey, shortValue))
	}
	return err
}

func (d *Dialect) untagResources(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	kms.CallFrom(ctx).Trace = policy.TraceUntagInBatch
	keys := texts(x.Texts(resourceTagKeys))
	ids, err := d.resources(ctx, op, x)
	for i := 0; i < len(ids) && err == nil; i++ {
		_, err = d.core.DeleteTags(ctx, ids[i], keys, false)
	}
	return err
}

// maxTagRows is the number of tags on one page of ListTagResources.
const maxTagRows = 200

func (d *Dialect) listTagResources(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	ids, err := d.resources(ctx, op, x)
	if err != nil {
		return err
	}
	in := kms.FindKeysInput{Limit: 1000}
	for _, t := range x.Items(wantedTags) {
		wanted := kms.TagValues{Key: string(t.Text(shortKey))}
		if t.Has(shortValue) {
			wanted.Values = []string{string(t.Text(shortValue))}
		}
		in.Tags = append(in.Tags, wanted)
	}
	keys, err := pages(func(offset int) (*kms.KeyPage, error) {
		in.Offset = offset
		return d.core.FindKeys(ctx, in)
	})
	if err != nil {
		return err
	}
	var rows []resourceTag
	for _, k := range keys {
		if len(ids) == 0 || slices.Contains(ids, k.ID) {
			rows = append(rows, dialect.Each(k.Tags, func(t kms.Tag) resourceTag { return resourceTag{k.ID.String(), "key", t.Key, t.Value} })...)
		}
	}
	return x.JSON(tagPage(rows, int(x.Number(nextToken))))
}
