package huawei

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the answers of the vectors anew; read the difference before you commit it")

var requestID = regexp.MustCompile(`"request_id":"[0-9a-f]{32}"`)

// TestVectors replays testdata/*.txtar: whole requests and whole answers, byte for byte. A file begins with an empty
// sidecar. What $name stands for was kept by an earlier "# keep name field" of the same file.
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
	s := newServer(t, os.Getuid())
	kept := map[string]string{}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		request, want := archive.Files[i], &archive.Files[i+1]
		head, body, _ := strings.Cut(string(request.Data), "\n")
		method, path, ok := strings.Cut(head, " ")
		if !ok || !strings.HasPrefix(want.Name, "answer") {
			t.Fatalf("%s: step %q is malformed", file, request.Name)
		}
		body, keep, _ := strings.Cut(body, "# keep ")
		body = os.Expand(strings.TrimSpace(body), func(name string) string {
			v, ok := kept[name]
			if !ok {
				t.Fatalf("%s: $%s was not kept", request.Name, name)
			}
			return v
		})
		a := s.send(method, path, body)
		got := fmt.Sprintf("%d\n%s\n", a.status, requestID.ReplaceAllString(string(a.body), `"request_id":"…"`))
		if name, field, ok := strings.Cut(strings.TrimSpace(keep), " "); ok {
			kept[name] = a.field(t, field)
		}
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
