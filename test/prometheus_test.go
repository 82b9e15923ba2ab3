package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd/telemetry"
)

// exported returns the name of a metric as Prometheus has it.
func exported(m telemetry.Metric) string {
	name := prometheusName(m.Name) + map[string]string{"s": "_seconds", "By": "_bytes", "%": "_percent"}[m.Unit]
	if m.Kind == telemetry.Counter {
		name += "_total"
	}
	return name
}

// TestMetrics writes the table of metrics in docs/telemetry.md.
func TestMetrics(t *testing.T) {
	table := "| Metric | In Prometheus | Kind | By | From | Meaning |\n|---|---|---|---|---|---|\n"
	seen := map[string]bool{}
	for _, m := range telemetry.Metrics {
		if seen[m.Name] || m.Meaning == "" || m.Kind == telemetry.Histogram && m.Unit != "s" {
			t.Errorf("%s stands in the table twice, without meaning, or is a duration in another unit than seconds", m.Name)
		}
		seen[m.Name] = true
		var by []string
		for _, key := range m.By {
			by = append(by, strings.TrimPrefix(string(key), "keyside."))
		}
		table += fmt.Sprintf("| `%s` | `%s` | %s | %s | %s | %s |\n", m.Name, exported(m), m.Kind, strings.Join(by, ", "), m.From, m.Meaning)
	}
	generated(t, "../docs/telemetry.md", "metrics", "TestMetrics", table)
}

// monitored is a node with a Prometheus server that scrapes it and evaluates the alert rules.
type monitored struct {
	*operated
	api string
}

// monitor starts a node with everything that has a metric, and Prometheus with the configuration of deploy/.
func monitor(t *testing.T) *monitored {
	t.Helper()
	o := operate(t, runbook{volume: "1g", config: func(o *operated, config map[string]any) {
		configureTLS(o, config)
		config["backups"] = map[string]any{"directory": o.path("backups")}
		o.check(os.Mkdir(o.path("backups"), 0o700))
	}})
	o.renewCertificate()
	o.check(os.Rename(o.path("root", "tls.key"), o.path("tls.key")))
	o.check(os.Rename(o.path("root", "tls.crt"), o.path("tls.crt")))
	o.units["keyside-hsmd"].stop() // for the sidecar, a driver process that is replaced
	o.check(o.units["keyside-hsmd"].start())
	o.serves()
	o.kill(o.driver())
	o.serves()
	o.failImport()
	o.check(roundTrip(t.Context(), o.Client, o.key, "monitored"))

	example, err := os.ReadFile("../deploy/prometheus/scrape.example.yaml")
	o.check(err)
	rules, err := filepath.Abs("../deploy/prometheus/keyside.rules.yaml")
	o.check(err)
	config := strings.NewReplacer("/etc/prometheus/keyside.rules.yaml", rules, "127.0.0.1:9464", o.metrics, "127.0.0.1:9465", o.hsmdMetrics).Replace(string(example))
	config = "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\n" + config
	o.check(os.WriteFile(o.path("prometheus.yml"), []byte(config), 0o600))
	address := freePort(t)
	var log bytes.Buffer
	cmd := exec.Command("prometheus", "--config.file="+o.path("prometheus.yml"), "--storage.tsdb.path="+o.path("tsdb"), "--web.listen-address="+address, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("Prometheus does not start, see .ci/install: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return &monitored{o, "http://" + address + "/api/v1/"}
}

// get asks Prometheus's API, and returns false while it does not answer with success.
func (m *monitored) get(path string, data any) bool {
	m.Helper()
	res, err := http.Get(m.api + path)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Status string
		Error  string
		Data   json.RawMessage
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Status != "success" {
		if answer.Error != "" {
			m.Errorf("%s: %s", path, answer.Error)
		}
		return false
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		m.Errorf("%s: %v", path, err)
	}
	return true
}

// query returns how many series an expression has now.
func (m *monitored) query(expr string) int {
	m.Helper()
	var data struct {
		Result []json.RawMessage
	}
	if !m.get("query?query="+url.QueryEscape(expr), &data) {
		return 0
	}
	return len(data.Result)
}

// queries returns the queries of the dashboard, with values for Grafana's variables, by their panels.
func queries(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../deploy/grafana/keyside.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".+").Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("panel %s has a variable that no test knows: %s", p.Title, expr)
			}
			found[p.Title] = append(found[p.Title], expr)
		}
	}
	return found
}

// TestPrometheus scrapes a real node. Each daemon exports exactly the metrics of the table, every query of the dashboard has a result, and
// every alert rule is evaluated without one that fires.
func TestPrometheus(t *testing.T) {
	m := monitor(t)
	for process, address := range map[telemetry.Processes]string{telemetry.FromSidecar: m.metrics, telemetry.FromHSMD: m.hsmdMetrics} {
		text := scrape(t, http.DefaultClient, "http://"+address)
		families := map[string]string{}
		for _, f := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(text, -1) {
			families[f[1]] = f[2]
		}
		for _, metric := range telemetry.Metrics {
			kind, ok := families[exported(metric)]
			delete(families, exported(metric))
			if wanted := metric.From == telemetry.FromBoth || metric.From == process; ok != wanted || ok && kind != string(metric.Kind) {
				t.Errorf("%s exports %s: %t, as %s, and the table says %s, from %s", process, exported(metric), ok, kind, metric.Kind, metric.From)
			}
			for _, by := range metric.By {
				if ok && !regexp.MustCompile(`(?m)^`+exported(metric)+`(_sum)?\{.*`+prometheusName(string(by))+`="`).MatchString(text) {
					t.Errorf("%s: %s has no label %s", process, exported(metric), by)
				}
			}
		}
		delete(families, "target_info")
		for name := range families {
			t.Errorf("%s exports %s, which is not in the table", process, name)
		}
	}
	waitFor(t, "both daemons are scraped", func() bool { return m.query(`up{job=~"keyside-.+"} == 1`) == 2 })
	for title, exprs := range queries(t) {
		for _, expr := range exprs {
			waitFor(t, fmt.Sprintf("panel %s has a result of %s", title, expr), func() bool { return m.query(expr) > 0 || t.Failed() })
		}
	}
	m.wantRules()
}

// wantRules waits until every rule was evaluated. None may fire, or be about to.
func (m *monitored) wantRules() {
	m.Helper()
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	waitFor(m.T, "every rule is evaluated", func() bool {
		return m.get("rules", &data) && len(data.Groups) == 1 && !slices.ContainsFunc(data.Groups[0].Rules, func(r struct{ Name, Health, LastError, State string }) bool {
			return r.Health == "unknown"
		})
	})
	for _, r := range data.Groups[0].Rules {
		if r.Health != "ok" || r.State != "inactive" {
			m.Errorf("%s: %s, %s on a node where all is well: %s", r.Name, r.Health, r.State, r.LastError)
		}
	}
	if n := len(data.Groups[0].Rules); n != len(alertCases) {
		m.Errorf("%d rules and %d cases of TestAlerts", n, len(alertCases))
	}
}

// alertCase is how series of a metric make an alert fire: `bad` for an hour, and `good` not. Values are in promtool's notation.
type alertCase struct {
	series    []string
	bad, good []string
}

var alertCases = map[string]alertCase{
	"KeysideDown":                {[]string{`up{job="keyside-sidecar"}`}, []string{"0x60"}, []string{"1x60"}},
	"KeysideRestarting":          {[]string{`keyside_start_time_seconds`}, []string{"1+100x60"}, []string{"1x30 2x30"}},
	"KeysideAuditUnavailable":    {[]string{`keyside_health{keyside_check="audit"}`}, []string{"0x60"}, []string{"1x60"}},
	"KeysideHSMUnavailable":      {[]string{`keyside_health{keyside_check="hsm"}`}, []string{"0x60"}, []string{"1x59 0"}},
	"KeysideDatabaseUnavailable": {[]string{`keyside_health{keyside_check="store"}`, `keyside_store_broken`}, []string{"1x60", "1x60"}, []string{"1x60", "0x60"}},
	"KeysideDiskFull":            {[]string{`keyside_disk_free_bytes`}, []string{"134217727x60"}, []string{"134217728x60"}},
	"KeysideDiskLow":             {[]string{`keyside_disk_free_bytes`, `keyside_disk_size_bytes`}, []string{"14000000000x60", "100000000000x60"}, []string{"16000000000x60", "100000000000x60"}},
	"KeysideAuditFailures":       {[]string{`keyside_audit_failures_total`}, []string{"0x50 5x10"}, []string{"5x60"}},
	"KeysideAuditGap":            {[]string{`keyside_audit_gaps`, `keyside_audit_owed`}, []string{"0x60", "1x60"}, []string{"0x60", "0x58 1 0"}},
	"KeysideCheckpointOld":       {[]string{`keyside_audit_checkpoint_age_seconds`, `keyside_audit_unsigned`}, []string{"0+60x60", "3x60"}, []string{"0+60x60", "0x60"}},
	"KeysideDriverDown":          {[]string{`keyside_driver_ready`}, []string{"0x60"}, []string{"1x60"}},
	"KeysideDriverRestarting":    {[]string{`keyside_driver_restarts_total`}, []string{"0+1x60"}, []string{"0x50 1x10"}},
	"KeysideErrors":              {[]string{`keyside_requests_total{keyside_code="Internal"}`, `keyside_requests_total{keyside_code="OK"}`}, []string{"0+2x60", "0+98x60"}, []string{"0+1x60", "0+200x60"}},
	"KeysideOverload":            {[]string{`keyside_requests_total{keyside_code="Busy"}`, `keyside_requests_total{keyside_code="OK"}`}, []string{"0+3x60", "0+97x60"}, []string{"0+1x60", "0+99x60"}},
	"KeysideSlow": {[]string{`keyside_request_duration_seconds_bucket{keyside_operation="encrypt-data",le="1"}`, `keyside_request_duration_seconds_bucket{keyside_operation="encrypt-data",le="2.5"}`,
		`keyside_request_duration_seconds_bucket{keyside_operation="encrypt-data",le="+Inf"}`}, []string{"0+90x60", "0+100x60", "0+100x60"}, []string{"0+100x60", "0+100x60", "0+100x60"}},
	"KeysideConnectionsHigh":   {[]string{`keyside_connections`, `keyside_connections_limit`}, []string{"90x60", "100x60"}, []string{"70x60", "100x60"}},
	"KeysideDescriptorsHigh":   {[]string{`keyside_descriptors`, `keyside_descriptors_limit`}, []string{"90x60", "100x60"}, []string{"70x60", "100x60"}},
	"KeysideImportsFailing":    {[]string{`keyside_imports_total{keyside_code="BAD_MATERIAL"}`}, []string{"0+6x60"}, []string{"0+1x60"}},
	"KeysideCertificateExpiry": {[]string{`keyside_certificate_remaining_seconds`}, []string{"1209599x60"}, []string{"1209600x60"}},
	"KeysideBackupOld":         {[]string{`keyside_backup_age_seconds`, `keyside_backup_failed`}, []string{"129601x60", "0x60"}, []string{"129600x60", "0x58 1 0"}},
	"KeysideMessagesLow":       {[]string{`keyside_messages_left`}, []string{"268435455x60"}, []string{"268435456x60"}},
	"KeysideClockJumped":       {[]string{`keyside_deletions_waiting`}, []string{"1x60"}, []string{"0x60"}},
}

// TestAlerts has promtool evaluate each rule over an hour that it is for, and over one that it is not for.
func TestAlerts(t *testing.T) {
	rules, err := filepath.Abs("../deploy/prometheus/keyside.rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	type sample struct {
		Labels string  `yaml:"labels"`
		Value  float64 `yaml:"value"`
	}
	type exprTest struct {
		Expr    string   `yaml:"expr"`
		At      string   `yaml:"eval_time"`
		Samples []sample `yaml:"exp_samples"`
	}
	type series struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	}
	type ruleTest struct {
		Interval string     `yaml:"interval"`
		Name     string     `yaml:"name"`
		Series   []series   `yaml:"input_series"`
		Tests    []exprTest `yaml:"promql_expr_test"`
	}
	all := ruleTest{Interval: "1m", Name: "every alert on an instance of its own"}
	for alert, c := range alertCases {
		for instance, values := range map[string][]string{alert + "/bad": c.bad, alert + "/good": c.good} {
			for i, s := range c.series {
				name, labels, _ := strings.Cut(s, "{")
				all.Series = append(all.Series, series{name + `{instance="` + instance + `",` + strings.TrimSuffix(labels, "}") + "}", values[i]})
			}
			want := exprTest{Expr: fmt.Sprintf(`count(ALERTS{alertname="%s",instance="%s",alertstate="firing"})`, alert, instance), At: "1h"}
			if strings.HasSuffix(instance, "/bad") {
				want.Samples = []sample{{"{}", 1}}
			}
			all.Tests = append(all.Tests, want)
		}
	}
	text, err := yaml.Marshal(map[string]any{"rule_files": []string{rules}, "evaluation_interval": "1m", "tests": []ruleTest{all}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "alerts.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check", "rules", "--lint-fatal", rules}, {"test", "rules", path}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
