package sidecar

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/kms"
)

// dialects is every dialect, in the order in which requests are offered to them. The first is always served, and answers
// what none of them claims; the others are served if the configuration has their section.
var dialects = []dialect.Registration{
	{Key: "huawei", Section: huawei.Section},
}

// readSections decodes the sections of dialects, which are those keys of the file that no field of the Config has.
func (c *Config) readSections(nodes map[string]yaml.Node) error {
	for key, node := range nodes {
		section := sectionOf(key)
		if section == nil {
			return fmt.Errorf("line %d: field %s not found in type sidecar.Config", node.Line, key)
		}
		if err := decodeStrict(&node, section); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		c.sections[key] = section
	}
	return nil
}

// sectionOf returns a new section of a dialect, nil if there is no such dialect.
func sectionOf(key string) dialect.Section {
	for _, d := range dialects {
		if d.Key == key {
			return d.Section()
		}
	}
	return nil
}

// checkSections validates the sections of dialects.
func (c *Config) checkSections(check func(ok bool, key, format string, args ...any)) {
	for key, section := range c.sections {
		section.Validate(func(ok bool, below, format string, args ...any) { check(ok, key+"."+below, format, args...) })
		checkLimits(key+".limits.", section.OwnLimits(), check)
	}
}

// huawei returns the section of the Huawei dialect.
func (c *Config) huawei() *huawei.Settings { return c.sections[dialects[0].Key].(*huawei.Settings) }

// openDialects returns the router of the dialects that are served.
func openDialects(cfg *Config, core *kms.Service, host dialect.Host) *dialect.Router {
	var router *dialect.Router
	for _, d := range dialects {
		section := cfg.sections[d.Key]
		if section == nil {
			continue
		}
		limits := section.OwnLimits().Over(core.Limits())
		host.Limits = &limits
		served := section.New(host, core)
		if router == nil {
			router = dialect.NewRouter(served)
		}
		router.Add(served)
	}
	return router
}
