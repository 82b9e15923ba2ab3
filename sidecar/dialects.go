package sidecar

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

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

// readSections decodes the sections of dialects from the text of the file. nodes are those of its keys that no field of the
// Config has.
func (c *Config) readSections(text []byte, nodes map[string]yaml.Node) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(nodes)) {
		section := sectionOf(key)
		if section == nil {
			errs = append(errs, fmt.Errorf("line %d: field %s not found in type sidecar.Config", nodes[key].Line, key))
			continue
		}
		errs = append(errs, decodeSection(text, key, section))
		c.sections[key] = section
	}
	return errors.Join(errs...)
}

// decodeSection decodes one section. It reads the whole file and not the section's node, so that errors have the file's
// lines, an empty section keeps its defaults, and aliases of anchors elsewhere in the file are known.
func decodeSection(text []byte, key string, section dialect.Section) error {
	file := reflect.New(reflect.StructOf([]reflect.StructField{
		{Name: "Section", Type: reflect.TypeOf(section), Tag: reflect.StructTag(fmt.Sprintf("yaml:%q", key))},
		{Name: "Others", Type: reflect.TypeFor[map[string]yaml.Node](), Tag: `yaml:",inline"`},
	}))
	file.Elem().Field(0).Set(reflect.ValueOf(section))
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	return d.Decode(file.Interface())
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
