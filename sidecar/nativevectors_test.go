package sidecar

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/keyside/keyside/sidecar/client"
)

var update = flag.Bool("update", false, "write the answers of dialect/keyside/testdata; read the difference before you commit it")

// TestNativeVectors replays dialect/keyside/testdata/*.txtar: requests of the native API and their whole answers. Each file
// begins with an empty sidecar. The first line of a step is the operation, and after it the body. Lines with # say more:
//
//	# as COLUMN          the caller, as policy/testdata/rights.txt has it; else the owner
//	# advance DAYS       before the request, the clock moves and the scheduler runs
//	# keep NAME MEMBER   $NAME in later steps is this member of the answer
//
// In answers, what is different each time is hidden.
func TestNativeVectors(t *testing.T) {
	files, err := filepath.Glob("dialect/keyside/testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive := must(txtar.ParseFile(file))
			w := newRightsWorld(t)
			w.words = map[string]string{}
			var ids []string
			for i := 0; i+1 < len(archive.Files); i += 2 {
				step, want := archive.Files[i], &archive.Files[i+1]
				if !strings.HasPrefix(want.Name, "answer") {
					t.Fatalf("step %q has no answer", step.Name)
				}
				got, id := w.step(string(step.Data))
				ids = append(ids, id)
				if *update {
					want.Data = []byte(got)
				} else if got != string(want.Data) {
					t.Errorf("%s:\n got %s\nwant %s", step.Name, got, want.Data)
				}
			}
			log := w.node.audit()
			for i, id := range ids {
				if !strings.Contains(log, id) {
					t.Errorf("step %d is not on record", i+1)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// hidden are the forms of what is different each time, and what stands for it.
var hidden = []struct {
	form  *regexp.Regexp
	shown string
}{
	{regexp.MustCompile(`"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"`), `"ID"`},
	{regexp.MustCompile(`"20\d\d-\d\d-\d\dT[0-9:.]+Z"`), `"TIME"`},
	{regexp.MustCompile(`"[0-9A-Z]{20}"`), `"ACCESS KEY"`},
	{regexp.MustCompile(`"[0-9A-Za-z+/_-]{40,}=*"`), `"BYTES"`},
	{regexp.MustCompile(`"check_value":"[^"]{11}="`), `"check_value":"BYTES"`},
}

// step does one step and returns its answer in the form of the files, and its request id.
func (w *rightsWorld) step(text string) (shown, id string) {
	w.Helper()
	caller := rightsCallers[0]
	var body []string
	var keep [][]string
	for line := range strings.Lines(text) {
		directive, ok := strings.CutPrefix(line, "# ")
		words := strings.Fields(directive)
		switch {
		case !ok:
			body = append(body, line)
		case words[0] == "as":
			caller = rightsCallers[slices.IndexFunc(rightsCallers, func(c rightsCaller) bool { return c.column == words[1] })]
		case words[0] == "advance":
			w.clock.now = w.clock.now.Add(time.Duration(must(strconv.Atoi(words[1]))) * 24 * time.Hour)
			w.process.core.RunDue(w.Context())
		case words[0] == "keep":
			keep = append(keep, words[1:])
		}
	}
	operation, request, _ := strings.Cut(strings.TrimSpace(strings.Join(body, "")), " ")
	answer := w.ask(caller, http.MethodPost, client.BasePath+operation, w.expand(request))
	var members map[string]any
	if err := json.Unmarshal(answer.Body.Bytes(), &members); err != nil {
		w.Errorf("%s: %v in %s", operation, err, answer.Body)
	}
	for _, k := range keep {
		w.words[k[0]] = fmt.Sprint(members[k[1]])
	}
	shown = answer.Body.String()
	for _, h := range hidden {
		shown = h.form.ReplaceAllString(shown, h.shown)
	}
	return fmt.Sprintf("%d\n%s\n", answer.Code, strings.TrimSpace(shown)), answer.Header().Get("X-Request-Id")
}
