package huawei

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
)

// query is a request as tests send it.
type query struct{ method, path, body string }

// address is the whole path of an operation. The look-ups have no project.
func address(path string) string {
	if strings.HasPrefix(path, "/v3/") {
		return path
	}
	return pathRoot + testProject + "/kms/" + path
}

// request renders an operation's fields where they belong. Values are JSON, and "" leaves a field out. What the operation
// does not know goes into the body.
func (s *server) request(rt *dialect.Route, values map[string]string) query {
	s.t.Helper()
	path, parameters := rt.Path, url.Values{}
	var members []string
	values = maps.Clone(values)
	for _, f := range rt.Fields {
		v := values[f.Name]
		delete(values, f.Name)
		switch {
		case v == "" || f.In == dialect.Header:
		case f.In == dialect.Body:
			members = append(members, quote(f.Name)+":"+v)
		case f.In == dialect.Path:
			path = strings.Replace(path, "{"+f.Name+"}", url.PathEscape(s.unquote(v)), 1)
		case v != "null":
			parameters.Set(f.Name, s.unquote(v))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		members = append(members, quote(name)+":"+values[name])
	}
	q := query{method: rt.Method, path: address(path)}
	if len(members) > 0 {
		q.body = "{" + strings.Join(members, ",") + "}"
	}
	if len(parameters) > 0 {
		q.path += "?" + parameters.Encode()
	}
	return q
}

// unquote returns the text of a JSON string; what is none is its own text.
func (s *server) unquote(v string) string {
	s.t.Helper()
	if v[0] != '"' {
		return v
	}
	var text string
	if err := json.Unmarshal([]byte(v), &text); err != nil {
		s.t.Fatal(v, err)
	}
	return text
}

// sample is a request that is right, and what is wrong with a field beyond what its kind says.
type sample struct {
	right map[string]string
	wrong map[string][]wrong
}

// with returns the values with one of them replaced.
func (m *sample) with(name, value string) map[string]string {
	values := maps.Clone(m.right)
	values[name] = value
	return values
}

// members are the members of the body, as JSON.
func (m *sample) members(rt *dialect.Route) []string {
	var out []string
	for _, f := range rt.Fields {
		if v := m.right[f.Name]; v != "" && f.In == dialect.Body {
			out = append(out, quote(f.Name)+":"+v)
		}
	}
	return out
}

// samples makes samples, with keys of a server's.
type samples struct {
	s                            *server
	count                        int
	aes, rsa, opener, mac, agree string // ids of keys, as JSON
	data, dek, plain, signature  string
	macOf, peer                  string
}

func newSamples(s *server) *samples {
	c := &samples{s: s}
	c.aes, c.rsa = quote(s.create("s/aes", "AES_256")), quote(s.create("s/rsa", "RSA_2048"))
	c.opener = quote(s.createUsage("s/opener", "RSA_2048", "ENCRYPT_DECRYPT"))
	c.mac = quote(s.create("s/mac", "HMAC_256"))
	c.agree = quote(s.createUsage("s/agree", "EC_P256", "KEY_AGREEMENT"))
	c.data = s.post("encrypt-data", `{"key_id":`+c.aes+`,"plain_text":"x"}`).field(s.t, "cipher_text")
	dek := s.post("create-datakey", `{"key_id":`+c.aes+`}`)
	c.dek, c.plain = dek.field(s.t, "cipher_text"), dek.field(s.t, "plain_text")
	c.signature = s.post("sign", `{"key_id":`+c.rsa+`,"signing_algorithm":"RSASSA_PSS_SHA_256","message_type":"RAW","message":"QUJD"}`).field(s.t, "signature")
	c.macOf = s.post("generate-mac", `{"key_id":`+c.mac+`,"mac_algorithm":"HMAC_SHA_256","message":"QUJD"}`).field(s.t, "mac")
	c.peer = publicKey(elliptic.P256())
	return c
}

// createUsage makes a key of a usage that is not its spec's default.
func (s *server) createUsage(alias, spec, usage string) string {
	s.t.Helper()
	return s.post("create-key", fmt.Sprintf(`{"key_alias":%q,"key_spec":%q,"key_usage":%q}`, alias, spec, usage)).field(s.t, "key_id")
}

// publicKey is a public key of another party, as derive-shared-secret takes it.
func publicKey(curve elliptic.Curve) string {
	k, err := ecdsa.ParseRawPrivateKey(curve, append(make([]byte, (curve.Params().BitSize+7)/8-8), "a scalar"...))
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// fresh returns a name that was not used before.
func (c *samples) fresh() string {
	c.count++
	return fmt.Sprintf("s/%d", c.count)
}

// key makes a key and does operations with it: "path" or "path member".
func (c *samples) key(operations ...string) string {
	c.s.t.Helper()
	id := c.s.create(c.fresh(), "AES_256")
	for _, op := range operations {
		path, more, _ := strings.Cut(op, " ")
		if a := c.s.post(strings.Replace(path, "{key_id}", id, 1), `{"key_id":`+quote(id)+more+`}`); a.status >= 300 {
			c.s.t.Fatalf("%s: %d %s", op, a.status, a.body)
		}
	}
	return quote(id)
}

// grant makes a grant on a key, with everything that a grant can have, and returns its id.
func (c *samples) grant(key string) string {
	c.s.t.Helper()
	return c.s.post("create-grant", `{"key_id":`+key+`,"grantee_principal":"app","operations":["encrypt-data"]}`).field(c.s.t, "grant_id")
}

// alias gives a key an alias.
func (c *samples) alias(key string) string {
	c.s.t.Helper()
	name := quote(c.fresh())
	if a := c.s.post("aliases", `{"key_id":`+key+`,"alias":`+name+`}`); a.status != http.StatusCreated {
		c.s.t.Fatalf("alias: %d %s", a.status, a.body)
	}
	return name
}

const (
	noKey    = `"00000000-0000-4000-8000-000000000000"`
	someUUID = `"919c82d4-8046-4722-9094-35c3c6524cff"`
)

// of returns a sample for an operation, which has not been sent before.
func (c *samples) of(rt *dialect.Route) *sample {
	c.s.t.Helper()
	m := &sample{right: map[string]string{"sequence": someUUID}, wrong: map[string][]wrong{
		"sequence": all("KMS.0206", `"x"`, `"919c82d4-8046-4722-9094-35c3c6524cf"`, `"919c82d4-8046-4722-9094135c3c6524cff"`, `"919c82d4-8046-4722-9094-35c3c6524cé"`),
	}}
	c.fill(rt, m)
	for i := range rt.Fields {
		c.common(rt, &rt.Fields[i], m)
	}
	for name := range m.right { // what a shared part of fill says of fields that this operation has not
		if !slices.ContainsFunc(rt.Fields, func(f dialect.Field) bool { return f.Name == name }) {
			delete(m.right, name)
		}
	}
	return m
}

// takeNames are the operations that take every name of a key: those that the reference has in 2.0, and the newer ones that
// use a key in the same way. The others take its id alone.
var takeNames = []string{
	"describe-key", "create-datakey", "create-datakey-without-plaintext", "encrypt-datakey", "decrypt-datakey", "encrypt-data",
	"decrypt-data", "sign", "verify", "get-publickey", "generate-mac", "verify-mac",
	"create-rsa-datakey-pair", "create-ec-datakey-pair", "re-encrypt", "derive-shared-secret",
}

// common adds what is the same for a field of several operations.
func (c *samples) common(rt *dialect.Route, f *dialect.Field, m *sample) {
	missing := "KMS.0207"
	if rt.Path == "decrypt-data" || rt.Path == "decrypt-datakey" || f.Name == "source_key_id" {
		missing = "KMS.2201" // a ciphertext of another key's, whether there is such a key or not
	}
	switch {
	case f.As != "key_id":
	case !slices.Contains(takeNames, rt.Path):
		m.wrong[f.Name] = append(m.wrong[f.Name], all("KMS.0205", `"x"`, `"00000000-0000-4000-8000-00000000000g"`,
			`"00000000-0000-4000-8000-0000000000000"`, `"00000000-0000-4000-8000-00000000000A"`, `"00000000-0000-4000-8000-00000000000"`,
			`"00000000 0000-4000-8000-000000000000"`, `"{00000000-0000-4000-8000-000000000000}"`, `"alias/x"`, `"s/aes"`, `"{key_id}"`)...)
		m.wrong[f.Name] = append(m.wrong[f.Name], wrong{noKey, missing})
	default:
		m.wrong[f.Name] = append(m.wrong[f.Name], all("KMS.0205", `"a b"`, `"é"`, `"a\u0000"`, `"{00000000-0000-4000-8000-000000000000}"`)...)
		m.wrong[f.Name] = append(m.wrong[f.Name], all("KMS.0207", `"x"`, `"alias/x"`, `"alias/"`, `"s/none"`, `"00000000-0000-4000-8000-00000000000g"`,
			`"kms:local:dom:alias:x"`, `"kms:elsewhere:dom:alias:x"`, `"kms:local:dom:alias:"`, `"obs/default"`)...)
		m.wrong[f.Name] = append(m.wrong[f.Name], wrong{noKey, missing})
	}
	switch f.Name {
	case "encryption_context":
		m.wrong[f.Name] = all("KMS.0208", `{"":"x"}`, `{"a":"`+strings.Repeat("x", 8192)+`"}`)
	case "additional_authenticated_data", "source_additional_authenticated_data", "destination_additional_authenticated_data":
		m.wrong[f.Name] = all("KMS.0308", quote(strings.Repeat("a", 129)))
	case "message":
		m.wrong[f.Name] = all("KMS.0308", quote(strings.Repeat("QUJD", 1400)))
	}
}

// fill says what is right for an operation, and what is wrong with a field for what it means.
func (c *samples) fill(rt *dialect.Route, m *sample) {
	c.s.t.Helper()
	set := func(pairs ...string) {
		for i := 0; i < len(pairs); i += 2 {
			m.right[pairs[i]] = pairs[i+1]
		}
	}
	set("key_id", c.aes, "encryption_context", `null`, "additional_authenticated_data", `""`)
	switch rt.Operation {
	case policy.OpCreateKey:
		set("key_alias", quote(c.fresh()), "key_description", `"text"`, "key_spec", `"AES_256"`, "key_usage", `"ENCRYPT_DECRYPT"`,
			"origin", `"kms"`, "keystore_id", `"0"`, "enterprise_project_id", `"0"`)
		m.wrong["key_alias"] = append(badAliases(), wrong{`"s/aes"`, "KMS.1104"}, wrong{`"alias/s/aes"`, "KMS.1104"})
		m.wrong["key_description"] = all("KMS.1103", quote(strings.Repeat("é", 256)))
		m.wrong["key_spec"] = all("KMS.1110", `"SM4"`, `"SM2"`, `"RSA_4096"`)
		m.wrong["key_usage"] = all("KMS.0308", `"SIGN_VERIFY"`, `"GENERATE_VERIFY_MAC"`, `"KEY_AGREEMENT"`)
	case policy.OpListKeys:
		set("limit", `"10"`, "marker", `"0"`, "key_state", `"2"`, "key_spec", `"ALL"`, "enterprise_project_id", `"all"`)
	case policy.OpEnableKey:
		set("key_id", c.key("disable-key"))
	case policy.OpDisableKey, policy.OpEnableRotation:
		set("key_id", c.key())
	case policy.OpScheduleDeletion:
		set("key_id", c.key(), "pending_days", `"7"`)
	case policy.OpCancelDeletion:
		set("key_id", c.key(`schedule-key-deletion ,"pending_days":7`))
	case policy.OpUpdateAlias:
		set("key_id", c.key(), "key_alias", quote(c.fresh()))
		m.wrong["key_alias"] = append(badAliases(), wrong{`"s/aes"`, "KMS.1104"}, wrong{`"alias/s/aes"`, "KMS.1104"})
	case policy.OpUpdateDescription:
		set("key_id", c.key(), "key_description", `"é"`)
		m.wrong["key_description"] = all("KMS.1103", quote(strings.Repeat("é", 256)))
	case policy.OpUpdateRotation, policy.OpDisableRotation:
		set("key_id", c.key("enable-key-rotation"), "rotation_interval", `30`)
	case policy.OpGetRotation:
		set("key_id", c.key("enable-key-rotation"))
	case policy.OpCreateDataKey, policy.OpCreateDataKeyNoText:
		set("datakey_length", `"256"`, "key_spec", `"AES_256"`, "encryption_context", `{"a":"1"}`, "additional_authenticated_data", `"é"`)
	case policy.OpEncryptDataKey:
		set("plain_text", quote(c.plain+digestHex(c.plain)), "datakey_plain_length", `"32"`)
		m.wrong["datakey_plain_length"] = all("KMS.2104", `31`, `33`)
		m.wrong["plain_text"] = append(all("KMS.2104", quote(c.plain), quote(c.plain+digestHex(c.plain)+"00")), wrong{quote(c.plain + c.plain), "KMS.2103"})
	case policy.OpDecryptDataKey:
		set("cipher_text", quote(c.dek), "datakey_cipher_length", `32`)
		m.wrong["datakey_cipher_length"] = all("KMS.2204", `31`, `33`)
		m.wrong["cipher_text"] = broken(c.dek, true)
	case policy.OpCreateRSAKeyPair:
		set("key_spec", `"RSA_2048"`, "with_plain_text", `true`)
	case policy.OpCreateECKeyPair:
		set("key_spec", `"ECC_NIST_P256"`, "with_plain_text", `"true"`)
	case policy.OpGenRandom:
		set("random_data_length", `"8"`)
	case policy.OpGetImportParameters, policy.OpImportMaterial, policy.OpDeleteMaterial:
		c.fillImport(rt, m, set)
	default:
		c.fillUse(rt, m, set)
	}
}

// fillImport has, for imports, the parameters of a key that waits for its material.
func (c *samples) fillImport(rt *dialect.Route, m *sample, set func(pairs ...string)) {
	c.s.t.Helper()
	key, body := c.imported(rt.Operation == policy.OpDeleteMaterial)
	set("key_id", key, "wrapping_algorithm", `"RSAES_OAEP_SHA_1"`, "wrapping_key_spec", `"RSA_2048"`, "only_last", `"false"`, "repeat", `true`,
		"import_token", body["import_token"], "encrypted_key_material", body["encrypted_key_material"], "expiration_time", `"1790000060"`)
	m.wrong["wrapping_algorithm"] = all("KMS.0308", `"SM2_ENCRYPT"`, `"RSA_AES_KEY_WRAP_SHA_1"`)
	m.wrong["key_id"] = append(all("KMS.0309", c.aes, c.rsa, c.mac), wrong{quote(c.s.external(c.fresh(), "HMAC_256")), "KMS.0341"})
	if rt.Operation == policy.OpDeleteMaterial {
		m.wrong["key_id"] = all("KMS.0309", c.aes, c.rsa, c.mac)
	}
	token, block := c.s.unquote(body["import_token"]), c.s.unquote(body["encrypted_key_material"])
	m.wrong["import_token"] = all("KMS.2605", quote(block), quote(token[:len(token)-4]), quote("A"+token[1:]), quote(token[:100]+`\n`+token[100:]))
	m.wrong["encrypted_key_material"] = all("KMS.0311", quote("AAAA"+block[4:]), quote(block[:340]), quote(block[:344-4]+"AA=="+"AAAA"))
	m.wrong["encrypted_privatekey"] = all("KMS.0308", quote(strings.Repeat("QUJD", 100)))
	m.wrong["expiration_time"] = all("KMS.2602", `1790000000`, `"1"`, `0`)
	m.wrong["check_value"] = all("KMS.2606", `"0011223344556677"`)
}

// external makes a key that waits for its material.
func (s *server) external(alias, spec string) string {
	s.t.Helper()
	return s.post("create-key", fmt.Sprintf(`{"key_alias":%q,"key_spec":%q,"origin":"external"}`, alias, spec)).field(s.t, "key_id")
}

// imported makes an external key and what imports material into it, and perhaps imports it.
func (c *samples) imported(done bool) (key string, body map[string]string) {
	c.s.t.Helper()
	key = quote(c.s.external(c.fresh(), "AES_256"))
	a := c.s.post("get-parameters-for-import", `{"key_id":`+key+`,"wrapping_algorithm":"RSAES_OAEP_SHA_256"}`)
	block, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, c.s.hsm.rsa["RSA_2048"].Public().(*rsa.PublicKey), make([]byte, 32), nil)
	if err != nil {
		c.s.t.Fatal(err)
	}
	body = map[string]string{
		"import_token": quote(a.field(c.s.t, "import_token")), "encrypted_key_material": quote(base64.StdEncoding.EncodeToString(block)),
	}
	if done {
		if a := c.s.post("import-key-material", fmt.Sprintf(`{"key_id":%s,"import_token":%s,"encrypted_key_material":%s}`,
			key, body["import_token"], body["encrypted_key_material"])); a.status != http.StatusOK {
			c.s.t.Fatalf("import: %d %s", a.status, a.body)
		}
	}
	return key, body
}

func (c *samples) fillUse(rt *dialect.Route, m *sample, set func(pairs ...string)) {
	c.s.t.Helper()
	switch rt.Operation {
	case policy.OpEncryptData:
		set("plain_text", `"x"`, "encryption_algorithm", `"SYMMETRIC_DEFAULT"`, "encryption_context", `{"a":"1"}`)
		m.wrong["plain_text"] = all("KMS.2101", quote(strings.Repeat("a", 4097)), quote(strings.Repeat("é", 2049)))
		m.wrong["encryption_algorithm"] = all("KMS.2105", `"RSAES_OAEP_SHA_256"`, `"RSAES_OAEP_SHA_1"`)
		m.wrong["key_id"] = append(all("KMS.0335", c.rsa), wrong{c.opener, "KMS.2106"}, wrong{c.mac, "KMS.0341"}, wrong{c.agree, "KMS.1114"})
	case policy.OpDecryptData:
		set("cipher_text", quote(c.data), "encryption_algorithm", `"SYMMETRIC_DEFAULT"`)
		m.wrong["key_id"] = all("KMS.2201", c.rsa)
		m.wrong["cipher_text"] = append(broken(c.data, false), all("KMS.2201", quote(c.data[:80]+`\n`+c.data[80:]))...)
	case policy.OpReEncrypt:
		set("cipher_text", quote(c.data), "source_key_id", c.aes, "destination_key_id", c.key())
		m.wrong["cipher_text"] = broken(c.data, false)
	case policy.OpSign, policy.OpVerify:
		set("key_id", c.rsa, "message", quote(base64.StdEncoding.EncodeToString(make([]byte, 32))), "signing_algorithm", `"RSASSA_PSS_SHA_256"`, "message_type", `"RAW"`, "signature", quote(c.signature))
		m.wrong["signing_algorithm"] = all("KMS.0332", `"SM2DSA_SM3"`, `"ECDSA_SHA_256"`)
		m.wrong["key_id"] = append(all("KMS.0331", c.aes), wrong{c.opener, "KMS.0334"}, wrong{c.mac, "KMS.0341"})
	case policy.OpGetPublicKey:
		set("key_id", c.rsa)
		m.wrong["key_id"] = all("KMS.0331", c.aes)
	case policy.OpGenerateMAC, policy.OpVerifyMAC:
		set("key_id", c.mac, "message", `"QUJD"`, "mac_algorithm", `"HMAC_SHA_256"`, "mac", quote(c.macOf))
		m.wrong["mac_algorithm"] = all("KMS.0308", `"HMAC_SM3"`, `"HMAC_SHA_512"`)
		m.wrong["key_id"] = all("KMS.0308", c.aes, c.rsa)
	case policy.OpDeriveSharedSecret:
		set("key_id", c.agree, "key_agreement_algorithm", `"ECDH"`, "public_key", quote(c.peer))
		m.wrong["public_key"] = all("KMS.0308", `"QUJD"`, quote(publicKey(elliptic.P384())))
		m.wrong["key_id"] = append(all("KMS.0308", c.rsa), wrong{c.aes, "KMS.0331"}, wrong{c.mac, "KMS.0341"})
	case policy.OpTagKey, policy.OpUntagKey, policy.OpListKeyTags:
		c.fillTags(rt, m, set)
	case policy.OpFindKeys:
		set("action", `"filter"`, "tags", `[{"key":"k","values":["v",""]},{"key":"l"}]`, "matches", `[{"key":"resource_name","value":"S"}]`,
			"limit", `"10"`, "offset", `"0"`)
		m.wrong["tags"] = append(badTagKeys(`[{"key":%q}]`), wrong{"[" + strings.Repeat(`{"key":"k"},`, 20) + `{"key":"k"}]`, "KMS.0407"},
			wrong{`[{"key":"k","values":[` + strings.Repeat(`"v",`, 20) + `"v"]}]`, "KMS.0413"})
		m.wrong["matches"] = all("KMS.0415", `[{"key":"resource_name","value":"a"},{"key":"resource_name","value":"b"}]`)
	case policy.OpCreateAlias:
		set("key_id", c.key(), "alias", quote(c.fresh()))
		m.wrong["alias"] = append(badAliases(), wrong{c.alias(c.aes), "KMS.1104"})
	case policy.OpAssociateAlias:
		set("target_key_id", c.key(), "alias", c.alias(c.key()))
		m.wrong["alias"] = append(badAliases(), wrong{`"unknown"`, "KMS.0207"})
	case policy.OpDeleteAlias:
		key := c.key()
		a, b, other := c.alias(key), c.alias(key), c.alias(c.key())
		set("key_id", key, "aliases", `[`+a+`,`+b+`]`)
		m.wrong["aliases"] = append(all("KMS.1101", `["a b"]`, `[""]`), all("KMS.0207", `["unknown"]`, `[`+a+`,"unknown"]`, `[`+a+`,`+other+`]`)...)
	case policy.OpCreateGrant:
		set("key_id", c.key(), "grantee_principal", `"app"`, "grantee_principal_type", `"user"`, "name", `"a grant"`, "retiring_principal", `"owner"`,
			"operations", `["encrypt-data","create-grant","decrypt-data"]`, "encryption_context_subset", `{"a":"b"}`,
			"expires_at", `"4102444800"`, "source", `"uid:7"`, "name", `"n:/_-"`)
		m.wrong["key_id"] = append(m.wrong["key_id"], all("KMS.0209", c.key("disable-key"))...)
		m.wrong["grantee_principal"] = all("KMS.2402", `"unknown"`, `"ap"`, `"dom"`, `"app "`, `"../x"`)
		m.wrong["retiring_principal"] = all("KMS.2402", `"unknown"`)
		m.wrong["grantee_principal_type"] = all("KMS.2402", `"domain"`)
		m.wrong["operations"] = append(all("KMS.0308", `["encrypt-data","fly"]`, `["enable-key"]`, `["revoke-grant"]`, `["gen-random"]`, `[""]`,
			`["sign"]`, `["Encrypt-data"]`), all("KMS.2401", `["create-grant"]`, `["create-grant","create-grant"]`)...)
		m.wrong["name"] = all("KMS.0308", `"a b"`, `"é"`)
		m.wrong["encryption_context_subset"] = all("KMS.0208", `{"":"x"}`, `{"a":"`+strings.Repeat("x", 8192)+`"}`)
		m.wrong["encryption_context_equals"] = all("KMS.0208", `{"a":"b"}`) // beside the other
		m.wrong["expires_at"] = all("KMS.0308", `1`, `1000000000`)
		m.wrong["source"] = all("KMS.0308", `"uid:"`, `"uid:-1"`, `"uid:07"`, `"pid:7"`, `"7"`, `"uid:4294967296"`)
	case policy.OpListGrants:
		set("key_id", c.key(), "limit", `"10"`, "marker", `"0"`)
		c.grant(m.right["key_id"])
	case policy.OpListRetirableGrants:
		set("limit", `"10"`, "marker", `"0"`)
		c.grant(c.key())
	case policy.OpRevokeGrant, policy.OpRetireGrant:
		set("key_id", c.key())
		set("grant_id", quote(c.grant(m.right["key_id"])))
		m.wrong["grant_id"] = append(all("KMS.2502", quote(c.grant(c.key())), quote(strings.Repeat("0", 64))),
			all("KMS.2501", `"x"`, quote(strings.Repeat("g", 64)), quote(strings.Repeat("0", 63)), quote(strings.Repeat("0", 65)))...)
	case policy.OpListAliases:
		set("key_id", c.key(), "limit", `"10"`, "marker", `"a"`)
		c.alias(m.right["key_id"])
	}
}

func (c *samples) fillTags(rt *dialect.Route, m *sample, set func(pairs ...string)) {
	c.s.t.Helper()
	set("key_id", c.key(`{key_id}/tags ,"tag":{"key":"k/1","value":"v"}`))
	set("tag", `{"key":"k","value":"v"}`, "tags", `[{"key":"k","value":"v"},{"key":"l","value":null}]`, "action", `"create"`, "key", `"k/1"`)
	m.wrong["tag"] = append(badTagKeys(`{"key":%q}`), badTagValues(`{"key":"k","value":%q}`)...)
	m.wrong["tags"] = append(badTagKeys(`[{"key":"k"},{"key":%q}]`), badTagValues(`[{"key":"k","value":%q}]`)...)
	many := make([]string, 20)
	for i := range many {
		many[i] = fmt.Sprintf(`{"key":"t%d"}`, i)
	}
	m.wrong["tags"] = append(m.wrong["tags"], wrong{"[" + strings.Join(many, ",") + "]", "KMS.0409"}) // with the one that is there
	m.wrong["key"] = all("KMS.0416", `"k"`, `"K/1"`, `"a b%"`)
}

func badAliases() []wrong {
	return all("KMS.1101", `"a b"`, `"é"`, `"a\u0000"`, `"x/default"`, `"x/DEFAULT"`, `"/default"`, quote(strings.Repeat("a", 256)))
}

func badTagKeys(format string) []wrong {
	var out []wrong
	for key, code := range map[string]string{
		strings.Repeat("é", 37): "KMS.0411", "a*b": "KMS.0406", "a=b": "KMS.0406", `a\\b`: "KMS.0406", "<a>": "KMS.0406", "a\u0007": "KMS.0406",
	} {
		out = append(out, wrong{strings.Replace(format, "%q", jsonString(key), 1), code})
	}
	return out
}

func badTagValues(format string) []wrong {
	var out []wrong
	for value, code := range map[string]string{strings.Repeat("é", 44): "KMS.0410", "a*b": "KMS.0405", "a\n": "KMS.0405"} {
		out = append(out, wrong{strings.Replace(format, "%q", jsonString(value), 1), code})
	}
	return out
}

func jsonString(s string) string { return string(dialect.AppendString(nil, s)) }
