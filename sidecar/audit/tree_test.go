package audit

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
)

// TestTree holds the tree of every size to RFC 6962's definition, and to itself after it was written down and read.
func TestTree(t *testing.T) {
	tr := emptyTree()
	var leaves [][]byte
	for n := range 70 {
		if !bytes.Equal(tr.root(), mth(leaves)) || tr.size() != uint64(n) {
			t.Fatalf("%d records have the root %x", n, tr.root())
		}
		again, err := treeOf(tr.size(), tr.hashes())
		if err != nil || !bytes.Equal(again.root(), tr.root()) {
			t.Fatalf("%d records read again: %v", n, err)
		}
		line := fmt.Append(nil, "line ", n)
		before := tr.clone()
		if got := tr.addLines(append(bytes.Clone(line), '\n'), nil); !bytes.Equal(got, rfc6962.DefaultHasher.HashLeaf(line)) {
			t.Errorf("the leaf hash of %q is %x", line, got)
		}
		again.add(leafHash(line))
		if !bytes.Equal(again.root(), tr.root()) || before.size() != uint64(n) || !bytes.Equal(before.root(), mth(leaves)) {
			t.Errorf("record %d leads to another root, or changed what was before it", n)
		}
		leaves = append(leaves, leafHash(line))
	}
	if _, err := treeOf(3, tr.hashes()[:1]); err == nil {
		t.Error("three records have one hash")
	}
	if _, err := treeOf(1, [][]byte{{1}}); err == nil {
		t.Error("a hash has one byte")
	}
}
