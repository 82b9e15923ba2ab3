package sidecar

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect/alibaba"
	"github.com/keyside/keyside/sidecar/kms"
)

// rightsWorld is a whole sidecar, of which the requests go straight to the handler: so that a test says what the kernel
// would.
type rightsWorld struct {
	*testing.T
	clock       *rightsClock
	node        *node
	process     *process
	handler     http.Handler
	credentials map[string]*client.NewCredential
	tokens      map[string]string
	expected    map[string]expectedRecord // by request id

	fresh int
	words map[string]string // of the request
	op    policy.Operation  // that grants are of
}

// expectedRecord is what must be on record of a request.
type expectedRecord struct {
	operation policy.Operation
	allow     bool
	what      string
}

// rightsClock stands until it is moved.
type rightsClock struct{ now time.Time }

func (c *rightsClock) Now() time.Time { return c.now }

func newRightsWorld(t *testing.T) *rightsWorld {
	n := newNode(t)
	w := &rightsWorld{
		T: t, node: n, clock: &rightsClock{now: time.Now()}, credentials: map[string]*client.NewCredential{}, tokens: map[string]string{},
		expected: map[string]expectedRecord{},
	}
	n.cfg.Owner, n.cfg.Principals, n.cfg.Clock = 1, rightsPrincipals, w.clock
	n.cfg.Audit.Refusals = 1_000_000 // every refusal is looked for on record
	n.cfg.Limits.Keys, n.cfg.Limits.Grants, n.cfg.Limits.Aliases = 1000, 1000, 1000
	n.cfg.Import.Pool = map[kms.KeySpec]int{}
	w.process = newProcess(n.cfg, n.logger())
	cloud := n.cfg.sections[alibaba.Name].(*alibaba.Settings)
	cloud.VersionDays, cloud.Limits.Keys, cloud.Limits.Aliases = 0, 1000, 1000
	if err := n.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := w.process.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.process.close(context.Background()); err != nil {
			t.Error(err)
		}
		w.checkRecords(n.audit())
	})
	w.handler = must(w.process.handler())
	for user, role := range rightsUsers {
		made := new(client.NewCredential)
		w.owner(http.MethodPost, client.BasePath+"create-credential", fmt.Sprintf(`{"user":%q,"role":%q}`, user, role), made)
		token := new(client.Token)
		w.owner(http.MethodPost, client.BasePath+"create-token", fmt.Sprintf(`{"user":%q,"ttl":86400}`, user), token)
		w.credentials[user], w.tokens[user] = made, token.Token
	}
	w.owner(http.MethodPost, client.BasePath+"delete-credential", fmt.Sprintf(`{"access_key":%q}`, w.credentials["key-deleted"].AccessKey), nil)
	return w
}

// address is the path of a route: below the project where it does not begin with a slash.
func (w *rightsWorld) address(path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return "/v1.0/" + w.process.cfg.huawei().ProjectID + "/kms/" + path
}

// ask sends a request of a caller through the handler.
func (w *rightsWorld) ask(c rightsCaller, method, path, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(w.Context(), method, "http://127.0.0.1"+w.address(path), strings.NewReader(body))
	return w.send(c, r, body, sign)
}

// send sends a request as a caller, signed with a dialect's signature where the caller has an access key.
func (w *rightsWorld) send(c rightsCaller, r *http.Request, body string, sign func(*http.Request, string, string, string, time.Time)) *httptest.ResponseRecorder {
	r.Header.Set("Content-Type", "application/json")
	r = r.WithContext(kms.WithCaller(r.Context(), policy.Caller{
		UID: c.uid, GID: cmp.Or(c.gid, c.uid), PID: 1, Known: c.uid != 0 && !c.ended, Ended: c.ended, Socket: c.uid != 0,
		Process: &policy.Process{Unit: c.unit},
	}))
	switch c.how {
	case "token":
		r.Header.Set("X-Auth-Token", w.tokens[c.by])
	case "key", "deleted":
		sign(r, body, w.credentials[c.by].AccessKey, w.credentials[c.by].SecretKey, w.clock.now)
	case "wrong":
		sign(r, body, w.credentials[c.by].AccessKey, w.credentials["key-user"].SecretKey, w.clock.now)
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer
}

// sign signs a request as the cloud's SDKs do.
func sign(r *http.Request, body, accessKey, secret string, at time.Time) {
	digest := func(text string) string {
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	date := at.UTC().Format("20060102T150405Z")
	r.Header.Set("X-Sdk-Date", date)
	canonical := strings.Join([]string{
		r.Method, strings.TrimSuffix(r.URL.Path, "/") + "/", r.URL.RawQuery, "host:" + r.Host + "\nx-sdk-date:" + date + "\n",
		"host;x-sdk-date", digest(body),
	}, "\n")
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = io.WriteString(mac, "SDK-HMAC-SHA256\n"+date+"\n"+digest(canonical))
	r.Header.Set("Authorization", "SDK-HMAC-SHA256 Access="+accessKey+", SignedHeaders=host;x-sdk-date, Signature="+hex.EncodeToString(mac.Sum(nil)))
}

// owner does what must not fail, as the owner.
func (w *rightsWorld) owner(method, path, body string, out any) {
	w.Helper()
	w.as(rightsCallers[0], method, path, body, out)
}

func (w *rightsWorld) as(c rightsCaller, method, path, body string, out any) {
	w.Helper()
	answer := w.ask(c, method, path, body)
	if answer.Code >= 300 {
		w.Fatalf("%s %s %s: %d %s", method, path, body, answer.Code, answer.Body)
	}
	if out != nil {
		if err := json.Unmarshal(answer.Body.Bytes(), out); err != nil {
			w.Fatalf("%s: %v in %s", path, err, answer.Body)
		}
	}
}

// field does an operation and returns a text of its answer.
func (w *rightsWorld) field(c rightsCaller, path, body, name string) string {
	w.Helper()
	var out map[string]any
	w.as(c, http.MethodPost, path, w.expand(body), &out)
	text, _ := out[name].(string)
	return text
}

// expand replaces the words of a text.
func (w *rightsWorld) expand(text string) string { return os.Expand(text, w.word) }

// word returns what a word stands for, the same during one request, and keys during all of those of an operation.
func (w *rightsWorld) word(name string) string {
	if w.words[name] == "" {
		w.words[name] = w.make(name)
	}
	return w.words[name]
}

// specs are the specs and the usages of the keys that are words.
var specs = map[string]string{
	"aes": `"key_spec":"AES_256"`, "aes2": `"key_spec":"AES_256"`, "ec": `"key_spec":"EC_P256"`, "hmac": `"key_spec":"HMAC_256"`,
	"rsa":       `"key_spec":"RSA_2048","key_usage":"ENCRYPT_DECRYPT"`,
	"agreement": `"key_spec":"EC_P256","key_usage":"KEY_AGREEMENT"`, "external": `"key_spec":"AES_256","origin":"external"`,
}

func (w *rightsWorld) make(name string) string {
	w.Helper()
	owner := rightsCallers[0]
	switch {
	case specs[name] != "":
		return w.key(specs[name])
	case name == "own":
		return w.key(specs["aes"])
	case name == "rsa":
		return w.key(`"key_spec":"RSA_2048","key_usage":"ENCRYPT_DECRYPT"`)
	case name == "rsacipher":
		return w.field(owner, "encrypt-data", `{"key_id":"$rsa","plain_text":"x","encryption_algorithm":"RSAES_OAEP_SHA_256"}`, "cipher_text")
	case name == "tencentmaterial":
		return strings.NewReplacer(`"import_token"`, `"ImportToken"`, `"encrypted_key_material"`, `"EncryptedKeyMaterial"`).Replace(w.material())
	case name == "plain":
		return fmt.Sprintf("00%x", sha256.Sum256([]byte{0}))
	case name == "cipher":
		return w.field(owner, "encrypt-data", `{"key_id":"$aes","plain_text":"x"}`, "cipher_text")
	case name == "block":
		return w.field(owner, "encrypt-data", `{"key_id":"$rsa","plain_text":"x","encryption_algorithm":"RSAES_OAEP_SHA_256"}`, "cipher_text")
	case name == "blob":
		return w.field(owner, "create-datakey", `{"key_id":"$aes","datakey_length":"512"}`, "cipher_text")
	case name == "signature":
		return w.field(owner, "sign", `{"key_id":"$ec","message":"QUJD","message_type":"RAW","signing_algorithm":"ECDSA_SHA_256"}`, "signature")
	case name == "blob64":
		return w.field(owner, client.BasePath+"generate-data-key", `{"key_id":"$aes","length":64}`, "ciphertext")
	case name == "mac64":
		return w.field(owner, client.BasePath+"generate-mac", `{"key_id":"$hmac","message":"QUJD","mac_algorithm":"HMAC_SHA_256"}`, "mac")
	case name == "wrapped":
		return strings.Replace(w.material(), "encrypted_key_material", "material", 1)
	case name == "mac":
		return w.field(owner, "generate-mac", `{"key_id":"$hmac","message":"QUJD","mac_algorithm":"HMAC_SHA_256"}`, "mac")
	case name == "peer":
		return string(pemBody(w.field(owner, "get-publickey", `{"key_id":"$agreement"}`, "public_key")))
	case name == "token64", name == "material64":
		var pair struct {
			Token    string `json:"import_token"`
			Material string `json:"encrypted_key_material"`
		}
		if err := json.Unmarshal([]byte("{"+w.material()+"}"), &pair); err != nil {
			w.Fatal(err)
		}
		w.words["token64"], w.words["material64"] = pair.Token, pair.Material
		return w.words[name]
	case name == "public64":
		return base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(&must(rsa.GenerateKey(rand.Reader, 2048)).PublicKey)))
	case name == "digest64":
		return base64.StdEncoding.EncodeToString(make([]byte, sha256.Size))
	case name == "material":
		return w.material()
	case name == "accesskey":
		made := new(client.NewCredential)
		w.fresh++
		w.owner(http.MethodPost, client.BasePath+"create-credential", fmt.Sprintf(`{"user":"to-delete-%d","role":"none"}`, w.fresh), made)
		return made.AccessKey
	}
	w.Fatalf("unknown word $%s", name)
	return ""
}

// key makes a key, and the grants of the operation on it.
func (w *rightsWorld) key(spec string) string {
	w.Helper()
	w.fresh++
	var made struct {
		Info struct {
			ID string `json:"key_id"`
		} `json:"key_info"`
	}
	w.owner(http.MethodPost, "create-key", fmt.Sprintf(`{"key_alias":"key-%d",%s}`, w.fresh, spec), &made)
	for _, c := range rightsCallers {
		var ops []string
		switch {
		case c.others:
			for _, op := range policy.Operations {
				if op.Grantable() && op != w.op {
					ops = append(ops, string(op))
				}
			}
		case c.granted && w.op.Grantable():
			if ops = []string{string(w.op)}; w.op == policy.OpCreateGrant { // which cannot be granted alone
				ops = append(ops, string(policy.OpDescribeKey))
			}
		default:
			continue
		}
		if strings.Contains(spec, "external") {
			continue
		}
		body := fmt.Sprintf(`{"key_id":%q,"grantee_principal":%q,"operations":["%s"]`, made.Info.ID, c.by, strings.Join(ops, `","`))
		if c.source != "" {
			body += fmt.Sprintf(`,"source":%q`, c.source)
		}
		if c.expired {
			body += fmt.Sprintf(`,"expires_at":%d`, w.clock.now.Unix()+1)
		}
		w.words["grant of "+c.by] = w.field(rightsCallers[0], "create-grant", body+"}", "grant_id")
	}
	w.clock.now = w.clock.now.Add(2 * time.Second)
	return made.Info.ID
}

// material returns a token and a wrapped key as members of an import.
func (w *rightsWorld) material() string {
	w.Helper()
	var p struct {
		Token  string `json:"import_token"`
		Public []byte `json:"public_key"`
	}
	w.owner(http.MethodPost, "get-parameters-for-import", w.expand(`{"key_id":"$external","wrapping_algorithm":"RSAES_OAEP_SHA_256"}`), &p)
	public := must(x509.ParsePKIXPublicKey(p.Public)).(*rsa.PublicKey)
	wrapped := must(rsa.EncryptOAEP(sha256.New(), rand.Reader, public, bytes.Repeat([]byte{7}, 32), nil))
	return fmt.Sprintf(`"import_token":%q,"encrypted_key_material":%q`, p.Token, base64.StdEncoding.EncodeToString(wrapped))
}

// pemBody is what is between the lines of a PEM block, in one line.
func pemBody(text string) []byte {
	block, _ := pem.Decode([]byte(text))
	return base64.StdEncoding.AppendEncode(nil, block.Bytes)
}

// grant returns the grant that a caller would retire or revoke: its own, or one of another principal.
func (w *rightsWorld) grant(c rightsCaller) string {
	w.Helper()
	if own := w.words["grant of "+c.by]; own != "" && (c.granted || c.others || c.outside) {
		return own
	}
	return w.field(rightsCallers[0], "create-grant", `{"key_id":"$aes","grantee_principal":"plain","operations":["describe-key"]}`, "grant_id")
}
