package huawei

import (
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
	x.Out = appendKeyID(append(x.Out, `{"key_info":`...), key.ID)
	x.Out = append(appendText(x.Out, `,"domain_id":`, d.cfg.DomainID), "}}"...)
	return nil
}

func (d *Dialect) describeKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DescribeKey, func(key *kms.Key) {
		x.Out = append(d.appendKey(append(x.Out, `{"key_info":`...), key), '}')
	})
}

// onKey does an operation that is about one key and has no further fields, and answers with what show appends.
func (d *Dialect) onKey(
	ctx context.Context, op policy.Operation, x *dialect.Exchange, do func(context.Context, kms.KeyID) (*kms.Key, error), show func(*kms.Key),
) error {
	id, err := d.key(ctx, op, x, idOfKey)
	if err != nil {
		return err
	}
	key, err := do(ctx, id)
	if err != nil {
		return err
	}
	show(key)
	return nil
}

func nothing(*kms.Key) {}

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
	x.Out = append(x.Out, `{"keys":[`...)
	for i, key := range page.Keys {
		x.Out = append(separate(x.Out, i), '"')
		x.Out = append(dialect.AppendID(x.Out, key.ID), '"')
	}
	x.Out = append(x.Out, `],"key_details":[`...)
	for i, key := range page.Keys {
		x.Out = d.appendKey(separate(x.Out, i), key)
	}
	next, truncated := "", "false"
	if page.Next > 0 {
		next, truncated = strconv.Itoa(page.Next), "true"
	}
	x.Out = appendText(x.Out, `],"next_marker":`, next)
	x.Out = appendText(x.Out, `,"truncated":`, truncated)
	x.Out = append(appendNumber(x.Out, `,"total":`, page.Total), '}')
	return nil
}

// fullPage is the documented default of list-keys. Who asks for as many or more gets what the core takes for a full page.
const fullPage = 2000

func (d *Dialect) enableKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.EnableKey, func(key *kms.Key) { x.Out = appendState(x.Out, key) })
}

func (d *Dialect) disableKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DisableKey, func(key *kms.Key) { x.Out = appendState(x.Out, key) })
}

// appendState answers enable-key and disable-key.
func appendState(b []byte, key *kms.Key) []byte {
	return append(appendFlatState(append(b, `{"key_info":`...), key), '}')
}

// appendFlatState answers the operations on a key's deletion.
func appendFlatState(b []byte, key *kms.Key) []byte {
	return append(appendText(appendKeyID(b, key.ID), `,"key_state":`, states[key.State]), '}')
}

func (d *Dialect) scheduleDeletion(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	days := int(x.Number(pendingDays))
	schedule := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.ScheduleKeyDeletion(ctx, id, days)
	}
	return d.onKey(ctx, op, x, schedule, func(key *kms.Key) { x.Out = appendFlatState(x.Out, key) })
}

func (d *Dialect) cancelDeletion(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.CancelKeyDeletion, func(key *kms.Key) { x.Out = appendFlatState(x.Out, key) })
}

func (d *Dialect) updateAlias(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	alias := string(x.Text(keyAlias))
	update := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateAlias(ctx, id, alias)
	}
	return d.onKey(ctx, op, x, update, func(key *kms.Key) {
		x.Out = appendKeyID(append(x.Out, `{"key_info":`...), key.ID)
		x.Out = append(appendText(x.Out, `,"key_alias":`, key.Alias), "}}"...)
	})
}

func (d *Dialect) updateDescription(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	text := string(x.Text(newDescription))
	update := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateDescription(ctx, id, text)
	}
	return d.onKey(ctx, op, x, update, func(key *kms.Key) {
		x.Out = appendKeyID(append(x.Out, `{"key_info":`...), key.ID)
		x.Out = append(appendText(x.Out, `,"key_description":`, key.Description), "}}"...)
	})
}

func (d *Dialect) enableRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	enable := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.EnableRotation(ctx, id, 0)
	}
	return d.onKey(ctx, op, x, enable, nothing)
}

func (d *Dialect) updateRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	days := int(x.Number(rotationInterval))
	update := func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateRotation(ctx, id, days)
	}
	return d.onKey(ctx, op, x, update, nothing)
}

func (d *Dialect) disableRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DisableRotation, nothing)
}

// defaultInterval is what a rotation that was never planned would have, in days.
const defaultInterval = 365

// rotationStatus answers with a boolean, where describe-key has a string for the same.
func (d *Dialect) rotationStatus(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.RotationStatus, func(key *kms.Key) {
		interval := key.Rotation.Interval
		if interval == 0 {
			interval = defaultInterval
		}
		x.Out = strconv.AppendBool(append(x.Out, `{"key_rotation_enabled":`...), key.Rotation.Enabled)
		x.Out = appendNumber(x.Out, `,"rotation_interval":`, interval)
		x.Out = appendMillis(x.Out, `,"last_rotation_time":"`, key.Rotation.Last)
		x.Out = append(appendNumber(x.Out, `,"number_of_rotations":`, key.Rotation.Count), '}')
	})
}

func (d *Dialect) userInstances(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	n, err := d.cfg.Core.CountKeys(ctx)
	if err != nil {
		return err
	}
	x.Out = append(appendNumber(x.Out, `{"instance_num":`, n), '}')
	return nil
}

func (d *Dialect) userQuotas(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	usage, err := d.cfg.Core.Quotas(ctx)
	if err != nil {
		return err
	}
	x.Out = append(x.Out, `{"quotas":{"resources":[`...)
	x.Out = appendNumber(x.Out, `{"type":"CMK","used":`, usage.Keys)
	x.Out = appendNumber(x.Out, `,"quota":`, usage.KeyLimit)
	x.Out = appendNumber(x.Out, `},{"type":"grant_per_CMK","used":`, usage.MaxGrants)
	x.Out = append(appendNumber(x.Out, `,"quota":`, usage.Grants), "}]}}"...)
	return nil
}
