package huawei

import (
	"context"
	"net/http"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Own returns the handler of an operation beside the API's, under the name that its record has for the API that it belongs
// to. Who calls is found out as for the API's own operations, and errors are answered in its words. do gets an Exchange
// with the values of fields, leaves the answer in Out or a Stream, and has the operation recorded.
func (d *Dialect) Own(
	name string, op policy.Operation, fields []dialect.Field, do func(context.Context, *dialect.Exchange) error,
) http.Handler {
	return d.OwnIn(name, op, dialect.ControlBody, fields, do, func(w http.ResponseWriter, x *dialect.Exchange, err error) {
		d.fail(w, x, nil, err)
	})
}

// OwnIn is Own for longer bodies and with errors in another dialect's words.
func (d *Dialect) OwnIn(
	name string, op policy.Operation, body int64, fields []dialect.Field, do func(context.Context, *dialect.Exchange) error,
	fail func(http.ResponseWriter, *dialect.Exchange, error),
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		x := dialect.Begin()
		defer x.End()
		err := d.operate(name, op, r, x, func(ctx context.Context, call *kms.Call, _ *policy.Operation) error {
			err := d.authenticate(ctx, call, body, r, x)
			if err == nil {
				err = decodeError(x.Decode(r, body))
			}
			if err == nil {
				err = fieldError(x.ReadFields(fields, r, nil))
			}
			if err == nil {
				err = do(ctx, x)
			}
			return misread(x, err)
		})
		if err != nil {
			fail(w, x, err)
			return
		}
		if x.Stream != nil {
			x.SendStream(w, r)
			return
		}
		x.Send(w, http.StatusOK)
	})
}

// Look-ups are the two requests to the cloud's identity service with which a client finds out where it is, if nobody has
// told it. They are signed and recorded like operations: what they answer is no secret, but whoever has found an access
// key would try it here first.
const (
	projectsPath = "/v3/projects"
	domainsPath  = "/v3/auth/domains"

	opListProjects policy.Operation = "list-projects"
	opListDomains  policy.Operation = "list-domains"
)

// regionName is the region that a client takes itself to be in.
var regionName = &dialect.TextField{Name: "name", In: dialect.Query, Low: 1, High: 64, Code: codeParameter}

// LookUps returns the handlers of the look-ups by their paths; the method is GET.
func (d *Dialect) LookUps() map[string]http.Handler {
	return map[string]http.Handler{
		projectsPath: d.lookUp(opListProjects, dialect.Fields(regionName), func(x *dialect.Exchange) {
			// The one project is in every region that is asked for: clients look for the one of their region's name.
			region := x.Text(regionName)
			if region == nil {
				region = []byte(d.cfg.Region)
			}
			appendOnly(x, "projects", d.cfg.ProjectID, region)
		}),
		domainsPath: d.lookUp(opListDomains, nil, func(x *dialect.Exchange) {
			appendOnly(x, "domains", d.cfg.DomainID, []byte(d.cfg.DomainID))
		}),
	}
}

func (d *Dialect) lookUp(op policy.Operation, fields []dialect.Field, write func(*dialect.Exchange)) http.Handler {
	return d.Own(Name, op, fields, func(ctx context.Context, x *dialect.Exchange) error {
		if err := d.cfg.Core.Admit(ctx, op); err != nil {
			return err
		}
		write(x)
		return nil
	})
}

// appendOnly appends a list with one element.
func appendOnly(x *dialect.Exchange, list, id string, name []byte) {
	x.Out = append(append(append(x.Out, `{"`...), list...), `":[{"id":`...)
	x.Out = dialect.AppendString(x.Out, id)
	x.Out = dialect.AppendString(append(x.Out, `,"name":`...), name)
	x.Out = append(x.Out, `}]}`...)
}
