package huawei

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/pem"
	"strconv"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

func (d *Dialect) createKey(ctx context.Context, x *dialect.Exchange) error {
	in, err := createKeyRequest(&x.Object)
	if err != nil {
		return err
	}
	key, err := d.cfg.Core.CreateKey(ctx, in)
	if err != nil {
		return err
	}
	x.Out = append(x.Out, `{"key_info":{"key_id":"`...)
	x.Out = append(x.Out, key.ID.String()...)
	x.Out = appendText(x.Out, `","domain_id":`, d.cfg.DomainID)
	x.Out = append(x.Out, "}}"...)
	return nil
}

func (d *Dialect) describeKey(ctx context.Context, x *dialect.Exchange) error {
	id, err := keyRequest(&x.Object)
	if err != nil {
		return err
	}
	key, err := d.cfg.Core.DescribeKey(ctx, id)
	if err != nil {
		return err
	}
	x.Out = append(x.Out, `{"key_info":`...)
	x.Out = append(d.appendKey(x.Out, key), '}')
	return nil
}

// keyRequest reads a request that names a key and nothing else.
func keyRequest(o *dialect.Object) (kms.KeyID, error) {
	f := fields{in: o}
	id := f.key()
	return id, f.done()
}

func (d *Dialect) listKeys(ctx context.Context, x *dialect.Exchange) error {
	in, err := listKeysRequest(&x.Object)
	if err != nil {
		return err
	}
	page, err := d.cfg.Core.ListKeys(ctx, in)
	if err != nil {
		return err
	}
	x.Out = append(x.Out, `{"keys":[`...)
	for i, key := range page.Keys {
		x.Out = append(separate(x.Out, i), '"')
		x.Out = append(append(x.Out, key.ID.String()...), '"')
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
	x.Out = append(x.Out, `,"total":`...)
	x.Out = append(strconv.AppendInt(x.Out, int64(page.Total), 10), '}')
	return nil
}

// separate appends the comma before every element but the first.
func separate(b []byte, i int) []byte {
	if i == 0 {
		return b
	}
	return append(b, ',')
}

func (d *Dialect) enableKey(ctx context.Context, x *dialect.Exchange) error {
	return changeState(ctx, x, d.cfg.Core.EnableKey)
}

func (d *Dialect) disableKey(ctx context.Context, x *dialect.Exchange) error {
	return changeState(ctx, x, d.cfg.Core.DisableKey)
}

func changeState(ctx context.Context, x *dialect.Exchange, change func(context.Context, kms.KeyID) (*kms.Key, error)) error {
	id, err := keyRequest(&x.Object)
	if err != nil {
		return err
	}
	key, err := change(ctx, id)
	if err != nil {
		return err
	}
	x.Out = append(x.Out, `{"key_info":{"key_id":"`...)
	x.Out = append(x.Out, key.ID.String()...)
	x.Out = appendText(x.Out, `","key_state":`, states[key.State])
	x.Out = append(x.Out, "}}"...)
	return nil
}

func (d *Dialect) encryptData(ctx context.Context, x *dialect.Exchange) error {
	f := fields{in: &x.Object}
	in := kms.EncryptInput{KeyID: f.key(), Plaintext: f.required("plain_text", codePlainText)}
	in.Context, in.AAD = f.bound()
	f.symmetric()
	if err := f.done(); err != nil {
		return err
	}
	out, err := d.cfg.Core.Encrypt(ctx, in)
	if err != nil {
		return err
	}
	x.Grow(128 + base64.StdEncoding.EncodedLen(len(out.Ciphertext)))
	x.Out = appendKeyID(x.Out, out.KeyID)
	x.Out = append(x.Out, `,"cipher_text":"`...)
	x.Out = base64.StdEncoding.AppendEncode(x.Out, out.Ciphertext)
	x.Out = append(x.Out, `"}`...)
	return nil
}

// appendKeyID begins an answer with the key's id.
func appendKeyID(b []byte, id kms.KeyID) []byte {
	b = append(b, `{"key_id":"`...)
	b = append(b, id.String()...)
	return append(b, '"')
}

// Bounds of decrypt-data's cipher_text, in characters.
const (
	minCipherText = 128
	maxCipherText = 5648
)

func (d *Dialect) decryptData(ctx context.Context, x *dialect.Exchange) error {
	f := fields{in: &x.Object}
	in := kms.DecryptInput{Ciphertext: f.cipherText()}
	if f.text("key_id", codeKeyID) != nil {
		id := f.key()
		in.KeyID = &id
	}
	in.Context, in.AAD = f.bound()
	f.symmetric()
	if err := f.done(); err != nil {
		return err
	}
	out, err := d.cfg.Core.Decrypt(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	x.Grow(128 + 6*len(out.Plaintext) + base64.StdEncoding.EncodedLen(len(out.Plaintext)))
	x.Out = appendKeyID(x.Out, out.KeyID)
	x.Out = append(x.Out, `,"plain_text":`...)
	x.Out = dialect.AppendString(x.Out, out.Plaintext)
	x.Out = append(x.Out, `,"plain_text_base64":"`...)
	x.Out = base64.StdEncoding.AppendEncode(x.Out, out.Plaintext)
	x.Out = append(x.Out, `"}`...)
	return nil
}

// cipherText reads decrypt-data's cipher_text. What has not its form is a bad ciphertext like any other.
func (f *fields) cipherText() []byte {
	v := f.required("cipher_text", codeCipherText)
	b := make([]byte, base64.StdEncoding.DecodedLen(len(v)))
	n, err := base64.StdEncoding.Strict().Decode(b, v)
	if err != nil || len(v) < minCipherText || len(v) > maxCipherText || bytes.ContainsAny(v, "\r\n") {
		f.refuse(codeCipherText, kms.CodeInvalidCiphertext, "cipher_text", "is not valid")
	}
	return b[:n]
}

func (d *Dialect) createDataKey(ctx context.Context, x *dialect.Exchange) error {
	return d.dataKey(ctx, x, false)
}

func (d *Dialect) createDataKeyWithoutPlaintext(ctx context.Context, x *dialect.Exchange) error {
	return d.dataKey(ctx, x, true)
}

func (d *Dialect) dataKey(ctx context.Context, x *dialect.Exchange, withoutPlaintext bool) error {
	in, err := dataKeyRequest(&x.Object)
	if err != nil {
		return err
	}
	in.WithoutPlaintext = withoutPlaintext
	out, err := d.cfg.Core.GenerateDataKey(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	x.Grow(128 + 2*(len(out.Plaintext)+len(out.Ciphertext)))
	x.Out = appendKeyID(x.Out, out.KeyID)
	if !withoutPlaintext {
		x.Out = appendHex(x.Out, `,"plain_text":"`, out.Plaintext)
	}
	x.Out = append(appendHex(x.Out, `,"cipher_text":"`, out.Ciphertext), '}')
	return nil
}

// appendHex appends a literal, hexadecimal digits and a quote.
func appendHex(b []byte, literal string, data []byte) []byte {
	return append(dialect.AppendHex(append(b, literal...), data), '"')
}

// maxDataKey is the longest data key, in bytes.
const maxDataKey = 1024

// encryptDataKey encrypts a data key of the client's. What it sends is the key with its SHA-256 digest behind it; what is
// encrypted is the key alone, so that it opens like one that create-datakey made.
func (d *Dialect) encryptDataKey(ctx context.Context, x *dialect.Exchange) error {
	f := fields{in: &x.Object}
	in := kms.EncryptInput{KeyID: f.key()}
	n := f.length("datakey_plain_length", codePlainLength, 1, maxDataKey)
	plain := f.hex("plain_text", codePlainText, kms.CodeInvalidRequest)
	defer clear(plain)
	in.Context, in.AAD = f.bound()
	switch {
	case f.err != nil:
	case len(plain) != n+sha256.Size:
		f.refuse(codePlainMismatch, kms.CodeInvalidRequest, "plain_text", "must be datakey_plain_length bytes and their SHA-256 digest")
	default:
		in.Plaintext = plain[:n]
		if digest := sha256.Sum256(in.Plaintext); subtle.ConstantTimeCompare(digest[:], plain[n:]) != 1 {
			f.refuse(codePlainDigest, kms.CodeInvalidRequest, "plain_text", "digest does not match the data key")
		}
	}
	if err := f.done(); err != nil {
		return err
	}
	out, err := d.cfg.Core.EncryptDataKey(ctx, in)
	if err != nil {
		return err
	}
	x.Grow(128 + 2*len(out.Ciphertext))
	x.Out = appendKeyID(x.Out, out.KeyID)
	x.Out = appendHex(x.Out, `,"cipher_text":"`, out.Ciphertext)
	x.Out = appendLength(x.Out, n)
	return nil
}

// appendLength ends an answer with a data key's length in bytes.
func appendLength(b []byte, n int) []byte {
	b = append(b, `,"datakey_length":"`...)
	return append(strconv.AppendInt(b, int64(n), 10), `"}`...)
}

func (d *Dialect) decryptDataKey(ctx context.Context, x *dialect.Exchange) error {
	f := fields{in: &x.Object}
	id := f.key()
	in := kms.DecryptInput{KeyID: &id, Ciphertext: f.hex("cipher_text", codeCipherText, kms.CodeInvalidCiphertext)}
	n := f.length("datakey_cipher_length", codeCipherLength, 1, maxDataKey)
	in.Context, in.AAD = f.bound()
	if err := f.done(); err != nil {
		return err
	}
	out, err := d.cfg.Core.DecryptDataKey(ctx, in)
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	if len(out.Plaintext) != n {
		return refuse(codeCipherMismatch, kms.CodeInvalidRequest, "datakey_cipher_length", "is not the length of this data key")
	}
	digest := sha256.Sum256(out.Plaintext)
	x.Grow(256 + 2*n)
	x.Out = appendHex(x.Out, `{"data_key":"`, out.Plaintext)
	x.Out = appendHex(x.Out, `,"datakey_dgst":"`, digest[:])
	x.Out = appendLength(x.Out, n)
	return nil
}

func (d *Dialect) genRandom(ctx context.Context, x *dialect.Exchange) error {
	f := fields{in: &x.Object}
	bits := f.length("random_data_length", codeRandomLength, 8, 8192)
	if f.err == nil && bits%8 != 0 {
		f.refuse(codeRandomMultiple, kms.CodeInvalidLength, "random_data_length", "must be a multiple of 8")
	}
	if err := f.done(); err != nil {
		return err
	}
	random, err := d.cfg.Core.Random(ctx, bits/8)
	if err != nil {
		return err
	}
	defer clear(random)
	x.Grow(32 + 2*len(random))
	x.Out = append(appendHex(x.Out, `{"random_data":"`, random), '}')
	return nil
}

func (d *Dialect) sign(ctx context.Context, x *dialect.Exchange) error {
	f := fields{in: &x.Object}
	in := f.signRequest()
	if err := f.done(); err != nil {
		return err
	}
	out, err := d.cfg.Core.Sign(ctx, in)
	if err != nil {
		return err
	}
	x.Out = appendKeyID(x.Out, out.KeyID)
	x.Out = append(x.Out, `,"signature":"`...)
	x.Out = base64.StdEncoding.AppendEncode(x.Out, out.Signature)
	x.Out = append(x.Out, `"}`...)
	return nil
}

// verify answers with a string, unlike verify-mac.
func (d *Dialect) verify(ctx context.Context, x *dialect.Exchange) error {
	f := fields{in: &x.Object}
	in := f.signRequest()
	signature := f.base64("signature", codeParameter)
	if err := f.done(); err != nil {
		return err
	}
	valid, err := d.cfg.Core.Verify(ctx, kms.VerifyInput{
		KeyID: in.KeyID, Algorithm: in.Algorithm, Message: in.Message, Digest: in.Digest, Signature: signature,
	})
	if err != nil {
		return err
	}
	x.Out = appendKeyID(x.Out, in.KeyID)
	x.Out = appendText(x.Out, `,"signature_valid":`, strconv.FormatBool(valid))
	x.Out = append(x.Out, '}')
	return nil
}

func (d *Dialect) getPublicKey(ctx context.Context, x *dialect.Exchange) error {
	id, err := keyRequest(&x.Object)
	if err != nil {
		return err
	}
	out, err := d.cfg.Core.PublicKey(ctx, id)
	if err != nil {
		return err
	}
	text := crlf.Replace(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: out.DER})))
	x.Out = appendKeyID(x.Out, out.KeyID)
	x.Out = appendText(x.Out, `,"public_key":`, text)
	x.Out = append(x.Out, '}')
	return nil
}
