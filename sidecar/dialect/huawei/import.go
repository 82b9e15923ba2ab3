package huawei

import (
	"context"
	"encoding/base64"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// importParameters answers with the wrapping key in DER, not in PEM, and with seconds, where keys have milliseconds.
func (d *Dialect) importParameters(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, idOfKey)
	if err != nil {
		return err
	}
	p, err := d.cfg.Core.GetImportParameters(ctx, kms.ImportParametersInput{
		KeyID: id, Algorithm: kms.WrappingAlgorithm(x.Text(wrappingAlgorithm)), WrappingSpec: kms.KeySpec(x.Text(wrappingSpec)),
		OnlyLast: x.Flag(onlyLast, false), Repeat: x.Flag(repeat, false),
	})
	if err != nil {
		return err
	}
	x.Out = appendKeyID(x.Out, p.KeyID)
	x.Out = base64.StdEncoding.AppendEncode(append(x.Out, `,"import_token":"`...), p.Token)
	x.Out = appendNumber(x.Out, `","expiration_time":`, int(p.ExpiresAt.Unix()))
	x.Out = append(base64.StdEncoding.AppendEncode(append(x.Out, `,"public_key":"`...), p.PublicKey), '"')
	if p.Warning != "" {
		x.Out = appendText(x.Out, `,"warning":`, p.Warning)
	}
	x.Out = append(x.Out, '}')
	return nil
}

func (d *Dialect) importMaterial(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, func(ctx context.Context, id kms.KeyID) (*kms.Key, error) {
		in := kms.ImportInput{
			KeyID: id, Token: x.Bytes(importToken), Material: x.Bytes(material), PrivateKey: x.Bytes(privateKey),
			CheckValue: x.Bytes(checkValue), Repeat: x.Flag(repeat, false),
		}
		if x.Has(expirationTime) {
			in.ExpiresAt = time.Unix(x.Number(expirationTime), 0)
		}
		return d.cfg.Core.ImportKeyMaterial(ctx, in)
	}, nothing)
}

func (d *Dialect) deleteMaterial(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DeleteImportedKeyMaterial, nothing)
}
