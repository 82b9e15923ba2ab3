// Package sdk runs the clients that Huawei Cloud's users have against the built Keyside on a real SoftHSM: the vendor's own
// SDK for Go, unmodified, by every way that leads to a sidecar, and the habits of its Terraform provider and of the older
// SDK. It is a module of its own so that no other module has to download the SDK.
package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// deadline bounds the start and the end of the node.
const deadline = time.Minute

// keyLimit is how many keys the tests may make. The documented limit would be too few.
const keyLimit = 500

// credential is what `keyside credential create --json` prints.
type credential struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
	ProjectID string `json:"project_id"`
}

// target is the node that all tests use.
var target struct {
	binary string
	node   *node.Node
	url    string // of localhost
	huawei client.Huawei
}

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "keyside-sdk-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	target.binary = filepath.Join(dir, "keyside")
	build := exec.Command("go", "build", "-C", "../..", "-trimpath", "-buildvcs=false", "-o", target.binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build keyside: %w\n%s", err, out)
	}
	// The SDK leaves an id of its own in the home folder. (Go's cache, which is there too, has been used by now.)
	if err := os.Setenv("HOME", dir); err != nil {
		return 0, err
	}
	address, err := freeAddress()
	if err != nil {
		return 0, err
	}
	target.url = "http://" + address
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	o := node.Options{Binary: target.binary, Dir: filepath.Join(dir, "node"), Driver: "softhsm", Args: []string{"--listen", address}}
	err = node.Edit(ctx, o, func(config map[string]any) { // the limit is the dialect's own
		config["huawei"] = map[string]any{"limits": map[string]any{"keys": keyLimit}}
	})
	if err != nil {
		return 0, err
	}
	if target.node, err = node.Start(ctx, o); err != nil {
		return 0, err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		err = errors.Join(err, target.node.Stop(ctx))
	}()
	c := client.New(target.node.Socket)
	defer c.Close()
	health, err := c.Health(ctx)
	if err != nil {
		return 0, err
	}
	target.huawei = health.Huawei
	return m.Run(), nil
}

// freeAddress returns a port of localhost on which no process listens.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// newCredential makes an access key as an operator does.
func newCredential(t *testing.T, user string, flags ...string) credential {
	t.Helper()
	var c credential
	text := keyside(t, append([]string{"credential", "create", "--json", "--user", user, "--role", "administrator"}, flags...)...)
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	if c.AccessKey == "" || c.SecretKey == "" || c.ProjectID == "" {
		t.Fatalf("credential lacks something: access key %q, project %q", c.AccessKey, c.ProjectID)
	}
	return c
}

// keyside runs a verb on the node and returns what it printed.
func keyside(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(target.binary, args...)
	cmd.Env = append(os.Environ(), "KEYSIDE_SOCKET="+target.node.Socket)
	out, err := cmd.Output()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		t.Fatalf("keyside %v: %v\n%s", args, err, ended.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	return out
}
