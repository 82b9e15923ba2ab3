package huawei

import (
	"cmp"
	"context"
	"encoding/hex"
	"strconv"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// key returns the id of the key that a field names. An absent optional field is the zero id.
func (d *Dialect) key(ctx context.Context, op policy.Operation, x *dialect.Exchange, field *dialect.TextField) (kms.KeyID, error) {
	name := x.Text(field)
	switch {
	case name == nil:
		return kms.KeyID{}, nil
	case isKeyID(name):
		return idOf(name), nil
	}
	// A URN of this place stands for the alias in it; one of another place is no more than an alias that is not there.
	alias := string(name)
	if len(alias) > len(d.urn) && alias[:len(d.urn)] == d.urn {
		alias = alias[len(d.urn):]
	}
	return d.cfg.Core.Resolve(ctx, op, alias)
}

// idOf returns the id that isKeyID has found a text to be.
func idOf(text []byte) (id kms.KeyID) {
	digits := make([]byte, 0, 2*len(id))
	for _, c := range text {
		if c != '-' {
			digits = append(digits, c)
		}
	}
	_, _ = hex.Decode(id[:], digits)
	return id
}

func (d *Dialect) createKey(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.CreateKeyInput{
		Alias:       string(x.Text(keyAlias)),
		Description: string(x.Text(description)),
		Spec:        kms.KeySpec(x.Text(keySpec)),
		Usage:       kms.KeyUsage(x.Text(keyUsage)),
		Origin:      kms.Origin(x.Text(origin)),
	}
	if in.Spec == "" {
		in.Spec = kms.AES256
	}
	if importedSpecs[in.Spec] && in.Origin != kms.OriginExternal {
		return refuse(codeSpec, kms.CodeUnsupported, "key_spec", "is for keys of origin external alone")
	}
	key, err := d.cfg.Core.CreateKey(ctx, in)
	if err != nil {
		return err
	}
	return x.JSON(inKeyInfo[createdKey]{createdKey{key.ID.String(), d.cfg.DomainID}})
}

// createdKey answers create-key.
type createdKey struct {
	KeyID    string `json:"key_id"`
	DomainID string `json:"domain_id"`
}

func (d *Dialect) describeKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DescribeKey, func(key *kms.Key) any { return inKeyInfo[keyInfo]{d.keyOf(key)} })
}

// onKey does an operation that is about one key and has no further fields, and answers with what show returns, if it is not nil.
func (d *Dialect) onKey(
	ctx context.Context, op policy.Operation, x *dialect.Exchange, do func(context.Context, kms.KeyID) (*kms.Key, error), show func(*kms.Key) any,
) error {
	id, err := d.key(ctx, op, x, idOfKey)
	if err != nil {
		return err
	}
	key, err := do(ctx, id)
	if err != nil {
		return err
	}
	if show == nil {
		return nil
	}
	return x.JSON(show(key))
}

// listKeys lists AES_256 keys alone unless key_spec says otherwise, as this cloud does.
func (d *Dialect) listKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.ListKeysInput{
		Spec: kms.KeySpec(x.Text(listedSpec)), Limit: int(x.Number(limit)), Offset: int(x.Number(marker)),
	}
	switch in.Spec {
	case "":
		in.Spec = kms.AES256
	case allSpecs:
		in.Spec = ""
	}
	if in.Limit >= fullPage {
		in.Limit = 0
	}
	if x.Has(keyState) {
		in.State = stateNumbered(strconv.FormatInt(x.Number(keyState), 10))
	}
	page, err := d.cfg.Core.ListKeys(ctx, in)
	if err != nil {
		return err
	}
	list := keyList{make([]string, len(page.Keys)), make([]keyInfo, len(page.Keys)), pageOf(page.Next, page.Total)}
	for i, key := range page.Keys {
		list.Keys[i], list.Details[i] = key.ID.String(), d.keyOf(key)
	}
	return x.JSON(list)
}

// keyList is a page of keys.
type keyList struct {
	Keys    []string  `json:"keys"`
	Details []keyInfo `json:"key_details"`
	page
}

// fullPage is the documented default of list-keys. Who asks for as many or more gets what the core takes for a full page.
const fullPage = 2000

func (d *Dialect) enableKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.EnableKey, func(key *kms.Key) any { return inKeyInfo[stateInfo]{stateOf(key)} })
}

func (d *Dialect) disableKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DisableKey, func(key *kms.Key) any { return inKeyInfo[stateInfo]{stateOf(key)} })
}

func (d *Dialect) scheduleDeletion(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	days := int(x.Number(pendingDays))
	schedule := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.ScheduleKeyDeletion(ctx, id, days)
	}
	return d.onKey(ctx, op, x, schedule, func(key *kms.Key) any { return stateOf(key) })
}

func (d *Dialect) cancelDeletion(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.CancelKeyDeletion, func(key *kms.Key) any { return stateOf(key) })
}

func (d *Dialect) updateAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	alias := string(x.Text(keyAlias))
	update := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateAlias(ctx, id, alias)
	}
	return d.onKey(ctx, op, x, update, func(key *kms.Key) any {
		return inKeyInfo[renamedKey]{renamedKey{key.ID.String(), key.Alias}}
	})
}

func (d *Dialect) updateDescription(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	text := string(x.Text(newDescription))
	update := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateDescription(ctx, id, text)
	}
	return d.onKey(ctx, op, x, update, func(key *kms.Key) any {
		return inKeyInfo[describedKey]{describedKey{key.ID.String(), key.Description}}
	})
}

// renamedKey answers update-key-alias, and describedKey update-key-description.
type (
	renamedKey struct {
		KeyID string `json:"key_id"`
		Alias string `json:"key_alias"`
	}
	describedKey struct {
		KeyID       string `json:"key_id"`
		Description string `json:"key_description"`
	}
)

func (d *Dialect) enableRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	enable := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.EnableRotation(ctx, id, 0)
	}
	return d.onKey(ctx, op, x, enable, nil)
}

func (d *Dialect) updateRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	days := int(x.Number(rotationInterval))
	update := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateRotation(ctx, id, days)
	}
	return d.onKey(ctx, op, x, update, nil)
}

func (d *Dialect) disableRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DisableRotation, nil)
}

// defaultInterval is what a rotation that was never planned would have, in days.
const defaultInterval = 365

// rotationStatus answers with a boolean, where describe-key has a string for the same.
func (d *Dialect) rotationStatus(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.RotationStatus, func(key *kms.Key) any {
		r := &key.Rotation
		return rotation{r.Enabled, cmp.Or(r.Interval, defaultInterval), millis(r.Last), r.Count}
	})
}

// rotation is the rotation of a key.
type rotation struct {
	Enabled  bool   `json:"key_rotation_enabled"`
	Interval int    `json:"rotation_interval"` // days
	Last     string `json:"last_rotation_time"`
	Count    int    `json:"number_of_rotations"`
}

func (d *Dialect) userInstances(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	n, err := d.cfg.Core.CountKeys(ctx)
	if err != nil {
		return err
	}
	return x.JSON(map[string]int{"instance_num": n})
}

func (d *Dialect) userQuotas(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	usage, err := d.cfg.Core.Quotas(ctx)
	if err != nil {
		return err
	}
	var answer quotas
	answer.Quotas.Resources = []quota{{"CMK", usage.Keys, usage.KeyLimit}, {"grant_per_CMK", usage.MaxGrants, usage.Grants}}
	return x.JSON(answer)
}

// quotas are the limits of the tenant, and how much of them is used.
type quotas struct {
	Quotas struct {
		Resources []quota `json:"resources"`
	} `json:"quotas"`
}

type quota struct {
	Type  string `json:"type"`
	Used  int    `json:"used"`
	Quota int    `json:"quota"`
}
