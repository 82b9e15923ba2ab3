package tencent

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strconv"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) encrypt(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	out, err := d.core.Encrypt(ctx, kms.EncryptInput{KeyID: id, Plaintext: x.Bytes(plaintext), Context: x.Pairs(bound)})
	if err != nil {
		return err
	}
	return appendBase64(x, id, `,"CiphertextBlob":"`, out.Ciphertext)
}

// appendBase64 answers with a key's id and some bytes.
func appendBase64(x *dialect.Exchange, id kms.KeyID, literal string, data []byte) error {
	x.Grow(256 + base64.StdEncoding.EncodedLen(len(data)))
	x.Out = append(dialect.AppendBase64Member(appendKeyID(x.Out, id), literal, data), '}')
	return nil
}

// decrypting returns the operation that opens the ciphertext of a request.
func decrypting(x *dialect.Exchange) policy.Operation {
	if kms.PurposeOf(x.Bytes(ciphertext)) == kms.PurposeDataKey {
		return policy.OpDecryptDataKey
	}
	return policy.OpDecryptData
}

// decrypt opens data and data keys.
func (d *Dialect) decrypt(ctx context.Context, op policy.Operation, x *dialect.Exchange) error {
	e, err := envelopeOf(x)
	if err != nil {
		return err
	}
	open := d.core.Decrypt
	if op == policy.OpDecryptDataKey {
		open = d.core.DecryptDataKey
	}
	out, err := open(ctx, kms.DecryptInput{Ciphertext: x.Bytes(ciphertext), Context: x.Pairs(bound)})
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	shown, err := e.seal(out.Plaintext)
	if err != nil {
		return err
	}
	return appendBase64(x, out.KeyID, `,"Plaintext":"`, shown)
}

// reEncrypt moves a ciphertext to the newest version of a key. One that has it already, with the same context, stays.
func (d *Dialect) reEncrypt(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	in := kms.ReEncryptInput{
		Source:      kms.DecryptInput{Ciphertext: x.Bytes(ciphertext), Context: x.Pairs(sourceContext)},
		Destination: kms.EncryptInput{Context: x.Pairs(destinationContext)}, Keep: true, SameKey: !x.Has(destination),
	}
	if !in.SameKey {
		in.Destination.KeyID, _ = parseID(x.Text(destination)) // the form is checked
	}
	out, err := d.core.ReEncrypt(ctx, in)
	if err != nil {
		return err
	}
	x.Grow(512 + base64.StdEncoding.EncodedLen(len(out.Ciphertext)))
	x.Out = dialect.AppendID(append(appendKeyID(x.Out, out.KeyID), `,"SourceKeyId":"`...), out.SourceKeyID)
	x.Out = dialect.AppendBase64Member(x.Out, `","CiphertextBlob":"`, out.Ciphertext)
	x.Out = append(strconv.AppendBool(append(x.Out, `,"ReEncrypted":`...), !out.Kept), '}')
	return nil
}

// generateDataKey makes a data key of NumberOfBytes, or else as long as KeySpec says.
func (d *Dialect) generateDataKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	e, err := envelopeOf(x)
	if err != nil {
		return err
	}
	in := kms.DataKeyInput{KeyID: id, Bytes: int(x.Number(dataKeyBytes)), Context: x.Pairs(bound)}
	if in.Bytes == 0 {
		in.Bytes = dataKeySpecs[string(x.Text(dataKeySpec))]
	}
	if in.Bytes == 0 {
		return refuse(codeMissing, kms.CodeInvalidRequest, "length", "or KeySpec is required")
	}
	out, err := d.core.GenerateDataKey(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	shown, err := e.seal(out.Plaintext)
	if err != nil {
		return err
	}
	x.Grow(512 + base64.StdEncoding.EncodedLen(len(shown)) + base64.StdEncoding.EncodedLen(len(out.Ciphertext)))
	x.Out = dialect.AppendBase64Member(appendKeyID(x.Out, id), `,"Plaintext":"`, shown)
	x.Out = append(dialect.AppendBase64Member(x.Out, `,"CiphertextBlob":"`, out.Ciphertext), '}')
	return nil
}

func (d *Dialect) generateRandom(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	random, err := d.core.Random(ctx, int(x.Number(randomBytes)))
	if err != nil {
		return err
	}
	defer clear(random)
	x.Grow(256 + base64.StdEncoding.EncodedLen(len(random)))
	x.Out = append(dialect.AppendBase64Member(x.Out, `{"Plaintext":"`, random), '}')
	return nil
}

// envelopes are the algorithms under which an answer's plaintext is encrypted to a public key of the client. Those of SM2 are
// nil. The fault of RSAES_PKCS1_V1_5 is in its decryption, which is the client's.
var envelopes = map[string]func(public *rsa.PublicKey, plain []byte) ([]byte, error){
	"SM2": nil, "SM2_C1C3C2_ASN1": nil,
	string(kms.WrapPKCS1): func(public *rsa.PublicKey, plain []byte) ([]byte, error) {
		//lint:ignore SA1019 the cloud offers it
		return rsa.EncryptPKCS1v15(rand.Reader, public, plain)
	},
	string(kms.WrapOAEPSHA1): func(public *rsa.PublicKey, plain []byte) ([]byte, error) {
		return rsa.EncryptOAEP(sha1.New(), rand.Reader, public, plain, nil)
	},
	string(kms.WrapOAEPSHA256): func(public *rsa.PublicKey, plain []byte) ([]byte, error) {
		return rsa.EncryptOAEP(sha256.New(), rand.Reader, public, plain, nil)
	},
}

// envelope is how the plaintext of an answer is shown: encrypted to a public key, or as it is where that is nil.
type envelope struct {
	public    *rsa.PublicKey
	algorithm string
}

const defaultEnvelope = "SM2"

// envelopeOf reads EncryptionPublicKey, an RSA-2048 key as PEM, and EncryptionAlgorithm.
func envelopeOf(x *dialect.Exchange) (e envelope, err error) {
	if e.algorithm = string(x.Text(outAlgorithm)); !x.Has(publicKey) {
		if e.algorithm != "" {
			return e, refuse(codeMissing, kms.CodeInvalidRequest, publicKey.Name, "is required with EncryptionAlgorithm")
		}
		return e, nil
	}
	if e.algorithm == "" {
		e.algorithm = defaultEnvelope
	}
	if envelopes[e.algorithm] == nil {
		return e, refuse(codeUnsupported, kms.CodeUnsupported, outAlgorithm.Name, "SM2 cannot be had here: choose an algorithm of RSA")
	}
	block, _ := pem.Decode(x.Text(publicKey))
	if block != nil {
		if public, err := x509.ParsePKIXPublicKey(block.Bytes); err == nil {
			e.public, _ = public.(*rsa.PublicKey)
		}
	}
	if e.public == nil || e.public.N.BitLen() != 2048 {
		return e, refuse(codeParameter, kms.CodeInvalidRequest, publicKey.Name, "must be an RSA-2048 public key as PEM")
	}
	return e, nil
}

func (e envelope) seal(plain []byte) ([]byte, error) {
	if e.public == nil {
		return plain, nil
	}
	sealed, err := envelopes[e.algorithm](e.public, plain)
	if err != nil {
		return nil, refuse(codeEncryption, kms.CodeInvalidRequest, "plaintext", "is too long for "+e.algorithm)
	}
	return sealed, nil
}

// decryptRSA decrypts a block under an RSA key. PKCS #1 v1.5 is not done: its padding tells attackers too much.
func (d *Dialect) decryptRSA(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	algorithm := kms.EncryptionAlgorithm(x.Text(rsaAlgorithm))
	if string(algorithm) == string(kms.WrapPKCS1) {
		return refuse(codeUnsupported, kms.CodeUnsupported, "encryption_algorithm", "cannot be had here: encrypt with RSAES_OAEP_SHA_256")
	}
	out, err := d.core.Decrypt(ctx, kms.DecryptInput{Algorithm: algorithm, Ciphertext: x.Bytes(rsaCiphertext), KeyID: &id})
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	return appendBase64(x, id, `,"Plaintext":"`, out.Plaintext)
}

func (d *Dialect) sign(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	algorithm, err := signing(x)
	if err != nil {
		return err
	}
	out, err := d.core.Sign(ctx, kms.SignInput{
		KeyID: id, Algorithm: algorithm, Message: x.Bytes(message), Digest: string(x.Text(messageType)) == digestMessage,
	})
	if err != nil {
		return err
	}
	x.Out = append(dialect.AppendBase64Member(x.Out, `{"Signature":"`, out.Signature), '}')
	return nil
}

func (d *Dialect) verify(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	algorithm, err := signing(x)
	if err != nil {
		return err
	}
	valid, err := d.core.Verify(ctx, kms.VerifyInput{
		KeyID: id, Algorithm: algorithm, Message: x.Bytes(message), Digest: string(x.Text(messageType)) == digestMessage, Signature: x.Bytes(signature),
	})
	if err != nil {
		return err
	}
	x.Out = append(strconv.AppendBool(append(x.Out, `{"SignatureValid":`...), valid), '}')
	return nil
}

func signing(x *dialect.Exchange) (kms.SigningAlgorithm, error) {
	algorithm := signingAlgorithms[string(x.Text(signingAlgorithm))]
	if algorithm == "" {
		return "", refuse(codeUnsupported, kms.CodeUnsupported, "signing_algorithm", "SM2 cannot be had here")
	}
	return algorithm, nil
}

func (d *Dialect) getPublicKey(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	out, err := d.core.PublicKey(ctx, id)
	if err != nil {
		return err
	}
	x.Out = dialect.AppendBase64Member(appendKeyID(x.Out, id), `,"PublicKey":"`, out.DER)
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: out.DER})
	x.Out = append(dialect.AppendString(append(x.Out, `,"PublicKeyPem":`...), text), '}')
	return nil
}

func (d *Dialect) importParameters(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	p, err := d.core.GetImportParameters(ctx, kms.ImportParametersInput{
		KeyID: id, Algorithm: kms.WrappingAlgorithm(x.Text(wrappingAlgorithm)), WrappingSpec: kms.KeySpec(x.Text(wrappingSpec)), OnlyLast: true,
	})
	if err != nil {
		return err
	}
	x.Out = dialect.AppendBase64Member(appendKeyID(x.Out, id), `,"ImportToken":"`, p.Token)
	x.Out = dialect.AppendBase64Member(x.Out, `,"PublicKey":"`, p.PublicKey)
	x.Out = append(strconv.AppendInt(append(x.Out, `,"ParametersValidTo":`...), p.ExpiresAt.Unix(), 10), '}')
	return nil
}

// importMaterial imports 32 bytes, or 16: a key that never had any material becomes one for AES-128 then.
func (d *Dialect) importMaterial(ctx context.Context, id kms.KeyID, x *dialect.Exchange) error {
	in := kms.ImportInput{KeyID: id, Token: x.Bytes(importToken), Material: x.Bytes(material), Short: true}
	if at := x.Number(validTo); at > 0 {
		in.ExpiresAt = time.Unix(at, 0)
	}
	_, err := d.core.ImportKeyMaterial(ctx, in)
	return err
}
