package test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/hsmd"
	"github.com/keyside/keyside/plugins/drivertest"
	"github.com/keyside/keyside/sidecar/bench/node"
)

// TestConformanceOfProcesses runs the kit as a driver's author would, with `keyside driver check`, against the built-in
// drivers and the example driver, each as a process.
func TestConformanceOfProcesses(t *testing.T) {
	check := func(t *testing.T, args ...string) {
		t.Parallel()
		out, err := exec.CommandContext(t.Context(), binary, append([]string{"driver", "check"}, args...)...).CombinedOutput()
		t.Logf("%s", out)
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("soft", func(t *testing.T) { check(t, "--kind", "soft") })
	t.Run("example", func(t *testing.T) {
		command := filepath.Join(t.TempDir(), "exampledriver")
		build := exec.Command("go", "build", "-o", command, ".")
		build.Dir = "exampledriver"
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		check(t, "--command", command)
	})
	t.Run("softhsm", func(t *testing.T) {
		o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: "softhsm"}
		if err := node.Edit(t.Context(), o, func(map[string]any) {}); err != nil { // makes the token
			t.Fatal(err)
		}
		config, err := hsmd.LoadConfig(filepath.Join(o.Dir, "hsmd.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		settings, err := yaml.Marshal(&config.Drivers[0].Settings)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(o.Dir, "settings.yaml")
		if err := os.WriteFile(file, settings, 0o600); err != nil {
			t.Fatal(err)
		}
		check(t, "--kind", "pkcs11", "--settings", file, "--credential-file", filepath.Join(o.Dir, "pin"),
			"--env", "SOFTHSM2_CONF="+filepath.Join(o.Dir, "softhsm2.conf"))
	})
}

// TestConformanceThroughHSMD runs the kit through the daemon, its kernel-checked tenants and its Mux.
func TestConformanceThroughHSMD(t *testing.T) {
	for _, driver := range []string{"soft", "softhsm"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			drivertest.Run(t, drivertest.Config{Driver: dialUnlimited(t, driver), Tenant: "default"})
		})
	}
}

// dialUnlimited starts a node whose hsmd does not limit failed imports, and connects to that hsmd.
func dialUnlimited(t *testing.T, driver string) hsmd.Backend {
	t.Helper()
	o := node.Options{Binary: binary, Dir: t.TempDir(), Driver: driver, Mode: "via-hsmd"}
	unlimited := func(config map[string]any) { config["imports"] = map[string]any{"failures": -1} }
	if err := node.EditFile(t.Context(), o, "hsmd.yaml", unlimited); err != nil {
		t.Fatal(err)
	}
	n, err := node.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		_ = n.Stop(ctx)
	})
	backend, err := hsmd.Dial(t.Context(), filepath.Join(o.Dir, "hsmd.sock"), driver, os.Getuid())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = backend.Close(context.Background()) })
	return backend
}
