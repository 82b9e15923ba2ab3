package huawei

import (
	"cmp"
	"context"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// keyHandler does an operation with the key that the field key_id names.
type keyHandler func(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error

// onKey returns the handler that finds the key and then calls do.
func (d *Dialect) onKey(do keyHandler) dialect.Handler {
	return func(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
		id, err := d.key(ctx, op, x, idOfKey)
		if err != nil {
			return err
		}
		return do(ctx, id, x)
	}
}

// answer returns a function that answers with a result of the core in the form that show gives it, or returns the error.
func answer[T, A any](x *dialect.Exchange, show func(T) A) func(T, error) error {
	return func(result T, err error) error {
		if err != nil {
			return err
		}
		shown := show(result)
		return x.JSON(&shown) // the encoder copies a struct that it is not given by pointer
	}
}

// answerNothing is answer for an operation whose answer has no members.
func answerNothing(_ *kms.Key, err error) error { return err }

// key returns the id of the key that a field names. An absent optional field is the zero id.
func (d *Dialect) key(ctx context.Context, op policy.Operation, x *dialect.Exchange, field *dialect.TextField) (kms.KeyID, error) {
	name := x.Text(field)
	switch {
	case name == nil:
		return kms.KeyID{}, nil
	case isKeyID(name):
		return uuid.ParseBytes(name)
	}
	// A URN of this place stands for the alias in it; one of another place counts as an alias that does not exist.
	alias := string(name)
	if len(alias) > len(d.urn) && alias[:len(d.urn)] == d.urn {
		alias = alias[len(d.urn):]
	}
	return d.cfg.Core.Resolve(ctx, op, alias)
}

func (d *Dialect) createKey(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.CreateKeyInput{
		Alias:       string(x.Text(keyAlias)),
		Description: string(x.Text(description)),
		Spec:        cmp.Or(kms.KeySpec(x.Text(keySpec)), kms.AES256),
		Usage:       kms.KeyUsage(x.Text(keyUsage)),
		Origin:      kms.Origin(x.Text(origin)),
	}
	if importedSpecs[in.Spec] && in.Origin != kms.OriginExternal {
		return refuse(codeSpec, kms.CodeUnsupported, "key_spec", "is for keys of origin external alone")
	}
	return answer(x, func(key *kms.Key) any {
		return inKeyInfo[createdKey]{createdKey{key.ID.String(), d.cfg.DomainID}}
	})(d.cfg.Core.CreateKey(ctx, in))
}

// createdKey answers create-key.
type createdKey struct {
	KeyID    string `json:"key_id"`
	DomainID string `json:"domain_id"`
}

func (d *Dialect) describeKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(key *kms.Key) any { return inKeyInfo[keyInfo]{d.keyOf(key)} })(d.cfg.Core.DescribeKey(ctx, id))
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
	if n := x.Number(keyState); n == 3 { // several states of the core
		in.Match = func(k *kms.Key) bool { return states[k.State] == "3" }
	} else {
		in.State = numbered[n]
	}
	return answer(x, func(p *kms.KeyPage) keyList {
		ids := dialect.Each(p.Keys, func(key *kms.Key) string { return key.ID.String() })
		return keyList{ids, dialect.Each(p.Keys, d.keyOf), pageOf(p.Next, p.Total)}
	})(d.cfg.Core.ListKeys(ctx, in))
}

// keyList is a page of keys.
type keyList struct {
	Keys    []string  `json:"keys"`
	Details []keyInfo `json:"key_details"`
	page
}

// fullPage is the documented default of list-keys. A request for as many or more gets a full page of the core.
const fullPage = 2000

func (d *Dialect) enableKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, newState)(d.cfg.Core.EnableKey(ctx, id))
}

func (d *Dialect) disableKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, newState)(d.cfg.Core.DisableKey(ctx, id))
}

func newState(key *kms.Key) inKeyInfo[stateInfo] { return inKeyInfo[stateInfo]{stateOf(key)} }

func (d *Dialect) scheduleDeletion(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, stateOf)(d.cfg.Core.ScheduleKeyDeletion(ctx, id, int(x.Number(pendingDays))))
}

func (d *Dialect) cancelDeletion(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, stateOf)(d.cfg.Core.CancelKeyDeletion(ctx, id))
}

func (d *Dialect) updateAlias(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(key *kms.Key) any {
		return inKeyInfo[renamedKey]{renamedKey{key.ID.String(), key.Alias}}
	})(d.cfg.Core.UpdateAlias(ctx, id, string(x.Text(keyAlias))))
}

func (d *Dialect) updateDescription(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, func(key *kms.Key) any {
		return inKeyInfo[describedKey]{describedKey{key.ID.String(), key.Description}}
	})(d.cfg.Core.UpdateDescription(ctx, id, string(x.Text(newDescription))))
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

func (d *Dialect) enableRotation(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.cfg.Core.EnableRotation(ctx, id, 0))
}

func (d *Dialect) updateRotation(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.cfg.Core.UpdateRotation(ctx, id, int(x.Number(rotationInterval))))
}

func (d *Dialect) disableRotation(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answerNothing(d.cfg.Core.DisableRotation(ctx, id))
}

// rotationStatus answers with a boolean, where describe-key has a string for the same.
func (d *Dialect) rotationStatus(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, rotationOf)(d.cfg.Core.RotationStatus(ctx, id))
}

// rotation is the rotation of a key.
type rotation struct {
	Enabled  bool   `json:"key_rotation_enabled"`
	Interval int    `json:"rotation_interval"` // days; 0 while rotation is off: Terraform's provider refuses to update another then
	Last     string `json:"last_rotation_time"`
	Count    int    `json:"number_of_rotations"`
}

func rotationOf(key *kms.Key) rotation {
	r := &key.Rotation
	interval := 0
	if r.Enabled {
		interval = r.Interval
	}
	return rotation{r.Enabled, interval, millis(r.Last), r.Count}
}

func (d *Dialect) userInstances(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	return answer(x, func(n int) map[string]int { return map[string]int{"instance_num": n} })(d.cfg.Core.CountKeys(ctx))
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
