package huawei

import (
	"context"
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
	return x.JSON(importParameters{p.KeyID.String(), p.Token, p.ExpiresAt.Unix(), p.PublicKey, p.Warning})
}

// importParameters answers get-parameters-for-import.
type importParameters struct {
	KeyID          string `json:"key_id"`
	Token          []byte `json:"import_token"`
	ExpirationTime int64  `json:"expiration_time"` // seconds since 1970
	PublicKey      []byte `json:"public_key"`
	Warning        string `json:"warning,omitempty"`
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
	}, nil)
}

func (d *Dialect) deleteMaterial(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.onKey(ctx, op, x, d.cfg.Core.DeleteImportedKeyMaterial, nil)
}
