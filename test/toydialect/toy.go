// Package toydialect is a small dialect that only tests serve. It shows what a dialect takes, in one folder: a header chooses
// the operation, HMAC-SHA1 signs requests, and answers have an envelope.
package toydialect

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Registration puts the dialect into the list of those that the sidecar can serve.
var Registration = dialect.Registration{
	Key: "toy", Section: func() dialect.Section { return &Settings{Realm: "toyland"} },
	Marks: dialect.Marks{Headers: []string{headerAction}, Proofs: []string{"Authorization"}},
}

// Settings is the dialect's section of the configuration.
type Settings struct {
	Realm  string     `yaml:"realm"` // that requests are signed for
	Limits kms.Limits `yaml:"limits"`
}

// Validate implements dialect.Section.
func (s *Settings) Validate(check func(ok bool, key, format string, args ...any)) {
	check(dialect.IsName(s.Realm), "realm", "must be 1 to 64 letters, digits, - and _")
}

// OwnLimits implements dialect.Section.
func (s *Settings) OwnLimits() kms.Limits { return s.Limits }

// New implements dialect.Section.
func (s *Settings) New(host dialect.Host, core *kms.Service) dialect.Dialect {
	return newDialect(s.Realm, host, core)
}

// core is what the dialect needs of the core.
type core interface {
	dialect.Gate
	CreateKey(ctx context.Context, in kms.CreateKeyInput) (*kms.Key, error)
	ListKeys(ctx context.Context, in kms.ListKeysInput) (*kms.KeyPage, error)
	Encrypt(ctx context.Context, in kms.EncryptInput) (*kms.EncryptOutput, error)
	Decrypt(ctx context.Context, in kms.DecryptInput) (*kms.DecryptOutput, error)
}

type toy struct {
	*dialect.Server
	core  core
	realm string
}

func newDialect(realm string, host dialect.Host, core core) *toy {
	d := &toy{core: core, realm: realm}
	d.Server = dialect.NewServer(dialect.Config{
		Host: host, Core: core, Name: "toy", Table: dialect.NewHeaderTable(headerAction, actionPrefix, d.routes()),
		Proofs: []dialect.Proof{{Header: "Authorization", Check: d.checkSignature}},
		Errors: dialect.Errors{Conditions: conditions, Of: answers.To, Write: appendError},
		Open:   func(x *dialect.Exchange) { x.Out = append(x.Out, `{"Response":`...) },
		Close: func(x *dialect.Exchange) {
			x.Out = append(dialect.AppendMember(x.Out, `,"RequestId":`, x.RequestID), '}')
		},
	})
	return d
}

const (
	headerAction = "X-Toy-Action"
	headerDate   = "X-Toy-Date"
	actionPrefix = "Toy."
)

var idForm = dialect.Form{OK: func(t []byte) bool { _, err := kms.ParseKeyID(string(t)); return err == nil }, Reason: "is not a key id"}

// The fields of requests.
var (
	alias      = &dialect.TextField{Name: "Alias", Required: true, Low: 1, High: 64, As: "alias", Code: "InvalidParameter"}
	keyID      = &dialect.TextField{Name: "KeyId", Required: true, Low: 36, High: 36, Form: &idForm, As: "key_id", Code: "InvalidParameter"}
	plaintext  = &dialect.BytesField{Name: "Plaintext", Kind: dialect.Base64, Required: true, As: "plaintext", Code: "InvalidPlaintext"}
	ciphertext = &dialect.BytesField{Name: "Ciphertext", Kind: dialect.Base64, Required: true, As: "ciphertext", Code: "InvalidCiphertext", Core: kms.CodeInvalidCiphertext}
	offset     = &dialect.NumberField{Name: "Offset", Low: 0, High: dialect.Unbounded, As: "marker", Code: "InvalidParameter"}
)

func (d *toy) routes() []dialect.Route {
	return dialect.Routes(
		dialect.Route{Path: "CreateKey", Operation: policy.OpCreateKey, Handle: d.createKey, Fields: dialect.Fields(alias)},
		dialect.Route{Path: "ListKeys", Operation: policy.OpListKeys, Handle: d.listKeys, Fields: dialect.Fields(offset)},
		dialect.Route{Path: "Encrypt", Operation: policy.OpEncryptData, Handle: d.encrypt, Body: dialect.DataBody, Fields: dialect.Fields(keyID, plaintext)},
		dialect.Route{Path: "Decrypt", Operation: policy.OpDecryptData, Handle: d.decrypt, Body: dialect.DataBody, Fields: dialect.Fields(ciphertext)},
	)
}

// key is a key as the dialect shows it.
type key struct {
	KeyID string
	State kms.KeyState
}

func (d *toy) createKey(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	k, err := d.core.CreateKey(ctx, kms.CreateKeyInput{Alias: string(x.Text(alias)), Spec: kms.AES256})
	if err != nil {
		return err
	}
	return x.JSON(key{k.ID.String(), k.State})
}

func (d *toy) listKeys(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	page, err := d.core.ListKeys(ctx, kms.ListKeysInput{Offset: int(x.Number(offset))})
	if err != nil {
		return err
	}
	keys := make([]key, len(page.Keys))
	for i, k := range page.Keys {
		keys[i] = key{k.ID.String(), k.State}
	}
	return x.JSON(keys)
}

func (d *toy) encrypt(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	id, _ := kms.ParseKeyID(string(x.Text(keyID))) // the form is checked
	out, err := d.core.Encrypt(ctx, kms.EncryptInput{KeyID: id, Plaintext: x.Bytes(plaintext)})
	if err != nil {
		return err
	}
	x.Grow(128 + base64.StdEncoding.EncodedLen(len(out.Ciphertext)))
	x.Out = append(dialect.AppendBase64Member(x.Out, `{"Ciphertext":"`, out.Ciphertext), '}')
	return nil
}

func (d *toy) decrypt(ctx context.Context, _ policy.Operation, x *dialect.Exchange) error {
	out, err := d.core.Decrypt(ctx, kms.DecryptInput{Ciphertext: x.Bytes(ciphertext)})
	if err != nil {
		return err
	}
	defer clear(out.Plaintext)
	x.Grow(128 + base64.StdEncoding.EncodedLen(len(out.Plaintext)))
	x.Out = append(dialect.AppendBase64Member(x.Out, `{"Plaintext":"`, out.Plaintext), '}')
	return nil
}

const dateWindow = 5 * time.Minute

// checkSignature authenticates the owner of the access key that signed the request: "Toy KEY:HEX", where HEX is a chain of
// HMAC-SHA1 under the secret over the realm, and then over date, action and body, each on a line.
func (d *toy) checkSignature(ctx context.Context, c *dialect.Claim) error {
	shown, ok := strings.CutPrefix(c.Value, "Toy ")
	accessKey, digits, found := strings.Cut(shown, ":")
	at, err := time.Parse(time.RFC3339, c.Request.Header.Get(headerDate))
	if age := c.Now().Sub(at); !ok || !found || err != nil || age > dateWindow || age < -dateWindow {
		return &dialect.Refusal{Answer: conditions[dialect.WrongSignature], Core: kms.Errorf(kms.CodeUnauthenticated, "signature is malformed or too old")}
	}
	body, err := c.Body()
	if err != nil {
		return err
	}
	text := signed(c.Request, body)
	return c.Signed(ctx, accessKey, func(secret []byte) bool { return dialect.SameHex(mac(d.realm, secret, text), digits) })
}

func signed(r *http.Request, body []byte) []byte {
	return append([]byte(r.Header.Get(headerDate)+"\n"+r.Header.Get(headerAction)+"\n"), body...)
}

func mac(realm string, secret, text []byte) []byte {
	return dialect.HMAC(sha1.New, secret, []byte(realm), text)
}
