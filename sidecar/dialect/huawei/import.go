package huawei

import (
	"context"
	"time"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// importParameters answers with the wrapping key in DER, not in PEM, and with seconds, where keys have milliseconds.
func (d *Dialect) importParameters(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	return answer(x, importParametersOf)(d.cfg.Core.GetImportParameters(ctx, kms.ImportParametersInput{
		KeyID: id, Algorithm: kms.WrappingAlgorithm(x.Text(wrappingAlgorithm)), WrappingSpec: kms.KeySpec(x.Text(wrappingSpec)),
		OnlyLast: x.Flag(onlyLast, false), Repeat: x.Flag(repeat, false),
	}))
}

// importParameters answers get-parameters-for-import.
type importParameters struct {
	KeyID          string `json:"key_id"`
	Token          []byte `json:"import_token"`
	ExpirationTime int64  `json:"expiration_time"` // seconds since 1970
	PublicKey      []byte `json:"public_key"`
	Warning        string `json:"warning,omitempty"`
}

func importParametersOf(p *kms.ImportParameters) importParameters {
	return importParameters{p.KeyID.String(), p.Token, p.ExpiresAt.Unix(), p.PublicKey, p.Warning}
}

func (d *Dialect) importMaterial(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	in := kms.ImportInput{
		KeyID: id, Token: x.Bytes(importToken), Material: x.Bytes(material), PrivateKey: x.Bytes(privateKey),
		CheckValue: x.Bytes(checkValue), Repeat: x.Flag(repeat, false),
	}
	if x.Has(expirationTime) {
		in.ExpiresAt = time.Unix(x.Number(expirationTime), 0)
	}
	return answerNothing(d.cfg.Core.ImportKeyMaterial(ctx, in))
}

func (d *Dialect) deleteMaterial(ctx context.Context, id kms.KeyID, _ *dialect.Exchange) error {
	return answerNothing(d.cfg.Core.DeleteImportedKeyMaterial(ctx, id))
}
