package test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/keyside/keyside/sidecar/bench/node"
	"github.com/keyside/keyside/sidecar/client"
)

// connections is how many connections TestPlaintextInMemory uses at once.
const connections = 8

// saved is how many copies may be among the registers that the Go runtime saved when it preempted a goroutine in the midst of a copy.
const saved = 4

// TestPlaintextInMemory sends one plaintext 1,000 times through each operation, over 8 connections that stay open, and counts its
// copies in the memory of each process afterwards. SECURITY.md says what holds the copies that are left, all in the sidecar.
func TestPlaintextInMemory(t *testing.T) {
	for _, driver := range []string{"soft", "softhsm"} {
		t.Run(driver, func(t *testing.T) {
			n := startNode(t, driver, "via-hsmd")
			c := client.New(n.Socket)
			defer c.Close()
			key, err := c.CreateKey(t.Context(), client.CreateKeyRequest{Alias: "memory"})
			if err != nil {
				t.Fatal(err)
			}
			plaintext := "kqzvx" + strings.Repeat("7#Wm", 6) + "jyp"
			encoded := base64.StdEncoding.EncodeToString([]byte(plaintext))
			ciphertexts := map[string]string{}
			http := node.Client(n.Socket, connections)
			defer http.CloseIdleConnections()
			const huawei, native = "/v1.0/keyside/kms/", "/keyside/v1/"
			for _, step := range []struct {
				path, body string
				most       int // copies in the sidecar
			}{
				// The buffer from which net/http read a request.
				{huawei + "encrypt-data", `{"key_id":"` + key.ID + `","plain_text":"` + plaintext + `"}`, connections},
				// Also the two buffers through which net/http wrote a response, the smaller of them pooled. Huawei's has the
				// plaintext in two forms.
				{huawei + "decrypt-data", `{"cipher_text":"CIPHERTEXT"}`, 5 * connections},
				{native + "encrypt", `{"key_id":"` + key.ID + `","plaintext":"` + encoded + `"}`, connections},
				{native + "decrypt", `{"ciphertext":"CIPHERTEXT"}`, 3 * connections},
			} {
				dialect := step.path[:strings.LastIndex(step.path, "/")]
				answer := repeat(t, http, step.path, strings.ReplaceAll(step.body, "CIPHERTEXT", ciphertexts[dialect]))
				for _, member := range []string{"cipher_text", "ciphertext"} {
					if text, ok := answer[member].(string); ok {
						ciphertexts[dialect] = text
					}
				}
				for role, most := range map[string]int{"sidecar": step.most + saved, "hsmd": saved, "driver": saved} {
					for _, pid := range n.Processes(role) {
						found := scan(t, pid, plaintext, encoded)
						t.Logf("%s after %s: %d", role, step.path, len(found))
						if len(found) > most {
							t.Errorf("after %s the plaintext is %d times in the memory of %s, want at most %d:\n%s", step.path, len(found), role, most, strings.Join(found, "\n"))
						}
					}
				}
			}
		})
	}
}

// repeat sends a request 1,000 times over the client's connections and returns an answer.
func repeat(t *testing.T, c *http.Client, path, body string) map[string]any {
	t.Helper()
	answers := make(chan []byte, connections)
	for range connections {
		go func() {
			var last []byte
			defer func() { answers <- last }()
			for range 1000 / connections {
				res, err := c.Post("http://keyside"+path, "application/json", strings.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				last, err = io.ReadAll(res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("%s: %d %s, %v", path, res.StatusCode, last, err)
					return
				}
			}
		}()
	}
	var answer map[string]any
	for range connections {
		if err := json.Unmarshal(<-answers, &answer); err != nil {
			t.Fatal(err)
		}
	}
	return answer
}

// scan returns where a process's memory has one of the patterns: the address, and what is around it.
func scan(t *testing.T, pid int, patterns ...string) (found []string) {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mem.Close() }()
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if mode[0] != 'r' || strings.Contains(line, "[v") { // vvar and vsyscall cannot be read
			continue
		}
		b := make([]byte, to-from)
		n, _ := mem.ReadAt(b, int64(from)) // what is mapped behind the end of a file cannot be read
		b = b[:n]
		for _, pattern := range patterns {
			for at := 0; ; at++ {
				i := bytes.Index(b[at:], []byte(pattern))
				if i < 0 {
					break
				}
				at += i
				found = append(found, fmt.Sprintf("%x: %.150q", from+uint64(at), b[max(0, at-48):min(len(b), at+len(pattern)+24)]))
			}
		}
	}
	return found
}
