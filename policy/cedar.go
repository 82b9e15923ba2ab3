package policy

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"github.com/keyside/keyside/policy/spelling"
)

// Policies are the Cedar policies of an operator. They must not be changed.
type Policies struct {
	list []rule
}

type rule struct {
	id     string // for decisions: the @id, or the name of the text and the line
	policy *cedar.Policy
}

// All implements cedar.PolicyIterator.
func (p *Policies) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for i := range p.list {
			if !yield(cedar.PolicyID(p.list[i].id), p.list[i].policy) {
				return
			}
		}
	}
}

// Len returns the number of policies; that of nil is 0.
func (p *Policies) Len() int {
	if p == nil {
		return 0
	}
	return len(p.list)
}

// Text is a file of policies. Name appears in messages and decisions.
type Text struct {
	Name string
	Body []byte
}

// maxText limits a text, in bytes, because every policy costs every request some time.
const maxText = 1 << 20

// ParsePolicies parses policies and validates them against the schema. An unknown operation, type or attribute is an error,
// and so are two policies with the same @id. Errors give the position of each fault.
func ParsePolicies(texts ...Text) (*Policies, error) {
	p, err := parse(texts)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for i := range p.list {
		if seen[p.list[i].id] {
			return nil, fmt.Errorf("%s: another policy has the same @id", position(p.list[i].policy))
		}
		seen[p.list[i].id] = true
	}
	return p, nil
}

func parse(texts []Text) (*Policies, error) {
	checker, err := validator()
	if err != nil {
		return nil, err
	}
	p := &Policies{}
	var errs []error
	for _, text := range texts {
		if len(text.Body) > maxText {
			errs = append(errs, fmt.Errorf("%s: has more than %d bytes", text.Name, maxText))
			continue
		}
		list, err := cedar.NewPolicyListFromBytes(text.Name, text.Body)
		if err != nil {
			message := strings.ReplaceAll(err.Error(), "<input>", text.Name)
			line := 0
			if at := inText.FindStringSubmatch(message); at != nil {
				line, _ = strconv.Atoi(at[1])
			}
			errs = append(errs, fmt.Errorf("%s: %s%s", text.Name, message, spelling.Line(text.Body, line)))
			continue
		}
		stored, err := cedar.NewPolicyListFromBytes(text.Name, withStoredNames(text.Body))
		if err != nil || len(stored) != len(list) {
			return nil, fmt.Errorf("%s: the names of its operations: %w", text.Name, err) // cannot happen: only names in quotes change
		}
		for i, each := range list {
			at := position(each) // in the text as it is written
			each = stored[i]
			if err := checker.Policy(at, (*ast.Policy)(each.AST())); err != nil {
				message := strings.ReplaceAll(err.Error(), "for policy `"+at+"`, ", "")
				errs = append(errs, fmt.Errorf("%s: %s%s%s", at, message, meant(message), spelling.Line(text.Body, list[i].Position().Line)))
			}
			id := fmt.Sprintf("policy %s:%d", text.Name, list[i].Position().Line)
			if named := each.Annotations()["id"]; named != "" {
				id = "policy " + string(named)
			}
			p.list = append(p.list, rule{id, each})
		}
	}
	return p, errors.Join(errs...)
}

// inText matches the place of a fault in the parser's errors.
var inText = regexp.MustCompile(`:(\d+):\d+`)

// unknownWord matches an action in the validator's errors.
var unknownWord = regexp.MustCompile(`Action::"([^"]+)"`)

// meant returns the actions that are most like the one in an error of the validator.
func meant(message string) string {
	m := unknownWord.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	if _, known := ParseOperation(m[1]); known {
		return "" // it is not the name that is wrong
	}
	names := []string{string(use), string(read), string(manage)}
	for _, op := range Operations {
		names = append(names, op.Name())
	}
	return spelling.DidYouMean(m[1], names)
}

// action matches the name of an action in a policy. A string in a policy cannot contain it: its quotes would be escaped.
var action = regexp.MustCompile(`(Action\s*::\s*")([^"\\\n]+)"`)

// withStoredNames replaces every name of an operation by its stored one.
func withStoredNames(policies []byte) []byte {
	return action.ReplaceAllFunc(policies, func(match []byte) []byte {
		parts := action.FindSubmatch(match)
		op, known := ParseOperation(string(parts[2]))
		if !known {
			return match
		}
		return slices.Concat(parts[1], []byte(op), []byte(`"`))
	})
}

func position(p *cedar.Policy) string {
	at := p.Position()
	return fmt.Sprintf("%s:%d:%d", at.Filename, at.Line, at.Column)
}

// outcome is what the policies of the operator decide about a request.
type outcome struct {
	forbidden, permitted bool
	by                   string
}

// decide evaluates the policies. A policy that forbids and cannot be evaluated forbids.
func (p *Policies) decide(r Request, f Facts) outcome {
	w := world{request: &r, facts: &f}
	decision, diagnostic := cedar.Authorize(p, &w, w.ask())
	for _, e := range diagnostic.Errors {
		if p.effect(e.PolicyID) == cedar.Forbid {
			return outcome{forbidden: true, by: string(e.PolicyID)}
		}
	}
	if len(diagnostic.Reasons) == 0 {
		return outcome{}
	}
	return outcome{
		forbidden: decision == cedar.Deny, permitted: decision == cedar.Allow, by: string(diagnostic.Reasons[0].PolicyID),
	}
}

func (p *Policies) effect(id cedar.PolicyID) cedar.Effect {
	for i := range p.list {
		if p.list[i].id == string(id) {
			return p.list[i].policy.Effect()
		}
	}
	return cedar.Forbid
}

// world is a request with its facts, in the form that Cedar needs.
type world struct {
	request *Request
	facts   *Facts
}

// The types of entities in the schema.
const (
	typeUser    = "User"
	typeRole    = "Role"
	typeAccount = "Account"
	typeAction  = "Action"
	typeKey     = "Key"
	typeTenant  = "Tenant"
	typeContext = "EncryptionContext"
)

var contextUID = types.NewEntityUID(typeContext, "this")

func (w *world) ask() cedar.Request {
	return cedar.Request{
		Principal: types.NewEntityUID(typeUser, types.String(w.request.Principal.Name)),
		Action:    types.NewEntityUID(typeAction, types.String(w.request.Operation)),
		Resource:  w.resource(),
		Context:   w.context(),
	}
}

func (w *world) resource() types.EntityUID {
	if !w.request.Operation.AboutKey() {
		return types.NewEntityUID(typeTenant, types.String(w.facts.Tenant))
	}
	return types.NewEntityUID(typeKey, types.String(keyText(w.facts.Key.ID)))
}

// keyText returns a key's id as the APIs write it.
func keyText(id [16]byte) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func (w *world) context() types.Record {
	record := types.RecordMap{
		"time":               types.NewDatetime(w.facts.Time),
		"encryption_context": contextUID,
		"on_socket":          types.Boolean(w.request.Caller.Known),
	}
	if c := w.request.Caller; c.Known {
		record["uid"], record["gid"] = types.Long(c.UID), types.Long(c.GID)
	}
	return types.NewRecord(record)
}

// Get implements types.EntityGetter.
func (w *world) Get(uid types.EntityUID) (types.Entity, bool) {
	e := types.Entity{UID: uid}
	switch uid.Type {
	case typeUser:
		if string(uid.ID) != w.request.Principal.Name {
			return e, false
		}
		e.Parents, e.Attributes = w.groups(), w.attributes()
	case typeAction:
		e.Parents = actionGroups[all.rows[Operation(uid.ID)].group]
	case typeKey:
		if uid != w.resource() {
			return e, false
		}
		e.Parents = types.NewEntityUIDSet(types.NewEntityUID(typeTenant, types.String(w.facts.Tenant)))
		e.Attributes, e.Tags = w.keyAttributes()
	case typeContext:
		tags := types.RecordMap{}
		for name, value := range w.request.Context {
			tags[types.String(name)] = types.String(value)
		}
		e.Tags = types.NewRecord(tags)
	default:
		return e, false
	}
	return e, true
}

var actionGroups = map[group]types.EntityUIDSet{
	use:    types.NewEntityUIDSet(types.NewEntityUID(typeAction, types.String(use))),
	read:   types.NewEntityUIDSet(types.NewEntityUID(typeAction, types.String(read))),
	manage: types.NewEntityUIDSet(types.NewEntityUID(typeAction, types.String(manage))),
}

func (w *world) groups() types.EntityUIDSet {
	account := cmp.Or(w.request.Principal.Account, w.facts.Account)
	groups := []types.EntityUID{types.NewEntityUID(typeAccount, types.String(account))}
	if role := w.request.Principal.role(); role != None {
		groups = append(groups, types.NewEntityUID(typeRole, types.String(role)))
	}
	return types.NewEntityUIDSet(groups...)
}

func (w *world) attributes() types.Record {
	if w.request.Principal.Service == "" {
		return types.Record{}
	}
	return types.NewRecord(types.RecordMap{"service": types.String(w.request.Principal.Service)})
}

// keyAttributes returns the attributes and tags of the key, empty ones if it does not exist.
func (w *world) keyAttributes() (attributes, tags types.Record) {
	k := &w.facts.Key
	record := types.RecordMap{
		"alias": types.String(k.Alias), "spec": types.String(k.Spec), "usage": types.String(k.Usage),
		"origin": types.String(k.Origin), "state": types.String(k.State),
	}
	if k.Service != "" {
		record["service"] = types.String(k.Service)
	}
	labels := types.RecordMap{}
	for _, t := range k.Tags {
		labels[types.String(t.Key)] = types.String(t.Value)
	}
	return types.NewRecord(record), types.NewRecord(labels)
}

// validator returns the validator of policies, for the schema in which the operations are actions.
var validator = sync.OnceValues(func() (*validate.Validator, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar([]byte(Schema())); err != nil {
		return nil, fmt.Errorf("schema of policies: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("schema of policies: %w", err)
	}
	return validate.New(resolved), nil
})

// Schema returns the Cedar schema of policies.
func Schema() string {
	var b strings.Builder
	b.WriteString(`entity Account, Role;
entity User in [Account, Role] { service?: String };
entity Tenant;
entity Key in [Tenant] { alias: String, spec: String, usage: String, origin: String, state: String, service?: String } tags String;
entity EncryptionContext tags String;
type Facts = { time: datetime, on_socket: Bool, uid?: Long, gid?: Long, encryption_context: EncryptionContext };
action "use", "read", "manage";
`)
	for _, op := range Operations {
		resource := typeTenant
		if op.AboutKey() {
			resource = typeKey
		}
		fmt.Fprintf(&b, "action %q in [%q] appliesTo { principal: [User], resource: [%s], context: Facts };\n", op, all.rows[op].group, resource)
	}
	return b.String()
}
