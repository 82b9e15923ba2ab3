package kms

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// Limits limits what the core accepts. In a configuration, a zero field means that of DefaultLimits, or in the limits of a
// dialect that of the service.
type Limits struct {
	Keys        int `yaml:"keys"`        // keys that a tenant may have
	Data        int `yaml:"data"`        // bytes of plaintext of one encryption, and of one decryption
	Message     int `yaml:"message"`     // bytes of a message to sign or to make a MAC of
	AAD         int `yaml:"aad"`         // bytes of additional authenticated data
	Context     int `yaml:"context"`     // characters of an encryption context, names and values together
	DataKey     int `yaml:"data_key"`    // bytes of a data key
	Random      int `yaml:"random"`      // bytes of one random request
	Alias       int `yaml:"alias"`       // characters of a key's alias
	Description int `yaml:"description"` // characters of a key's description
	Page        int `yaml:"page"`        // keys in one page of a list
	Tags        int `yaml:"tags"`        // tags of a key, and conditions of one search by tag
	TagKey      int `yaml:"tag_key"`     // characters of a tag's key
	TagValue    int `yaml:"tag_value"`   // characters of a tag's value
	Aliases     int `yaml:"aliases"`     // further aliases of a key
	Grants      int `yaml:"grants"`      // grants of a key
	Credentials int `yaml:"credentials"` // access keys of the tenant
}

// DefaultLimits are the limits of Huawei Cloud.
var DefaultLimits = Limits{
	Keys: 100, Data: 4096, Message: 4096, AAD: 128, Context: 8192, DataKey: 1024, Random: 1024, Alias: 255,
	Description: 255, Page: 2000, Tags: 20, TagKey: 36, TagValue: 43, Aliases: 50, Grants: 100, Credentials: 1000,
}

// Over returns l with the zero fields replaced by those of base.
func (l Limits) Over(base Limits) Limits {
	for _, f := range []struct{ field, from *int }{
		{&l.Keys, &base.Keys}, {&l.Data, &base.Data}, {&l.Message, &base.Message}, {&l.AAD, &base.AAD},
		{&l.Context, &base.Context}, {&l.DataKey, &base.DataKey}, {&l.Random, &base.Random}, {&l.Alias, &base.Alias},
		{&l.Description, &base.Description}, {&l.Page, &base.Page}, {&l.Tags, &base.Tags}, {&l.TagKey, &base.TagKey},
		{&l.TagValue, &base.TagValue}, {&l.Aliases, &base.Aliases}, {&l.Grants, &base.Grants},
		{&l.Credentials, &base.Credentials},
	} {
		if *f.field == 0 {
			*f.field = *f.from
		}
	}
	return l
}

// aliasForm is the form of aliases that all clouds accept.
var aliasForm = regexp.MustCompile(`^[a-zA-Z0-9:/_-]+$`)

// reservedAlias is the suffix of the aliases of default keys.
const reservedAlias = "/default"

func (l Limits) checkAlias(alias string) error {
	switch {
	case len(alias) > l.Alias:
		return Invalid("alias", ReasonLength, "alias has more than %d characters", l.Alias)
	case !aliasForm.MatchString(alias):
		return Invalid("alias", ReasonMalformed, "alias must be letters, digits and any of : / _ -")
	case strings.HasSuffix(strings.ToLower(alias), reservedAlias):
		return Invalid("alias", ReasonReserved, "names ending in %s are reserved for default keys", reservedAlias)
	}
	return nil
}

func (l Limits) checkDescription(text string) error {
	if !utf8.ValidString(text) || utf8.RuneCountInString(text) > l.Description {
		return Invalid("description", ReasonMalformed, "description must be text of at most %d characters", l.Description)
	}
	return nil
}

// checkBytes checks a plaintext to encrypt, or a message to sign or to compute a MAC of: from 1 byte to the limit.
func checkBytes(b []byte, limit int, field string) error {
	switch {
	case len(b) == 0:
		return Invalid(field, ReasonMissing, "%s is empty", field)
	case len(b) > limit:
		return Invalid(field, ReasonLength, "%s has more than %d bytes", field, limit)
	}
	return nil
}

// plaintext returns the maximum length of the plaintext of a ciphertext. An encrypted private key may be longer than the
// data keys that a caller can ask for.
func (l Limits) plaintext(p Purpose) int {
	if p == PurposeDataKey {
		return max(l.DataKey, maxPrivateKey)
	}
	return l.Data
}

// checkBound checks an encryption context and additional authenticated data.
func (l Limits) checkBound(context map[string]string, aad []byte) error {
	if len(aad) > l.AAD {
		return Invalid("aad", ReasonLength, "additional authenticated data has more than %d bytes", l.AAD)
	}
	chars := 0
	for name, value := range context {
		if name == "" || !utf8.ValidString(name) || !utf8.ValidString(value) {
			return Invalid("context", ReasonMalformed, "encryption context must have names and be valid text")
		}
		chars += utf8.RuneCountInString(name) + utf8.RuneCountInString(value)
	}
	if chars > l.Context {
		return Invalid("context", ReasonLength, "encryption context has more than %d characters", l.Context)
	}
	return nil
}

// checkLength checks the length of a data key or of random bytes.
func checkLength(n, limit int, field string) error {
	if n < 1 || n > limit {
		return Invalid(field, ReasonOutOfRange, "length must be 1 to %d bytes", limit)
	}
	return nil
}
