package audit

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

// TestRecordsReachNoTerminal checks that control characters in records and reports are quoted.
func TestRecordsReachNoTerminal(t *testing.T) {
	const evil = "\x1b]0;gotcha\a"
	var out bytes.Buffer
	record := map[string]string{"time": "2030-12-31T00:00:00Z"}
	for _, name := range []string{"operation", "trace", "principal", "key_id", "target", "by", "outcome"} {
		record[name] = evil
	}
	text, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	if err := entryPrinter(&out, false)(&client.AuditEntry{Record: 1, File: "audit-00000001.jsonl", Line: 1, Entry: text}); err != nil {
		t.Fatal(err)
	}
	cmd := new(cobra.Command)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	for _, r := range []*client.AuditReport{
		{Origin: evil, Keys: []string{evil}, Notes: []string{evil}}, {Findings: []client.AuditFinding{{Kind: evil, File: evil, Detail: evil}}},
	} {
		if err := printReport(cmd, r, "the export itself"); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(out.String(), "gotcha"); n < 7 {
		t.Errorf("only %d are shown:\n%s", n, out.String())
	}
	if strings.ContainsAny(out.String(), "\x1b\a") {
		t.Errorf("control characters are shown: %q", out.String())
	}
}
