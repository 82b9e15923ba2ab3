package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConfigsOfUp reads the files of up with the strict readers, for directories whose names need quoting in YAML.
func TestConfigsOfUp(t *testing.T) {
	for _, name := range []string{"plain", "two words", `quo"te`, "colon: x", "# hash", "ü"} {
		for _, driver := range []string{driverSoft, driverSoftHSM} {
			for _, direct := range []bool{false, true} {
				dir := upDir(filepath.Join(t.TempDir(), name))
				if err := os.Mkdir(string(dir), 0o700); err != nil {
					t.Fatal(err)
				}
				values := upValues{Dir: dir, Driver: driver, Tenant: upTenant, Token: tokenLabel, UID: os.Getuid(), Direct: direct,
					Module: "/usr/lib/m.so", ModuleSHA256: strings.Repeat("ab", 32), Listen: "127.0.0.1:8080"}
				for file, text := range map[string]string{"hsmd.yaml": hsmdYAML, "sidecar.yaml": sidecarYAML} {
					if err := dir.writeConfig(file, text, values); err != nil {
						t.Fatal(err)
					}
					if _, err := (SettingsChecks{}).file(dir.path(file)); err != nil {
						t.Errorf("%s %s direct %v: %v", name, driver, direct, err)
					}
				}
			}
		}
	}
}

// TestAdaptConfig checks that flags change their own settings only.
func TestAdaptConfig(t *testing.T) {
	dir := upDir(t.TempDir())
	values := upValues{Dir: dir, Driver: driverSoft, Tenant: upTenant, UID: os.Getuid()}
	if err := dir.writeConfig("sidecar.yaml", sidecarYAML+"limits: {keys: 20000} # mine\n", values); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		text, err := os.ReadFile(dir.path("sidecar.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	adapt := func(o upOptions) *upSidecar {
		t.Helper()
		values.Direct = o.mode == modeDirect
		got, err := dir.adaptConfig(o, values)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (SettingsChecks{}).file(dir.path("sidecar.yaml")); err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := read()
	if got := adapt(upOptions{mode: modeViaHSMD}); got.HSM.Via == nil || got.Listen != "" || read() != before {
		t.Errorf("no flags: %+v", got)
	}
	if got := adapt(upOptions{mode: modeDirect, modeSet: true, listen: "127.0.0.1:1", listenSet: true}); got.HSM.Via != nil || got.Listen != "127.0.0.1:1" {
		t.Errorf("direct with listen: %+v", got)
	}
	if got := adapt(upOptions{mode: modeViaHSMD}); got.HSM.Via != nil || got.Listen != "127.0.0.1:1" {
		t.Errorf("without flags it stays: %+v", got)
	}
	if got := adapt(upOptions{mode: modeViaHSMD, modeSet: true, listenSet: true}); got.HSM.Via == nil || got.Listen != "" {
		t.Errorf("back again: %+v", got)
	}
	if !strings.Contains(read(), "limits: {keys: 20000} # mine") {
		t.Errorf("the operator's own line is gone:\n%s", read())
	}
}
