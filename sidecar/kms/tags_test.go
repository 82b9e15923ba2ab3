package kms_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/kms"
)

// TestTagForm holds which keys and values tags can have.
func TestTagForm(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	id := w.create(t, kms.CreateKeyInput{}).ID
	for _, c := range []struct {
		key, value string
		want       kms.Code
	}{
		{"cost", "100", "ok"}, {"a-Z_0", "", "ok"}, {"größe", "größer", "ok"}, {"环境", "生产", "ok"},
		{"k8s.io/name", "me@example.com (x)", "ok"}, {"a b", "c d", "ok"},
		{strings.Repeat("ü", 36), strings.Repeat("ü", 43), "ok"},
		{"", "v", tagKeyLength}, {strings.Repeat("a", 37), "v", tagKeyLength},
		{"k", strings.Repeat("a", 44), tagValueLength},
		{"a*", "v", invalidTagKey}, {"<a", "v", invalidTagKey}, {"a>", "v", invalidTagKey},
		{`a\`, "v", invalidTagKey}, {"a=b", "v", invalidTagKey}, {"a,b", "v", invalidTagKey},
		{"a\x00", "v", invalidTagKey}, {"a\x1f", "v", invalidTagKey}, {"a\n", "v", invalidTagKey},
		{"a\x7f", "v", invalidTagKey}, {"a\u200b", "v", invalidTagKey}, {"\xff", "v", invalidTagKey},
		{" a", "v", invalidTagKey}, {"a ", "v", invalidTagKey},
		{"k", "a*", invalidTagValue}, {"k", "<a", invalidTagValue}, {"k", `a\`, invalidTagValue},
		{"k", "a=b", invalidTagValue}, {"k", "a\tb", invalidTagValue}, {"k", "\xff", invalidTagValue},
		{"k", " ", invalidTagValue},
	} {
		_, err := w.SetTags(admin, id, []kms.Tag{{Key: c.key, Value: c.value}})
		if !is(err, c.want) {
			t.Errorf("tag %q=%q: %v, want %s", c.key, c.value, err, c.want)
		}
	}
}

func tag(pairs ...string) (tags []kms.Tag) {
	for p := range slices.Chunk(pairs, 2) {
		tags = append(tags, kms.Tag{Key: p[0], Value: p[1]})
	}
	return tags
}

// TestTags holds that tags overwrite by key, are counted after the change, and that a change is whole or not at all.
func TestTags(t *testing.T) {
	w := newWorld(t, kms.Limits{Tags: 3})
	id := w.create(t, kms.CreateKeyInput{}).ID
	wantTags := func(pairs ...string) {
		t.Helper()
		key, err := w.KeyTags(admin, id)
		wantCode(t, err, "ok")
		if !slices.Equal(key.Tags, tag(pairs...)) {
			t.Errorf("tags are %v, want %v", key.Tags, tag(pairs...))
		}
	}
	set := func(want kms.Code, pairs ...string) {
		t.Helper()
		_, err := w.SetTags(admin, id, tag(pairs...))
		wantCode(t, err, want)
	}
	set(kms.CodeInvalidRequest)
	set("ok", "b", "1", "a", "1", "b", "2")
	wantTags("a", "1", "b", "2")
	set("ok", "c", "", "a", "3", "a", "4")
	wantTags("a", "4", "b", "2", "c", "")
	set(tooManyTags, "a", "5", "d", "1")
	set(invalidTagKey, "a", "5", "=", "1")
	wantTags("a", "4", "b", "2", "c", "")
	remove := func(want kms.Code, strict bool, keys ...string) {
		t.Helper()
		_, err := w.DeleteTags(admin, id, keys, strict)
		wantCode(t, err, want)
	}
	remove(kms.CodeInvalidRequest, false)
	remove(tagNotFound, true, "a", "x")
	wantTags("a", "4", "b", "2", "c", "")
	remove("ok", false, "a", "x", "a")
	remove("ok", true, "c")
	wantTags("b", "2")
	set("ok", "d", "1", "e", "1")
	all, err := w.ListTags(admin)
	wantCode(t, err, "ok")
	if want := []string{"b", "d", "e"}; len(all) != 3 || all[0].Key != want[0] || all[2].Values[0] != "1" {
		t.Errorf("tags of all keys are %v", all)
	}
}

// TestFindKeys holds how conditions combine, pages, and what a search may ask for.
func TestFindKeys(t *testing.T) {
	w := newWorld(t, kms.Limits{})
	var ids []kms.KeyID
	for i := range 12 {
		id := w.create(t, kms.CreateKeyInput{Alias: fmt.Sprintf("Key-%02d", i)}).ID
		ids = append(ids, id)
		_, err := w.SetTags(admin, id, tag("n", fmt.Sprint(i%3), "env", []string{"prod", "test"}[i%2]))
		wantCode(t, err, "ok")
	}
	n := func(values ...string) kms.TagValues { return kms.TagValues{Key: "n", Values: values} }
	env := func(values ...string) kms.TagValues { return kms.TagValues{Key: "env", Values: values} }
	for name, c := range map[string]struct {
		in    kms.FindKeysInput
		want  []int
		total int
		next  int
	}{
		"ten by default":    {kms.FindKeysInput{}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 12, 10},
		"last page":         {kms.FindKeysInput{Offset: 10}, []int{10, 11}, 12, 0},
		"past the end":      {kms.FindKeysInput{Offset: 12}, nil, 12, 0},
		"and":               {kms.FindKeysInput{Tags: []kms.TagValues{n("0"), env("prod")}}, []int{0, 6}, 2, 0},
		"or within a tag":   {kms.FindKeysInput{Tags: []kms.TagValues{n("0", "1"), env("prod")}, Limit: 3}, []int{0, 4, 6}, 4, 3},
		"any value":         {kms.FindKeysInput{Tags: []kms.TagValues{n(), env("test")}, Limit: 1000}, []int{1, 3, 5, 7, 9, 11}, 6, 0},
		"no such value":     {kms.FindKeysInput{Tags: []kms.TagValues{n("9")}}, nil, 0, 0},
		"no such tag":       {kms.FindKeysInput{Tags: []kms.TagValues{{Key: "x"}}}, nil, 0, 0},
		"name":              {kms.FindKeysInput{Name: "KEY-1"}, []int{10, 11}, 2, 0},
		"name and tag":      {kms.FindKeysInput{Name: "key-1", Tags: []kms.TagValues{env("test")}}, []int{11}, 1, 0},
		"count":             {kms.FindKeysInput{CountOnly: true, Offset: 99}, nil, 12, 0},
		"count by a tag":    {kms.FindKeysInput{CountOnly: true, Tags: []kms.TagValues{n("2")}}, nil, 4, 0},
		"twice the same":    {kms.FindKeysInput{Tags: []kms.TagValues{n("0"), n("0", "1")}}, []int{0, 3, 6, 9}, 4, 0},
		"contradiction":     {kms.FindKeysInput{Tags: []kms.TagValues{n("0"), n("1")}}, nil, 0, 0},
		"offset by a tag":   {kms.FindKeysInput{Tags: []kms.TagValues{n("0")}, Offset: 1, Limit: 2}, []int{3, 6}, 4, 3},
		"value of any kind": {kms.FindKeysInput{Tags: []kms.TagValues{n("*")}}, nil, 0, 0},
	} {
		page, err := w.FindKeys(admin, c.in)
		wantCode(t, err, "ok")
		var got []int
		for _, k := range page.Keys {
			got = append(got, slices.Index(ids, k.ID))
		}
		if !slices.Equal(got, c.want) || page.Total != c.total || page.Next != c.next {
			t.Errorf("%s: keys %v, total %d, next %d; want %v, %d, %d", name, got, page.Total, page.Next, c.want, c.total, c.next)
		}
	}
	var many []kms.TagValues
	for i := range 21 {
		many = append(many, kms.TagValues{Key: fmt.Sprint(i)})
	}
	for _, c := range []struct {
		in   kms.FindKeysInput
		want kms.Code
	}{
		{kms.FindKeysInput{Limit: 1001}, invalidLimit}, {kms.FindKeysInput{Limit: -1}, invalidLimit},
		{kms.FindKeysInput{Offset: -1}, "InvalidRequest/marker/out_of_range"}, {kms.FindKeysInput{Tags: many}, "InvalidRequest/tags/too_many"},
		{kms.FindKeysInput{Tags: many[:20]}, "ok"}, {kms.FindKeysInput{Tags: []kms.TagValues{{}}}, tagKeyLength},
		{kms.FindKeysInput{Tags: []kms.TagValues{{Key: "a="}}}, invalidTagKey},
		{kms.FindKeysInput{Tags: []kms.TagValues{n(make([]string, 21)...)}}, "InvalidRequest/values/too_many"},
	} {
		_, err := w.FindKeys(admin, c.in)
		wantCode(t, err, c.want)
	}
}
