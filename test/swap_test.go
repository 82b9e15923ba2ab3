package test

import (
	"context"
	"path/filepath"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyside/keyside/sidecar/kms"
	"github.com/keyside/keyside/sidecar/store"
)

// cmdSwapSeals exchanges the sealed material of two keys, named by alias, in the database of a folder where nothing runs.
func cmdSwapSeals(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: swapseals DIR ALIAS ALIAS")
	}
	ctx := context.Background()
	s, err := store.Open(store.Options{Dir: filepath.Join(ts.MkAbs(args[0]), "db"), Tenant: "default"})
	ts.Check(err)
	defer func() { ts.Check(s.Close()) }()
	keys, _, err := s.ListKeys(ctx, kms.KeyFilter{}, 0, 1000)
	ts.Check(err)
	byAlias := map[string]*kms.Key{}
	for _, k := range keys {
		byAlias[k.Alias], err = s.Key(ctx, k.ID)
		ts.Check(err)
	}
	a, b := byAlias[args[1]], byAlias[args[2]]
	put := func(id kms.KeyID, sealed []byte) {
		_, err := s.UpdateKey(ctx, id, func(k *kms.Key) error {
			k.Versions[0].Sealed = sealed
			return nil
		})
		ts.Check(err)
	}
	sealedA, sealedB := a.Versions[0].Sealed, b.Versions[0].Sealed
	put(a.ID, sealedB)
	put(b.ID, sealedA)
}
