package key

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/client"
)

// View is a key as --json shows it. The last three fields are set by verbs that ask for them.
type View struct {
	ID          string          `json:"key_id"`
	Alias       string          `json:"alias"`
	Spec        string          `json:"spec"`
	Usage       string          `json:"usage"`
	State       client.KeyState `json:"state"`
	Origin      string          `json:"origin"`
	Default     bool            `json:"default"` // the default key of a service
	Protection  string          `json:"protection"`
	Created     time.Time       `json:"created"`
	Description string          `json:"description"`
	Deletion    time.Time       `json:"deletion,omitzero"` // when the key will be destroyed
	Expires     time.Time       `json:"expires,omitzero"`  // when imported material is destroyed
	CheckValue  string          `json:"check_value,omitempty"`
	OpenedIn    string          `json:"opened_in,omitempty"` // where imported material was unwrapped
	Instance    string          `json:"instance,omitempty"`  // the KMS instance that the key belongs to
	Protected   bool            `json:"protected,omitempty"` // against deletion
	Reason      string          `json:"protected_for,omitempty"`

	MessagesLeft  *uint64               `json:"messages_left,omitzero"` // that it can still encrypt before it must be rotated
	WaitsUntil    time.Time             `json:"waits_until,omitzero"`   // when it is destroyed, if that waits because the clock jumped
	NameConflicts []client.NameConflict `json:"name_conflicts,omitempty"`

	Rotation *rotationView `json:"rotation,omitempty"`
	Tags     []client.Tag  `json:"tags,omitzero"`
	Aliases  []string      `json:"aliases,omitzero"` // further aliases
}

// ViewOf returns the view of a key.
func ViewOf(k *client.Key) *View {
	return &View{
		ID: k.ID, Alias: k.Alias, Spec: k.Spec, Usage: k.Usage, State: k.State, Origin: k.Origin, Default: k.Service != "",
		Protection: k.Protection, Created: k.Created.UTC(), Description: k.Description, Deletion: k.Deletion.UTC(),
		Expires: k.MaterialExpires.UTC(), CheckValue: fmt.Sprintf("%X", k.CheckValue), OpenedIn: k.OpenedIn,
		Instance: k.Instance, Protected: k.Protected, Reason: k.ProtectedFor,
		MessagesLeft: k.MessagesLeft, WaitsUntil: k.WaitsUntil.UTC(), NameConflicts: k.NameConflicts,
	}
}

// detail asks for what describe-key does not return. Details that the caller may not read stay empty.
func (v *View) detail(ctx context.Context, s *verb.Session) error {
	rotation, err := s.GetKeyRotation(ctx, v.ID)
	if err == nil {
		v.Rotation = rotationOf(rotation)
	} else if !errors.Is(err, client.ErrDenied) {
		return err
	}
	tags, err := s.ListKeyTags(ctx, v.ID)
	if err == nil {
		v.Tags = append([]client.Tag{}, tags...)
	} else if !errors.Is(err, client.ErrDenied) {
		return err
	}
	aliases := []string{}
	for a, err := range allAliases(ctx, s, v.ID) {
		if errors.Is(err, client.ErrDenied) {
			return nil
		}
		if err != nil {
			return err
		}
		aliases = append(aliases, a.Name)
	}
	v.Aliases = aliases
	return nil
}

// kind is the value of --type.
func (v *View) kind() string {
	if v.Default {
		return kindDefault
	}
	return kindCustom
}

func (v *View) rows() [][]string {
	rows := [][]string{
		{"key id", v.ID}, {"alias", v.Alias}, {"further aliases", verb.Dash(strings.Join(v.Aliases, ", "))},
		{"description", verb.Dash(verb.Harmless(v.Description))}, {"spec", v.Spec}, {"usage", v.Usage}, {"state", string(v.State)},
		{"origin", v.Origin}, {"type", v.kind()}, {"protection", v.Protection},
		{"created", verb.When(v.Created)}, {"deletion", verb.When(v.Deletion)},
	}
	if !v.WaitsUntil.IsZero() {
		rows = append(rows, []string{"waits until", verb.When(v.WaitsUntil) + ": the clock jumped (keyside key confirm-deletions)"})
	}
	if v.Instance != "" {
		rows = append(rows, []string{"instance", v.Instance})
	}
	if v.Protected {
		rows = append(rows, []string{"deletion protection", strings.TrimSuffix("on: "+verb.Harmless(v.Reason), ": ")})
	}
	if v.Origin == client.OriginExternal {
		rows = append(rows, v.ImportRows()...)
	}
	if r := v.Rotation; r != nil {
		rows = append(rows, r.rows()...)
	}
	if v.MessagesLeft != nil {
		rows = append(rows, []string{"messages left", strconv.FormatUint(*v.MessagesLeft, 10)})
	}
	for _, c := range v.NameConflicts {
		rows = append(rows, []string{"name conflict", fmt.Sprintf("%s is like %s of key %s: rename one, or delete a further alias", c.Name, c.Same, c.KeyID)})
	}
	return append(rows, []string{"tags", verb.Dash(tagWords(v.Tags))})
}

// openedIn is where imported material was unwrapped, for people.
var openedIn = map[string]string{"hsm": "the HSM", "driver": "the driver process"}

// ImportRows is the rows about imported material.
func (v *View) ImportRows() [][]string {
	return [][]string{
		{"material expires", verb.When(v.Expires)}, {"material opened in", verb.Dash(openedIn[v.OpenedIn])}, {"check value", verb.Dash(v.CheckValue)},
	}
}
