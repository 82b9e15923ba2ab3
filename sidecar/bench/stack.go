package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// kmsURL is where the Huawei dialect of a node of `keyside up` serves, under the default project id. The host is of no
// account on a Unix socket.
const kmsURL = "http://localhost/v1.0/keyside/kms/"

// stack is a running node with the keys that the benchmark uses.
type stack struct {
	node   *node.Node
	client *http.Client
	keys   map[string]string // key id by spec
}

// benchTenant is the tenant of the direct path of the soft driver, and of every path on an operator's own HSM.
const benchTenant = "keyside-bench"

// useDriver gives a node that is not running yet another driver: a driver's section of an hsmd.yaml.
func useDriver(ctx context.Context, o node.Options, section map[string]any) error {
	err := node.EditFile(ctx, o, "hsmd.yaml", func(config map[string]any) {
		config["tenants"].([]any)[0].(map[string]any)["name"] = benchTenant
		config["drivers"] = []any{section}
	})
	if err != nil {
		return err
	}
	err = node.Edit(ctx, o, func(config map[string]any) {
		config["tenant"] = benchTenant
		hsm := config["hsm"].(map[string]any)
		if via, ok := hsm["via"].(map[string]any); ok {
			via["name"] = section["name"]
		} else {
			delete(section, "queue") // is hsmd's alone
			hsm["driver"] = section
		}
	})
	// What the first run left belongs to another tenant.
	return errors.Join(err, os.RemoveAll(filepath.Join(o.Dir, "db")), os.RemoveAll(filepath.Join(o.Dir, "audit")))
}

// startStack starts a node in dir and makes its keys. section, if not nil, is the driver to use.
func startStack(ctx context.Context, o node.Options, section map[string]any, auditSync bool, connections int) (*stack, error) {
	if section != nil {
		if err := useDriver(ctx, o, maps.Clone(section)); err != nil {
			return nil, err
		}
	}
	if !auditSync {
		err := node.Edit(ctx, o, func(config map[string]any) {
			config["audit"].(map[string]any)["sync"] = false
		})
		if err != nil {
			return nil, err
		}
	}
	n, err := node.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &stack{node: n, client: node.Client(n.Socket, connections), keys: map[string]string{}}
	for _, spec := range []string{"AES_256", "RSA_2048", "EC_P256"} {
		if s.keys[spec], err = s.createKey(ctx, spec); err != nil {
			s.stop()
			return nil, err
		}
	}
	return s, nil
}

func (s *stack) stop() {
	s.client.CloseIdleConnections()
	_ = s.node.Stop(context.Background())
}

func (s *stack) createKey(ctx context.Context, spec string) (string, error) {
	body := fmt.Sprintf(`{"key_alias":"bench-%s-%d","key_spec":%q}`, strings.ToLower(spec), os.Getpid(), spec)
	answer, err := s.post(ctx, "create-key", []byte(body))
	if err != nil {
		return "", err
	}
	var created struct {
		KeyInfo struct {
			KeyID string `json:"key_id"`
		} `json:"key_info"`
	}
	if err := json.Unmarshal(answer, &created); err != nil || created.KeyInfo.KeyID == "" {
		return "", fmt.Errorf("create-key answered %q", answer)
	}
	return created.KeyInfo.KeyID, nil
}

// post sends one request and returns the answer's body; anything but 200 is an error.
func (s *stack) post(ctx context.Context, operation string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, kmsURL+operation, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered %s: %s", operation, resp.Status, answer)
	}
	return answer, nil
}

// target returns what one operation is on this path: a request whose body is ready, sent by Go's standard client.
func (s *stack) target(op operation) target {
	route, body := s.request(op)
	return func(ctx context.Context, _ int) error {
		_, err := s.post(ctx, route, body)
		return err
	}
}

// request returns the route and body of an operation.
func (s *stack) request(op operation) (string, []byte) {
	switch op.kind {
	case kindEncrypt:
		return "encrypt-data", fmt.Appendf(nil, `{"key_id":%q,"plain_text":%q}`, s.keys["AES_256"], strings.Repeat("k", op.size))
	case kindDataKey:
		return "create-datakey", fmt.Appendf(nil, `{"key_id":%q,"datakey_length":"%d"}`, s.keys["AES_256"], 8*op.size)
	case kindRandom:
		return "gen-random", fmt.Appendf(nil, `{"random_data_length":"%d"}`, 8*op.size)
	case kindSignRSA:
		return "sign", s.signBody("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256")
	default:
		return "sign", s.signBody("EC_P256", "ECDSA_SHA_256")
	}
}

func (s *stack) signBody(spec, algorithm string) []byte {
	digest := base64.StdEncoding.EncodeToString(make([]byte, 32))
	return fmt.Appendf(nil, `{"key_id":%q,"message":%q,"message_type":"DIGEST","signing_algorithm":%q}`, s.keys[spec], digest, algorithm)
}

// pids returns the node's processes.
func (s *stack) pids() []int { return node.Descendants(s.node.PID()) }
