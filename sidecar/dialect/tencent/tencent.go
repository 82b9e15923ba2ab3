// Package tencent is the dialect of Tencent Cloud's KMS API, version 2019-01-18: every action is a request for "/", errors
// have HTTP status 200, and a request is signed with TC3-HMAC-SHA256 or the older v1 signatures.
package tencent

import (
	"net/http"
	"strings"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Name is the dialect's name in audit records.
const Name = "tencent"

const version = "2019-01-18"

// Headers and parameters with a meaning of their own. A v3 request has the headers, a v1 request the parameters.
const (
	headerAction    = "X-Tc-Action"
	headerVersion   = "X-Tc-Version"
	headerTimestamp = "X-Tc-Timestamp"
	headerToken     = "X-Tc-Token"
	headerContent   = "X-Tc-Content-Sha256"

	paramAction    = "Action"
	paramVersion   = "Version"
	paramTimestamp = "Timestamp"
	paramToken     = "Token"
	paramSecretID  = "SecretId"
	paramMethod    = "SignatureMethod"
	paramSignature = "Signature"
)

// common are the parameters of v1 requests that belong to no action.
var common = []string{
	paramAction, paramVersion, paramTimestamp, paramToken, paramSecretID, paramMethod, paramSignature, "Region", "Nonce", "Language", "RequestClient",
}

// Registration puts the dialect into the list of those that the sidecar can serve.
var Registration = dialect.Registration{
	Key: Name, Section: func() dialect.Section { return &Settings{UIN: defaultUIN, Region: "local", V1: true} },
	Marks: dialect.Marks{
		Headers: []string{headerAction}, Action: paramAction,
		Parameters: []dialect.Pair{{Name: paramVersion, Value: version}, {Name: paramSecretID}},
		Proofs:     []string{"Authorization", headerToken},
	},
}

// Settings is the dialect's section of the configuration.
type Settings struct {
	UIN             int64      `yaml:"uin"`              // the number of the account, in answers
	Region          string     `yaml:"region"`           // the answer of GetRegions; requests may name any
	V1              bool       `yaml:"v1"`               // whether v1 signatures are accepted
	UnsignedPayload bool       `yaml:"unsigned_payload"` // whether a v3 signature may leave the body out
	Limits          kms.Limits `yaml:"limits"`
}

const defaultUIN = 100000000001

// quotas are the cloud's (KMS API, "Limits"). The core's limits hold where they are stricter by their nature, as for data.
var quotas = kms.Limits{Keys: 200, Context: 1024, Alias: 60, Description: 1024, Page: 200, Tags: 50, TagKey: 127, TagValue: 255}

// Validate implements dialect.Section.
func (s *Settings) Validate(check func(ok bool, key, format string, args ...any)) {
	check(s.UIN > 0 && s.UIN < 1<<53, "uin", "must be a positive number of at most 15 digits")
	check(dialect.IsName(s.Region), "region", "must be 1 to 64 letters, digits, - and _")
}

// OwnLimits implements dialect.Section.
func (s *Settings) OwnLimits() kms.Limits { return s.Limits.Over(quotas) }

// New implements dialect.Section.
func (s *Settings) New(host dialect.Host, core *kms.Service) dialect.Dialect {
	return New(*s, host, core)
}

// Core is what the dialect needs of the core.
type Core interface {
	dialect.Gate
	dialect.Keys
	dialect.LifeCycle
	dialect.Rotation
	dialect.Crypto
	dialect.DataKeys
	dialect.Signatures
	dialect.Imports
}

// Dialect serves the API.
type Dialect struct {
	*dialect.Server
	Settings
	core Core
}

// New returns the dialect.
func New(settings Settings, host dialect.Host, core Core) *Dialect {
	d := &Dialect{Settings: settings, core: core}
	d.Server = dialect.NewServer(dialect.Config{
		Host: host, Core: core, Name: Name, Rules: &rules, Place: ofVersion, Flat: flat, Common: common, Open: open, Close: closeAnswer,
		Table: dialect.NewActionTable(headerAction, paramAction, []string{http.MethodGet, http.MethodPost}, d.routes()),
		Proofs: []dialect.Proof{
			{Header: "Authorization", Check: d.checkTC3}, {Parameter: paramSignature, Check: d.checkV1},
			{Header: headerToken, Check: refuseToken}, {Parameter: paramToken, Check: refuseToken},
		},
		Errors: dialect.Errors{Conditions: conditions, Of: answers.To, Write: appendError},
	})
	return d
}

// flat reports whether a request has its fields as parameters: one with GET, and one without the headers of v3.
func flat(r *http.Request) (first int, ok bool) {
	return 0, r.Method == http.MethodGet || r.Header[headerAction] == nil
}

// ofVersion refuses requests for another version of the API, and those that do not say one.
func ofVersion(r *http.Request, x *dialect.Exchange) error {
	said := strings.Join(r.Header[headerVersion], ",")
	switch {
	case r.Header[headerAction] == nil:
		pairs, err := x.Parameters(r, dialect.DataBody)
		if err != nil {
			return err
		}
		said, _ = dialect.Parameter(pairs, paramVersion)
	case r.Method == http.MethodPost && r.URL.RawQuery != "":
		return refuse(codeParameter, kms.CodeInvalidRequest, "query", "must be empty: the fields are in the body")
	}
	switch said {
	case version:
		return nil
	case "":
		return refuse(codeMissing, kms.CodeInvalidRequest, "version", "is required")
	}
	return refuse(codeNoVersion, kms.CodeInvalidRequest, "version", "must be "+version)
}

// open begins an answer. What a handler appends is an object, or nothing.
func open(x *dialect.Exchange) { x.Out = append(x.Out, `{"Response":`...) }

// closeAnswer adds the request's id as the last member of the object.
func closeAnswer(x *dialect.Exchange) {
	if last := len(x.Out) - 1; x.Out[last] == '}' {
		x.Out[last] = ','
	} else {
		x.Out = append(x.Out, '{')
	}
	x.Out = append(dialect.AppendMember(x.Out, `"RequestId":`, x.RequestID), "}}"...)
}

// stateNotSupported refuses a key for its state.
func stateNotSupported(code kms.Code) *kms.Error {
	return kms.Errorf(code, "the key's state does not allow this operation")
}

// rules are where the states differ from the core's (KMS API, "State matrix").
var (
	errNotDisabled      = stateNotSupported(kms.CodeKeyNotDisabled)
	errNotEnabled       = stateNotSupported(kms.CodeKeyNotEnabled)
	errNotPendingImport = stateNotSupported(kms.CodeKeyNotPendingImport)
	errNoMaterial       = stateNotSupported(kms.CodeKeyMaterialMissing)

	rules = kms.Rules{
		MinRotation: 7, MaxRotation: 365, PendingUncounted: true,
		States: map[policy.Operation]map[kms.KeyState]*kms.Error{
			policy.OpEnableKey:  {kms.Enabled: nil, kms.Disabled: nil, kms.Archived: errNotDisabled},
			policy.OpDisableKey: {kms.Enabled: nil, kms.Disabled: nil},
			policy.OpScheduleDeletion: {
				kms.Enabled: kms.Errorf(kms.CodeKeyNotDisabled, "key must be disabled first"), kms.Archived: kms.Errorf(kms.CodeKeyNotDisabled, "key must be disabled first"),
			},
			policy.OpGetImportParameters: {kms.Enabled: nil, kms.Disabled: nil, kms.PendingImport: nil, kms.PendingDeletion: nil, kms.Archived: nil},
			policy.OpImportMaterial:      {kms.Enabled: nil, kms.Disabled: errNotPendingImport, kms.PendingDeletion: errNotPendingImport, kms.Archived: errNotPendingImport},
			policy.OpDeleteMaterial:      {kms.PendingImport: nil, kms.Archived: errNoMaterial},
		},
	}
	// toArchive and toCancelArchive are the rules of the two actions about archives, which need the permissions to disable and
	// to enable a key.
	toArchive = kms.Rules{States: map[policy.Operation]map[kms.KeyState]*kms.Error{
		policy.OpDisableKey: {kms.Enabled: nil, kms.Disabled: nil, kms.Archived: nil, kms.PendingImport: errNotEnabled, kms.PendingDeletion: errNotEnabled},
	}}
	toCancelArchive = kms.Rules{States: map[policy.Operation]map[kms.KeyState]*kms.Error{
		policy.OpEnableKey: {kms.Archived: nil, kms.Enabled: errNotDisabled, kms.Disabled: errNotDisabled, kms.PendingImport: errNotDisabled, kms.PendingDeletion: errNotDisabled},
	}}
)
