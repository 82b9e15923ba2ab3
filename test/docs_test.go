package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/sidecar"
	"github.com/keyside/keyside/sidecar/bench"
	"github.com/keyside/keyside/sidecar/cli"
	"github.com/keyside/keyside/sidecar/kms"
)

// pages returns the Markdown files of the repository, by their paths below it.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("git", "-C", "..", "ls-files", "--cached", "--others", "--exclude-standard", "*.md").Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	all := map[string]string{}
	for _, path := range strings.Fields(string(out)) {
		text, err := os.ReadFile(filepath.Join("..", path))
		if os.IsNotExist(err) { // deleted and not committed yet
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(text)
	}
	if len(all) < 10 {
		t.Fatalf("found only %d pages", len(all))
	}
	return all
}

// link matches the target of a Markdown link.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestLinks checks that the files and headings that pages link to exist.
func TestLinks(t *testing.T) {
	all := pages(t)
	for path, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, heading, _ := strings.Cut(m[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(filepath.Join("..", target)); err != nil {
				t.Errorf("%s: link to %s: %v", path, m[1], err)
			} else if heading != "" && !anchors(all[target])[heading] {
				t.Errorf("%s: %s has no heading #%s", path, target, heading)
			}
		}
	}
}

// pathOf matches a path below the repository, in inline code. THEME and CLOUD stand for names of the reader.
var pathOf = regexp.MustCompile("`((?:deploy|docs|hsmd|plugins|policy|sidecar|test)/[^`\\s]*)`")

// TestPaths checks that the files and folders that pages name exist.
func TestPaths(t *testing.T) {
	placeholder := regexp.MustCompile("…|THEME|CLOUD|VENDOR")
	for path, text := range pages(t) {
		for _, m := range pathOf.FindAllStringSubmatch(text, -1) {
			pattern := strings.TrimSuffix(m[1], "/...")
			if found, err := filepath.Glob(filepath.Join("..", pattern)); !placeholder.MatchString(m[1]) && (err != nil || found == nil) {
				t.Errorf("%s: %s does not exist", path, m[1])
			}
		}
	}
}

// anchors returns the names by which links reach the headings of a page.
func anchors(text string) map[string]bool {
	names := map[string]bool{}
	for line := range strings.Lines(text) {
		if title := strings.TrimLeft(line, "#"); title != line {
			title = strings.ToLower(strings.TrimSpace(title))
			title = regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(title, "")
			names[strings.ReplaceAll(title, " ", "-")] = true
		}
	}
	return names
}

// maxArchitecture is the size of ARCHITECTURE.md, in bytes, up to which it is one page.
const maxArchitecture = 12_000

// TestArchitecture checks that ARCHITECTURE.md stays one page, and that its table has every package.
func TestArchitecture(t *testing.T) {
	text := pages(t)["ARCHITECTURE.md"]
	if len(text) > maxArchitecture {
		t.Errorf("ARCHITECTURE.md has %d bytes, more than %d: a further question gets a page in docs/", len(text), maxArchitecture)
	}
	for _, p := range listPackages(t) {
		path := strings.TrimPrefix(p.ImportPath, module+"/")
		inParent := "`" + filepath.Base(path) + "`" // a small package stands in the row of its parent
		if p.ImportPath != module && !strings.Contains(path, "internal/") && !strings.Contains(text, "`"+path+"`") &&
			!(strings.Contains(text, "`"+filepath.Dir(path)+"`") && strings.Contains(text, inParent)) && !within(path, "test/...") {
			t.Errorf("ARCHITECTURE.md lacks the package %s", path)
		}
	}
}

// decision matches a page of docs/adr: number, title, and the parts that the form demands.
var decision = regexp.MustCompile(`(?s)^# ADR-(\d{4}): ([^\n]+)\n\nStatus: (\w+) \d{4}-\d\d-\d\d · Code: [^\n]+ · Supersedes: [^\n]+\n\n## Context\n\n.+\n\n## Decision\n\n.+\n\n## Consequences\n\n.+$`)

// TestDecisions checks that every page of docs/adr has the form, a number of its own and a row in the index.
func TestDecisions(t *testing.T) {
	paths, err := filepath.Glob("../docs/adr/[0-9]*.md")
	if err != nil || len(paths) == 0 {
		t.Fatal(err)
	}
	table := "| Number | Decision | Status |\n|---|---|---|\n"
	numbers := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(path)
		m := decision.FindStringSubmatch(string(text))
		if m == nil || !strings.HasPrefix(name, m[1]+"-") {
			t.Errorf("%s does not have the form of a decision: title with its number, status line, Context, Decision, Consequences", name)
			continue
		}
		if other := numbers[m[1]]; other != "" {
			t.Errorf("%s and %s have the same number", name, other)
		}
		numbers[m[1]] = name
		table += fmt.Sprintf("| %s | [%s](%s) | %s |\n", m[1], m[2], name, m[3])
	}
	generated(t, "../docs/adr/README.md", "decisions", "TestDecisions", table)
}

// generated checks that a page has want between its markers, and with -update writes it there.
func generated(t *testing.T, page, part, test, want string) {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	command := "go test ./test -run " + test + " -update"
	begin, end := fmt.Sprintf("<!-- %s: written by %q -->\n", part, command), "<!-- end -->\n"
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no line %q with an end", page, strings.TrimSpace(begin))
	}
	switch full := head + begin + want + end + tail; {
	case full == string(text):
	case !*update:
		t.Errorf("%s is stale: run %s", page, command)
	default:
		if err := os.WriteFile(page, []byte(full), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// commandTree returns the command line as the program has it, without the hidden verbs.
func commandTree() *cobra.Command {
	root := &cobra.Command{Use: "keyside", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(cli.Commands(nil)...)
	root.AddCommand(hsmd.Command(), sidecar.Command(), bench.Command(), &cobra.Command{Use: "version", Short: "Print the version, the commit, and what built it", Run: func(*cobra.Command, []string) {}})
	cli.Prepare(root)
	root.InitDefaultCompletionCmd()
	return root
}

// In pages, commands are inline code that begins with keyside, and lines of a code block that is a shell's.
var (
	inlineCommand = regexp.MustCompile("`keyside( [^`]*)`")
	shellBlock    = regexp.MustCompile("(?ms)^ *```(sh|console)\n(.*?)^ *```")
	shellCommand  = regexp.MustCompile(`(?:^|[|;&(] *|^sudo |-u \S+ )(?:\./)?keyside( [^|;&#>)]*)`)
)

// TestCommands checks that every command line in the pages is one that the program accepts, with its flags and number of
// arguments. In prose a verb may stand alone.
func TestCommands(t *testing.T) {
	count := 0
	check := func(path, line string, prose bool) {
		count++
		words := splitWords(strings.ReplaceAll(line, "...", ""))
		cmd, rest, err := commandTree().Find(words)
		if err == nil && !(prose && len(rest) == 0) {
			err = cmd.ParseFlags(rest)
			if prose && err != nil && strings.HasPrefix(err.Error(), "flag needs an argument") {
				err = nil // the page names the flag alone
			} else if err == nil {
				err = cmd.ValidateArgs(cmd.Flags().Args())
			}
		}
		if err == nil && cmd.Parent() == nil && len(words) > 0 && !strings.HasPrefix(words[0], "-") {
			err = fmt.Errorf("no such verb")
		}
		if err != nil {
			t.Errorf("%s: keyside%s: %v", path, line, err)
		}
	}
	for path, text := range pages(t) {
		prose := shellBlock.ReplaceAllString(text, "")
		for _, m := range inlineCommand.FindAllStringSubmatch(prose, -1) {
			check(path, m[1], path != consoleGuide)
		}
		for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
			for line := range strings.Lines(block[2]) {
				line, isCommand := strings.CutPrefix(strings.TrimSpace(line), "$ ")
				if block[1] == "console" && !isCommand {
					continue // output
				}
				for _, m := range shellCommand.FindAllStringSubmatch(line, -1) {
					check(path, m[1], false)
				}
			}
		}
	}
	if count < 100 {
		t.Errorf("found only %d commands", count)
	}
}

// TestErrorCodes checks that docs/api.md explains every error code.
func TestErrorCodes(t *testing.T) {
	text := pages(t)["docs/api.md"]
	for _, code := range kms.Codes {
		if !strings.Contains(text, "`"+string(code)+"`") {
			t.Errorf("docs/api.md lacks %s", code)
		}
	}
}

// makeTarget matches a target of make, in inline code or alone in the line of a code block.
var makeTarget = regexp.MustCompile("(?m)`make ([a-z-]+)|^ *make ([a-z-]+)$")

// TestMakeTargets checks that the targets of make in the pages exist.
func TestMakeTargets(t *testing.T) {
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range pages(t) {
		for _, m := range makeTarget.FindAllStringSubmatch(text, -1) {
			if target := m[1] + m[2]; !strings.Contains(string(makefile), "\n"+target+":") {
				t.Errorf("%s: make has no target %s", path, target)
			}
		}
	}
}

// splitWords splits a command line at blanks, but not within single quotes.
func splitWords(line string) (words []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}

const consoleGuide = "docs/console-guide.md"

// TestConsoleGuide checks that the guide shows every verb for keys.
func TestConsoleGuide(t *testing.T) {
	text := pages(t)[consoleGuide]
	key, _, err := commandTree().Find([]string{"key"})
	if err != nil {
		t.Fatal(err)
	}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			walk(sub)
		}
		if !c.HasSubCommands() && !c.Hidden && !strings.Contains(text, "`"+c.CommandPath()+" ") && !strings.Contains(text, "`"+c.CommandPath()+"`") {
			t.Errorf("%s has no row in %s", c.CommandPath(), consoleGuide)
		}
	}
	walk(key)
}

// varies matches what differs from run to run in the output of commands: ids, times, numbers of records, widths of columns.
var varies = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z|\b[0-9A-F]{16}\b|[0-9]+| +`)

// cmdConsole runs the console blocks of pages (paths below the repository) in one shell each, and compares what each command
// prints with what the page shows.
func cmdConsole(ts *testscript.TestScript, neg bool, pages []string) {
	if neg || len(pages) == 0 {
		ts.Fatalf("usage: console PAGE...")
	}
	for _, page := range pages {
		text := ts.ReadFile(filepath.Join(ts.Getenv("TESTDATA"), "../..", page))
		var want, script strings.Builder
		for _, block := range shellBlock.FindAllStringSubmatch(text, -1) {
			if block[1] != "console" {
				continue
			}
			for line := range strings.Lines(block[2]) {
				want.WriteString(line)
				if command, ok := strings.CutPrefix(line, "$ "); ok {
					fmt.Fprintf(&script, "cat <<'LINE'\n%sLINE\n%s[ -z \"$(tail -c1 out)\" ] || echo >>out\ncat out\n", line, "{ "+strings.TrimSpace(command)+"\n} >out\n")
				}
			}
		}
		if script.Len() == 0 {
			ts.Fatalf("%s has no console block", page)
		}
		ts.Check(ts.Exec("bash", "-eu", "-o", "pipefail", "-c", script.String()))
		got := ts.ReadFile("stdout")
		if varies.ReplaceAllString(got, " ") != varies.ReplaceAllString(want.String(), " ") {
			ts.Fatalf("%s shows\n%s\nbut it is\n%s", page, want.String(), got)
		}
	}
}
