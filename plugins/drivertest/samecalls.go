package drivertest

import (
	"crypto/rand"
	"crypto/rsa"
	"maps"
	"slices"

	"github.com/keyside/keyside/plugins/driver"
)

// counts is how often a driver made each kind of call that Status reports, and how often with an error.
type counts map[string][2]uint64

// calls returns the calls that the driver makes meanwhile.
func (s *suite) calls(p *probe, meanwhile func()) counts {
	read := func() counts {
		members, err := s.Driver.Status(p.ctx)
		p.must(err, "status")
		all := counts{}
		for _, m := range members {
			for _, l := range m.GetLatencies() {
				n := all[l.GetOp()]
				all[l.GetOp()] = [2]uint64{n[0] + l.GetCount(), n[1] + l.GetErrors()}
			}
		}
		return all
	}
	before := read()
	meanwhile()
	after := read()
	for op, n := range after {
		n = [2]uint64{n[0] - before[op][0], n[1] - before[op][1]}
		if after[op] = n; n == [2]uint64{} {
			delete(after, op)
		}
	}
	return after
}

// sameCallsTries is how often the check compares an import with others before it fails: a canary may run during one of them.
const sameCallsTries = 5

// checkSameCalls checks that bad blocks and good ones, in every layout, cause the same calls of the device, as far as Status counts
// them. Other calls take another time, and that would tell an attacker which of the chosen blocks has good padding.
func (s *suite) checkSameCalls(p *probe) {
	with, pub := s.wrappingKey(p)
	for _, k := range s.importSamples() {
		m := mustMaterial(p, k)
		for _, a := range s.desc.GetImportAlgorithms() {
			for _, w := range m.wrap(p, a, pub) {
				importing := func(w *wrapped) counts {
					return s.calls(p, func() { _, _ = s.Driver.ImportKey(p.ctx, importRequest(s, k.identity(), with, a, w)) })
				}
				for what, block := range unusableBlocks(p, a, pub) {
					bad := &wrapped{blob: slices.Concat(block, w.blob[w.block:]), privateKey: w.privateKey}
					var good, other counts
					for range sameCallsTries {
						if good, other = importing(w), importing(bad); maps.Equal(good, other) {
							break
						}
					}
					if !maps.Equal(good, other) {
						p.Errorf("import %s with %s and %s: calls and errors of a good import are %v, with %s %v", k, a, w.layout, good, what, other)
					}
				}
			}
		}
	}
}

// unusableBlocks returns a block with bad padding, and blocks with good padding that contain another key than is needed.
func unusableBlocks(p *probe, a driver.Algorithm, pub *rsa.PublicKey) map[string][]byte {
	em := make([]byte, pub.Size())
	rand.Read(em)
	em[0], em[1] = 0, 1
	list := map[string][]byte{"bad padding": rawRSA(pub, em)}
	for what, n := range map[string]int{"a key too short": 3, "a key too long": 57} {
		key := make([]byte, n)
		rand.Read(key)
		block, err := encryptRSA(a, pub, key)
		p.must(err, "encrypt with %s", a)
		list[what] = block
	}
	return list
}
