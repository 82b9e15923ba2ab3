// Package plugins starts driver processes: it verifies a driver's binary, runs it through go-plugin in its own process group, sends
// settings and credential once, and returns a [Process] that implements driver.Driver. hsmd.Mux restarts processes.
package plugins

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Kinds of drivers.
const (
	KindPKCS11   = "pkcs11"   // built in: the running binary as `keyside driver pkcs11`
	KindSoft     = "soft"     // built in: the running binary as `keyside driver soft`
	KindExternal = "external" // a binary of its own, named by command and pinned by sha256
)

// DefaultDrainTimeout is how long Close waits for operations in flight.
const DefaultDrainTimeout = 10 * time.Second

// Config is the configuration of one driver.
type Config struct {
	// Name is the name for peers and logs: 1 to 64 characters [a-z0-9-].
	Name string `yaml:"name"`
	// Kind is pkcs11, soft or external.
	Kind string `yaml:"kind"`
	// Command is the absolute path of an external driver's binary.
	Command string `yaml:"command,omitempty"`
	// SHA256 is the binary's checksum in hex. It is required for external drivers; for a built-in driver, which is the running
	// binary itself, it is optional.
	SHA256 string `yaml:"sha256,omitempty"`
	// Settings are sent to the driver, which decodes them strictly.
	Settings yaml.Node `yaml:"settings,omitempty"`
	// Credential is the source of the PIN or passphrase.
	Credential Credential `yaml:"credential,omitempty"`
	// Env is the process's environment, to which only go-plugin's handshake is added.
	Env map[string]string `yaml:"env,omitempty"`
	// DrainTimeout limits how long Close waits for operations in flight; default 10s.
	DrainTimeout time.Duration `yaml:"drain_timeout,omitempty"`
}

// Credential is the source of a PIN or passphrase. At most one field may be set.
type Credential struct {
	// File is the absolute path of a file that only its owner can read.
	File string `yaml:"file,omitempty"`
	// Systemd names a credential of the service manager, a file in $CREDENTIALS_DIRECTORY.
	Systemd string `yaml:"systemd,omitempty"`
	// Command is the absolute path of a program with its arguments. It prints the credential.
	Command []string `yaml:"command,omitempty"`
}

// Validate returns every fault of the configuration, each with its key.
func (c *Config) Validate() error {
	var errs []error
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if !validName(c.Name) {
		bad("name", "%q is not 1 to 64 characters [a-z0-9-]", c.Name)
	}
	switch c.Kind {
	case KindPKCS11, KindSoft:
		if c.Command != "" {
			bad("command", "only for kind external")
		}
	case KindExternal:
		if !filepath.IsAbs(c.Command) {
			bad("command", "an absolute path is required for kind external")
		}
		if c.SHA256 == "" {
			bad("sha256", "required for kind external")
		}
	default:
		bad("kind", "%q is not pkcs11, soft or external", c.Kind)
	}
	if sum, err := hex.DecodeString(c.SHA256); c.SHA256 != "" && (err != nil || len(sum) != 32) {
		bad("sha256", "not 64 hexadecimal digits")
	}
	if c.Settings.Kind != 0 && c.Settings.Kind != yaml.MappingNode {
		bad("settings", "not a mapping")
	}
	for name := range c.Env {
		switch {
		case name == "" || strings.ContainsAny(name, "=\x00"):
			bad("env", "%q is not the name of a variable", name)
		case strings.HasPrefix(name, "PLUGIN_") || strings.HasPrefix(name, "KEYSIDE_DRIVER"):
			bad("env", "%s is reserved for the handshake", name)
		}
	}
	if c.DrainTimeout < 0 {
		bad("drain_timeout", "is negative")
	}
	if err := c.Credential.validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Credential) validate() error {
	set := slices.DeleteFunc([]string{"file", "systemd", "command"}, func(key string) bool {
		switch key {
		case "file":
			return c.File == ""
		case "systemd":
			return c.Systemd == ""
		}
		return len(c.Command) == 0
	})
	switch {
	case len(set) > 1:
		return fmt.Errorf("credential: only one of %s", strings.Join(set, ", "))
	case c.File != "" && !filepath.IsAbs(c.File):
		return errors.New("credential.file: not an absolute path")
	case c.Systemd != "" && (strings.Contains(c.Systemd, "/") || c.Systemd == "." || c.Systemd == ".."):
		return fmt.Errorf("credential.systemd: %q is not the name of a credential", c.Systemd)
	case len(c.Command) > 0 && !filepath.IsAbs(c.Command[0]):
		return errors.New("credential.command: its first element is not an absolute path")
	}
	return nil
}

func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// SettingsText returns the driver's section as YAML, as a driver gets it; nil if there is none.
func (c *Config) SettingsText() ([]byte, error) {
	if c.Settings.Kind == 0 {
		return nil, nil
	}
	return yaml.Marshal(&c.Settings)
}

func (c *Config) drainTimeout() time.Duration {
	return cmp.Or(c.DrainTimeout, DefaultDrainTimeout)
}
