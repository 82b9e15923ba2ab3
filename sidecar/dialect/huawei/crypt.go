package huawei

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"strconv"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) encryptData(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	out, err := d.cfg.Core.Encrypt(ctx, kms.EncryptInput{
		KeyID: id, Algorithm: kms.EncryptionAlgorithm(x.Text(encryptionAlgorithm)), Plaintext: x.Text(plainText),
		Context: x.Pairs(encryptionContext), AAD: x.Text(aad),
	})
	if err != nil {
		return err
	}
	x.Grow(128 + base64.StdEncoding.EncodedLen(len(out.Ciphertext)))
	x.Out = appendKeyID(x.Out, out.KeyID)
	x.Out = append(dialect.AppendBase64Member(x.Out, `,"cipher_text":"`, out.Ciphertext), '}')
	return nil
}

func (d *Dialect) decryptData(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in := kms.DecryptInput{
		Algorithm: kms.EncryptionAlgorithm(x.Text(encryptionAlgorithm)), Ciphertext: x.Bytes(cipherText),
		Context: x.Pairs(encryptionContext), AAD: x.Text(aad),
	}
	if err := d.opener(ctx, op, x, namedKey, &in); err != nil {
		return err
	}
	out, err := d.cfg.Core.Decrypt(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	x.Grow(128 + 6*len(out.Plaintext) + base64.StdEncoding.EncodedLen(len(out.Plaintext)))
	x.Out = append(appendKeyID(x.Out, out.KeyID), `,"plain_text":`...)
	x.Out = dialect.AppendString(x.Out, out.Plaintext)
	x.Out = append(dialect.AppendBase64Member(x.Out, `,"plain_text_base64":"`, out.Plaintext), '}')
	return nil
}

// opener names the key that opens a ciphertext. A symmetric one names its key itself; a bare RSA block cannot.
func (d *Dialect) opener(ctx context.Context, op policy.Operation, x *dialect.Exchange, field *dialect.TextField, in *kms.DecryptInput) error {
	if x.Has(field) {
		id, err := d.key(ctx, op, x, field)
		in.KeyID = &id
		return err
	}
	if in.Algorithm != "" && in.Algorithm != kms.SymmetricDefault {
		return refuse(codeMissing, kms.CodeInvalidRequest, field.Name, "is required with "+string(in.Algorithm))
	}
	return nil
}

// reEncrypt answers in the encoding that the operations have which open the new ciphertext.
func (d *Dialect) reEncrypt(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	source := kms.DecryptInput{
		Algorithm: kms.EncryptionAlgorithm(x.Text(sourceAlgorithm)), Ciphertext: x.Bytes(anyCipherText),
		AAD: x.Text(sourceAAD),
	}
	if err := d.opener(ctx, op, x, sourceKey, &source); err != nil {
		return err
	}
	id, err := d.key(ctx, op, x, destinationKey)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.ReEncrypt(ctx, kms.ReEncryptInput{
		Source: source,
		Destination: kms.EncryptInput{
			KeyID: id, Algorithm: kms.EncryptionAlgorithm(x.Text(destinationAlgorithm)),
			AAD: x.Text(destinationAAD),
		},
		DataKeyBytes: int(x.Number(openedLength)),
	})
	if err != nil {
		return err
	}
	x.Grow(512 + 2*len(out.Ciphertext))
	x.Out = appendKeyID(x.Out, out.KeyID)
	x.Out = dialect.AppendID(append(x.Out, `,"source_key_id":"`...), out.SourceKeyID)
	x.Out = dialect.AppendMember(x.Out, `","source_encryption_algorithm":`, string(out.SourceAlgorithm))
	x.Out = dialect.AppendMember(x.Out, `,"destination_encryption_algorithm":`, string(out.Algorithm))
	if out.Purpose == kms.PurposeDataKey {
		x.Out = dialect.AppendHexMember(x.Out, `,"cipher_text":"`, out.Ciphertext)
	} else {
		x.Out = dialect.AppendBase64Member(x.Out, `,"cipher_text":"`, out.Ciphertext)
	}
	x.Out = append(x.Out, '}')
	return nil
}

// createDataKey makes a data key of datakey_length bits, or as long as key_spec says, which counts for nothing beside it.
func (d *Dialect) createDataKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	in := kms.DataKeyInput{
		Bytes: defaultDataKey, Context: x.Pairs(encryptionContext), AAD: x.Text(aad),
		WithoutPlaintext: op == policy.OpCreateDataKeyNoText,
	}
	switch {
	case x.Has(dataKeyBits):
		in.Bytes = int(x.Number(dataKeyBits) / 8)
	case x.Has(dataKeySpec):
		in.Bytes = dataKeySpecs[string(x.Text(dataKeySpec))]
	}
	var err error
	if in.KeyID, err = d.key(ctx, op, x, namedKey); err != nil {
		return err
	}
	out, err := d.cfg.Core.GenerateDataKey(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	x.Grow(128 + 2*(len(out.Plaintext)+len(out.Ciphertext)))
	x.Out = appendKeyID(x.Out, out.KeyID)
	if !in.WithoutPlaintext {
		x.Out = dialect.AppendHexMember(x.Out, `,"plain_text":"`, out.Plaintext)
	}
	x.Out = append(dialect.AppendHexMember(x.Out, `,"cipher_text":"`, out.Ciphertext), '}')
	return nil
}

// defaultDataKey is how long a data key is of which nothing is said, in bytes.
const defaultDataKey = 32

// encryptDataKey encrypts a data key of the client's. What it sends is the key with its SHA-256 digest behind it; what is
// encrypted is the key alone, so that it opens like one that create-datakey made.
func (d *Dialect) encryptDataKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	plain, n := x.Bytes(plainKey), int(x.Number(plainLength))
	if len(plain) != n+sha256.Size {
		return refuse(codePlainMismatch, kms.CodeInvalidRequest, "plain_text", "must be datakey_plain_length bytes and their SHA-256 digest")
	}
	if digest := sha256.Sum256(plain[:n]); subtle.ConstantTimeCompare(digest[:], plain[n:]) != 1 {
		return refuse(codePlainDigest, kms.CodeInvalidRequest, "plain_text", "digest does not match the data key")
	}
	id, err := d.key(ctx, op, x, namedKey)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.EncryptDataKey(ctx, kms.EncryptInput{
		KeyID: id, Plaintext: plain[:n], Context: x.Pairs(encryptionContext), AAD: x.Text(aad),
	})
	if err != nil {
		return err
	}
	x.Grow(128 + 2*len(out.Ciphertext))
	x.Out = dialect.AppendHexMember(appendKeyID(x.Out, out.KeyID), `,"cipher_text":"`, out.Ciphertext)
	x.Out = appendLength(x.Out, n)
	return nil
}

// appendLength ends an answer with a data key's length in bytes.
func appendLength(b []byte, n int) []byte {
	b = append(b, `,"datakey_length":"`...)
	return append(strconv.AppendInt(b, int64(n), 10), `"}`...)
}

// decryptDataKey says of a wrong length that it is wrong before the HSM has to do anything: the length is no secret.
func (d *Dialect) decryptDataKey(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	ciphertext, n := x.Bytes(anyCipherText), int(x.Number(cipherLength))
	if len(ciphertext) != n+kms.CiphertextOverhead {
		return refuse(codeCipherMismatch, kms.CodeInvalidRequest, "datakey_cipher_length", "is not the length of this data key")
	}
	id, err := d.key(ctx, op, x, namedKey)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.DecryptDataKey(ctx, kms.DecryptInput{
		KeyID: &id, Ciphertext: ciphertext, Context: x.Pairs(encryptionContext), AAD: x.Text(aad),
	})
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	digest := sha256.Sum256(out.Plaintext)
	x.Grow(256 + 2*n)
	x.Out = dialect.AppendHexMember(x.Out, `{"data_key":"`, out.Plaintext)
	x.Out = dialect.AppendHexMember(x.Out, `,"datakey_dgst":"`, digest[:])
	x.Out = appendLength(x.Out, n)
	return nil
}

// createKeyPair makes a key pair of the client's own. Its halves come as the reference could not find documented: DER in
// base64, SubjectPublicKeyInfo and PKCS #8, and the encrypted half in base64 too.
func (d *Dialect) createKeyPair(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	name := string(x.Text(pairSpec))
	in := kms.DataKeyPairInput{
		KeyID: id, Spec: kms.KeySpec(name), AAD: x.Text(aad),
		WithoutPlaintext: !x.Flag(withPlainText, true),
	}
	if curve, known := curves[name]; known {
		in.Spec = curve
	}
	out, err := d.cfg.Core.GenerateDataKeyPair(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.PrivateKey)
	x.Grow(512 + 2*(len(out.PublicKey)+len(out.PrivateKey)+len(out.Ciphertext)))
	x.Out = dialect.AppendMember(appendKeyID(x.Out, out.KeyID), `,"key_spec":`, name)
	x.Out = dialect.AppendBase64Member(x.Out, `,"public_key":"`, out.PublicKey)
	x.Out = dialect.AppendBase64Member(x.Out, `,"private_key_cipher_text":"`, out.Ciphertext)
	if !in.WithoutPlaintext {
		x.Out = dialect.AppendBase64Member(x.Out, `,"private_key_plain_text":"`, out.PrivateKey)
	}
	x.Out = append(x.Out, '}')
	return nil
}

func (d *Dialect) genRandom(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	random, err := d.cfg.Core.Random(ctx, int(x.Number(randomLength)/8))
	if err != nil {
		return err
	}
	defer clear(random)
	x.Grow(32 + 2*len(random))
	x.Out = append(dialect.AppendHexMember(x.Out, `{"random_data":"`, random), '}')
	return nil
}

func (d *Dialect) sign(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	out, err := d.cfg.Core.Sign(ctx, kms.SignInput{
		KeyID: id, Algorithm: kms.SigningAlgorithm(x.Text(signingAlgorithm)), Message: x.Bytes(message),
		Digest: string(x.Text(messageType)) != rawMessage,
	})
	if err != nil {
		return err
	}
	x.Out = append(dialect.AppendBase64Member(appendKeyID(x.Out, out.KeyID), `,"signature":"`, out.Signature), '}')
	return nil
}

// verify answers with a string, unlike verify-mac.
func (d *Dialect) verify(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	valid, err := d.cfg.Core.Verify(ctx, kms.VerifyInput{
		KeyID: id, Algorithm: kms.SigningAlgorithm(x.Text(signingAlgorithm)), Message: x.Bytes(message),
		Digest: string(x.Text(messageType)) != rawMessage, Signature: x.Bytes(signatureField),
	})
	if err != nil {
		return err
	}
	x.Out = append(dialect.AppendMember(appendKeyID(x.Out, id), `,"signature_valid":`, strconv.FormatBool(valid)), '}')
	return nil
}

func (d *Dialect) getPublicKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	out, err := d.cfg.Core.PublicKey(ctx, id)
	if err != nil {
		return err
	}
	text := crlf.Replace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: out.DER})))
	x.Out = append(dialect.AppendMember(appendKeyID(x.Out, out.KeyID), `,"public_key":`, text), '}')
	return nil
}

// macInput reads what generate-mac and verify-mac have in common.
func macInput(id kms.KeyID, x *dialect.Exchange) kms.MACInput {
	return kms.MACInput{KeyID: id, Algorithm: kms.MACAlgorithm(x.Text(macAlgorithm)), Message: x.Bytes(message)}
}

// generateMAC answers in lower-case digits, where the operations on data keys have upper-case ones.
func (d *Dialect) generateMAC(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	in := macInput(id, x)
	sum, err := d.cfg.Core.GenerateMAC(ctx, in)
	if err != nil {
		return err
	}
	x.Out = dialect.AppendMember(appendKeyID(x.Out, in.KeyID), `,"mac_algorithm":`, string(in.Algorithm))
	x.Out = append(hex.AppendEncode(append(x.Out, `,"mac":"`...), sum), `"}`...)
	return nil
}

func (d *Dialect) verifyMAC(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	in := macInput(id, x)
	valid, err := d.cfg.Core.VerifyMAC(ctx, in, x.Bytes(mac))
	if err != nil {
		return err
	}
	x.Out = dialect.AppendMember(appendKeyID(x.Out, in.KeyID), `,"mac_algorithm":`, string(in.Algorithm))
	x.Out = append(strconv.AppendBool(append(x.Out, `,"mac_valid":`...), valid), '}')
	return nil
}

func (d *Dialect) deriveSharedSecret(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	secret, err := d.cfg.Core.DeriveSharedSecret(ctx, kms.DeriveInput{KeyID: id, PublicKey: x.Bytes(peerKey)})
	if err != nil {
		return err
	}
	defer clear(secret)
	x.Grow(256)
	x.Out = dialect.AppendMember(appendKeyID(x.Out, id), `,"key_agreement_algorithm":`, ecdh)
	x.Out = append(dialect.AppendBase64Member(x.Out, `,"shared_secret":"`, secret), '}')
	return nil
}
