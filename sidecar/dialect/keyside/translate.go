package keyside

import (
	"context"
	"maps"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// key returns the id of the key that a field names by its id or an alias. An absent optional field is the zero id.
func (d *Dialect) key(ctx context.Context, op policy.Operation, x *dialect.Exchange, field *dialect.TextField) (kms.KeyID, error) {
	name := x.Text(field)
	if name == nil {
		return kms.KeyID{}, nil
	}
	if id, ok := parseKeyID(name); ok {
		return id, nil
	}
	return d.cfg.Core.Resolve(ctx, op, string(name))
}

// parseKeyID reads a key id in its one text form.
func parseKeyID(text []byte) (id kms.KeyID, ok bool) {
	if id.UnmarshalText(text) != nil {
		return id, false
	}
	var canonical [36]byte
	return id, string(dialect.AppendID(canonical[:0], id)) == string(text)
}

// timeIn returns the time in a field whose form is checked, zero where it is absent.
func timeIn(x *dialect.Exchange, field *dialect.TextField) time.Time {
	at, _ := time.Parse(time.RFC3339Nano, string(x.Text(field)))
	return at
}

// answerWith answers with what show makes of a result of the core, or returns the core's error.
func answerWith[Result, Answer any](x *dialect.Exchange, err error, result Result, show func(Result) Answer) error {
	if err != nil {
		return err
	}
	shown := show(result)
	return x.JSON(&shown) // the encoder copies a struct that it is not given by pointer
}

// nothing is the answer of operations that return nothing.
func nothing(*kms.Key) struct{} { return struct{}{} }

func keyOf(k *kms.Key) client.Key {
	key := client.Key{
		ID: k.ID.String(), Alias: k.Alias, Description: k.Description, Spec: string(k.Spec), Usage: string(k.Usage),
		Origin: string(k.Origin), State: client.KeyState(k.State), Created: k.CreatedAt, Deletion: k.DeletionAt,
		MaterialExpires: k.MaterialExpiresAt, RotationEnabled: k.Rotation.Enabled, CheckValue: k.ShownCheckValue(), Service: k.Service,
		Instance: k.Instance, Protected: k.Protected.Enabled, ProtectedFor: k.Protected.Description,
	}
	if v := k.Current(); v != nil {
		key.Protection, key.OpenedIn = string(v.Protection), string(v.OpenedIn)
	}
	return key
}

// describedKey returns a key with what only describe-key shows.
func describedKey(k *kms.Key, f kms.KeyFacts) client.Key {
	key := keyOf(k)
	key.MessagesLeft, key.WaitsUntil = f.MessagesLeft, f.WaitsUntil
	for _, c := range f.Conflicts {
		key.NameConflicts = append(key.NameConflicts, client.NameConflict{Name: c.Name, Same: c.Same, KeyID: c.Other.String()})
	}
	return key
}

func statusOf(k *kms.Key) client.KeyStatus {
	return client.KeyStatus{ID: k.ID.String(), State: client.KeyState(k.State), Deletion: k.DeletionAt}
}

func rotationOf(k *kms.Key) client.Rotation {
	r := &k.Rotation
	return client.Rotation{Enabled: r.Enabled, Interval: r.Interval, Next: r.Next, Last: r.Last, Count: r.Count}
}

func tagsOf(k *kms.Key) []client.Tag {
	return dialect.Each(k.Tags, func(t kms.Tag) client.Tag { return client.Tag{Key: t.Key, Value: t.Value} })
}

func aliasOf(a *kms.Alias) client.Alias {
	return client.Alias{Name: a.Name, KeyID: a.KeyID.String(), Created: a.CreatedAt, Updated: a.UpdatedAt}
}

func grantOf(g *policy.Grant) client.Grant {
	c := &g.Constraints
	return client.Grant{
		ID: g.ID, KeyID: kms.KeyID(g.Key).String(), Grantee: g.Grantee, Account: g.Account, Name: g.Name, Retiring: g.Retiring,
		Operations: dialect.Each(g.Operations, policy.Operation.Name), Issuer: g.Issuer, Created: g.CreatedAt, Parent: g.Parent,
		Constraints: client.Constraints{
			Context: maps.Clone(c.Context), ContextExact: c.Exact, Expires: c.Expires, Source: string(c.Source),
		},
	}
}

func credentialOf(c *kms.Credential) client.Credential {
	return client.Credential{AccessKey: c.AccessKey, User: c.User, Role: roleOf(c.Role, c.Service), Created: c.CreatedAt, Dialects: c.Dialects}
}
