package bench

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/keyside/keyside/sidecar/bench/node"
)

// stack is a running node with the keys that the benchmark uses.
type stack struct {
	options    node.Options
	node       *node.Node
	keys       map[string]string // key id by spec
	ciphertext string            // of 32 bytes under the AES_256 key
	created    atomic.Uint64     // keys of the operation create-key
}

// benchTenant is the tenant of the direct path of the soft driver, and of every path on an operator's own HSM.
const benchTenant = "keyside-bench"

// useDriver configures a driver for a node that does not run yet. section is a driver's section of an hsmd.yaml.
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
			delete(section, "queue") // only hsmd accepts it
			hsm["driver"] = section
		}
	})
	// The first run's database and audit log belong to another tenant.
	return errors.Join(err, os.RemoveAll(filepath.Join(o.Dir, "db")), os.RemoveAll(filepath.Join(o.Dir, "audit")))
}

// startStack starts a node and creates its keys. section is the driver to use, nil for that of o; change, if not nil, changes
// the sidecar's configuration.
func startStack(ctx context.Context, o node.Options, section map[string]any, change func(config map[string]any)) (*stack, error) {
	if section != nil {
		if err := useDriver(ctx, o, maps.Clone(section)); err != nil {
			return nil, err
		}
	}
	if change != nil {
		if err := node.Edit(ctx, o, change); err != nil {
			return nil, err
		}
	}
	n, err := node.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	s := &stack{options: o, node: n, keys: map[string]string{}}
	if err := s.prepare(); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *stack) stop() { _ = s.node.Stop(context.Background()) }

// restart stops the node and starts it again.
func (s *stack) restart(ctx context.Context) error {
	s.stop()
	n, err := node.Start(ctx, s.options)
	if err == nil {
		s.node = n
	}
	return err
}

// prepare creates the keys and the ciphertext that the operations use.
func (s *stack) prepare() error {
	c, err := connect(s.node.Socket)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	ask := func(operation string, body []byte, answer any) error {
		text, err := c.do(request(operation, body))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, answer)
	}
	for _, spec := range []string{"AES_256", "RSA_2048", "EC_P256"} {
		var created struct {
			KeyInfo struct {
				KeyID string `json:"key_id"`
			} `json:"key_info"`
		}
		body := fmt.Appendf(nil, `{"key_alias":"bench-%s-%d","key_spec":%q}`, strings.ToLower(spec), os.Getpid(), spec)
		if err := ask("create-key", body, &created); err != nil {
			return err
		}
		s.keys[spec] = created.KeyInfo.KeyID
	}
	var encrypted struct {
		CipherText string `json:"cipher_text"`
	}
	err = ask("encrypt-data", s.encryptBody(32), &encrypted)
	s.ciphertext = encrypted.CipherText
	return err
}

// target returns an operation on this node for so many clients, each with a connection of its own.
func (s *stack) target(op operation, clients int) (target, error) {
	conns, requests := make([]*conn, 0, clients), make([][]byte, clients)
	t := target{done: func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}}
	for i := range clients {
		c, err := connect(s.node.Socket)
		if err != nil {
			t.done()
			return target{}, err
		}
		conns, requests[i] = append(conns, c), s.request(op)
	}
	t.do = func(_ context.Context, worker int) error {
		if op.kind == kindCreateKey {
			s.rename(requests[worker])
		}
		_, err := conns[worker].do(requests[worker])
		return err
	}
	return t, nil
}

// request returns the request of an operation.
func (s *stack) request(op operation) []byte {
	switch op.kind {
	case kindEncrypt:
		return request("encrypt-data", s.encryptBody(op.size))
	case kindDecrypt:
		return request("decrypt-data", fmt.Appendf(nil, `{"cipher_text":%q}`, s.ciphertext))
	case kindDataKey:
		return request("create-datakey", fmt.Appendf(nil, `{"key_id":%q,"datakey_length":"%d"}`, s.keys["AES_256"], 8*op.size))
	case kindRandom:
		return request("gen-random", fmt.Appendf(nil, `{"random_data_length":"%d"}`, 8*op.size))
	case kindSignRSA:
		return request("sign", s.signBody("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256"))
	case kindSignEC:
		return request("sign", s.signBody("EC_P256", "ECDSA_SHA_256"))
	case kindCreateKey:
		return request("create-key", []byte(`{"key_alias":"`+aliasStart+strings.Repeat("0", aliasDigits)+`"}`))
	default:
		return request("describe-key", fmt.Appendf(nil, `{"key_id":%q}`, s.keys["AES_256"]))
	}
}

// The aliases of keys that create-key makes.
const (
	aliasStart  = "bench/"
	aliasDigits = 12
)

// rename gives a request of create-key the next alias.
func (s *stack) rename(request []byte) {
	digits := request[bytes.LastIndex(request, []byte(aliasStart))+len(aliasStart):][:aliasDigits]
	number := strconv.FormatUint(s.created.Add(1), 10)
	copy(digits[aliasDigits-len(number):], number)
}

func (s *stack) encryptBody(size int) []byte {
	return fmt.Appendf(nil, `{"key_id":%q,"plain_text":%q}`, s.keys["AES_256"], strings.Repeat("k", size))
}

func (s *stack) signBody(spec, algorithm string) []byte {
	digest := base64.StdEncoding.EncodeToString(make([]byte, 32))
	return fmt.Appendf(nil, `{"key_id":%q,"message":%q,"message_type":"DIGEST","signing_algorithm":%q}`, s.keys[spec], digest, algorithm)
}

// pids returns the node's processes.
func (s *stack) pids() []int { return node.Descendants(s.node.PID()) }
