package alibaba

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"hash"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// textOf returns what a Plaintext stands for. Canonical base64 stands for its bytes; every other text for itself, under a mark, so
// that Decrypt returns it as it was sent: clients of the cloud send words. The caller clears the bytes.
func textOf(sent []byte) (plaintext []byte, marked bool) {
	plaintext = make([]byte, base64.StdEncoding.DecodedLen(len(sent)))
	n, err := base64.StdEncoding.Strict().Decode(plaintext, sent)
	if err == nil && base64.StdEncoding.EncodedLen(n) == len(sent) { // line ends count for nothing, but are not canonical
		return plaintext[:n], false
	}
	clear(plaintext)
	return append(plaintext[:0], sent...), true
}

// appendKey begins an answer with a key and its version.
func appendKey(x *dialect.Exchange, id kms.KeyID, version uint32) {
	x.Out = dialect.AppendID(append(x.Out, `{"KeyId":"`...), id)
	x.Out = append(append(append(x.Out, `","KeyVersionId":"`...), VersionID(id, version)...), '"')
}

// appendBytes appends a member with bytes in base64.
func appendBytes(x *dialect.Exchange, name string, data []byte) {
	x.Out = dialect.AppendBase64Member(x.Out, `,"`+name+`":"`, data)
}

// grow makes room for an answer with n bytes of base64 or text, so that no plaintext is moved.
func grow(x *dialect.Exchange, n int) { x.Grow(512 + 2*n) }

func (d *Dialect) encrypt(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	data, marked := textOf(x.Text(plaintext))
	defer clear(data)
	out, err := d.core.Encrypt(ctx, kms.EncryptInput{KeyID: id, Plaintext: data, Text: marked, Context: x.Pairs(encryptionContext)})
	return sealed(x, out, err)
}

// sealed answers with a ciphertext.
func sealed(x *dialect.Exchange, out *kms.EncryptOutput, err error) error {
	if err != nil {
		return err
	}
	grow(x, len(out.Ciphertext))
	appendKey(x, out.KeyID, out.Version)
	appendBytes(x, "CiphertextBlob", out.Ciphertext)
	x.Out = append(x.Out, '}')
	return nil
}

// decrypt opens data and data keys: op is the operation of the ciphertext's purpose.
func (d *Dialect) decrypt(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	open := d.core.Decrypt
	if op == policy.OpDecryptDataKey {
		open = d.core.DecryptDataKey
	}
	out, err := open(ctx, kms.DecryptInput{Ciphertext: x.Bytes(ciphertext), Context: x.Pairs(encryptionContext)})
	return opened(x, out, err)
}

// opened answers with a plaintext, and clears it.
func opened(x *dialect.Exchange, out *kms.DecryptOutput, err error) error {
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	grow(x, 3*len(out.Plaintext))
	appendKey(x, out.KeyID, out.Version)
	if out.Text {
		x.Out = dialect.AppendString(append(x.Out, `,"Plaintext":`...), out.Plaintext)
	} else {
		appendBytes(x, "Plaintext", out.Plaintext)
	}
	x.Out = append(x.Out, '}')
	return nil
}

// reEncrypt needs the source's key, its version and its algorithm for an RSA ciphertext alone.
func (d *Dialect) reEncrypt(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	source := kms.DecryptInput{
		Algorithm: kms.EncryptionAlgorithm(x.Text(sourceAlgorithm)), Ciphertext: x.Bytes(ciphertext), Context: x.Pairs(sourceContext),
	}
	if x.Has(sourceKey) {
		id, err := d.key(ctx, op, x.Text(sourceKey), true)
		if err != nil {
			return err
		}
		source.KeyID = &id
	}
	switch {
	case x.Has(sourceAlgorithm) && (source.KeyID == nil || !x.Has(sourceVersion)):
		return refuse(missing, kms.CodeInvalidRequest, "SourceKeyId", "is required with SourceEncryptionAlgorithm, and so is SourceKeyVersionId")
	case x.Has(sourceAlgorithm):
		var err error
		if source.Version, err = version(*source.KeyID, x.Text(sourceVersion)); err != nil {
			return err
		}
	case x.Has(sourceVersion):
		return refuse(invalid, kms.CodeInvalidRequest, "SourceKeyVersionId", "is for asymmetric ciphertexts")
	}
	id, err := d.key(ctx, op, x.Text(destinationKey), true)
	if err != nil {
		return err
	}
	out, err := d.core.ReEncrypt(ctx, kms.ReEncryptInput{
		Source: source, Destination: kms.EncryptInput{KeyID: id, Context: x.Pairs(destinationContext)},
	})
	if err != nil {
		return err
	}
	return sealed(x, &kms.EncryptOutput{KeyID: out.KeyID, Version: out.Version, Ciphertext: out.Ciphertext}, nil)
}

// newDataKey generates a data key of NumberOfBytes, or else as long as KeySpec says.
func (d *Dialect) newDataKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange, withoutPlaintext bool) (*kms.DataKeyOutput, error) {
	n := int(x.Number(numberOfBytes))
	if n == 0 {
		n = dataKeySpecs["AES_256"]
		if x.Has(dataKeySpec) {
			n = dataKeySpecs[string(x.Text(dataKeySpec))]
		}
	}
	return d.core.GenerateDataKey(ctx, kms.DataKeyInput{
		KeyID: id, Bytes: n, Context: x.Pairs(encryptionContext), WithoutPlaintext: withoutPlaintext,
	})
}

func (d *Dialect) generateDataKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	out, err := d.newDataKey(ctx, id, x, false)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	grow(x, len(out.Plaintext)+len(out.Ciphertext))
	appendKey(x, out.KeyID, out.Version)
	appendBytes(x, "Plaintext", out.Plaintext)
	appendBytes(x, "CiphertextBlob", out.Ciphertext)
	x.Out = append(x.Out, '}')
	return nil
}

func (d *Dialect) generateSealedKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	out, err := d.newDataKey(ctx, id, x, true)
	if err != nil {
		return err
	}
	return sealed(x, &kms.EncryptOutput{KeyID: out.KeyID, Version: out.Version, Ciphertext: out.Ciphertext}, nil)
}

// export encrypts a data key with the client's public key, and clears it.
func export(public *rsa.PublicKey, alg []byte, dataKey []byte) ([]byte, error) {
	defer clear(dataKey)
	newHash := func() hash.Hash { return sha256.New() }
	if string(alg) == string(kms.RSAOAEPSHA1) {
		newHash = func() hash.Hash { return sha1.New() }
	}
	exported, err := rsa.EncryptOAEP(newHash(), rand.Reader, public, dataKey, nil)
	if err != nil { // the one cause is the data key's length
		return nil, refuse(invalid, kms.CodeInvalidRequest, "WrappingKeySpec", "data key is too long for this wrapping key")
	}
	return exported, nil
}

// exportKey reads the public key that a data key is exported under.
func exportKey(x *dialect.Exchange) (*rsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(x.Bytes(publicKeyBlob))
	public, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok || public.N.BitLen() != 2048 {
		return nil, refuse(invalid, kms.CodeInvalidRequest, "PublicKeyBlob", "must be the SubjectPublicKeyInfo of an RSA_2048 key")
	}
	return public, nil
}

func (d *Dialect) exportDataKey(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	public, err := exportKey(x)
	if err != nil {
		return err
	}
	out, err := d.core.DecryptDataKey(ctx, kms.DecryptInput{Ciphertext: x.Bytes(ciphertext), Context: x.Pairs(encryptionContext)})
	if err != nil {
		return err
	}
	exported, err := export(public, x.Text(exportAlgorithm), out.Plaintext)
	if err != nil {
		return err
	}
	appendKey(x, out.KeyID, out.Version)
	appendBytes(x, "ExportedDataKey", exported)
	x.Out = append(x.Out, '}')
	return nil
}

func (d *Dialect) generateExportedKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	public, err := exportKey(x)
	if err != nil {
		return err
	}
	out, err := d.newDataKey(ctx, id, x, false)
	if err != nil {
		return err
	}
	exported, err := export(public, x.Text(exportAlgorithm), out.Plaintext)
	if err != nil {
		return err
	}
	appendKey(x, out.KeyID, out.Version)
	appendBytes(x, "CiphertextBlob", out.Ciphertext)
	appendBytes(x, "ExportedDataKey", exported)
	x.Out = append(x.Out, '}')
	return nil
}

// macInput reads what GenerateMac and VerifyMac have in common.
func macInput(id kms.KeyID, x *dialect.Exchange) kms.MACInput {
	return kms.MACInput{KeyID: id, Algorithm: kms.MACAlgorithm(x.Text(macAlgorithm)), Message: x.Bytes(message)}
}

func (d *Dialect) generateMAC(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	in := macInput(id, x)
	sum, err := d.core.GenerateMAC(ctx, in)
	if err != nil {
		return err
	}
	return x.JSON(struct {
		KeyId, Algorithm string
		Mac              []byte
	}{id.String(), string(in.Algorithm), sum})
}

func (d *Dialect) verifyMAC(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	in := macInput(id, x)
	return answer(x, func(valid bool) any {
		return struct {
			KeyId, Algorithm string
			Value            bool
		}{id.String(), string(in.Algorithm), valid}
	})(d.core.VerifyMAC(ctx, in, x.Bytes(mac)))
}

func (d *Dialect) asymmetricEncrypt(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	number, err := version(id, x.Text(keyVersionID))
	if err != nil {
		return err
	}
	out, err := d.core.Encrypt(ctx, kms.EncryptInput{
		KeyID: id, Version: number, Algorithm: kms.EncryptionAlgorithm(x.Text(encryptionAlgorithm)), Plaintext: x.Bytes(rawPlaintext),
	})
	return sealed(x, out, err)
}

func (d *Dialect) asymmetricDecrypt(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	number, err := version(id, x.Text(keyVersionID))
	if err != nil {
		return err
	}
	out, err := d.core.Decrypt(ctx, kms.DecryptInput{
		KeyID: &id, Version: number, Algorithm: kms.EncryptionAlgorithm(x.Text(encryptionAlgorithm)), Ciphertext: x.Bytes(ciphertext),
	})
	return opened(x, out, err)
}

func (d *Dialect) asymmetricSign(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	number, err := version(id, x.Text(keyVersionID))
	if err != nil {
		return err
	}
	out, err := d.core.Sign(ctx, kms.SignInput{
		KeyID: id, Version: number, Algorithm: signings[string(x.Text(signingAlgorithm))], Message: x.Bytes(digest), Digest: true,
	})
	if err != nil {
		return err
	}
	appendKey(x, out.KeyID, out.Version)
	appendBytes(x, "Value", out.Signature)
	x.Out = append(x.Out, '}')
	return nil
}

func (d *Dialect) asymmetricVerify(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	number, err := version(id, x.Text(keyVersionID))
	if err != nil {
		return err
	}
	return answer(x, func(valid bool) any {
		return struct {
			KeyId, KeyVersionId string
			Value               bool
		}{id.String(), VersionID(id, number), valid}
	})(d.core.Verify(ctx, kms.VerifyInput{
		KeyID: id, Version: number, Algorithm: signings[string(x.Text(signingAlgorithm))], Message: x.Bytes(digest), Digest: true,
		Signature: x.Bytes(signatureValue),
	}))
}

func (d *Dialect) getPublicKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	number, err := version(id, x.Text(keyVersionID))
	if err != nil {
		return err
	}
	return answer(x, func(out *kms.PublicKeyOutput) any {
		return struct{ KeyId, KeyVersionId, PublicKey string }{
			id.String(), VersionID(id, number), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: out.DER})),
		}
	})(d.core.PublicKeyOf(ctx, id, number))
}
