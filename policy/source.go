package policy

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Source selects callers by what the kernel reports about them. It is a comma-separated list of selectors, all of which must
// match:
//
//	uid:N           the user
//	gid:N           a group, primary or supplementary
//	unit:NAME       the systemd unit of the system manager, with its .service or .scope
//	pod:UID         the Kubernetes pod
//	container:ID    the outermost container, 64 hexadecimal digits
//	exe:/PATH       the executable
//	sha256:HEX      the executable's content
//
// The last two only narrow a uid, because they are no boundary between programs of one user, nor for interpreters. In
// canonical form the selectors are in this order, and by text within a kind, so that equal Sources are equal texts. The empty
// Source selects all callers. Any other Source selects only callers that the kernel identifies; an unknown property matches
// nothing.
type Source string

// kinds are the kinds of selectors, in canonical order.
var kinds = []struct {
	name    string
	many    bool // a process can have several
	form    func(value string) bool
	reason  string
	matches func(c Caller, value string) bool
}{
	{"uid", false, isID, "must be a number", func(c Caller, v string) bool { return sameID(c.UID, v) }},
	{"gid", true, isID, "must be a number", inGroup},
	{"unit", false, isUnit, "must be the whole name of a service or a scope",
		func(c Caller, v string) bool { return c.Process != nil && c.Process.Unit == v }},
	{"pod", false, isPod, "must be a pod's uid: a lower-case UUID, or 32 hexadecimal digits",
		func(c Caller, v string) bool { return c.Process != nil && c.Process.Pod == v }},
	{"container", false, isSum, "must be 64 lower-case hexadecimal digits",
		func(c Caller, v string) bool { return c.Process != nil && c.Process.Container == v }},
	{exe, false, isPath, "must be an absolute path without commas",
		func(c Caller, v string) bool { return c.Process != nil && c.Process.Exe == v }},
	{digest, false, isSum, "must be 64 lower-case hexadecimal digits",
		func(c Caller, v string) bool {
			return c.Process != nil && c.Process.Digest != nil && c.Process.Digest() == v
		}},
}

// The kinds of selectors that need a uid beside them.
const (
	exe    = "exe"
	digest = "sha256"
)

// ParseSource returns the Source of some selectors, or of lists of them, in canonical form. An error names the wrong
// selector.
func ParseSource(selectors ...string) (Source, error) {
	all := strings.Split(strings.Join(selectors, ","), ",")
	slices.SortFunc(all, func(a, b string) int {
		return cmp.Or(rank(a)-rank(b), strings.Compare(a, b))
	})
	s := Source(strings.Join(all, ","))
	if err := s.check(); err != nil {
		return "", err
	}
	return s, nil
}

// Selectors returns the selectors, all of which must match.
func (s Source) Selectors() []string {
	if s == "" {
		return nil
	}
	return strings.Split(string(s), ",")
}

// Within reports whether limit selects every caller that the source selects: the source has all of its selectors.
func (s Source) Within(limit Source) bool {
	have := s.Selectors()
	return !slices.ContainsFunc(limit.Selectors(), func(selector string) bool { return !slices.Contains(have, selector) })
}

// Matches reports whether the source selects a caller.
func (s Source) Matches(c Caller) bool {
	if s == "" {
		return true
	}
	if !c.Known {
		return false
	}
	for selector := range strings.SplitSeq(string(s), ",") {
		kind, value, _ := strings.Cut(selector, ":")
		i := place(kind)
		if i == len(kinds) || value == "" || !kinds[i].matches(c, value) {
			return false
		}
	}
	return true
}

// uid returns the uid of the source, if it has one.
func (s Source) uid() (uint32, bool) {
	for _, selector := range s.Selectors() {
		if number, ok := strings.CutPrefix(selector, "uid:"); ok {
			n, err := strconv.ParseUint(number, 10, 32)
			return uint32(n), err == nil
		}
	}
	return 0, false
}

// check returns what is wrong with a source that is not empty; not being in canonical form is wrong, too.
func (s Source) check() error {
	last, lastKind, uid := "", -1, false
	for _, selector := range s.Selectors() {
		kind, value, _ := strings.Cut(selector, ":")
		i := place(kind)
		switch {
		case i == len(kinds):
			return fmt.Errorf("%q: a selector is uid:N, gid:N, unit:NAME, pod:UID, container:ID, exe:/PATH or sha256:HEX", selector)
		case !kinds[i].form(value):
			return fmt.Errorf("%q: %s %s", selector, kind, kinds[i].reason)
		case selector == last:
			return fmt.Errorf("%q is given twice", selector)
		case i == lastKind && !kinds[i].many:
			return fmt.Errorf("%q and %q: no process has both", last, selector)
		case i < lastKind || i == lastKind && selector < last:
			return errors.New("selectors are not in canonical order")
		case (kind == exe || kind == digest) && !uid:
			return fmt.Errorf("%q: exe and sha256 only narrow a uid, which is missing", selector)
		}
		last, lastKind, uid = selector, i, uid || kind == "uid"
	}
	return nil
}

// place returns the index of a kind in kinds, len(kinds) if it is unknown.
func place(kind string) int {
	for i := range kinds {
		if kinds[i].name == kind {
			return i
		}
	}
	return len(kinds)
}

func rank(selector string) int {
	kind, _, _ := strings.Cut(selector, ":")
	return place(kind)
}

// isID reports whether a text is the decimal number of a user or a group.
func isID(text string) bool {
	n, err := strconv.ParseUint(text, 10, 32)
	return err == nil && n != NoID && strconv.FormatUint(n, 10) == text
}

func sameID(id uint32, text string) bool {
	n, err := strconv.ParseUint(text, 10, 32)
	return err == nil && uint32(n) == id && id != NoID
}

func inGroup(c Caller, text string) bool {
	return sameID(c.GID, text) ||
		c.Process != nil && slices.ContainsFunc(c.Process.Groups, func(gid uint32) bool { return sameID(gid, text) })
}

// isUnit reports whether a text is the name of a systemd unit that has processes (systemd.unit(5)).
func isUnit(text string) bool {
	name, ok := strings.CutSuffix(text, ".service")
	if !ok {
		name, ok = strings.CutSuffix(text, ".scope")
	}
	return ok && name != "" && len(text) <= 255 && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune(`:-_.\@`, c)
	})
}

func isPod(text string) bool {
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		text = strings.ReplaceAll(text, "-", "")
	}
	return len(text) == 32 && isHex(text)
}

func isSum(text string) bool { return len(text) == 64 && isHex(text) }

// isHex reports whether a text is bytes in lower-case hexadecimal digits.
func isHex(text string) bool {
	_, err := hex.DecodeString(text)
	return err == nil && strings.ToLower(text) == text
}

// isPath reports whether a text can be the path of an executable as the kernel reports it.
func isPath(text string) bool {
	return strings.HasPrefix(text, "/") && len(text) <= 4095 && !strings.HasSuffix(text, "/") && !strings.ContainsAny(text, ",\n\x00")
}
