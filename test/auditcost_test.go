package test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
	"github.com/keyside/keyside/sidecar/kms"
)

// unauditedVariable, where it is set, makes the sidecar of the test binary keep no records: the baseline of what they cost.
// Nothing that a user runs can do without them.
const unauditedVariable = "KEYSIDE_TEST_UNAUDITED_SIDECAR"

// unaudited takes every record and keeps none.
type unaudited struct{}

func (unaudited) Record(context.Context, *kms.AuditRecord) error { return nil }
func (unaudited) Line(*kms.AuditRecord) []byte                   { return nil }
func (unaudited) Ready(context.Context) error                    { return nil }

// BenchmarkAuditCost measures encrypt-data of 32 bytes through three hops at concurrency 32 with the audit log on disk, with it
// unsynced, and without any record, in turns. The log may cost a quarter of the throughput.
func BenchmarkAuditCost(b *testing.B) {
	nodes := []*costNode{{name: "none"}, {name: "unsynced"}, {name: "synced"}}
	for _, n := range nodes {
		n.start(b)
	}
	const rounds, length = 7, 700 * time.Millisecond
	for range b.N {
		rates := map[string][]float64{}
		for range rounds {
			for _, n := range nodes {
				n.load(b, length/4)
				rates[n.name] = append(rates[n.name], n.load(b, length))
			}
		}
		for _, n := range nodes {
			cost := make([]float64, rounds)
			for i := range cost {
				cost[i] = 100 * (1 - rates[n.name][i]/rates["none"][i])
			}
			slices.Sort(cost)
			slices.Sort(rates[n.name])
			b.ReportMetric(rates[n.name][rounds/2], n.name+"-op/s")
			b.ReportMetric(cost[rounds/2], n.name+"-cost-%")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// costNode is a node whose sidecar is the test binary.
type costNode struct {
	name   string
	client *http.Client
	body   string
}

func (n *costNode) start(b *testing.B) {
	dir := filepath.Join(b.TempDir(), "n")
	o := node.Options{Binary: binary, Dir: dir, Driver: "softhsm"}
	if err := node.Edit(b.Context(), o, func(config map[string]any) {
		config["audit"].(map[string]any)["sync"] = n.name == "synced"
	}); err != nil {
		b.Fatal(err)
	}
	n.run(b, exec.Command(binary, "hsmd", "--config", filepath.Join(dir, "hsmd.yaml")))
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), clockVariable+"="+filepath.Join(dir, "sidecar.yaml"))
	if n.name == "none" {
		cmd.Env = append(cmd.Env, unauditedVariable+"=1")
	}
	n.run(b, cmd)
	socket := filepath.Join(dir, "kms.sock")
	c := client.New(socket)
	defer c.Close()
	var key *client.Key
	for end := time.Now().Add(deadline); key == nil; <-time.After(20 * time.Millisecond) {
		if key, err = c.CreateKey(b.Context(), client.CreateKeyRequest{Alias: "k"}); err != nil && time.Now().After(end) {
			b.Fatal(err)
		}
	}
	n.client = node.Client(socket, 32)
	n.body = fmt.Sprintf(`{"key_id":%q,"plain_text":%q}`, key.ID, strings.Repeat("k", 32))
}

// run runs a daemon until the benchmark ends. What it reads first is that its clock is not moved.
func (n *costNode) run(b *testing.B, cmd *exec.Cmd) {
	in, err := cmd.StdinPipe()
	if err == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.WriteString(in, "0s\n")
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
}

// load encrypts in 32 closed loops and returns how many operations a second end.
func (n *costNode) load(b *testing.B, d time.Duration) float64 {
	var done atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range 32 {
		all.Go(func() {
			for time.Since(began) < d {
				res, err := n.client.Post("http://localhost/v1.0/keyside/kms/encrypt-data", "application/json", strings.NewReader(n.body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if res.StatusCode != http.StatusOK {
					b.Errorf("%s: %s", n.name, res.Status)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}
