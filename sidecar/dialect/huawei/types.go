package huawei

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// fields reads the members of a request one by one and keeps the first fault, so that a request's type reads as a list
// of its fields.
type fields struct {
	in  *dialect.Object
	err *refusal
}

// done ends the reading. The sequence, which every operation takes and ignores, is checked here.
func (f *fields) done() error {
	if seq := f.text("sequence", codeSequence); seq != nil && !uuidShaped(seq) {
		f.refuse(codeSequence, kms.CodeInvalidRequest, "sequence", "must be 36 characters in the shape of a UUID")
	}
	if f.err != nil {
		return f.err
	}
	return nil
}

func (f *fields) refuse(code string, core kms.Code, field, message string) {
	if f.err == nil {
		f.err = refuse(code, core, field, message)
	}
}

// text returns an optional string; code is for a value that is none.
func (f *fields) text(name, code string) []byte {
	v, err := f.in.Text(name)
	if err != nil {
		f.refuse(code, kms.CodeInvalidRequest, name, "must be a string")
	}
	return v
}

// required returns a string that must be there.
func (f *fields) required(name, code string) []byte {
	v := f.text(name, code)
	if v == nil {
		f.missing(name)
	}
	return v
}

func (f *fields) missing(name string) {
	f.refuse(codeMissing, kms.CodeInvalidRequest, name, "is required")
}

// integer returns a whole number in a range, or initial where it is absent.
func (f *fields) integer(name, code string, core kms.Code, low, high, initial int64) int64 {
	n, ok, err := f.in.Integer(name)
	switch {
	case err != nil:
		f.refuse(code, core, name, "must be a whole number")
	case !ok:
		return initial
	case n < low || n > high:
		f.refuse(code, core, name, "must be "+strconv.FormatInt(low, 10)+" to "+strconv.FormatInt(high, 10))
	}
	return n
}

// length returns a required number of bytes or bits.
func (f *fields) length(name, code string, low, high int64) int {
	n := f.integer(name, code, kms.CodeInvalidLength, low, high, -1)
	if n == -1 {
		f.missing(name)
	}
	return int(n)
}

// key returns the id of the key that a request is about.
func (f *fields) key() kms.KeyID {
	v := f.required("key_id", codeKeyID)
	if f.err != nil {
		return kms.KeyID{}
	}
	id, err := kms.ParseKeyID(string(v))
	if err != nil {
		f.refuse(codeKeyID, kms.CodeInvalidKeyID, "key_id", "is not a key id")
	}
	return id
}

// maxContext bounds encryption_context, in bytes of its JSON; the core counts its characters.
const maxContext = 32 << 10

// bound returns what a ciphertext is bound to. Old clients send encryption_context, some of them as a string of JSON;
// new ones send additional_authenticated_data; both count.
func (f *fields) bound() (context map[string]string, aad []byte) {
	context, err := f.in.Pairs("encryption_context", maxContext)
	if err != nil {
		f.refuse(codeContext, kms.CodeInvalidRequest, "encryption_context", "must be an object of strings")
	}
	return context, f.text("additional_authenticated_data", codeParameter)
}

// base64 decodes a required member.
func (f *fields) base64(name, code string) []byte {
	v := f.required(name, code)
	b := make([]byte, base64.StdEncoding.DecodedLen(len(v)))
	n, err := base64.StdEncoding.Decode(b, v)
	if err != nil {
		f.refuse(code, kms.CodeInvalidRequest, name, "is not base64")
	}
	return b[:n]
}

// hex decodes a required member in either case. White space counts for nothing: the vendor's own example holds some.
func (f *fields) hex(name, code string, core kms.Code) []byte {
	v := f.required(name, code)
	b := make([]byte, 0, len(v))
	for _, c := range v {
		if c > unicode.MaxASCII || !unicode.IsSpace(rune(c)) {
			b = append(b, c)
		}
	}
	n, err := hex.Decode(b, b)
	if err != nil {
		f.refuse(code, core, name, "is not hexadecimal")
	}
	clear(b[n:])
	return b[:n]
}

// symmetric checks encryption_algorithm, of which keys that encrypt have one so far.
func (f *fields) symmetric() {
	switch v := f.text("encryption_algorithm", codeParameter); string(v) {
	case "", "SYMMETRIC_DEFAULT":
	case "RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256", "SM2_ENCRYPT":
		f.refuse(codeNotSymmetric, kms.CodeAlgorithmMismatch, "encryption_algorithm", "is not for symmetric keys")
	default:
		f.refuse(codeParameter, kms.CodeInvalidRequest, "encryption_algorithm", "is unknown")
	}
}

// uuidShaped reports whether s is 8-4-4-4-12 letters and digits.
func uuidShaped(s []byte) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		hyphen := i == 8 || i == 13 || i == 18 || i == 23
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if hyphen != (c == '-') || !hyphen && !alnum {
			return false
		}
	}
	return true
}

// specs are the key specs that this cloud knows for master keys, each with its default usage.
var specs = map[kms.KeySpec]kms.KeyUsage{
	kms.AES256: kms.EncryptDecrypt, kms.SM4: kms.EncryptDecrypt,
	kms.RSA2048: kms.SignVerify, kms.RSA3072: kms.SignVerify, kms.RSA4096: kms.SignVerify,
	kms.ECP256: kms.SignVerify, kms.ECP384: kms.SignVerify, kms.Secp256k1: kms.SignVerify, kms.SM2: kms.SignVerify,
	kms.HMAC256: kms.GenerateVerifyMAC, kms.HMAC384: kms.GenerateVerifyMAC, kms.HMAC512: kms.GenerateVerifyMAC,
}

// dataKeySpecs are the lengths in bytes that create-datakey has names for.
var dataKeySpecs = map[string]int{
	"AES_256": 32, "AES_128": 16, "SM4": 16, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64, "HMAC_SM3": 32,
}

// states are the key states as the wire numbers them. 7 is "frozen", the nearest there is to a key whose HSM is away.
var states = map[kms.KeyState]string{
	kms.Enabled: "2", kms.Disabled: "3", kms.PendingDeletion: "4", kms.PendingImport: "5", kms.Unavailable: "7",
}

// signingAlgorithms are those whose names the wire shares with the core.
var signingAlgorithms = map[kms.SigningAlgorithm]bool{
	kms.RSAPSSSHA256: true, kms.RSAPSSSHA384: true, kms.RSAPSSSHA512: true,
	kms.RSAPKCS1SHA256: true, kms.RSAPKCS1SHA384: true, kms.RSAPKCS1SHA512: true,
	kms.ECDSASHA256: true, kms.ECDSASHA384: true, kms.ECDSASHA512: true,
}

// createKeyRequest reads create-key.
func createKeyRequest(o *dialect.Object) (kms.CreateKeyInput, error) {
	f := fields{in: o}
	in := kms.CreateKeyInput{
		Alias:       string(f.required("key_alias", codeAlias)),
		Description: string(f.text("key_description", codeDescription)),
		Spec:        kms.KeySpec(f.text("key_spec", codeSpec)),
		Usage:       kms.KeyUsage(f.text("key_usage", codeParameter)),
		Origin:      kms.Origin(f.text("origin", codeParameter)),
	}
	if in.Spec == "" {
		in.Spec = kms.AES256
	}
	usage, known := specs[in.Spec]
	if !known {
		f.refuse(codeSpec, kms.CodeInvalidSpec, "key_spec", "is unknown")
	}
	switch in.Usage {
	case "":
		in.Usage = usage
	case kms.EncryptDecrypt, kms.SignVerify, kms.GenerateVerifyMAC:
	default:
		f.refuse(codeParameter, kms.CodeUnsupportedUsage, "key_usage", "is unknown")
	}
	switch in.Origin {
	case "":
		in.Origin = kms.OriginKMS
	case kms.OriginKMS, kms.OriginExternal:
	default:
		f.refuse(codeParameter, kms.CodeInvalidRequest, "origin", "must be kms or external")
	}
	f.text("enterprise_project_id", codeParameter)
	if store, _, err := o.Integer("keystore_id"); err != nil || store != 0 {
		f.refuse(codeKeystore, kms.CodeInvalidRequest, "keystore_id", "must be the default keystore, 0")
	}
	return in, f.done()
}

// listKeysRequest reads list-keys. Without key_spec it lists AES_256 keys alone, as this cloud does.
func listKeysRequest(o *dialect.Object) (kms.ListKeysInput, error) {
	f := fields{in: o}
	in := kms.ListKeysInput{
		Spec:   kms.KeySpec(f.text("key_spec", codeSpec)),
		Limit:  int(f.integer("limit", codeLimit, kms.CodeInvalidLimit, 1, maxLimit, 0)),
		Offset: int(f.integer("marker", codeMarker, kms.CodeInvalidMarker, 0, maxLimit, 0)),
	}
	if in.Limit >= fullPage {
		in.Limit = 0
	}
	switch in.Spec {
	case "":
		in.Spec = kms.AES256
	case "ALL":
		in.Spec = ""
	default:
		if _, known := specs[in.Spec]; !known {
			f.refuse(codeSpec, kms.CodeInvalidSpec, "key_spec", "is unknown")
		}
	}
	if n := f.integer("key_state", codeParameter, kms.CodeInvalidRequest, 1, 5, 0); n > 0 {
		in.State = stateNumbered(strconv.FormatInt(n, 10))
	}
	f.text("enterprise_project_id", codeParameter)
	return in, f.done()
}

const (
	fullPage = 2000    // the documented default; who asks for as many or more gets what the core takes for a full page
	maxLimit = 1 << 30 // beyond any number of keys
)

// waiting is state 1, "waiting activation", which no key of the core is ever in.
const waiting kms.KeyState = "PendingActivation"

// stateNumbered returns the state of a number from 1 to 5.
func stateNumbered(number string) kms.KeyState {
	for state, n := range states {
		if n == number {
			return state
		}
	}
	return waiting
}

// dataKeyRequest reads create-datakey and its twin. datakey_length is in bits, and wins over key_spec.
func dataKeyRequest(o *dialect.Object) (kms.DataKeyInput, error) {
	f := fields{in: o}
	in := kms.DataKeyInput{KeyID: f.key(), Bytes: 32}
	in.Context, in.AAD = f.bound()
	spec := f.text("key_spec", codeKeyLengthSpec)
	bits := f.integer("datakey_length", codeKeyLength, kms.CodeInvalidLength, 8, 8192, 0)
	switch {
	case bits%8 != 0:
		f.refuse(codeKeyMultiple, kms.CodeInvalidLength, "datakey_length", "must be a multiple of 8")
	case bits > 0:
		in.Bytes = int(bits / 8)
	case spec != nil:
		n, known := dataKeySpecs[string(spec)]
		if !known {
			f.refuse(codeKeyLengthSpec, kms.CodeInvalidSpec, "key_spec", "is unknown")
		}
		in.Bytes = n
	}
	return in, f.done()
}

// signRequest reads sign, and the fields that verify shares with it.
func (f *fields) signRequest() kms.SignInput {
	in := kms.SignInput{
		KeyID:     f.key(),
		Algorithm: kms.SigningAlgorithm(f.required("signing_algorithm", codeAlgorithm)),
		Message:   f.base64("message", codeParameter),
	}
	if f.err == nil && !signingAlgorithms[in.Algorithm] {
		f.refuse(codeAlgorithm, kms.CodeAlgorithmMismatch, "signing_algorithm", "is unknown or not supported")
	}
	switch kind := f.text("message_type", codeParameter); string(kind) {
	case "", "DIGEST":
		in.Digest = true
	case "RAW":
	default:
		f.refuse(codeParameter, kms.CodeInvalidRequest, "message_type", "must be DIGEST or RAW")
	}
	return in
}

// appendKey appends a key as describe-key and list-keys show it: every value a string.
func (d *Dialect) appendKey(b []byte, k *kms.Key) []byte {
	b = append(b, `{"key_id":"`...)
	b = append(b, k.ID.String()...)
	b = appendText(b, `","domain_id":`, d.cfg.DomainID)
	b = appendText(b, `,"key_alias":`, k.Alias)
	b = appendText(b, `,"realm":`, d.cfg.Region)
	b = appendText(b, `,"key_spec":`, string(k.Spec))
	b = appendText(b, `,"key_usage":`, string(k.Usage))
	b = appendText(b, `,"key_description":`, k.Description)
	b = append(b, `,"creation_date":"`...)
	b = strconv.AppendInt(b, k.CreatedAt.UnixMilli(), 10)
	b = appendText(b, `","key_state":`, states[k.State])
	b = appendText(b, `,"origin":`, string(k.Origin))
	b = append(b, `,"scheduled_deletion_date":"","default_key_flag":"0","key_type":"1","expiration_time":"",`...)
	b = append(b, `"key_rotation_enabled":"false","sys_enterprise_project_id":"0","keystore_id":"0"`...)
	if v := k.Current(); v != nil {
		b = appendText(b, `,"protection":`, string(v.Protection))
	}
	return append(b, '}')
}

// appendText appends a literal and a JSON string after it.
func appendText(b []byte, literal, s string) []byte {
	return dialect.AppendString(append(b, literal...), s)
}

// crlf turns the line ends of PEM text into those that this cloud sends.
var crlf = strings.NewReplacer("\n", "\r\n")
