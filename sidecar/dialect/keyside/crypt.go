package keyside

import (
	"context"
	"encoding/base64"
	"strconv"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// The answers of hot operations, and those that hold secrets, are appended by hand: without further allocations, and into a
// buffer that is cleared. They are the types of package client that the table of operations names.

// grow reserves room for a key id and n bytes in base64, so that appending leaves no copy of a secret behind.
func grow(x *dialect.Exchange, n int) { x.Grow(256 + base64.StdEncoding.EncodedLen(n)) }

// appendKeyID begins an answer with a key's id.
func appendKeyID(b []byte, id kms.KeyID) []byte {
	return append(dialect.AppendID(append(b, `{"key_id":"`...), id), '"')
}

func (d *Dialect) encrypt(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.encryptWith(ctx, op, x, kms.EncryptionAlgorithm(x.Text(encryptionAlgorithm)), d.cfg.Core.Encrypt)
}

func (d *Dialect) encryptDataKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.encryptWith(ctx, op, x, "", d.cfg.Core.EncryptDataKey)
}

func (d *Dialect) encryptWith(
	ctx context.Context, op policy.Operation, x *dialect.Exchange, alg kms.EncryptionAlgorithm,
	do func(context.Context, kms.EncryptInput) (*kms.EncryptOutput, error),
) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	out, err := do(ctx, kms.EncryptInput{
		KeyID: id, Algorithm: alg, Plaintext: x.Bytes(plaintext), Context: x.Pairs(encryptionContext), AAD: x.Bytes(aad),
	})
	if err != nil {
		return err
	}
	grow(x, len(out.Ciphertext))
	x.Out = append(dialect.AppendBase64Member(appendKeyID(x.Out, out.KeyID), `,"ciphertext":"`, out.Ciphertext), '}')
	return nil
}

func (d *Dialect) decrypt(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.decryptWith(ctx, op, x, kms.EncryptionAlgorithm(x.Text(encryptionAlgorithm)), d.cfg.Core.Decrypt)
}

func (d *Dialect) decryptDataKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	return d.decryptWith(ctx, op, x, "", d.cfg.Core.DecryptDataKey)
}

func (d *Dialect) decryptWith(
	ctx context.Context, op policy.Operation, x *dialect.Exchange, alg kms.EncryptionAlgorithm,
	do func(context.Context, kms.DecryptInput) (*kms.DecryptOutput, error),
) error {
	in := kms.DecryptInput{Algorithm: alg, Ciphertext: x.Bytes(ciphertext), Context: x.Pairs(encryptionContext), AAD: x.Bytes(aad)}
	if err := d.opener(ctx, op, x, keyID, &in); err != nil {
		return err
	}
	out, err := do(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	grow(x, len(out.Plaintext))
	x.Out = append(dialect.AppendBase64Member(appendKeyID(x.Out, out.KeyID), `,"plaintext":"`, out.Plaintext), '}')
	return nil
}

// opener sets the key that decrypts, if a field names it. A symmetric ciphertext names its key itself; an RSA block cannot.
func (d *Dialect) opener(ctx context.Context, op policy.Operation, x *dialect.Exchange, field *dialect.TextField, in *kms.DecryptInput) error {
	if x.Has(field) {
		id, err := d.key(ctx, op, x, field)
		in.KeyID = &id
		return err
	}
	if in.Algorithm != "" && in.Algorithm != kms.SymmetricDefault {
		return d.cfg.Core.Refuse(ctx, op, kms.Invalid(field.Name, kms.ReasonMissing, "is required with %s", in.Algorithm))
	}
	return nil
}

// purposes are the names of what ciphertexts hold.
var purposes = map[kms.Purpose]string{kms.PurposeData: client.PurposeData, kms.PurposeDataKey: client.PurposeDataKey}

func (d *Dialect) reEncrypt(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	from := kms.DecryptInput{
		Algorithm: kms.EncryptionAlgorithm(x.Text(sourceAlgorithm)), Ciphertext: x.Bytes(ciphertext),
		Context: x.Pairs(sourceContext), AAD: x.Bytes(sourceAAD),
	}
	if err := d.opener(ctx, op, x, sourceKey, &from); err != nil {
		return err
	}
	id, err := d.key(ctx, op, x, destinationKey)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.ReEncrypt(ctx, kms.ReEncryptInput{
		Source: from,
		Destination: kms.EncryptInput{
			KeyID: id, Algorithm: kms.EncryptionAlgorithm(x.Text(destinationAlgorithm)),
			Context: x.Pairs(destinationContext), AAD: x.Bytes(destinationAAD),
		},
		DataKeyBytes: int(x.Number(dataKeyBytes)),
	})
	return answerWith(x, err, out, func(out *kms.ReEncryptOutput) client.ReEncrypted {
		return client.ReEncrypted{
			KeyID: out.KeyID.String(), Algorithm: string(out.Algorithm), SourceKeyID: out.SourceKeyID.String(),
			SourceAlgorithm: string(out.SourceAlgorithm), Purpose: purposes[out.Purpose], Ciphertext: out.Ciphertext,
		}
	})
}

// defaultDataKey is the length of a data key whose request has none, in bytes.
const defaultDataKey = 32

func (d *Dialect) generateDataKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in := kms.DataKeyInput{
		Bytes: defaultDataKey, Context: x.Pairs(encryptionContext), AAD: x.Bytes(aad), WithoutPlaintext: op == policy.OpCreateDataKeyNoText,
	}
	if x.Has(dataKeyLength) {
		in.Bytes = int(x.Number(dataKeyLength))
	}
	var err error
	if in.KeyID, err = d.key(ctx, op, x, keyID); err != nil {
		return err
	}
	out, err := d.cfg.Core.GenerateDataKey(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	grow(x, len(out.Plaintext)+len(out.Ciphertext))
	x.Out = appendKeyID(x.Out, out.KeyID)
	if !in.WithoutPlaintext {
		x.Out = dialect.AppendBase64Member(x.Out, `,"plaintext":"`, out.Plaintext)
	}
	x.Out = append(dialect.AppendBase64Member(x.Out, `,"ciphertext":"`, out.Ciphertext), '}')
	return nil
}

func (d *Dialect) generateDataKeyPair(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.GenerateDataKeyPair(ctx, kms.DataKeyPairInput{
		KeyID: id, Spec: kms.KeySpec(x.Text(keySpec)), Context: x.Pairs(encryptionContext), AAD: x.Bytes(aad),
		WithoutPlaintext: x.Flag(withoutPlaintext, false),
	})
	if err != nil {
		return err
	}
	defer clear(out.PrivateKey)
	grow(x, len(out.PublicKey)+len(out.PrivateKey)+len(out.Ciphertext))
	x.Out = dialect.AppendMember(appendKeyID(x.Out, out.KeyID), `,"key_spec":`, string(out.Spec))
	x.Out = dialect.AppendBase64Member(x.Out, `,"public_key":"`, out.PublicKey)
	if out.PrivateKey != nil {
		x.Out = dialect.AppendBase64Member(x.Out, `,"private_key":"`, out.PrivateKey)
	}
	x.Out = append(dialect.AppendBase64Member(x.Out, `,"ciphertext":"`, out.Ciphertext), '}')
	return nil
}

func (d *Dialect) generateRandom(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	random, err := d.cfg.Core.Random(ctx, int(x.Number(randomLength)))
	if err != nil {
		return err
	}
	defer clear(random)
	grow(x, len(random))
	x.Out = append(dialect.AppendBase64Member(x.Out, `{"random":"`, random), '}')
	return nil
}

func (d *Dialect) sign(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.Sign(ctx, kms.SignInput{
		KeyID: id, Algorithm: kms.SigningAlgorithm(x.Text(signingAlgorithm)), Message: x.Bytes(message), Digest: x.Flag(digest, false),
	})
	if err != nil {
		return err
	}
	x.Out = append(dialect.AppendBase64Member(appendKeyID(x.Out, out.KeyID), `,"signature":"`, out.Signature), '}')
	return nil
}

func (d *Dialect) verify(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	valid, err := d.cfg.Core.Verify(ctx, kms.VerifyInput{
		KeyID: id, Algorithm: kms.SigningAlgorithm(x.Text(signingAlgorithm)), Message: x.Bytes(message), Digest: x.Flag(digest, false),
		Signature: x.Bytes(signature),
	})
	return answerValid(x, err, id, valid)
}

func answerValid(x *dialect.Exchange, err error, id kms.KeyID, valid bool) error {
	if err == nil {
		x.Out = append(strconv.AppendBool(append(appendKeyID(x.Out, id), `,"valid":`...), valid), '}')
	}
	return err
}

func (d *Dialect) getPublicKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.PublicKey(ctx, id)
	return answerWith(x, err, out, func(k *kms.PublicKeyOutput) client.PublicKey {
		return client.PublicKey{KeyID: k.KeyID.String(), Spec: string(k.Spec), Usage: string(k.Usage), DER: k.DER}
	})
}

// macInput reads the fields that generate-mac and verify-mac share.
func (d *Dialect) macInput(ctx context.Context, op policy.Operation, x *dialect.Exchange) (kms.MACInput, error) {
	id, err := d.key(ctx, op, x, keyID)
	return kms.MACInput{KeyID: id, Algorithm: kms.MACAlgorithm(x.Text(macAlgorithm)), Message: x.Bytes(message)}, err
}

func (d *Dialect) generateMAC(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in, err := d.macInput(ctx, op, x)
	if err != nil {
		return err
	}
	sum, err := d.cfg.Core.GenerateMAC(ctx, in)
	if err != nil {
		return err
	}
	x.Out = append(dialect.AppendBase64Member(appendKeyID(x.Out, in.KeyID), `,"mac":"`, sum), '}')
	return nil
}

func (d *Dialect) verifyMAC(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in, err := d.macInput(ctx, op, x)
	if err != nil {
		return err
	}
	valid, err := d.cfg.Core.VerifyMAC(ctx, in, x.Bytes(mac))
	return answerValid(x, err, in.KeyID, valid)
}

func (d *Dialect) deriveSharedSecret(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	id, err := d.key(ctx, op, x, keyID)
	if err != nil {
		return err
	}
	secret, err := d.cfg.Core.DeriveSharedSecret(ctx, kms.DeriveInput{KeyID: id, PublicKey: x.Bytes(publicKey)})
	if err != nil {
		return err
	}
	defer clear(secret)
	grow(x, len(secret))
	x.Out = append(dialect.AppendBase64Member(appendKeyID(x.Out, id), `,"shared_secret":"`, secret), '}')
	return nil
}
