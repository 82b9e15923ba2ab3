package pkcs11

import (
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyside/keyside/plugins/driver"
)

// Profile describes a vendor's module as data. profiles/README.md gives the meaning, unit and default of each key.
type Profile struct {
	Name              string              `yaml:"name"`
	Protection        string              `yaml:"protection"`
	Wrap              wrapProfile         `yaml:"wrap"`
	Keys              map[string][]string `yaml:"keys"` // specs by usage
	Decrypt           whereOpened         `yaml:"decrypt"`
	Import            whereOpened         `yaml:"import"`
	ImplicitRejection bool                `yaml:"implicit_rejection"`
	LoadByPath        bool                `yaml:"load_by_path"`
	LockAttributes    bool                `yaml:"lock_attributes"`
	CopyTenantKeys    bool                `yaml:"copy_tenant_keys"`
	SweepNameless     bool                `yaml:"sweep_nameless"`
	Store             storeProfile        `yaml:"store"`
	BadData           map[string][]string `yaml:"bad_data"` // names of return values by C function
	Limits            struct {
		Data     int `yaml:"data"`
		DataKey  int `yaml:"data_key"`
		Random   int `yaml:"random"`
		Sessions int `yaml:"sessions"`
	} `yaml:"limits"`
	Workers struct {
		Fast int `yaml:"fast"`
		Slow int `yaml:"slow"`
	} `yaml:"workers"`

	protection driver.Protection
	keys       []*driver.Capability
	wrapping   []driver.KeySpec // specs of keys for Unwrap
}

// whereOpened says where the blocks of RSA algorithms are opened: inside the HSM, or by raw RSA in the HSM and decoding in
// the driver process.
type whereOpened struct {
	InHSM     []string `yaml:"in_hsm"`
	InProcess []string `yaml:"in_process"`

	inHSM, inProcess []driver.Algorithm
}

// all returns the algorithms of both places.
func (w *whereOpened) all() []driver.Algorithm { return slices.Concat(w.inHSM, w.inProcess) }

type wrapProfile struct {
	Mechanism uint   `yaml:"mechanism"`
	Format    string `yaml:"format"`
	ZeroFill  bool   `yaml:"zero_fill"`
}

type storeProfile struct {
	ConfigEnv     string `yaml:"config_env"`
	ConfigDefault string `yaml:"config_default"`
	ConfigKey     string `yaml:"config_key"`
}

//go:embed profiles/*.yaml
var profileFiles embed.FS

// Profiles returns the names of the shipped profiles.
func Profiles() []string {
	entries, _ := profileFiles.ReadDir("profiles")
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// loadProfile reads a shipped profile by its name, or an operator's file by its absolute path.
func loadProfile(name string) (*Profile, error) {
	var text []byte
	var err error
	switch {
	case filepath.IsAbs(name):
		text, err = readProfile(name)
	case slices.Contains(Profiles(), name):
		text, err = profileFiles.ReadFile("profiles/" + name + ".yaml")
	default:
		return nil, fmt.Errorf("%q is neither a shipped profile (%s) nor an absolute path", name, strings.Join(Profiles(), ", "))
	}
	if err != nil {
		return nil, err
	}
	p := new(Profile)
	if err := strict(text, p); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := p.resolve(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return p, nil
}

// maxProfile is the largest profile file, in bytes.
const maxProfile = 1 << 20

// readProfile reads a profile file that only root and this user can change.
func readProfile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	if err := checkFile(file, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return io.ReadAll(io.LimitReader(file, maxProfile))
}

// resolve checks every value and turns names into the contract's values. Its errors begin with the key.
func (p *Profile) resolve() error {
	if driver.CheckTenant(p.Name) != nil { // names of both have the same form
		return fmt.Errorf("name: %q is not 1 to 64 characters of a-z, 0-9 and -", p.Name)
	}
	for _, v := range []driver.Protection{driver.ProtectionHSM, driver.ModuleUnenforced} {
		if p.Protection == driver.ProtectionName(v) {
			p.protection = v
		}
	}
	switch {
	case p.protection == 0:
		return fmt.Errorf("protection: %q is neither hsm nor module-unenforced", p.Protection)
	case p.Wrap.Format != driver.SealRFC5649.String():
		return fmt.Errorf("wrap.format: %q is not %s", p.Wrap.Format, driver.SealRFC5649)
	case p.Wrap.Mechanism == 0:
		return errors.New("wrap.mechanism: required")
	case (p.Store.ConfigKey == "") != (p.Store.ConfigEnv == "" && p.Store.ConfigDefault == ""):
		return errors.New("store: config_key requires config_env or config_default, and each of them requires config_key")
	}
	for section, w := range map[string]*whereOpened{"decrypt": &p.Decrypt, "import": &p.Import} {
		if err := w.resolve(); err != nil {
			return fmt.Errorf("%s.%w", section, err)
		}
	}
	return cmp.Or(p.resolveKeys(), p.checkBadData(), p.checkNumbers())
}

// resolveKeys turns the lists of specs into capabilities.
func (p *Profile) resolveKeys() error {
	if len(p.Keys) == 0 {
		return errors.New("keys: required")
	}
	for _, usage := range slices.Sorted(maps.Keys(p.Keys)) {
		for i, name := range p.Keys[usage] {
			if slices.Contains(p.Keys[usage][:i], name) {
				return fmt.Errorf("keys.%s: %s is listed twice", usage, name)
			}
			if err := p.addKey(driver.SpecNamed(name), driver.UsageNamed(usage)); err != nil {
				return fmt.Errorf("keys.%s: %s %w", usage, name, err)
			}
		}
	}
	return nil
}

// addKey adds a kind of key with the algorithms that the module has for it.
func (p *Profile) addKey(spec *driver.Spec, usage driver.KeyUsage) error {
	algorithms, known := spec.Algorithms(usage)
	switch {
	case !known:
		return errors.New("is not a key spec that has this usage")
	case usage == driver.Unwrap && len(p.Import.all()) == 0:
		return errors.New("needs an algorithm of import")
	case usage == driver.Unwrap:
		p.wrapping = append(p.wrapping, spec.Value)
		return nil
	case usage == driver.EncryptDecrypt && spec.Family == driver.RSA:
		algorithms = slices.DeleteFunc(slices.Clone(algorithms), func(a driver.Algorithm) bool { return !slices.Contains(p.Decrypt.all(), a) })
	}
	if len(algorithms) == 0 {
		return errors.New("needs an algorithm of decrypt")
	}
	p.keys = append(p.keys, &driver.Capability{Spec: spec.Value, Usage: usage, Algorithms: algorithms})
	return nil
}

func (w *whereOpened) resolve() error {
	for _, list := range []struct {
		key   string
		names []string
		into  *[]driver.Algorithm
	}{{"in_hsm", w.InHSM, &w.inHSM}, {"in_process", w.InProcess, &w.inProcess}} {
		for _, name := range list.names {
			alg := driver.AlgorithmNamed(name)
			if _, known := rsaBlocks[alg]; !known || driver.HashOf(alg) == 0 && list.into == &w.inProcess {
				return fmt.Errorf("%s: %q is not an algorithm that is opened there", list.key, name)
			}
			if slices.Contains(w.all(), alg) {
				return fmt.Errorf("%s: %s is listed twice", list.key, name)
			}
			*list.into = append(*list.into, alg)
		}
	}
	return nil
}

// checkBadData refuses functions and return values that do not exist, which would have no effect.
func (p *Profile) checkBadData() error {
	functions := slices.Collect(maps.Values(shimFunctions))
	for function, codes := range p.BadData {
		if !slices.Contains(functions, function) {
			return fmt.Errorf("bad_data: %q is not a C function that the driver calls with data", function)
		}
		for _, code := range codes {
			if !isReturnValue(code) {
				return fmt.Errorf("bad_data.%s: unknown return value %q", function, code)
			}
		}
	}
	return nil
}

// checkNumbers refuses limits that the contract's messages cannot carry.
func (p *Profile) checkNumbers() error {
	for _, n := range []struct {
		key             string
		value, min, max int
	}{
		{"limits.data", p.Limits.Data, 1, 256 << 10}, {"limits.data_key", p.Limits.DataKey, 1, 64 << 10},
		{"limits.random", p.Limits.Random, 1, 256 << 10}, {"limits.sessions", p.Limits.Sessions, 0, 1 << 20},
		{"workers.fast", p.Workers.Fast, 1, 1024}, {"workers.slow", p.Workers.Slow, 1, 1024},
	} {
		if n.value < n.min || n.value > n.max {
			return fmt.Errorf("%s: %d is not %d to %d", n.key, n.value, n.min, n.max)
		}
	}
	return nil
}

// causedByData reports whether the profile says that bad data causes this error.
func (p *Profile) causedByData(e *callError) bool {
	return e.class() == badData || slices.Contains(p.BadData[e.function], e.name())
}
