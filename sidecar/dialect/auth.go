package dialect

import (
	"context"
	"net/http"
	"time"

	"github.com/keyside/keyside/sidecar/kms"
)

// Proof is where a request shows who sends it, by a signature or a token: a header or a parameter.
type Proof struct {
	Header    string // in canonical form
	Parameter string // of the query or a form, instead of Header
	// Check authenticates the sender by the value, with Claim.Signed or Claim.Token.
	Check func(ctx context.Context, c *Claim) error
}

// Claim is a proof as one request shows it.
type Claim struct {
	Value   string // of the header or the parameter
	Request *http.Request
	Call    *kms.Call

	server   *Server
	exchange *Exchange
	limit    int64
}

// Body returns the request's body as it was received; fields are decoded from the same buffer.
func (c *Claim) Body() ([]byte, error) {
	body, err := c.exchange.Body(c.Request, c.limit)
	return body, c.server.decodeError(err)
}

// Parameters returns the parameters of the request's query and form.
func (c *Claim) Parameters() ([]Pair, error) {
	pairs, err := c.exchange.Parameters(c.Request, c.limit)
	return pairs, c.server.decodeError(err)
}

// Now returns the server's time.
func (c *Claim) Now() time.Time { return c.server.Now() }

// Signed makes the owner of an access key the principal of the call if verify accepts the key's secret.
func (c *Claim) Signed(ctx context.Context, accessKey string, verify func(secret []byte) bool) (err error) {
	core := c.server.cfg.Core
	c.Call.AccessKey = accessKey
	c.Call.Principal, err = core.Authenticate(ctx, accessKey, verify)
	c.Call.Valid = func(ctx context.Context) error {
		_, err := core.Authenticate(ctx, accessKey, func([]byte) bool { return true }) // the signature was verified
		return err
	}
	return c.server.notAuthenticated(err, WrongSignature)
}

// Token makes the user of a token the principal of the call.
func (c *Claim) Token(ctx context.Context, token string) (err error) {
	core := c.server.cfg.Core
	c.Call.Token = true
	c.Call.Principal, err = core.AuthenticateToken(ctx, token)
	c.Call.Valid = func(ctx context.Context) error {
		_, err := core.AuthenticateToken(ctx, token)
		return err
	}
	return c.server.notAuthenticated(err, WrongToken)
}

// notAuthenticated makes the core's refusal of a proof one of the kernel, which records it.
func (s *Server) notAuthenticated(err error, unknown Condition) error {
	if err == nil {
		return nil
	}
	e := kms.AsError(err)
	if e.Code == kms.CodeUnauthenticated {
		return &Refusal{s.cfg.Errors.Conditions[unknown], e}
	}
	return &Refusal{s.cfg.Errors.Of(nil, nil, e), e}
}

// authenticate sets the principal of a call. A proof that the request shows must be valid, and its principal is then the
// sender: also on the Unix socket, so that a program that runs as one user can call with the rights of another, and so
// that a client with wrong credentials learns it there as well. Proofs are counted before any is checked. Without a proof
// the sender is the kernel's caller on the socket, and anonymous on the port.
func (s *Server) authenticate(ctx context.Context, call *kms.Call, limit int64, r *http.Request, x *Exchange) error {
	if call.Caller.Ended {
		return s.refuse(CallerEnded)
	}
	c := Claim{Request: r, Call: call, server: s, exchange: x, limit: limit}
	shown, proof, err := s.shown(&c)
	switch {
	case err != nil:
		return err
	case call.Caller.Socket && s.cfg.Unsigned && shown > 0:
		return s.refuse(ProofOnSocket)
	case shown > 1:
		return s.refuse(SeveralProofs)
	case shown == 1:
		err = proof.Check(ctx, &c)
	case call.Caller.Known, call.Caller.Socket:
		call.Principal = s.cfg.Principal(call.Caller)
	default:
		return s.refuse(NoProof)
	}
	if err == nil && call.Principal.Name == "" {
		err = s.refuse(NoPrincipal)
	}
	return err
}

// shown counts the proofs that a request shows, and returns one of them. It sets the claim's value.
func (s *Server) shown(c *Claim) (shown int, proof *Proof, err error) {
	for i := range s.cfg.Proofs {
		p := &s.cfg.Proofs[i]
		if p.Parameter == "" {
			if values := c.Request.Header[p.Header]; len(values) > 0 {
				shown, proof, c.Value = shown+len(values), p, values[0]
			}
			continue
		}
		pairs, err := c.Parameters()
		if err != nil {
			return 0, nil, err
		}
		if value, ok := Parameter(pairs, p.Parameter); ok {
			shown, proof, c.Value = shown+1, p, value
		}
	}
	return shown, proof, nil
}
