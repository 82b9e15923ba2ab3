package pkcs11

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/plugins/driver"
)

// Settings is the driver's section of the configuration.
type Settings struct {
	// Profile is the name of a shipped profile (see Profiles) or the absolute path of a profile file. The file must belong
	// to root, or to the driver's own user, and not be writable by others.
	Profile string `yaml:"profile"`
	// Module is the absolute path of the PKCS#11 module. It must belong to root, or to the driver's own user, and not be
	// writable by others.
	Module string `yaml:"module"`
	// ModuleSHA256 pins the module's checksum, in hex; empty: not checked.
	ModuleSHA256 string `yaml:"module_sha256"`
	// Token is the token's label, Serial its serial number. One of them is required; with both, both must agree.
	Token  string `yaml:"token"`
	Serial string `yaml:"serial"`
	// FastWorkers and SlowWorkers are how many operations run at once in each lane, on a session each; 0: as the profile says.
	FastWorkers int `yaml:"fast_workers"`
	SlowWorkers int `yaml:"slow_workers"`
	// LiveKeys is the most unsealed keys that stay in the HSM between uses; 0: 1024.
	LiveKeys int `yaml:"live_keys"`
	// Reserved is the string that C_Initialize passes to the module as pReserved. NSS takes its parameters there.
	Reserved string `yaml:"reserved"`
	// Store is the directory of the module's objects, which is synced after a tenant key was created; empty: as the profile
	// says.
	Store string `yaml:"store"`
	// UncheckedPKCS1 offers imports under RSAES_PKCS1_V1_5 also on a module that answers bad padding with a random key. Corrupt
	// material then becomes a random key, unless its check value is known.
	UncheckedPKCS1 bool `yaml:"unchecked_pkcs1"`
	// Watchdog limits how long a C call may take.
	Watchdog WatchdogSettings `yaml:"watchdog"`
}

// WatchdogSettings limits how long C calls may take. A call that takes longer makes the process exit.
type WatchdogSettings struct {
	// Factor times the 99th percentile of a call's latency is its limit; 0: 100.
	Factor int `yaml:"factor"`
	// Floor and Ceiling bound this limit; the ceiling is also the limit of the first 200 calls. 0: 2s and 30s.
	Floor   time.Duration `yaml:"floor"`
	Ceiling time.Duration `yaml:"ceiling"`
	// Generate is the limit of generating a key, which has no typical time; 0: 2m.
	Generate time.Duration `yaml:"generate"`
}

// minFloor is the least floor. The watchdog scans every eighth of the floor, so at most every 10 ms.
const minFloor = 80 * time.Millisecond

// ParseSettings reads the driver's section strictly and returns it with its profile, all defaults filled in.
func ParseSettings(text []byte) (*Settings, *Profile, error) {
	s := new(Settings)
	if err := strict(text, s); err != nil {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: %w", err)
	}
	switch {
	case !filepath.IsAbs(s.Module):
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: module must be an absolute path")
	case s.Token == "" && s.Serial == "":
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: token or serial must name the token")
	}
	if sum, err := hex.DecodeString(s.ModuleSHA256); err != nil || (len(sum) != 0 && len(sum) != 32) {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: module_sha256 must be 64 hex digits")
	}
	p, err := loadProfile(s.Profile)
	if err != nil {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: profile: %w", err)
	}
	if p.ImplicitRejection && !s.UncheckedPKCS1 {
		p.Import.inHSM = slices.DeleteFunc(p.Import.inHSM, func(a driver.Algorithm) bool { return a == driver.PKCS1v15 })
	}
	w := &s.Watchdog
	if min(s.FastWorkers, s.SlowWorkers, s.LiveKeys, w.Factor) < 0 {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: numbers must not be negative")
	}
	s.FastWorkers = cmp.Or(s.FastWorkers, p.Workers.Fast)
	s.SlowWorkers = cmp.Or(s.SlowWorkers, p.Workers.Slow)
	s.LiveKeys = cmp.Or(s.LiveKeys, 1024)
	w.Factor = cmp.Or(w.Factor, 100)
	w.Floor = cmp.Or(w.Floor, 2*time.Second)
	w.Ceiling = cmp.Or(w.Ceiling, 30*time.Second)
	w.Generate = cmp.Or(w.Generate, 2*time.Minute)
	if w.Floor < minFloor || w.Ceiling < w.Floor || w.Generate < w.Floor {
		return nil, nil, driver.Errorf(driver.InvalidArgument, "pkcs11 settings: watchdog: must be %v <= floor <= ceiling, and floor <= generate", minFloor)
	}
	return s, p, nil
}

// CheckSettings returns what is wrong with the driver's section or with the profile that it names.
func CheckSettings(text []byte) error {
	_, _, err := ParseSettings(text)
	return err
}

// strict decodes one YAML document. An unknown key is an error that names it.
func strict(text []byte, into any) error {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	err := dec.Decode(into)
	var fields *yaml.TypeError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("empty")
	case errors.As(err, &fields): // its own text has several lines, and names of Go types
		for i, fault := range fields.Errors {
			fields.Errors[i] = unknownKey.ReplaceAllString(fault, `unknown key "$1"`)
		}
		return errors.New(strings.Join(fields.Errors, "; "))
	case err != nil:
		return err
	}
	if !errors.Is(dec.Decode(new(yaml.Node)), io.EOF) {
		return errors.New("more than one YAML document")
	}
	return nil
}

// unknownKey is how yaml.v3 reports a key that the Go type does not have.
var unknownKey = regexp.MustCompile(`field (\S+) not found in type .*`)
