package test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"

	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// The two daemons as telemetry names them.
const (
	sidecarService = "keyside-sidecar"
	hsmdService    = "keyside-hsmd"
)

const secretText = "the-plaintext-that-no-signal-may-show"

// TestTelemetry runs a node that exports to a collector and to Prometheus, does an operation in a trace of the caller's,
// and looks at all that comes out.
func TestTelemetry(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*deadline)
	defer cancel()
	c := startCollector(t)
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm", Mode: "via-hsmd"}
	port := freePort(t)
	socket := filepath.Join(o.Dir, "metrics.sock")
	for file, listen := range map[string]string{"sidecar.yaml": port, "hsmd.yaml": "unix:" + socket} {
		err := node.EditFile(ctx, o, file, func(config map[string]any) {
			config["telemetry"] = map[string]any{"otlp_endpoint": c.url, "prometheus_listen": listen}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := node.Start(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Stop(ctx) })

	var made struct {
		Info struct {
			ID string `json:"key_id"`
		} `json:"key_info"`
	}
	createTrace := post(t, n, "create-key", map[string]any{"key_alias": "traced"}, &made)
	var sealed struct {
		Ciphertext []byte `json:"cipher_text"`
	}
	encryptTrace := post(t, n, "encrypt-data", map[string]any{"key_id": made.Info.ID, "plain_text": secretText}, &sealed)
	plain := client.New(n.Socket)
	defer plain.Close()
	dataKey, err := plain.GenerateDataKey(ctx, client.DataKeyRequest{KeyID: made.Info.ID, Length: 32})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Decrypt(ctx, client.DecryptRequest{Ciphertext: sealed.Ciphertext}); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{
		sidecarService: scrapeIdle(t, http.DefaultClient, "http://"+port),
		hsmdService:    scrapeIdle(t, node.Client(socket, 1), "http://hsmd"),
	}
	if tcp := sockets(t, n, "sidecar"); len(tcp) == 0 {
		t.Error("no TCP socket is seen of a sidecar that exports: the test of telemetry that is off would see none either")
	}
	if err := n.Stop(ctx); err != nil { // which sends what is left
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	checkTrace(t, c, createTrace, []string{
		"app > sidecar/keyside.request", "sidecar/keyside.request > sidecar/kms.create-key", "sidecar/kms.create-key > sidecar/keyside.mux",
		"sidecar/keyside.mux > sidecar/keyside.queue", "sidecar/keyside.mux > hsmd/keyside.mux",
		"hsmd/keyside.mux > hsmd/keyside.queue", "hsmd/keyside.mux > hsmd/keyside.driver",
	})
	checkTrace(t, c, encryptTrace, []string{
		"app > sidecar/keyside.request", "sidecar/keyside.request > sidecar/kms.encrypt-data", "sidecar/kms.encrypt-data > sidecar/keyside.mux",
		"sidecar/keyside.mux > sidecar/keyside.queue", "sidecar/keyside.mux > hsmd/keyside.mux",
		"hsmd/keyside.mux > hsmd/keyside.queue", "hsmd/keyside.mux > hsmd/keyside.driver",
		"hsmd/keyside.driver > hsmd/keyside.queue", "hsmd/keyside.driver > hsmd/keyside.session", "hsmd/keyside.driver > hsmd/keyside.hsm",
	})
	for _, service := range []string{sidecarService, hsmdService} {
		checkMetrics(t, service, c.metrics[service], texts[service])
	}
	pin, err := os.ReadFile(filepath.Join(o.Dir, "pin"))
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(c.raw, []byte(texts[sidecarService]), []byte(texts[hsmdService]))
	for what, secret := range map[string][]byte{
		"plaintext": []byte(secretText), "PIN": bytes.TrimSpace(pin), "data key": dataKey.Plaintext, "key id": []byte(made.Info.ID),
		"ciphertext": []byte(sealed.Ciphertext),
	} {
		for how, coded := range map[string]string{
			"as it is": string(secret), "in hex": hex.EncodeToString(secret), "in base64": base64.StdEncoding.EncodeToString(secret),
		} {
			if len(secret) == 0 || bytes.Contains(all, []byte(coded)) {
				t.Errorf("the %s is exported %s (%d bytes)", what, how, len(secret))
			}
		}
	}
}

// TestTelemetryOff holds that without configuration nothing listens and nothing is sent.
func TestTelemetryOff(t *testing.T) {
	n := startNode(t, "soft", "via-hsmd")
	for _, role := range []string{"sidecar", "hsmd"} {
		// A Unix socket that is made between two looks at /proc seems to be something else for a moment.
		waitFor(t, role+" has no socket that is no Unix socket", func() bool { return len(sockets(t, n, role)) == 0 })
	}
	listening, err := filepath.Glob(filepath.Join(n.Dir, "*.sock"))
	if want := []string{filepath.Join(n.Dir, "hsmd.sock"), filepath.Join(n.Dir, "kms.sock")}; err != nil || !slices.Equal(listening, want) {
		t.Errorf("sockets %v (%v), want %v", listening, err, want)
	}
}

// post does one operation in a trace of its own, and returns that trace's id.
func post(t *testing.T, n *node.Node, operation string, in, out any) string {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://localhost/v1.0/keyside/kms/"+operation, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	trace := fmt.Sprintf("%032x", len(operation)) // unlike those of other operations here
	req.Header.Set("Traceparent", "00-"+trace+"-"+appSpan+"-01")
	resp, err := node.Client(n.Socket, 1).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.UnmarshalRead(resp.Body, out); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", operation, resp.Status, err)
	}
	return trace
}

// appSpan is the application's own span, which exports elsewhere.
const appSpan = "00000000000000aa"

// checkTrace compares a trace with want, "parent > child" each, where a span is service/name.
func checkTrace(t *testing.T, c *collector, trace string, want []string) {
	t.Helper()
	spans := map[string]span{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == trace {
			spans[hex.EncodeToString(s.GetSpanId())] = s
		}
	}
	name := func(id []byte) string {
		if hex.EncodeToString(id) == appSpan {
			return "app"
		}
		s := spans[hex.EncodeToString(id)]
		return strings.TrimPrefix(s.service, "keyside-") + "/" + s.GetName()
	}
	var got []string
	for _, s := range spans {
		got = append(got, name(s.GetParentSpanId())+" > "+name(s.GetSpanId()))
		if parent, ok := spans[hex.EncodeToString(s.GetParentSpanId())]; ok &&
			(s.GetStartTimeUnixNano() < parent.GetStartTimeUnixNano() || s.GetEndTimeUnixNano() > parent.GetEndTimeUnixNano()) {
			t.Errorf("%s is not within the time of %s", name(s.GetSpanId()), name(s.GetParentSpanId()))
		}
		if s.GetName() == telemetry.SpanHSM && s.GetEndTimeUnixNano() <= s.GetStartTimeUnixNano() {
			t.Error("the HSM took no time")
		}
		if s.GetName() == telemetry.SpanMux && attribute(s.GetAttributes(), string(telemetry.AttrCode)) != "OK" {
			t.Errorf("%s has attributes %v", name(s.GetSpanId()), s.GetAttributes())
		}
		if strings.HasPrefix(s.GetName(), telemetry.SpanCore) && attribute(s.GetAttributes(), string(telemetry.AttrOutcome)) != "ok" {
			t.Errorf("%s has attributes %v", name(s.GetSpanId()), s.GetAttributes())
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("trace %s is\n%s\nwant\n%s", trace, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// checkMetrics looks at one daemon's metrics as the collector and as Prometheus got them.
func checkMetrics(t *testing.T, service string, sent map[string]*metrics.Metric, text string) {
	t.Helper()
	for _, name := range []string{telemetry.MetricQueueDuration, telemetry.MetricSessionDuration, telemetry.MetricHSMDuration} {
		var count uint64
		var sum float64
		for _, p := range sent[name].GetHistogram().GetDataPoints() {
			count, sum = count+p.GetCount(), sum+p.GetSum()
		}
		if count < 3 || sum <= 0 || sum > deadline.Seconds() { // encrypt, data key, decrypt
			t.Errorf("%s: %s has %d values, %v seconds together", service, name, count, sum)
		}
		if line := prometheusName(name) + `_seconds_bucket{keyside_code="OK",keyside_driver="softhsm",keyside_operation="ENCRYPT"`; !strings.Contains(text, line) {
			t.Errorf("%s: Prometheus shows no %s", service, line)
		}
	}
	for name, positive := range map[string]bool{
		telemetry.MetricReady: true, telemetry.MetricQueueLength: false, telemetry.MetricQueueLimit: true, telemetry.MetricInFlight: false,
		telemetry.MetricSessionsOpen: true, telemetry.MetricSessionsBusy: false, telemetry.MetricSessionsLimit: false, /* SoftHSM has none */
		telemetry.MetricLiveKeys: true, telemetry.MetricLiveKeysLimit: true,
	} {
		if len(sent[name].GetGauge().GetDataPoints()) == 0 {
			t.Errorf("%s: gauge %s was not sent", service, name)
		}
		_, after, found := strings.Cut(text, "\n"+prometheusName(name)+"{")
		line, _, _ := strings.Cut(after, "\n")
		if !found || strings.HasSuffix(line, " 0") == positive {
			t.Errorf("%s: Prometheus shows %s{%s", service, name, line)
		}
	}
	if service == sidecarService && sent[telemetry.MetricRequestDuration].GetHistogram() == nil {
		t.Error("the time of requests was not sent")
	}
}

func prometheusName(name string) string { return strings.ReplaceAll(name, ".", "_") }

// scrapeIdle scrapes until nothing is in flight: a canary may be.
func scrapeIdle(t *testing.T, client *http.Client, url string) (text string) {
	t.Helper()
	waitFor(t, url+" is idle", func() bool {
		text = scrape(t, client, url)
		_, after, _ := strings.Cut(text, "\n"+prometheusName(telemetry.MetricInFlight)+"{")
		line, _, _ := strings.Cut(after, "\n")
		return strings.HasSuffix(line, " 0")
	})
	return text
}

func scrape(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	defer client.CloseIdleConnections()
	resp, err := client.Get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return string(text)
}

// freePort returns an address of the loopback that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// sockets returns the sockets of the node's process in a role that are no Unix sockets. Only root may look into hsmd.
func sockets(t *testing.T, n *node.Node, role string) (found []string) {
	t.Helper()
	local, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range n.Processes(role) {
		dir := fmt.Sprintf("/proc/%d/fd", pid)
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrPermission) && role == "hsmd" {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			target, err := os.Readlink(filepath.Join(dir, e.Name()))
			inode, isSocket := strings.CutPrefix(strings.TrimSuffix(target, "]"), "socket:[")
			if err == nil && isSocket && !bytes.Contains(local, []byte(" "+inode)) {
				found = append(found, target)
			}
		}
	}
	return found
}
