package huawei

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/kms"
)

// The columns of testdata/matrix.txt, and the keys of its rows: every spec with every usage that the documents have for it.
var (
	matrixStates = []string{"enabled", "disabled", "deletion", "import", "gone", "default"}
	matrixKeys   = []matrixKey{
		{"AES_256", "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", "RSASSA_PSS_SHA_256", "HMAC_SHA_256"},
		{"RSA_2048", "ENCRYPT_DECRYPT", "RSAES_OAEP_SHA_256", "RSASSA_PSS_SHA_256", "HMAC_SHA_256"},
		{"RSA_3072", "ENCRYPT_DECRYPT", "RSAES_OAEP_SHA_256", "RSASSA_PSS_SHA_384", "HMAC_SHA_256"},
		{"RSA_4096", "ENCRYPT_DECRYPT", "RSAES_OAEP_SHA_1", "RSASSA_PSS_SHA_512", "HMAC_SHA_256"},
		{"RSA_2048", "SIGN_VERIFY", "RSAES_OAEP_SHA_256", "RSASSA_PKCS1_V1_5_SHA_256", "HMAC_SHA_256"},
		{"RSA_3072", "SIGN_VERIFY", "RSAES_OAEP_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "HMAC_SHA_256"},
		{"RSA_4096", "SIGN_VERIFY", "RSAES_OAEP_SHA_256", "RSASSA_PSS_SHA_512", "HMAC_SHA_256"},
		{"EC_P256", "SIGN_VERIFY", "SYMMETRIC_DEFAULT", "ECDSA_SHA_256", "HMAC_SHA_256"},
		{"EC_P384", "SIGN_VERIFY", "SYMMETRIC_DEFAULT", "ECDSA_SHA_384", "HMAC_SHA_256"},
		{"EC_P256", "KEY_AGREEMENT", "SYMMETRIC_DEFAULT", "ECDSA_SHA_256", "HMAC_SHA_256"},
		{"EC_P384", "KEY_AGREEMENT", "SYMMETRIC_DEFAULT", "ECDSA_SHA_384", "HMAC_SHA_256"},
		{"HMAC_256", "GENERATE_VERIFY_MAC", "SYMMETRIC_DEFAULT", "ECDSA_SHA_256", "HMAC_SHA_256"},
		{"HMAC_384", "GENERATE_VERIFY_MAC", "SYMMETRIC_DEFAULT", "ECDSA_SHA_256", "HMAC_SHA_384"},
		{"HMAC_512", "GENERATE_VERIFY_MAC", "SYMMETRIC_DEFAULT", "ECDSA_SHA_256", "HMAC_SHA_512"},
	}
)

// matrixKey is a kind of key, with algorithms that go with its spec, or would if it could do that.
type matrixKey struct{ spec, usage, encryption, signing, mac string }

func (k matrixKey) isRSA() bool { return strings.HasPrefix(k.spec, "RSA") }

// matrixOperation is how the matrix does one of its operations. Names with $ are those of [matrix.words].
type matrixOperation struct {
	name, method, path, body string
	before                   string // an operation on the key while it is enabled, where it can be done: path and body
}

var matrixOperations = []matrixOperation{
	{"describe-key", "POST", "describe-key", `{"key_id":"$id"}`, ""},
	{"enable-key", "POST", "enable-key", `{"key_id":"$id"}`, ""},
	{"disable-key", "POST", "disable-key", `{"key_id":"$id"}`, ""},
	{"schedule-key-deletion", "POST", "schedule-key-deletion", `{"key_id":"$id","pending_days":"7"}`, ""},
	{"cancel-key-deletion", "POST", "cancel-key-deletion", `{"key_id":"$id"}`, ""},
	{"update-key-alias", "POST", "update-key-alias", `{"key_id":"$id","key_alias":"$fresh"}`, ""},
	{"update-key-description", "POST", "update-key-description", `{"key_id":"$id","key_description":"x"}`, ""},
	{"create-datakey", "POST", "create-datakey", `{"key_id":"$id"}`, ""},
	{"create-datakey-without-plaintext", "POST", "create-datakey-without-plaintext", `{"key_id":"$id"}`, ""},
	{"encrypt-datakey", "POST", "encrypt-datakey", `{"key_id":"$id","plain_text":"$plain","datakey_plain_length":"1"}`, ""},
	{"decrypt-datakey", "POST", "decrypt-datakey", `{"key_id":"$id","cipher_text":"$blob","datakey_cipher_length":"32"}`, ""},
	{"create-rsa-datakey-pair", "POST", "create-rsa-datakey-pair", `{"key_id":"$id","key_spec":"RSA_2048"}`, ""},
	{"create-ec-datakey-pair", "POST", "create-ec-datakey-pair", `{"key_id":"$id","key_spec":"ECC_NIST_P256"}`, ""},
	{"encrypt-data", "POST", "encrypt-data", `{"key_id":"$id","plain_text":"x","encryption_algorithm":"$encryption"}`, ""},
	{"decrypt-data", "POST", "decrypt-data", `{"key_id":"$id","cipher_text":"$cipher","encryption_algorithm":"$encryption"}`, ""},
	{"re-encrypt from", "POST", "re-encrypt", `{"source_key_id":"$id","cipher_text":"$cipher","source_encryption_algorithm":"$encryption","destination_key_id":"$other"}`, ""},
	{"re-encrypt to", "POST", "re-encrypt", `{"destination_key_id":"$id","cipher_text":"$foreign","destination_encryption_algorithm":"$encryption"}`, ""},
	{"sign", "POST", "sign", `{"key_id":"$id","message":"QUJD","message_type":"RAW","signing_algorithm":"$signing"}`, ""},
	{"verify", "POST", "verify", `{"key_id":"$id","message":"QUJD","message_type":"RAW","signing_algorithm":"$signing","signature":"QUJD"}`, ""},
	{"get-publickey", "POST", "get-publickey", `{"key_id":"$id"}`, ""},
	{"generate-mac", "POST", "generate-mac", `{"key_id":"$id","message":"QUJD","mac_algorithm":"$mac"}`, ""},
	{"verify-mac", "POST", "verify-mac", `{"key_id":"$id","message":"QUJD","mac_algorithm":"$mac","mac":"00"}`, ""},
	{"derive-shared-secret", "POST", "derive-shared-secret", `{"key_id":"$id","key_agreement_algorithm":"ECDH","public_key":"$peer"}`, ""},
	{"get-parameters-for-import", "POST", "get-parameters-for-import", `{"key_id":"$id","wrapping_algorithm":"RSAES_OAEP_SHA_256"}`, ""},
	{"import-key-material", "POST", "import-key-material", `{"key_id":"$id","import_token":"$token","encrypted_key_material":"$token"}`, ""},
	{"delete-imported-key-material", "POST", "delete-imported-key-material", `{"key_id":"$id"}`, ""},
	{"enable-key-rotation", "POST", "enable-key-rotation", `{"key_id":"$id"}`, ""},
	{"update-key-rotation-interval", "POST", "update-key-rotation-interval", `{"key_id":"$id","rotation_interval":30}`, `enable-key-rotation {"key_id":"$id"}`},
	{"disable-key-rotation", "POST", "disable-key-rotation", `{"key_id":"$id"}`, `enable-key-rotation {"key_id":"$id"}`},
	{"get-key-rotation-status", "POST", "get-key-rotation-status", `{"key_id":"$id"}`, ""},
	{"GET tags", "GET", "$id/tags", "", ""},
	{"POST tags", "POST", "$id/tags", `{"tag":{"key":"k","value":"v"}}`, ""},
	{"create tags", "POST", "$id/tags/action", `{"action":"create","tags":[{"key":"k"}]}`, ""},
	{"delete tags", "POST", "$id/tags/action", `{"action":"delete","tags":[{"key":"k"}]}`, ""},
	{"DELETE tags", "DELETE", "$id/tags/k", "", `$id/tags {"tag":{"key":"k"}}`},
	{"POST aliases", "POST", "aliases", `{"key_id":"$id","alias":"$fresh"}`, ""},
	{"associate", "POST", "alias/associate", `{"target_key_id":"$id","alias":"$elsewhere"}`, ""},
	{"DELETE aliases", "DELETE", "aliases", `{"key_id":"$id","aliases":["$alias"]}`, `aliases {"key_id":"$id","alias":"$alias"}`},
	{"GET aliases", "GET", "aliases?key_id=$id", "", ""},
	{"create-grant", "POST", "create-grant", `{"key_id":"$id","grantee_principal":"app","operations":["describe-key"]}`, ""},
	{"list-grants", "POST", "list-grants", `{"key_id":"$id"}`, ""},
	{"revoke-grant", "POST", "revoke-grant", `{"key_id":"$id","grant_id":"$grant"}`, ""},
	{"retire-grant", "POST", "retire-grant", `{"key_id":"$id","grant_id":"$grant"}`, ""},
}

// TestMatrix does every operation on a key with a key of every spec and usage in every state, and compares the outcome with
// testdata/matrix.txt. Each time it is another key.
func TestMatrix(t *testing.T) {
	m := newMatrix(t)
	table := readMatrix(t)
	var cells []*cell
	for i := range matrixOperations {
		op := &matrixOperations[i]
		for _, key := range matrixKeys {
			for column, state := range matrixStates {
				want := table.cell(op.name, key, column)
				if want == "-" {
					continue
				}
				cells = append(cells, m.cell(op, key, state, want))
			}
		}
	}
	if table.used != table.rows {
		t.Errorf("%d of %d rows name unknown operations or keys", table.rows-table.used, table.rows)
	}
	m.clock.advance(7)
	m.core.RunDue(m.context())
	for _, c := range cells {
		c.check(m)
	}
	if len(cells) < 2400 {
		t.Errorf("only %d cells", len(cells))
	}
	for i := range routes { // that are about a key
		covered := slices.ContainsFunc(matrixOperations, func(op matrixOperation) bool {
			p, _, _ := strings.Cut(op.path, "?")
			match, err := path.Match(strings.NewReplacer("{key_id}", "*", "{key}", "*").Replace(routes[i].Path), p)
			return err == nil && match && op.method == routes[i].Method
		})
		aboutNone := []policy.Operation{policy.OpCreateKey, policy.OpListKeys, policy.OpGenRandom, policy.OpListTags, policy.OpFindKeys, policy.OpGetInstances, policy.OpGetQuotas, policy.OpListRetirableGrants, opListProjects, opListDomains}
		if covered == slices.Contains(aboutNone, routes[i].Operation) {
			t.Errorf("%s %s is in the matrix: %v", routes[i].Method, routes[i].Path, covered)
		}
	}
}

// matrix is a server with what its operations need beside their key.
type matrix struct {
	*server
	n              int
	other, service matrixSubject // a key that everything can be done with, and a default key
}

// matrixSubject is a key, data that it encrypted, and a data key.
type matrixSubject struct{ id, cipher, blob string }

func newMatrix(t *testing.T) *matrix {
	m := &matrix{server: newServer(t, os.Getuid())}
	m.hsm.lacks = ""
	m.other = m.use(m.create("other", "AES_256"))
	owner := m.owner
	m.owner = policy.Principal{Name: "obs", Service: "obs"}
	m.service = m.use("obs/default")
	m.owner = owner
	return m
}

// use encrypts with a key.
func (m *matrix) use(name string) matrixSubject {
	m.t.Helper()
	blob := m.do("create-datakey", `{"key_id":"`+name+`"}`)
	cipher := m.do("encrypt-data", `{"key_id":"`+name+`","plain_text":"x"}`)
	return matrixSubject{blob.field(m.t, "key_id"), cipher.field(m.t, "cipher_text"), blob.field(m.t, "cipher_text")}
}

// cell is one operation on one key, which has been brought into its state.
type cell struct {
	op          *matrixOperation
	key         matrixKey
	state, want string
	words       map[string]string
}

// cell makes the key and brings it into its state. Its ciphertexts are made while it is enabled.
func (m *matrix) cell(op *matrixOperation, key matrixKey, state, want string) *cell {
	m.t.Helper()
	m.n++
	c := &cell{op, key, state, want, m.words(key, m.subject(key, state))}
	if strings.Contains(op.body, "$elsewhere") {
		m.do("aliases", c.expand(`{"key_id":"`+m.create(c.expand("$elsewhere/own"), "AES_256")+`","alias":"$elsewhere"}`))
	}
	if op.before != "" && state != "default" {
		p, body, _ := strings.Cut(op.before, " ")
		m.post(c.expand(p), c.expand(body)) // refused where it cannot be done
	}
	switch state {
	case "disabled":
		m.do("disable-key", c.expand(`{"key_id":"$id"}`))
	case "deletion":
		m.do("schedule-key-deletion", c.expand(`{"key_id":"$id","pending_days":1000}`))
	case "gone":
		m.do("schedule-key-deletion", c.expand(`{"key_id":"$id","pending_days":7}`))
	}
	return c
}

// subject returns a new key, and what it encrypted: where it cannot, what another key did.
func (m *matrix) subject(key matrixKey, state string) matrixSubject {
	m.t.Helper()
	if state == "default" {
		return m.service
	}
	origin := "kms"
	if state == "import" {
		origin = "external"
	}
	body := fmt.Sprintf(`{"key_alias":"m/%d","key_spec":%q,"key_usage":%q,"origin":%q}`, m.n, key.spec, key.usage, origin)
	id := m.do("create-key", body).field(m.t, "key_id")
	switch {
	case key.isRSA():
		return matrixSubject{id, m.block(key), m.other.blob}
	case key.spec == "AES_256" && state != "import":
		return m.use(id)
	default:
		return matrixSubject{id, m.other.cipher, m.other.blob}
	}
}

// block is a ciphertext that a client made with the public half of an RSA key.
func (m *matrix) block(key matrixKey) string {
	m.t.Helper()
	h := sha256.New()
	if key.encryption == "RSAES_OAEP_SHA_1" {
		h = sha1.New()
	}
	public := m.hsm.rsa[kms.KeySpec(key.spec)].Public().(*rsa.PublicKey)
	block, err := rsa.EncryptOAEP(h, rand.Reader, public, []byte("x"), nil)
	if err != nil {
		m.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(block)
}

// words are what the names in an operation's path and body stand for.
func (m *matrix) words(key matrixKey, subject matrixSubject) map[string]string {
	curve := elliptic.P256()
	if key.spec == "EC_P384" {
		curve = elliptic.P384()
	}
	return map[string]string{
		"id": subject.id, "cipher": subject.cipher, "blob": subject.blob, // the key and its ciphertexts
		"other": m.other.id, "foreign": m.other.cipher, // those of another
		"alias": fmt.Sprintf("own/%d", m.n), "elsewhere": fmt.Sprintf("elsewhere/%d", m.n), "fresh": fmt.Sprintf("fresh/%d", m.n),
		"encryption": key.encryption, "signing": key.signing, "mac": key.mac, "peer": publicKey(curve),
		"token": strings.Repeat("QUJD", 86),
		"grant": strings.Repeat("0", 64), // which no key has
		"plain": fmt.Sprintf("00%x", sha256.Sum256([]byte{0})),
	}
}

func (c *cell) expand(text string) string {
	return os.Expand(text, func(name string) string { return c.words[name] })
}

// check does the operation.
func (c *cell) check(m *matrix) {
	m.t.Helper()
	a := m.send(c.op.method, address(c.expand(c.op.path)), c.expand(c.op.body))
	got := strings.TrimPrefix(a.code(), "KMS.")
	if a.status < 300 {
		got = "ok"
	}
	if got != c.want || (got == "0207") != (a.status == http.StatusNotFound) {
		m.t.Errorf("%s with a key %s for %s that is %s: %d %s, want %s", c.op.name, c.key.spec, c.key.usage, c.state, a.status, a.body, c.want)
	}
}

// do does an operation that must not fail.
func (m *matrix) do(path, body string) answered {
	m.t.Helper()
	a := m.post(path, body)
	if a.status >= 300 {
		m.t.Fatalf("%s %s: %d %s", path, body, a.status, a.body)
	}
	return a
}

// matrixTable is testdata/matrix.txt.
type matrixTable struct {
	t          *testing.T
	operations map[string][][]string // rows, in fields
	rows, used int
	seen       map[*string]bool
}

func readMatrix(t *testing.T) *matrixTable {
	text, err := os.ReadFile("testdata/matrix.txt")
	if err != nil {
		t.Fatal(err)
	}
	table := &matrixTable{t: t, operations: map[string][][]string{}, seen: map[*string]bool{}}
	operation, sourced := "", false
	for _, line := range strings.Split(string(text), "\n") {
		name, isOperation := strings.CutPrefix(line, "operation ")
		fields := strings.Fields(line)
		switch {
		case isOperation:
			operation, sourced = name, false
		case operation == "" || len(fields) == 0 || slices.Equal(fields, matrixStates):
		case fields[0] == "#":
			sourced = true
		case !sourced:
			t.Fatalf("%s: no source for %q", operation, line)
		default:
			table.operations[operation] = append(table.operations[operation], fields)
			table.rows++
		}
	}
	return table
}

// cell returns what the table has for an operation, a key and a column.
func (m *matrixTable) cell(operation string, key matrixKey, column int) string {
	m.t.Helper()
	for _, fields := range m.operations[operation] {
		codes := fields[len(fields)-len(matrixStates):]
		spec, usage := fields[0], "*"
		if len(fields) > len(codes)+1 {
			usage = fields[1]
		}
		specFits, _ := path.Match(spec, key.spec)
		if !specFits || usage != "*" && usage != key.usage {
			continue
		}
		if !m.seen[&fields[0]] {
			m.seen[&fields[0]] = true
			m.used++
		}
		if spec == "*" && matrixStates[column] == "default" && key.spec != "AES_256" {
			return "-"
		}
		return codes[column]
	}
	m.t.Fatalf("%s has no row for %s %s", operation, key.spec, key.usage)
	return ""
}
