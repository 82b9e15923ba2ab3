package tencent

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// keyHandler does an operation with the key that KeyId names.
type keyHandler func(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error

func onKey(do keyHandler) dialect.Handler {
	return func(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
		id, err := parseID(x.Text(keyID))
		if err != nil {
			return err
		}
		return do(ctx, id, x)
	}
}

// changed returns the handler of an action whose answer has no members.
func changed(do func(ctx context.Context, id kms.KeyID) (*kms.Key, error)) dialect.Handler {
	return onKey(func(ctx context.Context, id kms.KeyID, _ *dialect.Exchange) error {
		_, err := do(ctx, id)
		return err
	})
}

// changedAs is changed under a permission and rules that another action has, with a trace name of its own.
func changedAs(trace string, rules *kms.Rules, do func(ctx context.Context, id kms.KeyID) (*kms.Key, error)) dialect.Handler {
	return changed(func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		call := kms.CallFrom(ctx)
		call.Trace, call.Rules = trace, rules
		return do(ctx, id)
	})
}

// allChanged returns the handler of an action on several keys. It tries all of them before it changes the first, so that a key
// that does not take part stops the action.
func allChanged(do func(ctx context.Context, id kms.KeyID) (*kms.Key, error)) dialect.Handler {
	return func(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
		ids, err := idsOf(x)
		if err != nil {
			return err
		}
		call := kms.CallFrom(ctx)
		if call.DryRun = len(ids) > 1; call.DryRun {
			for _, id := range ids {
				if _, err := do(ctx, id); kms.AsError(err).Code != kms.CodeDryRun {
					return err
				}
			}
			call.DryRun = false
		}
		for _, id := range ids {
			if _, err := do(ctx, id); err != nil {
				return err
			}
		}
		return nil
	}
}

// idsOf reads KeyIds.
func idsOf(x *dialect.Exchange) ([]kms.KeyID, error) {
	var ids []kms.KeyID
	for _, text := range x.Texts(keyIDs) {
		id, err := parseID(text)
		if err != nil {
			return nil, refuse(codeKeyID, kms.CodeInvalidRequest, "key_id", idForm.Reason)
		}
		if slices.Contains(ids, id) {
			return nil, refuse(codeDuplicate, kms.CodeInvalidRequest, "key_id", "names a key twice")
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// createdKey answers CreateKey.
type createdKey struct {
	KeyID        string `json:"KeyId"`
	Alias        string
	CreateTime   int64
	Description  string
	KeyState     string
	KeyUsage     string
	TagCode      int
	TagMsg       string
	HsmClusterID string `json:"HsmClusterId"`
}

func (d *Dialect) createKey(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.CreateKeyInput{Alias: string(x.Text(alias)), Description: string(x.Text(description)), Spec: usages[0].spec, Usage: usages[0].usage}
	if name := string(x.Text(keyUsage)); name != "" {
		u := usages[slices.Index(usageNames, name)]
		if in.Spec, in.Usage = u.spec, u.usage; u.algorithm == "" {
			return refuse(codeUsageHere, kms.CodeUnsupported, "key_usage", "cannot be had here")
		}
	}
	if x.Number(keyType) == typeExternal {
		if in.Origin = kms.OriginExternal; in.Spec != kms.AES256 {
			return refuse(codeUsage, kms.CodeInvalidRequest, "key_usage", "of an external key must be "+usages[0].name)
		}
	}
	for _, item := range x.Items(tags) {
		tag := kms.Tag{Key: string(item.Text(tagKey)), Value: string(item.Text(tagValue))}
		if slices.ContainsFunc(in.Tags, func(t kms.Tag) bool { return t.Key == tag.Key }) {
			return refuse(codeTagTwice, kms.CodeInvalidRequest, "tags", "has a key twice")
		}
		in.Tags = append(in.Tags, tag)
	}
	k, err := d.core.CreateKey(ctx, in)
	if err != nil {
		return err
	}
	return x.JSON(createdKey{
		KeyID: k.ID.String(), Alias: k.Alias, CreateTime: k.CreatedAt.Unix(), Description: k.Description, KeyState: states[k.State], KeyUsage: usageOf(k),
	})
}

func (d *Dialect) describeKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	k, err := d.core.DescribeKey(ctx, id)
	if err != nil {
		return err
	}
	return x.JSON(map[string]keyMetadata{"KeyMetadata": d.metadataOf(k)})
}

func (d *Dialect) describeKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	ids, err := idsOf(x)
	if err != nil {
		return err
	}
	shown := make([]keyMetadata, len(ids))
	for i, id := range ids {
		k, err := d.core.DescribeKey(ctx, id)
		if err != nil {
			return err
		}
		shown[i] = d.metadataOf(k)
	}
	return x.JSON(map[string][]keyMetadata{"KeyMetadatas": shown})
}

// ofRole reports whether a key is of role 0, the customer's, or 1, a cloud product's.
func ofRole(k *kms.Key, role int64) bool { return k.IsDefault() == (role == 1) }

const defaultPage = 10

func pageLimit(x *dialect.Exchange) int {
	if n := int(x.Number(limit)); n > 0 {
		return n
	}
	return defaultPage
}

// listedKey is a key in the answer of ListKeys.
type listedKey struct {
	KeyID string `json:"KeyId"`
}

// listKeys lists the keys that are in use or wait for their material.
func (d *Dialect) listKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	page, err := d.core.ListKeys(ctx, kms.ListKeysInput{
		Offset: int(x.Number(offset)), Limit: pageLimit(x), Match: func(k *kms.Key) bool {
			return k.State != kms.PendingDeletion && k.State != kms.Archived && ofRole(k, x.Number(role))
		},
	})
	if err != nil {
		return err
	}
	return x.JSON(struct {
		Keys       []listedKey
		TotalCount int
	}{dialect.Each(page.Keys, func(k *kms.Key) listedKey { return listedKey{k.ID.String()} }), page.Total})
}

// listKeyDetail lists keys that encrypt alone unless KeyUsage says otherwise, the newest first unless OrderType does.
func (d *Dialect) listKeyDetail(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	usage, origin, text := string(x.Text(listedUsage)), string(x.Text(listedOrigin)), string(x.Text(searched))
	if usage == "" {
		usage = usages[0].name
	}
	in := kms.ListKeysInput{
		State: listedStates[x.Number(keyState)], Offset: int(x.Number(offset)), Limit: pageLimit(x), Newest: x.Number(orderType) == 0,
		Match: func(k *kms.Key) bool {
			return ofRole(k, x.Number(role)) && (usage == all || usage == usageOf(k)) && (origin == "" || origin == all || origin == originOf(k)) &&
				(strings.Contains(k.Alias, text) || strings.Contains(k.ID.String(), text))
		},
	}
	for _, item := range x.Items(tagFilters) {
		in.Tags = append(in.Tags, kms.TagValues{
			Key: string(item.Text(tagKey)), Values: dialect.Each(item.Texts(tagValues), func(v []byte) string { return string(v) }),
		})
	}
	page, err := d.core.ListKeys(ctx, in)
	if err != nil {
		return err
	}
	return x.JSON(struct {
		TotalCount   int
		KeyMetadatas []keyMetadata
	}{page.Total, dialect.Each(page.Keys, d.metadataOf)})
}

func (d *Dialect) updateAlias(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	_, err := d.core.UpdateAlias(ctx, id, string(x.Text(alias)))
	return err
}

func (d *Dialect) updateDescription(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	_, err := d.core.UpdateDescription(ctx, id, string(x.Text(newText)))
	return err
}

func (d *Dialect) scheduleDeletion(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	k, err := d.core.ScheduleKeyDeletion(ctx, id, int(x.Number(pendingDays)))
	if err != nil {
		return err
	}
	x.Out = strconv.AppendInt(append(appendKeyID(x.Out, id), `,"DeletionDate":`...), k.DeletionAt.Unix(), 10)
	x.Out = append(x.Out, '}')
	return nil
}

func (d *Dialect) cancelDeletion(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	if _, err := d.core.CancelKeyDeletion(ctx, id); err != nil {
		return err
	}
	x.Out = append(appendKeyID(x.Out, id), '}')
	return nil
}

func (d *Dialect) enableKey(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
	return d.core.EnableKey(ctx, id)
}

func (d *Dialect) disableKey(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
	return d.core.DisableKey(ctx, id)
}

func (d *Dialect) archiveKey(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
	return d.core.ArchiveKey(ctx, id)
}

func (d *Dialect) rotateKey(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
	return d.core.RotateKey(ctx, id)
}

func (d *Dialect) deleteMaterial(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
	return d.core.DeleteImportedKeyMaterial(ctx, id)
}

const defaultRotation = 365 // days

func (d *Dialect) enableRotation(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	days := int(x.Number(rotateDays))
	if days == 0 {
		days = defaultRotation
	}
	_, err := d.core.SetRotation(ctx, id, true, days)
	return err
}

func (d *Dialect) disableRotation(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
	return d.core.SetRotation(ctx, id, false, 0)
}

func (d *Dialect) rotationStatus(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	k, err := d.core.RotationStatus(ctx, id)
	if err != nil {
		return err
	}
	return x.JSON(map[string]bool{"KeyRotationEnabled": k.Rotation.Enabled})
}

// algorithm is one that keys have, in the answer of ListAlgorithms.
type algorithm struct{ KeyUsage, Algorithm string }

// listAlgorithms lists what the HSM makes keys for.
func (d *Dialect) listAlgorithms(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	if err := d.core.Admit(ctx, op); err != nil {
		return err
	}
	var answer struct{ SymmetricAlgorithms, AsymmetricAlgorithms, AsymmetricSignVerifyAlgorithms []algorithm }
	answer.SymmetricAlgorithms, answer.AsymmetricAlgorithms, answer.AsymmetricSignVerifyAlgorithms = []algorithm{}, []algorithm{}, []algorithm{}
	for _, u := range usages {
		if u.algorithm == "" || !d.core.CanMake(u.spec, u.usage) {
			continue
		}
		into := &answer.AsymmetricAlgorithms
		switch {
		case u.spec == kms.AES256:
			into = &answer.SymmetricAlgorithms
		case u.usage == kms.SignVerify:
			into = &answer.AsymmetricSignVerifyAlgorithms
		}
		*into = append(*into, algorithm{u.name, u.algorithm})
	}
	return x.JSON(answer)
}

func (d *Dialect) getRegions(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	if err := d.core.Admit(ctx, op); err != nil {
		return err
	}
	return x.JSON(map[string][]string{"Regions": {d.Region}})
}

func (d *Dialect) whiteBoxStatus(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	if err := d.core.Admit(ctx, op); err != nil {
		return err
	}
	return x.JSON(map[string]bool{"ServiceEnabled": false})
}

// serviceStatus answers GetServiceStatus: what is not sold here is off, and nothing ends.
type serviceStatus struct {
	ServiceEnabled         bool
	InvalidType            int // 1: in order
	UserLevel              int // 1: the paid one
	ProExpireTime          int64
	ProRenewFlag           int
	ProResourceID          string `json:"ProResourceId"`
	ExclusiveVSMEnabled    bool
	ExclusiveHSMEnabled    bool
	SubscriptionInfo       string
	CmkUserCount           int
	CmkLimit               int
	IsAllowedDataKeyHosted bool
	IsAllowedSync          bool
}

func (d *Dialect) getServiceStatus(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	usage, err := d.core.Quotas(ctx)
	if err != nil {
		return err
	}
	return x.JSON(serviceStatus{ServiceEnabled: true, InvalidType: 1, UserLevel: 1, CmkUserCount: usage.Keys, CmkLimit: usage.KeyLimit})
}
