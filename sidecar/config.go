// Package sidecar assembles and runs the process that serves the KMS: its configuration, its listeners, and what it puts
// below the core: the database, the audit log and the HSM.
package sidecar

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/procattr"
	"github.com/keyside/keyside/policy/spelling"
	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/edge"
	"github.com/keyside/keyside/sidecar/kms"
)

// Config is a sidecar's configuration. deploy/sidecar.example.yaml documents every key.
type Config struct {
	Socket         string                 `yaml:"socket"`
	SocketMode     FileMode               `yaml:"socket_mode"`
	SocketGroup    string                 `yaml:"socket_group"`
	Listen         string                 `yaml:"listen"` // loopback address and port, or empty
	TLS            edge.TLSConfig         `yaml:"tls"`    // of listen
	Connections    edge.ConnectionsConfig `yaml:"connections"`
	InFlight       kms.InFlight           `yaml:"in_flight"` // operations at once
	Data           string                 `yaml:"data"`
	Audit          AuditConfig            `yaml:"audit"`
	Tenant         string                 `yaml:"tenant"`
	Owner          int64                  `yaml:"owner"` // uid of the administrator
	Principals     []Principal            `yaml:"principals"`
	SignedOnSocket bool                   `yaml:"signed_on_socket"` // whether access keys and tokens are good on the socket, too
	Policy         PolicyConfig           `yaml:"policy"`
	HSM            HSMConfig              `yaml:"hsm"`
	Dialects       ServedConfig           `yaml:"dialects"`
	Limits         kms.Limits             `yaml:"limits"`
	Import         ImportConfig           `yaml:"import"`
	RequestTimeout time.Duration          `yaml:"request_timeout"`
	DrainTimeout   time.Duration          `yaml:"drain_timeout"`
	Backups        BackupsConfig          `yaml:"backups"`
	Telemetry      telemetry.Config       `yaml:"telemetry"`
	Procs          int                    `yaml:"procs"`        // GOMAXPROCS; 0: as many as help
	MemoryLimit    int                    `yaml:"memory_limit"` // MiB at which the collector works harder

	sections map[string]dialect.Section `yaml:"-"` // of dialects, by their keys
	text     []byte                     `yaml:"-"` // of the file, for backups

	// Create lets the start create a database that does not exist. No file sets it: the flag --create does.
	Create bool `yaml:"-"`
	// Version is that of the build, for metrics. No file sets it.
	Version string `yaml:"-"`
	// Clock tells the time; nil is the system's clock. No file sets it: tests use it to make keys due.
	Clock kms.Clock `yaml:"-"`
	// Auditor gets the records instead of the audit log. No file sets it: it is for the benchmark of the log's cost.
	Auditor kms.Auditor `yaml:"-"`
}

// ImportConfig is about the import of key material.
type ImportConfig struct {
	// Pool is how many wrapping keys of each spec (RSA_2048, RSA_3072, RSA_4096) are generated in advance; a missing spec has
	// none. nil: kms.DefaultPool.
	Pool map[kms.KeySpec]int `yaml:"pool"`
}

// maxPool is far more than wrapping keys are asked for in the time that making one takes.
const maxPool = 100

func (c *ImportConfig) validate(check func(ok bool, key, format string, args ...any)) {
	for spec, n := range c.Pool {
		_, ok := kms.DefaultPool[spec]
		check(ok && n >= 0 && n <= maxPool, "import.pool."+string(spec), "must be RSA_2048, RSA_3072 or RSA_4096, with 0 to %d", maxPool)
	}
}

// AuditConfig says where the audit log is and what acknowledged means.
type AuditConfig struct {
	Dir      string    `yaml:"dir"`
	Sync     bool      `yaml:"sync"`
	FileSize int       `yaml:"file_size"` // MiB at which a new file begins
	Refusals int       `yaml:"refusals"`  // of a source and second that are recorded one by one
	Keep     AuditKeep `yaml:"keep"`
}

// AuditKeep says how much of the audit log stays; a zero field sets no limit.
type AuditKeep struct {
	For   time.Duration `yaml:"for"`
	Files int           `yaml:"files"`
	Size  int           `yaml:"size"` // MiB
}

func (c *AuditConfig) validate(check func(ok bool, key, format string, args ...any)) {
	check(filepath.IsAbs(c.Dir), "audit.dir", "an absolute path is required")
	check(c.FileSize >= 1 && c.FileSize <= 4096, "audit.file_size", "must be 1 to 4096 MiB")
	check(c.Refusals >= 1 && c.Refusals <= 1_000_000, "audit.refusals", "must be 1 to 1000000")
	check(c.Keep.For >= 0, "audit.keep.for", "must not be negative")
	check(c.Keep.Files >= 0, "audit.keep.files", "must not be negative")
	check(c.Keep.Size == 0 || c.Keep.Size >= c.FileSize, "audit.keep.size", "must be 0, for no limit, or no less than audit.file_size")
}

// HSMConfig says what holds the keys: a driver that the sidecar loads itself, or the hsmd of the node.
type HSMConfig struct {
	Driver     *plugins.Config `yaml:"driver"`
	Via        *Via            `yaml:"via"`
	Init       bool            `yaml:"init"` // make the tenant's keys if the database is new
	QueueDepth int             `yaml:"queue_depth"`
	Canary     time.Duration   `yaml:"canary"` // how often one real operation proves that the HSM works
}

// name is the driver's name.
func (h *HSMConfig) name() string {
	if h.Driver != nil {
		return h.Driver.Name
	}
	return cmp.Or(h.Via.Name, "hsmd")
}

// Dial starts the driver process, or connects to hsmd.
func (h *HSMConfig) Dial(ctx context.Context, log *slog.Logger) (hsmd.Backend, error) {
	if h.Via != nil {
		return hsmd.Dial(ctx, h.Via.Socket, h.Via.Name, int(h.Via.UID))
	}
	return plugins.Start(ctx, *h.Driver, log)
}

// Via is hsmd as the sidecar reaches it.
type Via struct {
	Socket string `yaml:"socket"`
	Name   string `yaml:"name"` // the driver's name; empty where hsmd has one
	UID    int64  `yaml:"uid"`  // as which hsmd must run, if not as root
}

// UnmarshalYAML makes a missing uid a fault: it must not mean root by accident.
func (v *Via) UnmarshalYAML(n *yaml.Node) error {
	type plain Via
	p := plain{UID: unset}
	if err := decodeStrict(n, &p); err != nil {
		return err
	}
	*v = Via(p)
	return nil
}

// FileMode is permission bits, written as octal text.
type FileMode fs.FileMode

// UnmarshalYAML implements yaml.Unmarshaler.
func (m *FileMode) UnmarshalYAML(n *yaml.Node) error {
	bits, err := strconv.ParseUint(n.Value, 8, 32)
	if err != nil || bits > 0o777 {
		return fmt.Errorf("line %d: mode must be octal digits such as \"0660\"", n.Line)
	}
	*m = FileMode(bits)
	return nil
}

// MarshalYAML implements yaml.Marshaler.
func (m FileMode) MarshalYAML() (any, error) { return fmt.Sprintf("%04o", uint32(m)), nil }

// unset is the uid of a key that was not given.
const unset = -1

// defaults returns the configuration of an empty file.
func defaults() Config {
	return Config{
		SocketMode: 0o660, Audit: AuditConfig{Sync: true, FileSize: audit.DefaultMaxFileSize >> 20, Refusals: kms.DefaultRefusals}, Owner: unset, SignedOnSocket: true, RequestTimeout: 10 * time.Second,
		Connections: edge.DefaultConnections, InFlight: kms.DefaultInFlight,
		DrainTimeout: 15 * time.Second, HSM: HSMConfig{Canary: 5 * time.Second},
		sections:    newSections(),
		MemoryLimit: 64,
	}
}

// LoadConfig reads and checks a configuration file. The file names programs that run as this user, so it must not be
// writable by others.
func LoadConfig(path string) (Config, error) {
	cfg, err := load(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w; correct the file, or restore it from a backup", path, procattr.AdviseAccess(err))
	}
	return cfg, nil
}

func load(path string) (Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return Config{}, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Config{}, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && (info.Mode().Perm()&0o002 != 0 || (st.Uid != 0 && int(st.Uid) != os.Geteuid())) {
		return Config{}, errors.New("must belong to root or to this user, and not be writable by others")
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return Config{}, err
	}
	cfg, err := ParseConfig(text)
	cfg.text = text
	return cfg, err
}

// ParseConfig reads and checks a configuration: an unknown key is a fault, and so is a repeated one.
func ParseConfig(text []byte) (Config, error) {
	cfg, err := decodeConfig(text)
	if err != nil {
		return Config{}, err
	}
	return cfg, cfg.Validate()
}

func decodeConfig(text []byte) (Config, error) {
	file := struct {
		Config   `yaml:",inline"`
		Sections map[string]yaml.Node `yaml:",inline"` // the keys that Config does not have
	}{Config: defaults()}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, spelling.YAML(err, text, reflect.TypeFor[Config]())
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("more than one document")
	}
	return file.Config, spelling.YAML(file.readSections(text, file.Sections), text, sectionTypes()...)
}

// decodeStrict decodes a node that a type's own UnmarshalYAML got, which the decoder's strictness does not reach.
func decodeStrict(n *yaml.Node, out any) error {
	text, err := yaml.Marshal(n)
	if err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	return d.Decode(out)
}

var errListen = errors.New("must be an address of the loopback with a port, such as 127.0.0.1:8080")

// CheckListen checks the form of the address of listen.
func CheckListen(address string) error {
	if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().IsLoopback() {
		return errListen
	}
	return nil
}

// Validate reports every fault, each with the key that has it.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, key, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
		}
	}
	check(filepath.IsAbs(c.Socket), "socket", "an absolute path is required")
	check(c.SocketMode&0o600 == 0o600, "socket_mode", "must let the owner read and write")
	if c.Listen != "" {
		check(CheckListen(c.Listen) == nil, "listen", "%v", errListen)
	}
	for key, path := range map[string]string{"tls.certificate": c.TLS.Certificate, "tls.key": c.TLS.Key} {
		check(!c.TLS.Enabled() || filepath.IsAbs(path), key, "an absolute path is required")
	}
	check(filepath.IsAbs(c.Data), "data", "an absolute path is required")
	c.Audit.validate(check)
	c.Backups.validate(check)
	check(driver.CheckTenant(c.Tenant) == nil, "tenant", "must be 1 to 64 characters of a-z, 0-9 and -")
	check(isUID(c.Owner), "owner", "the uid of the administrator is required")
	check(c.Owner != int64(peer.OverflowUID()), "owner", overflowText, "uid", c.Owner)
	c.checkPrincipals(check)
	check(c.Policy.Dir == "" || filepath.IsAbs(c.Policy.Dir), "policy.dir", "an absolute path is required")
	check(c.RequestTimeout > 0, "request_timeout", "must be positive")
	check(c.DrainTimeout > 0, "drain_timeout", "must be positive")
	check(c.Connections.Socket >= 0 && c.Connections.Socket <= edge.MaxConnections, "connections.socket", "must be 1 to %d, or 0 for the default", edge.MaxConnections)
	check(c.Connections.Listen >= 1 && c.Connections.Listen <= edge.MaxConnections, "connections.listen", "must be 1 to %d", edge.MaxConnections)
	check(c.Connections.Share >= 1 && c.Connections.Share <= 100, "connections.share", "must be 1 to 100 percent")
	for key, n := range map[string]int{"in_flight.total": c.InFlight.Total, "in_flight.principal": c.InFlight.Principal} {
		check(n >= 0 && n <= edge.MaxConnections, key, "must be 1 to %d, or 0 for the default", edge.MaxConnections)
	}
	check(c.Procs >= 0, "procs", "must not be negative")
	check(c.MemoryLimit >= 16, "memory_limit", "must be 16 MiB or more")
	checkLimits("limits.", c.Limits, check)
	c.Dialects.validate(check)
	c.checkSections(check)
	c.Import.validate(check)
	c.HSM.validate(check)
	if err := c.Telemetry.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("telemetry: %w", err))
	}
	return errors.Join(errs...)
}

// checkLimits refuses limits that the contracts below could not keep.
func checkLimits(section string, l kms.Limits, check func(ok bool, key, format string, args ...any)) {
	for _, f := range []struct {
		key        string
		value, max int
	}{
		{"keys", l.Keys, 1 << 30}, {"data", l.Data, 6144}, {"message", l.Message, 6144}, {"aad", l.AAD, 8192},
		{"context", l.Context, 8192}, {"data_key", l.DataKey, 1024}, {"random", l.Random, 1024}, {"alias", l.Alias, 255},
		{"description", l.Description, 8192}, {"page", l.Page, 10000}, {"tags", l.Tags, 50}, {"tag_key", l.TagKey, 128},
		{"tag_value", l.TagValue, 255}, {"aliases", l.Aliases, 1000}, {"grants", l.Grants, 1000},
		{"credentials", l.Credentials, 100_000},
	} {
		check(f.value >= 0 && f.value <= f.max, section+f.key, "must be 1 to %d, or 0 for the default", f.max)
	}
}

func (h *HSMConfig) validate(check func(ok bool, key, format string, args ...any)) {
	check((h.Driver == nil) != (h.Via == nil), "hsm", "exactly one of driver and via is required")
	check(h.QueueDepth >= 0, "hsm.queue_depth", "must not be negative")
	check(h.Canary >= time.Second, "hsm.canary", "must be a second or more")
	if h.Driver != nil {
		err := h.Driver.Validate()
		check(err == nil, "hsm.driver", "%v", err)
	}
	if h.Via != nil {
		check(filepath.IsAbs(h.Via.Socket), "hsm.via.socket", "an absolute path is required")
		check(h.Via.UID >= 0, "hsm.via.uid", "the uid that hsmd runs as is required")
	}
}

// endpoint returns the URL of the port, empty if there is none.
func (c *Config) endpoint() string {
	switch {
	case c.Listen == "":
		return ""
	case c.TLS.Enabled():
		return "https://" + c.Listen
	}
	return "http://" + c.Listen
}
