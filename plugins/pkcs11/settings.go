package pkcs11

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/plugins/driver"
)

// Settings is the driver's section of the configuration.
type Settings struct {
	// Profile names the vendor profile: softhsm, nss.
	Profile string `yaml:"profile"`
	// Module is the absolute path of the PKCS#11 module. It must belong to root, or to the driver's own user, and be
	// writable by nobody else.
	Module string `yaml:"module"`
	// ModuleSHA256 pins the module's checksum, in hex; empty: not checked.
	ModuleSHA256 string `yaml:"module_sha256"`
	// Token is the token's label, Serial its serial number. One of them is required; with both, both must agree.
	Token  string `yaml:"token"`
	Serial string `yaml:"serial"`
	// FastWorkers and SlowWorkers are how many operations run at once in each lane, a session each; 0: the profile's.
	FastWorkers int `yaml:"fast_workers"`
	SlowWorkers int `yaml:"slow_workers"`
	// LiveKeys bounds how many unsealed keys stay in the HSM between uses; 0: 1024.
	LiveKeys int `yaml:"live_keys"`
	// Reserved is the string that C_Initialize hands to the module as pReserved; NSS takes its parameters so.
	Reserved string `yaml:"reserved"`
	// Store is the folder where the module keeps its objects, if it is to be synced after a lasting object was made;
	// empty: as the profile finds it.
	Store string `yaml:"store"`
	// UncheckedPKCS1 offers imports under RSAES_PKCS1_V1_5 also on a module that answers bad padding with a random key. Damaged
	// material then becomes a key unless its check value is known. False: not offered there.
	UncheckedPKCS1 bool `yaml:"unchecked_pkcs1"`
	// Watchdog bounds how long a C call may take before the process counts as hung.
	Watchdog WatchdogSettings `yaml:"watchdog"`
}

// WatchdogSettings bounds the limits that the watchdog learns.
type WatchdogSettings struct {
	// Factor times the 99th percentile of a call's latency is its limit, once that is known; 0: 100.
	Factor int `yaml:"factor"`
	// Floor and Ceiling bound that limit; the ceiling is also the limit while nothing is known. 0: 2s and 30s.
	Floor   time.Duration `yaml:"floor"`
	Ceiling time.Duration `yaml:"ceiling"`
	// Generate is the limit of making a key, which has no typical time; 0: 2m.
	Generate time.Duration `yaml:"generate"`
}

// minFloor keeps the watchdog from looking more often than every 10 ms.
const minFloor = 80 * time.Millisecond

// Profile is what the driver knows about a vendor's module, as data.
type Profile struct {
	Name       string              `yaml:"name"`
	Protection string              `yaml:"protection"`
	Wrap       wrapProfile         `yaml:"wrap"`
	Keys       map[string][]string `yaml:"keys"` // specs by usage
	Decrypt    whereOpened         `yaml:"decrypt"`
	Import     whereOpened         `yaml:"import"`
	// ImplicitRejection: bad padding of PKCS #1 v1.5 gives a random key instead of an error (as in TLS). What in_hsm says of
	// RSAES_PKCS1_V1_5 is then offered only to who asks for it.
	ImplicitRejection bool                `yaml:"implicit_rejection"`
	LoadByPath        bool                `yaml:"load_by_path"`
	LockAttributes    bool                `yaml:"lock_attributes"`
	CopyTenantKeys    bool                `yaml:"copy_tenant_keys"`
	SweepNameless     bool                `yaml:"sweep_nameless"`
	Store             storeProfile        `yaml:"store"`
	BadData           map[string][]string `yaml:"bad_data"`
	Limits            struct {
		Data     int `yaml:"data"`
		DataKey  int `yaml:"data_key"`
		Random   int `yaml:"random"`
		Sessions int `yaml:"sessions"` // where the token does not say; 0: no limit known
	} `yaml:"limits"`
	Workers struct {
		Fast int `yaml:"fast"`
		Slow int `yaml:"slow"`
	} `yaml:"workers"`

	protection driver.Protection
	keys       map[keyKind][]driver.Algorithm // what can be made, and what it can do
	order      []keyKind                      // the keys of keys, as Describe lists them
}

// keyKind is a sort of key: a spec with a usage.
type keyKind struct {
	spec  driver.KeySpec
	usage driver.KeyUsage
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

// ParseSettings reads the driver's section strictly and returns it with its profile, all defaults filled in.
func ParseSettings(text []byte) (*Settings, *Profile, error) {
	s := new(Settings)
	if err := strict(text, s); err != nil {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: %w", err)
	}
	if s.Module == "" || s.Module[0] != '/' {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: module must be an absolute path")
	}
	if s.Token == "" && s.Serial == "" {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: token or serial must name the token")
	}
	if sum, err := hex.DecodeString(s.ModuleSHA256); err != nil || (len(sum) != 0 && len(sum) != 32) {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: module_sha256 must be 64 hex digits")
	}
	p, err := loadProfile(s.Profile)
	if err != nil {
		return nil, nil, err
	}
	if p.ImplicitRejection && !s.UncheckedPKCS1 {
		p.Import.inHSM = slices.DeleteFunc(p.Import.inHSM, func(a driver.Algorithm) bool { return a == driver.PKCS1v15 })
	}
	for _, n := range []int{s.FastWorkers, s.SlowWorkers, s.LiveKeys, s.Watchdog.Factor} {
		if n < 0 {
			return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: numbers must not be negative")
		}
	}
	orDefault(&s.FastWorkers, p.Workers.Fast)
	orDefault(&s.SlowWorkers, p.Workers.Slow)
	orDefault(&s.LiveKeys, 1024)
	orDefault(&s.Watchdog.Factor, 100)
	orDefault(&s.Watchdog.Floor, 2*time.Second)
	orDefault(&s.Watchdog.Ceiling, 30*time.Second)
	orDefault(&s.Watchdog.Generate, 2*time.Minute)
	if w := s.Watchdog; w.Floor < minFloor || w.Ceiling < w.Floor || w.Generate < w.Floor {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: watchdog wants %v <= floor <= ceiling and generate", minFloor)
	}
	return s, p, nil
}

func orDefault[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

func strict(text []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	return dec.Decode(into)
}

// Profiles returns the names of the built-in profiles.
func Profiles() []string {
	entries, _ := profileFiles.ReadDir("profiles")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name()[:len(e.Name())-len(".yaml")])
	}
	return names
}

func loadProfile(name string) (*Profile, error) {
	if !slices.Contains(Profiles(), name) {
		return nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: no profile %q; there are %v", name, Profiles())
	}
	text, err := profileFiles.ReadFile("profiles/" + name + ".yaml")
	if err != nil {
		return nil, driver.Errorf(driver.Internal, "read profile: %w", err)
	}
	p := new(Profile)
	if err := strict(text, p); err != nil {
		return nil, driver.Errorf(driver.Internal, "profile %s: %w", name, err)
	}
	if err := p.resolve(); err != nil {
		return nil, driver.Errorf(driver.Internal, "profile %s: %w", name, err)
	}
	return p, nil
}

// resolve turns the profile's names into values.
func (p *Profile) resolve() error {
	switch p.Protection {
	case "hsm":
		p.protection = driver.ProtectionHSM
	case "module-unenforced":
		p.protection = driver.ModuleUnenforced
	default:
		return fmt.Errorf("unknown protection %q", p.Protection)
	}
	if p.Wrap.Format != driver.SealRFC5649.String() {
		return fmt.Errorf("unknown wrap format %q", p.Wrap.Format)
	}
	for _, w := range []*whereOpened{&p.Decrypt, &p.Import} {
		if err := w.resolve(); err != nil {
			return err
		}
	}
	if err := p.resolveKeys(); err != nil {
		return err
	}
	for function, codes := range p.BadData {
		for _, code := range codes {
			if !knownReturnValue(code) {
				return fmt.Errorf("unknown return value %q of %s", code, function)
			}
		}
	}
	return nil
}

// resolveKeys turns the lists of specs into kinds with their algorithms.
func (p *Profile) resolveKeys() error {
	p.keys = map[keyKind][]driver.Algorithm{}
	for _, usage := range slices.Sorted(maps.Keys(p.Keys)) {
		for _, spec := range p.Keys[usage] {
			k := keyKind{driver.SpecNamed(spec).Value, driver.UsageNamed(usage)}
			algorithms, known := driver.SpecOf(k.spec).Algorithms(k.usage)
			if !known {
				return fmt.Errorf("unknown key spec %q or usage %q of it", spec, usage)
			}
			if specOf(k.spec).rsa() && k.usage == driver.EncryptDecrypt {
				algorithms = slices.DeleteFunc(slices.Clone(algorithms), func(a driver.Algorithm) bool { return !slices.Contains(p.Decrypt.all(), a) })
			}
			if len(algorithms) == 0 && k.usage != driver.Unwrap || len(p.Import.all()) == 0 && k.usage == driver.Unwrap {
				return fmt.Errorf("%s keys for %s have no algorithm", spec, usage)
			}
			p.keys[k] = algorithms
			p.order = append(p.order, k)
		}
	}
	return nil
}

func (w *whereOpened) resolve() error {
	for _, list := range []struct {
		names []string
		into  *[]driver.Algorithm
	}{{w.InHSM, &w.inHSM}, {w.InProcess, &w.inProcess}} {
		for _, name := range list.names {
			alg := driver.AlgorithmNamed(name)
			if _, known := rsaBlocks[alg]; !known || driver.HashOf(alg) == 0 && list.into == &w.inProcess {
				return fmt.Errorf("algorithm %q opens no blocks here", name)
			}
			*list.into = append(*list.into, alg)
		}
	}
	return nil
}

// blames reports whether the profile says that bad data causes this error.
func (p *Profile) blames(e *callError) bool {
	return e.class() == badData || slices.Contains(p.BadData[e.function], e.name())
}
