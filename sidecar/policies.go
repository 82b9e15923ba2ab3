package sidecar

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/keyside/keyside/policy"
)

// PolicyConfig says where the operator's own policies are.
type PolicyConfig struct {
	Dir string `yaml:"dir"` // every *.cedar file in it; empty: there are none
}

// maxPolicyFile bounds a file of policies, in bytes.
const maxPolicyFile = 1 << 20

// load reads and checks the policies. Like the configuration, they must not be writable by others.
func (c PolicyConfig) load() (*policy.Policies, error) {
	if c.Dir == "" {
		return nil, nil
	}
	paths, err := c.paths()
	for _, path := range append([]string{c.Dir}, paths...) {
		if err == nil {
			err = checkOwned(path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("policies: %w", err)
	}
	return ReadPolicies(paths)
}

// paths returns the files of policies in the order of their names.
func (c PolicyConfig) paths() ([]string, error) {
	return filepath.Glob(filepath.Join(escapeGlob.Replace(c.Dir), "*.cedar"))
}

// escapeGlob makes a path one that stands for itself in a pattern.
var escapeGlob = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `\`, `\\`)

// checkOwned refuses what another user could change.
func checkOwned(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (info.Mode().Perm()&0o002 != 0 || (st.Uid != 0 && int(st.Uid) != os.Geteuid())) {
		return fmt.Errorf("%s: must belong to root or to this user, and not be writable by others", path)
	}
	return nil
}

// ReadPolicies reads files of Cedar policies and holds them to the schema. An error has the position of every fault.
func ReadPolicies(paths []string) (*policy.Policies, error) {
	var texts []policy.Text
	var errs []error
	for _, path := range paths {
		body, err := readPolicy(path)
		errs = append(errs, err)
		texts = append(texts, policy.Text{Name: path, Body: body})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return policy.ParsePolicies(texts...)
}

func readPolicy(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxPolicyFile+1))
	if err == nil && len(body) > maxPolicyFile {
		err = fmt.Errorf("%s: has more than %d bytes", path, maxPolicyFile)
	}
	return body, err
}

// catchHangups has SIGHUP wait for reloadOnHangup, also before there is something to reload and when all ends: by itself it
// would end the process on the spot.
func (p *process) catchHangups() (stop func()) {
	p.hangups = make(chan os.Signal, 1)
	signal.Notify(p.hangups, syscall.SIGHUP)
	return func() { signal.Stop(p.hangups) }
}

// reloadOnHangup reads the policies again on SIGHUP. Bad ones leave those in force that are.
func (p *process) reloadOnHangup() (stop func()) {
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-p.hangups:
				p.reload()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

func (p *process) reload() {
	policies, err := p.cfg.Policy.load()
	if err != nil {
		p.log.Error("policies not reloaded, the old ones stay in force", slog.Any("error", err))
		return
	}
	p.core.SetPolicies(policies)
	p.log.Info("policies reloaded", slog.Int("policies", policies.Len()))
}
