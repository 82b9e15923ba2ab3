package huawei

import (
	"context"
	"net/http"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Headers that say who sends a request, and for which project.
const (
	headerAuthorization = "Authorization"
	headerToken         = "X-Auth-Token"
	headerProject       = "X-Project-Id"
)

// authenticate says whose call this is. A signature or a token, where a request has one, must be right, and then its
// principal is the sender: also on the Unix socket, so that a program that runs as one user can call with the rights of
// another, and so that a client whose credentials are wrong learns it there as well. A request without either is the
// kernel's word on its sender, on the socket, and nobody's on localhost.
func (d *Dialect) authenticate(ctx context.Context, call *kms.Call, bodyLimit int64, r *http.Request, x *dialect.Exchange) (err error) {
	signed, tokens := r.Header[headerAuthorization], r.Header[headerToken]
	switch {
	case call.Caller.Ended:
		err = errEnded
	case call.Caller.Socket && d.cfg.Unsigned && len(signed)+len(tokens) > 0:
		err = errNotHere
	case len(signed)+len(tokens) > 1:
		err = errSeveral
	case len(signed) == 1:
		err = d.checkSignature(ctx, call, signed[0], bodyLimit, r, x)
	case len(tokens) == 1:
		err = d.checkToken(ctx, call, tokens[0])
	case call.Caller.Known, call.Caller.Socket:
		call.Principal = d.cfg.Principal(call.Caller)
	default:
		err = errUnauthenticated
	}
	if err == nil && call.Principal.Name == "" {
		err = errNobody
	}
	for _, project := range r.Header[headerProject] {
		if err == nil && project != d.cfg.ProjectID {
			err = errOtherProject
		}
	}
	return err
}

// checkSignature makes the owner of the access key the caller, if the request is signed with its secret. The body that is
// signed is the one that was received: it is read here and decoded from the same buffer.
func (d *Dialect) checkSignature(ctx context.Context, call *kms.Call, header string, bodyLimit int64, r *http.Request, x *dialect.Exchange) error {
	s, err := parseSignature(header)
	if err != nil {
		return err
	}
	call.AccessKey = s.accessKey
	body, err := x.Body(r, bodyLimit)
	if err != nil {
		return decodeError(err)
	}
	text, err := s.text(r, body, d.now())
	if err != nil {
		return err
	}
	call.Principal, err = d.cfg.Core.Authenticate(ctx, s.accessKey, func(secret []byte) bool { return s.verify(text, secret) })
	call.Valid = func(ctx context.Context) error {
		_, err := d.cfg.Core.Authenticate(ctx, s.accessKey, func([]byte) bool { return true }) // which has been looked at
		return err
	}
	return notAuthenticated(err, answers[kms.CodeUnauthenticated])
}

// checkToken makes the user of a token the caller.
func (d *Dialect) checkToken(ctx context.Context, call *kms.Call, token string) (err error) {
	if token == "" {
		return errNoToken
	}
	call.Token = true
	call.Principal, err = d.cfg.Core.AuthenticateToken(ctx, token)
	call.Valid = func(ctx context.Context) error {
		_, err := d.cfg.Core.AuthenticateToken(ctx, token)
		return err
	}
	return notAuthenticated(err, answer{http.StatusForbidden, "KMS.0302"})
}

// notAuthenticated makes the core's refusal of a credential one of the dialect, which puts it on record.
func notAuthenticated(err error, unknown answer) error {
	if err == nil {
		return nil
	}
	e := kms.AsError(err)
	a, ok := answers[e.Code]
	switch {
	case e.Code == kms.CodeUnauthenticated:
		a = unknown
	case !ok:
		a = answers[kms.CodeInternal]
	}
	return &refusal{a, e}
}

// Refusals that have nothing to do with anybody's secret.
var (
	errSeveral = unsigned("request has more than one signature or token")
	errEnded   = &refusal{answers[kms.CodeDenied],
		kms.Errorf(kms.CodeDenied, "the process that opened this connection has ended: connect again")}
	errNotHere = unsigned("signatures and tokens are not accepted on the Unix socket")
	errNoToken = &refusal{answer{http.StatusForbidden, "KMS.0301"},
		kms.Errorf(kms.CodeUnauthenticated, "token is empty")}
	errOtherProject = &refusal{answer{http.StatusForbidden, "KMS.0321"},
		kms.Errorf(kms.CodeDenied, "X-Project-Id is not the caller's project")}
)
