package keyside

import (
	"context"
	"strconv"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) createKey(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	key, err := d.cfg.Core.CreateKey(ctx, kms.CreateKeyInput{
		Alias: string(x.Text(alias)), Description: string(x.Text(description)), Spec: kms.KeySpec(x.Text(keySpec)),
		Usage: kms.KeyUsage(x.Text(keyUsage)), Origin: kms.Origin(x.Text(origin)), Tags: tagsIn(x.Items(newTags)),
	})
	return answerWith(x, err, key, keyOf)
}

// onKey does an operation on the key that key_id names and answers with what show returns.
func onKey[Answer any](
	d *Dialect, ctx context.Context, op policy.Operation, x *dialect.Exchange,
	do func(context.Context, kms.KeyID) (*kms.Key, error), show func(*kms.Key) Answer,
) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	key, err := do(ctx, id)
	return answerWith(x, err, key, show)
}

func (d *Dialect) describeKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	key, err := d.cfg.Core.DescribeKey(ctx, id)
	if err != nil {
		return err
	}
	facts, err := d.cfg.Core.KeyFacts(ctx, key)
	return answerWith(x, err, key, func(key *kms.Key) client.Key { return describedKey(key, facts) })
}

func (d *Dialect) listKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	page, err := d.cfg.Core.ListKeys(ctx, kms.ListKeysInput{
		Spec: kms.KeySpec(x.Text(keySpec)), State: kms.KeyState(x.Text(state)),
		Limit: int(x.Number(anyLimit)), Offset: offset(x),
	})
	return answerWith(x, err, page, func(p *kms.KeyPage) client.KeyPage { return keyPage(p, keyOf) })
}

func keyPage(p *kms.KeyPage, show func(*kms.Key) client.Key) client.KeyPage {
	return client.KeyPage{Keys: dialect.Each(p.Keys, show), Total: p.Total, NextMarker: markerOf(p.Next)}
}

// offset returns the offset in a marker whose form is checked, 0 where it is absent.
func offset(x *dialect.Exchange) int {
	n, _ := strconv.Atoi(string(x.Text(offsetMarker)))
	return n
}

// markerOf returns the marker of a page that begins at an offset, "" for 0, after the last page.
func markerOf(offset int) string {
	if offset == 0 {
		return ""
	}
	return strconv.Itoa(offset)
}

func (d *Dialect) enableKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.EnableKey, statusOf)
}

func (d *Dialect) disableKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.DisableKey, statusOf)
}

func (d *Dialect) scheduleDeletion(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	days := int(x.Number(pendingDays))
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.ScheduleKeyDeletion(ctx, id, days)
	}, statusOf)
}

func (d *Dialect) cancelDeletion(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.CancelKeyDeletion, statusOf)
}

func (d *Dialect) confirmDeletions(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	was, err := d.cfg.Core.ConfirmDeletions(ctx)
	return answerWith(x, err, was, func(c *kms.ClockState) client.ClockState {
		return client.ClockState{Jumped: int64(c.Jumped.Seconds()), Waiting: c.Waiting}
	})
}

func (d *Dialect) renameKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	name := string(x.Text(alias))
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateAlias(ctx, id, name)
	}, nothing)
}

func (d *Dialect) setDescription(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	text := string(x.Text(newDescription))
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateDescription(ctx, id, text)
	}, nothing)
}

func (d *Dialect) setDeletionProtection(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	p := kms.DeletionProtection{Enabled: x.Flag(protected, false), Description: string(x.Text(protectedFor))}
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.SetDeletionProtection(ctx, id, p)
	}, statusOf)
}

func (d *Dialect) createKeyVersion(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.CreateKeyVersion, keyOf)
}

func (d *Dialect) enableRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	days := int(x.Number(interval))
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.EnableRotation(ctx, id, days)
	}, nothing)
}

func (d *Dialect) setRotationInterval(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	days := int(x.Number(interval))
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.UpdateRotation(ctx, id, days)
	}, nothing)
}

func (d *Dialect) disableRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.DisableRotation, nothing)
}

func (d *Dialect) getRotation(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.RotationStatus, rotationOf)
}

func (d *Dialect) countKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	n, err := d.cfg.Core.CountKeys(ctx)
	return answerWith(x, err, n, func(n int) client.KeyCount { return client.KeyCount{Keys: n} })
}

func (d *Dialect) getQuotas(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	usage, err := d.cfg.Core.Quotas(ctx)
	return answerWith(x, err, usage, func(u *kms.Usage) client.Quotas {
		return client.Quotas{
			Keys: client.Quota{Used: u.Keys, Limit: u.KeyLimit}, GrantsPerKey: client.Quota{Used: u.MaxGrants, Limit: u.Grants},
		}
	})
}

func (d *Dialect) getImportParameters(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	p, err := d.cfg.Core.GetImportParameters(ctx, kms.ImportParametersInput{
		KeyID: id, Algorithm: kms.WrappingAlgorithm(x.Text(wrappingAlgorithm)), WrappingSpec: kms.KeySpec(x.Text(wrappingSpec)),
		OnlyLast: x.Flag(onlyLast, false), Repeat: x.Flag(repeat, false),
	})
	return answerWith(x, err, p, func(p *kms.ImportParameters) client.ImportParameters {
		return client.ImportParameters{
			KeyID: p.KeyID.String(), Algorithm: string(p.Algorithm), WrappingSpec: string(p.WrappingSpec), PublicKey: p.PublicKey,
			Token: p.Token, Expires: p.ExpiresAt, Warning: p.Warning,
		}
	})
}

func (d *Dialect) importMaterial(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		return d.cfg.Core.ImportKeyMaterial(ctx, kms.ImportInput{
			KeyID: id, Token: x.Bytes(importToken), Material: x.Bytes(material), PrivateKey: x.Bytes(privateKey),
			ExpiresAt: timeIn(x, expiresAt), CheckValue: x.Bytes(checkValue), Repeat: x.Flag(repeat, false),
		})
	}, statusOf)
}

func (d *Dialect) deleteMaterial(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return onKey(d, ctx, op, x, d.cfg.Core.DeleteImportedKeyMaterial, statusOf)
}
