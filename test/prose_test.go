package test

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// wordings maps wordings that do not say what they mean, or are not US spelling, to what to write instead. Each is a regular
// expression that matches whole words in lower case.
var wordings = []struct{ wording, instead string }{
	{`wardens?`, "replay member"},
	{`limbo`, "unresolved"},
	{`convict(s|ed)?`, "identify"},
	{`innocents?|guilty`, "a good call, a bad call"},
	{`verdicts?`, "decision, outcome"},
	{`condemn(s|ed)?`, "eject"},
	{`bury|buries|buried`, "reap"},
	{`struck`, "quarantined"},
	{`strikes?`, "retry count"},
	{`vouch(es|ed|ing)?`, "attest, identify"},
	{`arrows?`, "failpoint"},
	{`ballast`, "filler"},
	{`ladders?|rungs?|climbs?`, "recovery step, escalate"},
	{`canary (still )?sings`, "the canary succeeds"},
	{`patience|hurry`, "wait limit"},
	{`strangers?`, "other users, unknown processes"},
	{`who asks`, "caller"},
	{`lends?`, "delegate, give"},
	{`not so freely`, "held more restrictively"},
	{`somebody|someone else's|anybody|everybody|nobody('s)?`, "name the actor: caller, user, principal, operator"},
	{`he|him|his|himself`, "name the actor: caller, user, operator"},
	{`taken to be`, "the principal is"},
	{`(is|are|was|were) not there|(is|are) not there any ?more`, "does not exist, is missing"},
	{`(is|are) there twice`, "already exists, is given twice"},
	{`that there (is|are|can be|may be)`, "that exist, possible"},
	{`good (until|no more)`, "expires at, expired"},
	{`told to end|ends? in order|saw out|see out`, "stop, drain"},
	{`comes? due`, "is due"},
	{`now and then`, "state the interval"},
	{`in vain`, "without success"},
	{`gone from the files`, "purged"},
	{`believe[sd]?`, "trust"},
	{`(label|cancel|model|travel|signal)l(ed|ing)`, "US spelling: labeled, canceled"},
	{`(initial|serial|author|recogn|normal|synchron|minim|organ)is(e|es|ed|ing|ation)`, "US spelling: initialize, authorize"},
	{`(behavi|col|hon|neighb)ours?`, "US spelling: behavior, honor"},
}

// wordingsAllowed are wordings that mean themselves here: they are taken out before a text is checked.
var wordingsAllowed = regexp.MustCompile(`nobody,? \(?65534|nobody \(uid 65534|user nobody`)

// TestProse checks that comments, texts and pages use the terms of the field and not the wordings of the table. Help is
// text in Go files, too.
func TestProse(t *testing.T) {
	patterns := make([]*regexp.Regexp, len(wordings))
	for i, w := range wordings {
		patterns[i] = regexp.MustCompile(`(?i)\b(` + strings.ReplaceAll(w.wording, " ", `[\s/]+`) + `)\b`)
	}
	for _, file := range proseFiles(t) {
		for _, p := range proseOf(t, file) {
			text := wordingsAllowed.ReplaceAllString(p.text, "")
			for i, pattern := range patterns {
				for _, at := range pattern.FindAllStringIndex(text, -1) {
					line := p.line + strings.Count(text[:at[0]], "\n")
					t.Errorf("%s:%d: %q: write %s", file, line, text[at[0]:at[1]], wordings[i].instead)
				}
			}
		}
	}
}

// proseFiles returns every Go file and every page of the repository, but generated code, this table and the text of the cloud's clients.
func proseFiles(t *testing.T) (files []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(".."), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return fs.SkipDir
		case strings.HasSuffix(path, ".pb.go"), path == "test/prose_test.go":
		case strings.HasSuffix(path, ".go"), strings.HasSuffix(path, ".md"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil || len(files) < 100 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	return files
}

// passage is text that people read, at a line of a file.
type passage struct {
	line int
	text string
}

// proseOf returns the comments and string literals of a Go file, or a page. Lines of one comment are one passage.
func proseOf(t *testing.T, file string) (all []passage) {
	t.Helper()
	src, err := os.ReadFile(filepath.Join("..", file))
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(file, ".md") {
		return []passage{{1, string(src)}}
	}
	files := token.NewFileSet()
	tokens := files.AddFile(file, -1, len(src))
	var s scanner.Scanner
	s.Init(tokens, src, func(pos token.Position, msg string) { t.Errorf("%s: %s", pos, msg) }, scanner.ScanComments)
	next := 0 // the line behind the last comment
	for {
		pos, kind, text := s.Scan()
		line := tokens.Line(pos)
		switch {
		case kind == token.EOF:
			return all
		case kind == token.COMMENT && line == next:
			all[len(all)-1].text += "\n" + text
			next = line + 1
		case kind == token.COMMENT || kind == token.STRING:
			all = append(all, passage{line, text})
			next = 0
			if kind == token.COMMENT {
				next = line + 1
			}
		}
	}
}
