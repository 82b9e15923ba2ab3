package audit

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
)

// The log is one Merkle tree (RFC 6962, SHA-256) across its files: leaf i is the hash of record i's line without its newline.
// While the tree grows, only its compact range is kept: the roots of its perfect subtrees.

// hashSize is the length of a leaf's hash and of a root, in bytes.
const hashSize = 32

var ranges = &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// tree is the state of the log's tree after some records. A copy of it shares what adding changes: see clone.
type tree struct{ r *compact.Range }

func emptyTree() tree { return tree{ranges.NewEmptyRange(0)} }

// treeOf returns the tree of size records with the hashes of its compact range.
func treeOf(size uint64, hashes [][]byte) (tree, error) {
	for _, h := range hashes {
		if len(h) != hashSize {
			return tree{}, fmt.Errorf("a hash has %d bytes", len(h))
		}
	}
	r, err := ranges.NewRange(0, size, slices.Clone(hashes)) // it grows in place
	return tree{r}, err
}

// clone returns a tree that can grow by itself.
func (t tree) clone() tree {
	c, _ := ranges.NewRange(0, t.r.End(), slices.Clone(t.r.Hashes())) // of as many hashes as the range has
	return tree{c}
}

// size returns how many records the tree has.
func (t tree) size() uint64 { return t.r.End() }

func (t tree) hashes() [][]byte { return t.r.Hashes() }

// root returns the root hash.
func (t tree) root() []byte {
	root, _ := t.r.GetRootHash(nil) // of a range that begins at 0
	if root == nil {
		return rfc6962.DefaultHasher.EmptyRoot()
	}
	return root
}

// add adds a record by its leaf hash.
func (t tree) add(leaf []byte) {
	// Its only error is a range that lacks hashes, which NewRange has refused.
	_ = t.r.Append(leaf, nil)
}

// addLines adds whole lines and appends their leaf hashes to leaves.
func (t tree) addLines(lines, leaves []byte) []byte {
	for len(lines) > 0 {
		i := bytes.IndexByte(lines, '\n')
		leaf := leafHash(lines[:i])
		t.add(leaf)
		leaves = append(leaves, leaf...)
		lines = lines[i+1:]
	}
	return leaves
}

// leafHash returns the leaf hash of a line without its newline.
func leafHash(line []byte) []byte { return rfc6962.DefaultHasher.HashLeaf(line) }
