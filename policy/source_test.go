package policy_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyside/keyside/policy"
)

const (
	sum   = "4f0a9b1e2f6d5b0c4e117a1f3a025d2c4f0a9b1e2f6d5b0c4e117a1f3a025d2c"
	other = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	pod   = "7a1f3a02-5d2c-4f0a-9b1e-2f6d5b0c4e11"
)

// TestParseSource holds the forms of selectors, their order, and what must be together.
func TestParseSource(t *testing.T) {
	for text, want := range map[string]policy.Source{ // "": refused
		"uid:0": "uid:0", "gid:4294967294": "gid:4294967294", "unit:app@eu\\x2d1.service": "unit:app@eu\\x2d1.service", "unit:a.scope": "unit:a.scope",
		"pod:" + pod: policy.Source("pod:" + pod), "pod:" + sum[:32]: policy.Source("pod:" + sum[:32]), "container:" + sum: policy.Source("container:" + sum),
		"unit:app.service,uid:7":               "uid:7,unit:app.service",
		"gid:9,gid:10":                         "gid:10,gid:9",
		"sha256:" + sum + ",exe:/bin/a,uid:7":  policy.Source("uid:7,exe:/bin/a,sha256:" + sum),
		"exe:/opt/a b/c:d,unit:a.scope,uid:00": "", "exe:/opt/a b/c:d,uid:1": "uid:1,exe:/opt/a b/c:d",

		"uid": "", "uid:": "", "uid:x": "", "uid:-1": "", "uid:+1": "", "uid:01": "", "uid: 1": "", "uid:4294967295": "", "uid:4294967296": "", "UID:1": "",
		"gid:4294967295": "", "pid:1": "", "user:root": "", ":": "", ",": "", "uid:1,": "", ",uid:1": "", "uid:1,,gid:1": "", "uid:1, gid:1": "",
		"uid:1,uid:2": "", "uid:1,uid:1": "", "gid:1,gid:1": "", "unit:a.scope,unit:b.scope": "",
		"unit:app": "", "unit:app.mount": "", "unit:.service": "", "unit:a/b.service": "", "unit:ä.service": "", "unit:a b.service": "",
		"unit:" + strings.Repeat("a", 248) + ".service": "",
		"pod:" + strings.ToUpper(pod):                   "", "pod:" + strings.ReplaceAll(pod, "-", "_"): "", "pod:" + sum[:31]: "", "pod:-" + pod[1:]: "",
		"container:" + sum[:63]: "", "container:" + strings.ToUpper(sum): "", "container:" + sum + "0": "",
		"exe:/bin/a": "", "sha256:" + sum: "", "gid:1,exe:/bin/a": "", "unit:a.service,sha256:" + sum: "",
		"uid:1,exe:bin": "", "uid:1,exe:/": "", "uid:1,exe:/a\nb": "", "uid:1,exe:/" + strings.Repeat("a", 4095): "", "uid:1,sha256:" + sum[1:]: "",
	} {
		got, err := policy.ParseSource(text)
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken for %q", text, got)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%q is %q, %v, want %q", text, got, err, want)
		}
		g := policy.Grant{Operations: []policy.Operation{policy.OpSign}, Constraints: policy.Constraints{Source: policy.Source(text)}}
		if err := g.Check(); (err == nil) != (policy.Source(text) == want) {
			t.Errorf("a grant with %q: %v", text, err)
		}
	}
	if s, err := policy.ParseSource(); s != "" || err != nil {
		t.Errorf("no selectors: %q, %v", s, err)
	}
	if s, err := policy.ParseSource("unit:a.service", "uid:1,gid:2"); s != "uid:1,gid:2,unit:a.service" || err != nil {
		t.Errorf("several lists: %q, %v", s, err)
	}
}

// known is a caller of which everything is known.
var known = policy.Caller{UID: 7, GID: 8, PID: 9, Known: true, Process: &policy.Process{
	Exe: "/bin/a", Unit: "app.service", Pod: pod, Container: sum, Groups: []uint32{20, 30}, Digest: func() string { return sum },
}}

// TestSourceMatches holds that all selectors must match, and that what is not known matches none.
func TestSourceMatches(t *testing.T) {
	bare := policy.Caller{UID: 7, GID: 8, PID: 9, Known: true}
	empty := bare
	empty.Process = &policy.Process{}
	ended := known
	ended.Known, ended.Ended = false, true
	none := policy.Caller{UID: policy.NoID, GID: policy.NoID, Known: true}
	for _, c := range []struct {
		selectors             string
		known, ids, processes bool // what matches: known; bare; and whether that does of other processes of the user
	}{
		{"uid:7", true, true, true}, {"gid:8", true, true, true}, {"uid:7,gid:8", true, true, true},
		{"gid:20", true, false, false}, {"gid:20,gid:30", true, false, false}, {"gid:8,gid:30", true, false, false}, {"gid:20,gid:31", false, false, false},
		{"uid:8", false, false, false}, {"gid:7", false, false, false}, {"uid:7,gid:7", false, false, false},
		{"unit:app.service", true, false, false}, {"unit:app.scope", false, false, false}, {"uid:8,unit:app.service", false, false, false},
		{"pod:" + pod, true, false, false}, {"pod:" + sum[:32], false, false, false},
		{"container:" + sum, true, false, false}, {"container:" + other, false, false, false},
		{"uid:7,exe:/bin/a", true, false, false}, {"uid:7,exe:/bin/b", false, false, false}, {"uid:8,exe:/bin/a", false, false, false},
		{"uid:7,sha256:" + sum, true, false, false}, {"uid:7,sha256:" + other, false, false, false},
		{"uid:7,exe:/bin/a,sha256:" + other, false, false, false}, {"uid:7,unit:app.service,exe:/bin/a,sha256:" + sum, true, false, false},
	} {
		s, err := policy.ParseSource(c.selectors)
		if err != nil {
			t.Fatal(err)
		}
		if s.Matches(known) != c.known || s.Matches(bare) != c.ids || s.Matches(empty) != c.processes {
			t.Errorf("%s: %v, %v, %v", s, s.Matches(known), s.Matches(bare), s.Matches(empty))
		}
		if s.Matches(ended) || s.Matches(policy.Caller{}) || s.Matches(none) {
			t.Errorf("%s selects an unknown caller", s)
		}
	}
	for _, s := range []policy.Source{"uid:4294967295", "gid:4294967295", "pid:9", "unit:", "pod:", "container:", "exe:", "sha256:", ","} {
		if s.Matches(empty) || s.Matches(none) {
			t.Errorf("%q selects a caller", s)
		}
	}
	if !policy.Source("").Matches(policy.Caller{}) {
		t.Error("no source is for all, also without a kernel")
	}
}

// TestDigestIsAskedLast reads no executable of a caller that another selector rules out.
func TestDigestIsAskedLast(t *testing.T) {
	asked := 0
	c := known
	c.Process = &policy.Process{Unit: "app.service", Exe: "/bin/a", Digest: func() string { asked++; return sum }}
	for selectors, want := range map[string]int{
		"uid:8,sha256:" + sum: 0, "uid:7,unit:b.service,sha256:" + sum: 0, "uid:7,exe:/bin/b,sha256:" + sum: 0, "uid:7,exe:/bin/a,sha256:" + sum: 1,
	} {
		s, err := policy.ParseSource(selectors)
		asked = 0
		if err != nil || s.Matches(c) != (want == 1) || asked != want {
			t.Errorf("%s: asked %d times, %v", s, asked, err)
		}
	}
}

// selectors are some of every kind, of which a caller can have any.
var selectors = []string{
	"uid:7", "uid:8", "gid:8", "gid:20", "gid:30", "unit:app.service", "unit:b.scope", "pod:" + pod, "container:" + sum,
	"container:" + other, "exe:/bin/a", "exe:/bin/b", "sha256:" + sum, "sha256:" + other,
}

// TestWithin holds that a source within another selects no caller that the other does not, that every source with more
// selectors is within it, and that the text of a source does not depend on how its selectors were given.
func TestWithin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (policy.Source, []string) {
			list := rapid.SliceOfDistinct(rapid.SampledFrom(selectors), rapid.ID).Filter(func(list []string) bool {
				_, err := policy.ParseSource(list...) // there is a uid where there is an executable
				return err == nil
			}).Draw(t, name)
			s, err := policy.ParseSource(list...)
			if err != nil {
				t.Fatal(err)
			}
			return s, list
		}
		a, chosen := draw("a")
		b, more := draw("b")
		if again, err := policy.ParseSource(rapid.Permutation(chosen).Draw(t, "order")...); again != a || err != nil {
			t.Fatalf("%q and %q, %v", a, again, err)
		}
		if subset := !slices.ContainsFunc(chosen, func(s string) bool { return !slices.Contains(more, s) }); b.Within(a) != subset {
			t.Fatalf("%q within %q: %v", b, a, b.Within(a))
		}
		c := policy.Caller{
			UID: rapid.SampledFrom([]uint32{7, 8}).Draw(t, "uid"), GID: rapid.SampledFrom([]uint32{8, 20, 1}).Draw(t, "gid"), Known: rapid.Bool().Draw(t, "known"),
			Process: &policy.Process{
				Groups: rapid.SliceOf(rapid.SampledFrom([]uint32{8, 20, 30})).Draw(t, "groups"), Unit: rapid.SampledFrom([]string{"", "app.service", "b.scope"}).Draw(t, "unit"),
				Pod: rapid.SampledFrom([]string{"", pod}).Draw(t, "pod"), Container: rapid.SampledFrom([]string{"", sum, other}).Draw(t, "container"),
				Exe: rapid.SampledFrom([]string{"", "/bin/a", "/bin/b"}).Draw(t, "exe"),
			},
		}
		digest := rapid.SampledFrom([]string{"", sum, other}).Draw(t, "digest")
		c.Process.Digest = func() string { return digest }
		if b.Within(a) && b.Matches(c) && !a.Matches(c) {
			t.Fatalf("%q is within %q, and selects %+v, which that does not", b, a, c)
		}
	})
}

// TestUsersInOrder holds that the first entry that matches counts, be it of a uid or of all.
func TestUsersInOrder(t *testing.T) {
	entry := func(name string, source policy.Source) policy.User {
		return policy.User{Source: source, Principal: policy.Principal{Name: name}}
	}
	users := policy.NewUsers(
		entry("owner", "uid:1"), entry("app in unit", "uid:7,unit:app.service"), entry("group", "gid:20"), entry("seven", "uid:7"),
		entry("unit", "unit:app.service"), entry("eight", "uid:8"), entry("every caller", ""),
	)
	at := func(uid, gid uint32, unit string) policy.Caller {
		return policy.Caller{UID: uid, GID: gid, Known: true, Process: &policy.Process{Unit: unit}}
	}
	for _, c := range []struct {
		caller policy.Caller
		name   string
	}{
		{at(1, 20, "app.service"), "owner"}, {at(7, 20, "app.service"), "app in unit"}, {at(7, 20, ""), "group"}, {at(7, 1, ""), "seven"},
		{at(9, 20, ""), "group"}, {at(9, 1, "app.service"), "unit"}, {at(8, 20, ""), "group"}, {at(8, 1, "app.service"), "unit"}, {at(8, 1, ""), "eight"},
		{at(9, 1, ""), ""}, {policy.Caller{UID: 1}, ""},
	} {
		if got := users.Principal(c.caller); got.Name != c.name {
			t.Errorf("%+v is %q, want %q", c.caller, got.Name, c.name)
		}
		if got := users.Of(c.caller); got.Principal.Name != c.name || (got.Source == "") != (c.name == "") {
			t.Errorf("%+v is %+v", c.caller, got)
		}
	}
}

// FuzzParseSource holds that what is taken has one form, which is taken as itself.
func FuzzParseSource(f *testing.F) {
	f.Add("unit:app.service,uid:7,exe:/bin/a,gid:9,gid:10")
	f.Add("sha256:" + sum + ",uid:0")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := policy.ParseSource(text)
		if err != nil {
			return
		}
		again, err := policy.ParseSource(string(s))
		if again != s || err != nil || !s.Within(s) {
			t.Fatalf("%q is %q, then %q, %v", text, s, again, err)
		}
		s.Matches(known)
	})
}

// BenchmarkUsers is what it costs a request to learn whose it is, among a hundred principals.
func BenchmarkUsers(b *testing.B) {
	list := []policy.User{{Source: "uid:0", Principal: policy.Principal{Name: "owner"}}}
	for range 99 {
		list = append(list, policy.User{Source: policy.Source("uid:" + "1" + string(rune('0'+len(list)%10)) + string(rune('0'+len(list)/10))), Principal: policy.Principal{Name: "x"}})
	}
	list = append(list, policy.User{Source: "uid:7,unit:app.service", Principal: policy.Principal{Name: "app"}})
	users := policy.NewUsers(list...)
	b.ReportAllocs()
	for b.Loop() {
		if users.Principal(known).Name != "app" {
			b.Fatal("no principal")
		}
	}
}
