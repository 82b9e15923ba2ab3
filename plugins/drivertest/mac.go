package drivertest

import (
	"bytes"

	"github.com/keyside/keyside/plugins/driver"
)

var macChecks = []check{
	{"mac/relations", (*suite).checkMACs},
	{"mac/arguments", (*suite).checkMACArguments},
	{"mac/tenant", (*suite).checkTenantMAC},
}

var randomChecks = []check{
	{"random/lengths", (*suite).checkRandom},
	{"random/limits", (*suite).checkRandomLimits},
}

func macOp(key *testKey, a driver.Algorithm, data []byte) *driver.Op {
	return key.op(driver.MAC, func(op *driver.Op) { op.Algorithm, op.Data = a, data })
}

func verifyMACOp(key *testKey, a driver.Algorithm, data, mac []byte) *driver.Op {
	return key.op(driver.VerifyMAC, func(op *driver.Op) { op.Algorithm, op.Data, op.Signature = a, data, mac })
}

func (s *suite) checkMACs(p *probe) {
	for _, k := range s.with(p, driver.GenerateVerifyMAC) {
		key, other := s.mustShare(p, k), s.mustMake(p, k)
		for _, a := range s.algorithms(k) {
			for _, n := range []int{0, 1, 64, 1000, int(s.desc.GetMaxData())} {
				s.checkMAC(p, key, other, a, plaintext(min(n, int(s.desc.GetMaxData()))))
			}
		}
	}
}

func (s *suite) checkMAC(p *probe, key, other *testKey, a driver.Algorithm, data []byte) {
	mac := s.mustDo(p, macOp(key, a, data)).GetData()
	p.errorIf(len(mac) != driver.HashOf(a).Size(), "%s: mac of %d bytes", a, len(mac))
	p.equal(s.mustDo(p, macOp(key, a, data)).GetData(), mac, a.String()+": second mac of the same data")
	p.errorIf(bytes.Equal(s.mustDo(p, macOp(other, a, data)).GetData(), mac), "%s: two keys give the same mac", a)
	flipped := bytes.Clone(mac)
	flipped[len(flipped)-1] ^= 1
	for _, c := range []struct {
		what  string
		key   *testKey
		data  []byte
		mac   []byte
		valid bool
	}{
		{"the mac", key, data, mac, true},
		{"a flipped mac", key, data, flipped, false},
		{"a cut mac", key, data, mac[:len(mac)-1], false},
		{"a longer mac", key, data, append(bytes.Clone(mac), 0), false},
		{"other data", key, append([]byte("x"), data[:max(len(data)-1, 0)]...), mac, false},
		{"another key", other, data, mac, false},
	} {
		if got := s.mustDo(p, verifyMACOp(c.key, a, c.data, c.mac)).GetValid(); got != c.valid {
			p.Errorf("%s: verify %s of %d bytes: %v", a, c.what, len(data), got)
		}
	}
	res, err := s.do(p.ctx, verifyMACOp(key, a, data, nil))
	if err != nil {
		p.refused(err, only(driver.InvalidArgument), "%s: verify without a mac", a)
	} else if res.GetValid() {
		p.Errorf("%s: no mac verifies", a)
	}
}

func (s *suite) checkMACArguments(p *probe) {
	k := s.with(p, driver.GenerateVerifyMAC)[0]
	key, announced := s.mustShare(p, k), s.algorithms(k)
	s.refuse(p, macOp(key, announced[0], make([]byte, s.desc.GetMaxData()+1)), only(driver.InvalidArgument), "%s: mac of more than max_data", k)
	s.refuseOthers(p, announced, k.String()+": mac", func(a driver.Algorithm) *driver.Op { return macOp(key, a, []byte("x")) })
	s.refuseOthers(p, announced, k.String()+": verify", func(a driver.Algorithm) *driver.Op {
		return verifyMACOp(key, a, []byte("x"), make([]byte, 32))
	})
}

func (s *suite) checkTenantMAC(p *probe) {
	of := func(tenant, data string) []byte {
		res, err := s.Driver.Execute(p.ctx, tenant, &driver.Op{Kind: driver.TenantMAC, Data: []byte(data)})
		p.must(err, "tenant mac")
		p.errorIf(len(res.GetData()) != driver.MACSize, "tenant mac of %d bytes", len(res.GetData()))
		return res.GetData()
	}
	one := of(s.Tenant, marker)
	p.equal(of(s.Tenant, marker), one, "second tenant mac of the same data")
	p.errorIf(bytes.Equal(of(s.Tenant, marker+"x"), one), "tenant mac does not depend on the data")
	p.errorIf(s.OtherTenant != "" && bytes.Equal(of(s.OtherTenant, marker), one), "two tenants have the same mac key")
}

func randomOp(n uint32) *driver.Op { return &driver.Op{Kind: driver.Random, Length: n} }

func (s *suite) checkRandom(p *probe) {
	for _, n := range []uint32{1, 16, 32, 1000, s.desc.GetMaxRandom()} {
		n = min(n, s.desc.GetMaxRandom())
		one := s.mustDo(p, randomOp(n)).GetData()
		p.fatalIf(len(one) != int(n), "%d random bytes are %d", n, len(one))
		if n < 16 {
			continue
		}
		p.errorIf(bytes.Equal(s.mustDo(p, randomOp(n)).GetData(), one), "the same %d random bytes twice", n)
		p.errorIf(bytes.Count(one, []byte{one[0]}) == len(one), "%d random bytes are all the same", n)
	}
}

func (s *suite) checkRandomLimits(p *probe) {
	for _, n := range []uint32{0, s.desc.GetMaxRandom() + 1, 1<<32 - 1} {
		s.refuse(p, randomOp(n), only(driver.InvalidArgument), "%d random bytes", n)
	}
}
