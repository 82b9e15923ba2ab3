package hsmd

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd/peer"
	"github.com/keyside/keyside/hsmd/telemetry"
	"github.com/keyside/keyside/plugins"
	"github.com/keyside/keyside/plugins/driver"
	"github.com/keyside/keyside/plugins/procattr"
	"github.com/keyside/keyside/policy"
	"github.com/keyside/keyside/policy/spelling"
)

// Config is hsmd.yaml.
type Config struct {
	// Socket is the absolute path of the Unix socket for sidecars.
	Socket string `yaml:"socket"`
	// SocketMode is its mode in octal, default 0660. SocketGroup owns it, default the process's own group. They only
	// decide who can connect; Tenants decides who is served.
	SocketMode  Mode   `yaml:"socket_mode,omitempty"`
	SocketGroup string `yaml:"socket_group,omitempty"`
	// Tenants names the peers that are served, by the credentials that the kernel reports. Any other is refused.
	Tenants []TenantConfig `yaml:"tenants"`
	// Drivers are the driver processes. Those with the same name are members of one Mux and fail over for each other.
	Drivers []DriverConfig `yaml:"drivers"`
	// Queue limits the operations that wait, per driver.
	Queue QueueConfig `yaml:"queue,omitempty"`
	// Imports limits failed imports, per driver and tenant.
	Imports ImportsConfig `yaml:"imports,omitempty"`
	// Canary is how often each driver process does one real operation, default 30s; negative means never.
	Canary time.Duration `yaml:"canary,omitempty"`
	// DrainTimeout is how long calls in flight may take after a SIGTERM, default 20s.
	DrainTimeout time.Duration    `yaml:"drain_timeout,omitempty"`
	Telemetry    telemetry.Config `yaml:"telemetry,omitempty"`
	// Procs is GOMAXPROCS, default 1: a relay is fastest if it does not pass calls between processors.
	Procs int `yaml:"procs,omitempty"`
	// Version is that of the build, for metrics. No file sets it.
	Version string `yaml:"-"`
}

// TenantConfig gives a tenant's name to peers.
type TenantConfig struct {
	Name string `yaml:"name"`
	// UIDs and GIDs are those of the peers. A uid decides before a gid; each may be listed once.
	UIDs []uint32 `yaml:"uids,omitempty"`
	GIDs []uint32 `yaml:"gids,omitempty"`
}

// DriverConfig is one driver process.
type DriverConfig struct {
	plugins.Config `yaml:",inline"`
	// Queue limits the operations that wait for this driver, instead of the common Queue.
	Queue *QueueConfig `yaml:"queue,omitempty"`
}

// QueueConfig limits the operations that wait and those in flight.
type QueueConfig struct {
	// Depth is how many operations of one tenant may wait, default 4096. Bytes limits their size together, default 32 MiB.
	Depth int `yaml:"depth,omitempty"`
	Bytes int `yaml:"bytes,omitempty"`
	// InFlight is how many operations a driver process gets at once for each worker, default 16, and half as many slow ones.
	InFlight int `yaml:"in_flight,omitempty"`
}

// Mode is a file mode that YAML spells in octal.
type Mode fs.FileMode

// UnmarshalYAML reads 0660, "0660" or 660, all octal.
func (m *Mode) UnmarshalYAML(n *yaml.Node) error {
	v, err := strconv.ParseUint(n.Value, 8, 32)
	if err != nil || v > 0o777 {
		return fmt.Errorf("line %d: %q is no file mode such as 0660", n.Line, n.Value)
	}
	*m = Mode(v)
	return nil
}

// MarshalYAML writes the mode in octal.
func (m Mode) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: fmt.Sprintf("%04o", uint32(m)), Style: yaml.SingleQuotedStyle}, nil
}

// LoadConfig reads hsmd.yaml strictly: an unknown key is an error. What it returns is valid and complete. The file names
// programs that run as this user and says which peer is which tenant, so it must not be writable by others.
func LoadConfig(path string) (Config, error) {
	b, err := readOwned(path)
	if err != nil {
		return Config{}, procattr.AdviseAccess(err)
	}
	cfg, err := ParseConfig(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w; correct the file, or restore it from a backup", path, err)
	}
	return cfg, nil
}

// readOwned reads a file that belongs to root or to this user and that other users cannot write.
func readOwned(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o002 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return nil, fmt.Errorf("%s: must belong to root or to this user, and not be writable by others", path)
	}
	return io.ReadAll(f)
}

// ParseConfig is LoadConfig of the file's content.
func ParseConfig(b []byte) (Config, error) {
	var cfg Config
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&cfg); err != nil {
		if errors.Is(err, io.EOF) {
			return cfg, errors.New("is empty")
		}
		return cfg, spelling.YAML(err, b, reflect.TypeFor[Config]())
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return cfg, errors.New("holds more than one document")
	}
	cfg.complete()
	return cfg, cfg.Validate()
}

func (c *Config) complete() {
	c.SocketMode = cmp.Or(c.SocketMode, 0o660)
	c.Canary = cmp.Or(c.Canary, 30*time.Second)
	c.DrainTimeout = cmp.Or(c.DrainTimeout, 20*time.Second)
	c.Procs = cmp.Or(c.Procs, 1)
	c.Imports.complete()
}

// Validate reports every fault of the configuration, each with the key that has it.
func (c *Config) Validate() error {
	var errs []error
	bad := func(text string) { errs = append(errs, errors.New(text)) }
	fault := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	if !filepath.IsAbs(c.Socket) {
		bad("socket: an absolute path is required")
	}
	if len(c.Tenants) == 0 {
		bad("tenants: at least one is required, otherwise every peer is refused")
	}
	_, err := newTenantMap(c.Tenants)
	fault("tenants", err)
	if len(c.Drivers) == 0 {
		bad("drivers: at least one is required")
	}
	for i := range c.Drivers {
		fault(fmt.Sprintf("drivers[%d]", i), c.Drivers[i].Validate())
		if q := c.Drivers[i].Queue; q != nil {
			fault(fmt.Sprintf("drivers[%d].queue", i), q.validate())
		}
	}
	fault("queue", c.Queue.validate())
	fault("imports", c.Imports.validate())
	fault("telemetry", c.Telemetry.Validate())
	if c.DrainTimeout < 0 {
		bad("drain_timeout: is negative")
	}
	if c.Procs < 0 {
		bad("procs: is negative")
	}
	return errors.Join(errs...)
}

func (q *QueueConfig) validate() error {
	if q.Depth < 0 || q.Bytes < 0 || q.InFlight < 0 {
		return errors.New("depth, bytes and in_flight are not negative")
	}
	return nil
}

// tenantMap maps peers to tenants.
type tenantMap struct {
	uids, gids map[uint32]string
}

func newTenantMap(tenants []TenantConfig) (*tenantMap, error) {
	m := &tenantMap{uids: map[uint32]string{}, gids: map[uint32]string{}}
	names := map[string]bool{}
	for i, t := range tenants {
		if err := driver.CheckTenant(t.Name); err != nil {
			return nil, fmt.Errorf("[%d].name: %w", i, err)
		}
		if names[t.Name] {
			return nil, fmt.Errorf("[%d].name: %s is given twice", i, t.Name)
		}
		names[t.Name] = true
		if len(t.UIDs)+len(t.GIDs) == 0 {
			return nil, fmt.Errorf("[%d] %s: needs uids or gids", i, t.Name)
		}
		for kind, ids := range map[string][]uint32{"uid": t.UIDs, "gid": t.GIDs} {
			into, overflow := m.uids, peer.OverflowUID()
			if kind == "gid" {
				into, overflow = m.gids, peer.OverflowGID()
			}
			for _, id := range ids {
				if id == overflow || id == policy.NoID {
					return nil, fmt.Errorf("%s %d stands for all users without a number in a user namespace, so it identifies none", kind, id)
				}
				if other, taken := into[id]; taken {
					return nil, fmt.Errorf("%s %d belongs to both %s and %s", kind, id, other, t.Name)
				}
				into[id] = t.Name
			}
		}
	}
	return m, nil
}

// of returns the tenant of a peer; false if it has none.
func (m *tenantMap) of(c policy.Caller) (string, bool) {
	if !c.Known {
		return "", false
	}
	if name, ok := m.uids[c.UID]; ok {
		return name, true
	}
	name, ok := m.gids[c.GID]
	return name, ok
}
