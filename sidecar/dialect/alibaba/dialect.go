package alibaba

import (
	"net/http"

	"github.com/keyside/keyside/sidecar/dialect"
)

// Core is what the dialect needs of the core.
type Core interface {
	dialect.Gate
	dialect.Keys
	dialect.LifeCycle
	dialect.Rotation
	dialect.Crypto
	dialect.DataKeys
	dialect.Signatures
	dialect.Tags
	dialect.Aliases
	dialect.Imports
}

// Dialect serves the API.
type Dialect struct {
	*dialect.Server
	core       Core
	region     string
	account    string
	signatures []string
	chain      string // of the instances' certificates, PEM
}

// Registration puts the dialect into the list of those that the sidecar can serve.
var Registration = dialect.Registration{Key: Name, Marks: Marks, Section: Section}

// Marks are those of the dialect's requests.
var Marks = dialect.Marks{
	Headers: []string{headerAction}, Action: paramAction, Parameters: []dialect.Pair{{Name: paramVersion, Value: Version}},
	Twofold: true, // the vendor's command line and common requests of the older SDK send both
	Proofs:  []string{headerAuthorization},
}

func newDialect(s *Settings, host dialect.Host, core Core) *Dialect {
	chain, _ := s.chain() // Validate has read it
	d := &Dialect{core: core, region: s.Region, account: s.AccountID, signatures: s.Signatures, chain: chain}
	d.Server = dialect.NewServer(dialect.Config{
		Host: host, Core: core, Name: Name, Rules: s.rules(), Strict: true,
		Table: dialect.NewActionTable(headerAction, paramAction, []string{http.MethodGet, http.MethodPost}, d.routes(), unsupported...),
		Proofs: []dialect.Proof{
			{Header: headerAuthorization, Check: d.checkHeader}, {Parameter: paramSignature, Check: d.checkParameters},
			{Header: headerToken, Check: refuseToken}, {Parameter: paramToken, Check: refuseToken},
		},
		Errors: dialect.Errors{Conditions: conditions, Of: answers.To, Write: appendError},
		Place:  inVersion,
		Flat:   func(*http.Request) (int, bool) { return 1, true },
		Common: common,
		Close:  end,
	})
	return d
}

// arn returns the name of a thing of this place in all of the cloud.
func (d *Dialect) arn(what string) string {
	return "acs:kms:" + d.region + ":" + d.account + ":" + what
}

// end ends an answer with the request's id.
func end(x *dialect.Exchange) {
	if len(x.Out) <= len("{}") {
		x.Out = append(x.Out[:0], '{')
	} else {
		x.Out[len(x.Out)-1] = ','
	}
	x.Out = append(dialect.AppendMember(x.Out, `"RequestId":`, x.RequestID), '}')
	format(x, x.Route.Path+"Response")
}

// Routes lists what the dialect serves, for tests.
func Routes() []dialect.Route { return new(Dialect).routes() }

// Served lists what the dialect serves, for documentation. A call is an action.
func Served() []dialect.Served {
	return dialect.Each(Routes(), func(rt dialect.Route) dialect.Served { return dialect.Served{Call: rt.Path, Operation: rt.Operation} })
}
