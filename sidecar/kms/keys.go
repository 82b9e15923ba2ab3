package kms

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/keyside/keyside/policy"
)

// CreateKeyInput describes a new key. Zero fields mean no description, AES256, the default usage of the spec, OriginKMS, no
// tags, no rotation and no instance.
type CreateKeyInput struct {
	Alias       string
	Unnamed     bool // the key's id is its name; Alias must be empty
	Description string
	Spec        KeySpec
	Usage       KeyUsage
	Origin      Origin
	Tags        []Tag
	Rotation    int    // days from one rotation to the next
	Instance    string // see Key.Instance
	// Protection is what must protect the key's material; empty: anything. It cannot be known of material that is yet to be imported.
	Protection Protection
}

// ListKeysInput selects a page of keys of a spec and a state (zero: all), from an offset on, at most Limit keys (zero: as
// many as a page may have).
type ListKeysInput struct {
	Spec   KeySpec
	State  KeyState
	Tags   []TagValues     // see KeyFilter
	Match  func(*Key) bool // also accepts the keys; nil: all
	Newest bool            // in the opposite order of creation
	Offset int
	Limit  int
}

// KeyPage is a page of keys in order of creation.
type KeyPage struct {
	Keys  []*Key
	Total int // number of selected keys on all pages
	Next  int // offset of the next page; 0 means that this is the last one
}

// CreateKey creates a key. The HSM generates its material as a session object, so a crash before the store's transaction
// leaves nothing behind.
func (s *Service) CreateKey(ctx context.Context, in CreateKeyInput) (*Key, error) {
	return run(ctx, s, policy.OpCreateKey, func(ctx context.Context, r *request) (*Key, error) {
		key, err := s.draft(r, in)
		if err != nil {
			return nil, err
		}
		limit, err := s.keyLimit(ctx, r)
		if err != nil {
			return nil, err
		}
		if err := s.store.CheckNew(ctx, key.Alias, limit); err != nil {
			return nil, err
		}
		if key.Origin == OriginKMS {
			if err := s.makeMaterial(ctx, key); err != nil {
				return nil, err
			}
			r.version = key.Current()
			if in.Protection != "" && in.Protection != r.version.Protection {
				return nil, errProtection
			}
		}
		if err := s.createKey(ctx, r, key, limit); err != nil {
			return nil, err
		}
		if key.State == PendingImport {
			s.pool.wake()
		}
		return key, nil
	})
}

// keyLimit returns how many keys the tenant may have now.
func (s *Service) keyLimit(ctx context.Context, r *request) (int, error) {
	if !r.rules().PendingUncounted {
		return r.limits.Keys, nil
	}
	_, pending, err := s.store.ListKeys(ctx, KeyFilter{State: PendingDeletion}, 0, 0)
	return r.limits.Keys + pending, err
}

// createKey stores a new key, if fewer than limit exist. The record of a failure does not name it.
func (s *Service) createKey(ctx context.Context, r *request, key *Key, limit int) error {
	r.keyID = &key.ID
	err := s.store.CreateKey(s.recorded(ctx, r), key, limit)
	if err != nil {
		r.keyID = nil
	}
	return err
}

// draft checks the input and returns the key without material.
func (s *Service) draft(r *request, in CreateKeyInput) (*Key, error) {
	id := uuid.New()
	in.Spec, in.Origin = cmp.Or(in.Spec, AES256), cmp.Or(in.Origin, OriginKMS)
	if in.Unnamed {
		in.Alias = id.String()
	}
	if err := cmp.Or(r.limits.checkAlias(in.Alias), r.limits.checkDescription(in.Description)); err != nil {
		return nil, err
	}
	usage, err := s.checkSpec(in.Spec, in.Usage)
	if err != nil {
		return nil, err
	}
	if in.Origin != OriginKMS && in.Origin != OriginExternal {
		return nil, Invalid("origin", ReasonUnknown, "origin must be %s or %s", OriginKMS, OriginExternal)
	}
	key := &Key{
		ID: id, Alias: in.Alias, Description: in.Description, Spec: in.Spec, Usage: usage, Origin: in.Origin,
		State: PendingImport, CreatedAt: s.now(), Instance: in.Instance,
	}
	if in.Protection != "" && in.Origin == OriginExternal {
		return nil, errProtection
	}
	return key, s.furnish(r, key, in)
}

// furnish gives a new key its tags and its rotation schedule.
func (s *Service) furnish(r *request, key *Key, in CreateKeyInput) error {
	if in.Tags != nil {
		if err := r.limits.checkTags(in.Tags); err != nil {
			return err
		}
		if key.Tags = merge(nil, in.Tags); len(key.Tags) > r.limits.Tags {
			return Errorf(CodeQuotaExceeded, "key would have more than %d tags", r.limits.Tags).In("tags")
		}
	}
	if in.Rotation == 0 {
		return nil
	}
	key.Rotation = key.Rotation.every(in.Rotation, key.CreatedAt)
	if key.Origin != OriginKMS {
		return errImported
	}
	return cmp.Or(r.rules().checkInterval(in.Rotation), checkKind(policy.OpEnableRotation, key.Spec, key.Usage))
}

// makeMaterial has the HSM generate the first version of a key, which is then Enabled.
func (s *Service) makeMaterial(ctx context.Context, key *Key) error {
	version, err := s.makeVersion(ctx, key, 1)
	if err != nil {
		return err
	}
	key.Versions, key.State = []KeyVersion{*version}, Enabled
	return nil
}

// checkSpec checks that keys of the spec and the usage can be created here. It returns the usage, by default that of the
// spec.
func (s *Service) checkSpec(spec KeySpec, usage KeyUsage) (KeyUsage, error) {
	row := spec.row()
	switch {
	case row.family == 0:
		return "", Invalid("key_spec", ReasonUnknown, "unknown key spec")
	case len(row.uses) == 0:
		return "", Errorf(CodeUnsupported, "key spec %s is not supported", spec).In("key_spec")
	case usage == "":
		usage = row.uses[0].usage
	case row.kind(usage) == 0:
		return "", Invalid("key_usage", ReasonConflict, "key usage does not go with key spec %s", spec)
	}
	if ok, missing := s.hsm.Supports(spec, usage); !ok {
		return "", Errorf(CodeUnsupported, "this HSM cannot make %s keys: %s", spec, missing).In("key_spec")
	}
	return usage, nil
}

// makeVersion has the HSM generate material and checks its answer.
func (s *Service) makeVersion(ctx context.Context, key *Key, number uint32) (*KeyVersion, error) {
	sealed, err := s.hsm.MakeKey(ctx, KeyRef{ID: key.ID, Version: number, Spec: key.Spec, Usage: key.Usage})
	if err != nil {
		return nil, err
	}
	if err := checkSealed(key.Spec, sealed); err != nil {
		return nil, err
	}
	return &KeyVersion{
		Number: number, CreatedAt: s.now(), Sealed: sealed.Sealed, Root: sealed.Root,
		Protection: sealed.Protection, PublicKey: sealed.PublicKey,
	}, nil
}

// maxSealed limits sealed material, in bytes. It is far above what any spec needs; larger answers of an HSM would fill the
// database.
const maxSealed = 64 << 10

// checkSealed checks new material as far as possible without opening it.
func checkSealed(spec KeySpec, k *SealedKey) error {
	if k == nil || len(k.Sealed) == 0 || len(k.Sealed) > maxSealed {
		return hostile("no sealed key, or one of unlikely size")
	}
	switch k.Protection {
	case ProtectionHSM, ProtectionModuleUnenforced, ProtectionDriver:
	default:
		return hostile("protection %q", k.Protection)
	}
	if !spec.row().asymmetric() {
		if len(k.PublicKey) != 0 {
			return hostile("public key for a %s key", spec)
		}
		return nil
	}
	if _, err := parsePublicKey(spec, k.PublicKey); err != nil {
		return hostile("%w", err)
	}
	return nil
}

// now returns the time as keys store it: UTC, in milliseconds.
func (s *Service) now() time.Time { return s.clock.Now().UTC().Truncate(time.Millisecond) }

// DescribeKey returns a key in any state.
func (s *Service) DescribeKey(ctx context.Context, id KeyID) (*Key, error) {
	return s.look(ctx, policy.OpDescribeKey, id)
}

// KeyFacts is what is known of a key besides its record.
type KeyFacts struct {
	MessagesLeft *uint64 // that its newest version can still encrypt; nil if they are not limited
	Conflicts    []NameConflict
	WaitsUntil   time.Time // when it or its material is destroyed, if that is later than its date because the clock jumped; else zero
}

// KeyFacts returns what is known of a key that DescribeKey returned. It authorizes and records nothing: call it for the same caller.
func (s *Service) KeyFacts(ctx context.Context, key *Key) (f KeyFacts, err error) {
	f.WaitsUntil = s.waitsUntil(key)
	if f.MessagesLeft, err = s.messagesLeft(ctx, key); err == nil {
		f.Conflicts, err = s.store.NameConflicts(ctx, key.ID)
	}
	return f, ignoreNotFound(err)
}

// look performs an operation that only reads a key.
func (s *Service) look(ctx context.Context, op policy.Operation, id KeyID) (*Key, error) {
	return run(ctx, s, op, func(ctx context.Context, r *request) (*Key, error) { return s.inState(ctx, r, id) })
}

// ListKeys returns a page of keys.
func (s *Service) ListKeys(ctx context.Context, in ListKeysInput) (*KeyPage, error) {
	return run(ctx, s, policy.OpListKeys, func(ctx context.Context, r *request) (*KeyPage, error) {
		limit := cmp.Or(in.Limit, r.limits.Page)
		if err := checkPage(in.Offset, limit, r.limits.Page); err != nil {
			return nil, err
		}
		filter := KeyFilter{Spec: in.Spec, State: in.State, Tags: in.Tags}
		if in.Match == nil && !in.Newest {
			return s.keyPage(ctx, filter, in.Offset, limit)
		}
		return s.search(ctx, filter, in, limit)
	})
}

// searchPage is how many keys search reads at once.
const searchPage = 1000

// search returns the page of a list that the index cannot answer: it reads all keys that the filter selects.
func (s *Service) search(ctx context.Context, filter KeyFilter, in ListKeysInput, limit int) (*KeyPage, error) {
	var found []*Key
	for offset, more := 0, true; more; offset += searchPage {
		keys, total, err := s.store.ListKeys(ctx, filter, offset, searchPage)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if in.Match == nil || in.Match(key) {
				found = append(found, key)
			}
		}
		more = offset+searchPage < total
	}
	if in.Newest {
		slices.Reverse(found)
	}
	page := found[min(in.Offset, len(found)):min(in.Offset+limit, len(found))]
	return &KeyPage{Keys: page, Total: len(found), Next: nextPage(in.Offset, len(page), len(found))}, nil
}

// CanMake reports whether the HSM makes keys of a spec with a usage.
func (s *Service) CanMake(spec KeySpec, usage KeyUsage) bool {
	ok, _ := s.hsm.Supports(spec, usage)
	return ok
}

// keyPage returns the page that begins at an offset.
func (s *Service) keyPage(ctx context.Context, filter KeyFilter, offset, limit int) (*KeyPage, error) {
	keys, total, err := s.store.ListKeys(ctx, filter, offset, limit)
	if err != nil {
		return nil, err
	}
	return &KeyPage{Keys: keys, Total: total, Next: nextPage(offset, len(keys), total)}, nil
}

// checkPage checks the offset and the limit of a page that may have most elements.
func checkPage(offset, limit, most int) error {
	switch {
	case limit < 0 || limit > most:
		return Invalid("limit", ReasonOutOfRange, "limit must be 1 to %d", most)
	case offset < 0:
		return Invalid("marker", ReasonOutOfRange, "marker must not be negative")
	}
	return nil
}

// nextPage returns the offset of the page after one of n elements, 0 if that is the last of total elements.
func nextPage(offset, n, total int) int {
	if n == 0 || offset+n >= total {
		return 0
	}
	return offset + n
}
