package huawei

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the answers of the vectors anew; read the difference before you commit it")

var requestID = regexp.MustCompile(`"request_id":"[0-9a-f]{32}"`)

// TestVectors replays testdata/*.txtar: whole requests and whole answers, byte for byte. A file begins with an empty
// sidecar. Lines that begin with # say more of a step:
//
//	# keep NAME FIELD    $NAME in later steps stands for this field of the answer
//	# hide FIELD         the field is random, and shown as …
//	# advance DAYS       before the request, the clock goes on, and what is due is done
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	v := replayed{newServer(t, os.Getuid()), map[string]string{}}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		request, want := archive.Files[i], &archive.Files[i+1]
		if !strings.HasPrefix(want.Name, "answer") {
			t.Fatalf("%s: step %q has no answer", file, request.Name)
		}
		got := v.step(string(request.Data))
		if *update {
			want.Data = []byte(got)
		} else if got != string(want.Data) {
			t.Errorf("%s:\n got %s\nwant %s", request.Name, got, want.Data)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// replayed is the steps of one file: a server, and what earlier steps kept.
type replayed struct {
	*server
	kept map[string]string
}

// step does one step and renders its answer.
func (v *replayed) step(text string) string {
	v.t.Helper()
	head, rest, _ := strings.Cut(text, "\n")
	method, path, ok := strings.Cut(v.expand(head), " ")
	if !ok {
		v.t.Fatalf("step %q is malformed", head)
	}
	var body []string
	var directives [][]string
	for _, line := range strings.Split(rest, "\n") {
		if directive, ok := strings.CutPrefix(line, "# "); ok {
			directives = append(directives, strings.Fields(directive))
		} else if line != "" {
			body = append(body, line)
		}
	}
	for _, d := range directives {
		if d[0] == "advance" {
			days, err := strconv.Atoi(d[1])
			if err != nil {
				v.t.Fatal(err)
			}
			v.clock.advance(days)
			v.core.RunDue(v.context())
		}
	}
	a := v.send(method, path, v.expand(strings.Join(body, "\n")))
	answer := requestID.ReplaceAllString(string(a.body), `"request_id":"…"`)
	for _, d := range directives {
		switch d[0] {
		case "keep":
			v.kept[d[1]] = a.field(v.t, d[2])
		case "hide":
			answer = strings.Replace(answer, a.field(v.t, d[1]), "…", 1)
		}
	}
	return fmt.Sprintf("%d\n%s\n", a.status, answer)
}

func (v *replayed) expand(text string) string {
	return os.Expand(text, func(name string) string {
		value, ok := v.kept[name]
		if !ok {
			v.t.Fatalf("$%s was not kept", name)
		}
		return value
	})
}
