package test

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/sidecar/bench/node"
)

// manifest is what an archive in testdata/compat contains beside the data: what the build that made the data answered. The PIN,
// access keys and tokens in there protect nothing else.
type manifest struct {
	Build       string            // the commit
	Time        time.Time         // when the answers were recorded, by the sidecar's clock
	Credentials map[string]signer // by user
	Tokens      map[string]string // by user; they expire 24 hours after Time
	Files       map[string]string // plaintext by name of the encrypted file in files/
	Records     map[string]int    // number of audit records by stored and by trace name of the operation
	Outcomes    map[string]int    // number of audit records by outcome, under the error codes of that build
	Checks      []recordedRequest
	CanI        []struct { // calls of `keyside can-i`
		Args []string
		Code int // exit code
	} `json:"can_i"`
}

// recordedRequest is a request of the Huawei dialect that changes nothing, with its answer.
type recordedRequest struct {
	By     string // user who signs, "token:USER", or empty: the owner, by its uid
	Port   bool   // sent to the loopback address instead of the socket
	Method string
	Path   string
	Body   json.RawMessage
	Status int
	Answer json.RawMessage // without the error's text and request id; empty if the body differs from call to call
}

// TestCompatibility opens data folders of older builds. Ciphertexts, signatures, MACs, grants, policies, access keys, tokens,
// files and audit records must mean what they meant to the build that wrote them.
func TestCompatibility(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"soft-7a10193", "softhsm-7a10193"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkCompatible(t, name)
		})
	}
}

func checkCompatible(t *testing.T, name string) {
	dir, endpoint := t.TempDir(), freePort(t)
	driver, _, _ := strings.Cut(name, "-")
	// A first run writes the configuration for this machine; its keys and database give way to the archive's.
	err := node.Edit(t.Context(), node.Options{Binary: binary, Dir: dir, Driver: driver}, func(config map[string]any) {
		config["listen"] = endpoint
		config["policy"] = map[string]any{"dir": filepath.Join(dir, "policies")}
	})
	if err != nil {
		t.Fatal(err)
	}
	unpackOver(t, dir, filepath.Join("testdata", "compat", name+".zip"))
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	n := startClockedAt(t, dir, time.Until(m.Time))
	socket := node.Client(filepath.Join(dir, "kms.sock"), 1)
	defer socket.CloseIdleConnections()
	for _, r := range m.Checks {
		client, base := socket, "http://localhost"
		if r.Port {
			client, base = http.DefaultClient, "http://"+endpoint
		}
		r.check(t, client, base, &m, time.Now().Add(n.ahead))
	}
	n.checkVerbs(&m)
	n.checkRecords(&m)
}

// unpackOver puts the content of an archive in the place of what dir has by the same names.
func unpackOver(t *testing.T, dir, name string) {
	t.Helper()
	archive, err := zip.OpenReader(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = archive.Close() }()
	entries, err := fs.ReadDir(archive, ".")
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	err = errors.Join(err, os.CopyFS(dir, archive))
	err = errors.Join(err, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return os.Chmod(path, 0o700)
		case d.Type().IsRegular():
			return os.Chmod(path, 0o600)
		}
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
}

var errorText = regexp.MustCompile(`"(error_msg|request_id)":"(\\.|[^"\\])*"`)

// changedAnswers are the parts of answers that are meant to differ from those of the builds that made the archives.
var changedAnswers = []struct{ before, now string }{
	// An interval without a rotation stops Terraform's provider.
	{`"key_rotation_enabled":false,"rotation_interval":365`, `"key_rotation_enabled":false,"rotation_interval":0`},
}

// check sends the request at a time of the sidecar's clock.
func (r *recordedRequest) check(t *testing.T, client *http.Client, base string, m *manifest, now time.Time) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.Method, base+r.Path, bytes.NewReader(r.Body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if user, isToken := strings.CutPrefix(r.By, "token:"); isToken {
		req.Header.Set("X-Auth-Token", m.Tokens[user])
	} else if r.By != "" {
		m.Credentials[r.By].sign(req, string(r.Body), now)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	var want bytes.Buffer
	if len(r.Answer) > 0 {
		if err := json.Compact(&want, r.Answer); err != nil {
			t.Fatal(err)
		}
	}
	got := errorText.ReplaceAll(answer, []byte(`"$1":""`))
	for _, c := range changedAnswers {
		want = *bytes.NewBuffer(bytes.ReplaceAll(want.Bytes(), []byte(c.before), []byte(c.now)))
	}
	if resp.StatusCode != r.Status || want.Len() > 0 && !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s %s %s by %q:\n got %d %s\nwant %d %s", r.Method, r.Path, r.Body, r.By, resp.StatusCode, answer, r.Status, &want)
	}
}

// keyside runs a verb against the node and returns its standard output and exit code.
func (n *clocked) keyside(args ...string) (stdout string, code int) {
	cmd := exec.CommandContext(n.Context(), binary, args...)
	cmd.Env = append(os.Environ(), "KEYSIDE_SOCKET="+filepath.Join(n.dir, "kms.sock"))
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		n.Error(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// checkVerbs checks what only the command line shows: encrypted files, explained decisions, the audit log's integrity.
func (n *clocked) checkVerbs(m *manifest) {
	n.Helper()
	for name, want := range m.Files {
		if got, code := n.keyside("file", "decrypt", filepath.Join(n.dir, "files", name), "-"); code != 0 || got != want {
			n.Errorf("file decrypt %s: exit code %d, %q", name, code, got)
		}
	}
	for _, c := range m.CanI {
		if out, code := n.keyside(append([]string{"can-i"}, c.Args...)...); code != c.Code {
			n.Errorf("can-i %s: exit code %d, want %d: %s", strings.Join(c.Args, " "), code, c.Code, out)
		}
	}
	if out, code := n.keyside("audit", "verify"); code != 0 {
		n.Errorf("audit verify: exit code %d: %s", code, out)
	}
}

// checkRecords looks for the records of each operation by its stored, trace and neutral names, and of each outcome.
func (n *clocked) checkRecords(m *manifest) {
	n.Helper()
	named := maps.Clone(m.Records)
	for stored, records := range m.Records {
		if neutral := policy.Operation(stored).Name(); neutral != stored {
			named[neutral] += records
		}
	}
	limit := make(chan struct{}, 4) // processes at once
	var wg sync.WaitGroup
	for flag, want := range map[string]map[string]int{"--operation": named, "--outcome": m.Outcomes} {
		for value, records := range want {
			wg.Go(func() {
				limit <- struct{}{}
				defer func() { <-limit }()
				out, code := n.keyside("audit", "query", flag, value, "--until", m.Time.Format(time.RFC3339), "--json")
				got := strings.Count(out, "\n")
				more := flag == "--outcome" && got > records // a code of today replaces several
				if code != 0 || got != records && !more {
					n.Errorf("audit query %s %s: exit code %d, %d records, want %d", flag, value, code, got, records)
				}
			})
		}
	}
	wg.Wait()
}
