package sidecar

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/dialect/alibaba"
	"github.com/keyside/keyside/sidecar/dialect/huawei"
	"github.com/keyside/keyside/sidecar/dialect/tencent"
	"github.com/keyside/keyside/sidecar/kms"
)

// dialects is every dialect. The first that is served on a listener answers the requests there that no dialect may serve.
var dialects = []dialect.Registration{
	{Key: "huawei", Section: huawei.Section, Marks: huawei.Marks},
	tencent.Registration,
	alibaba.Registration,
}

// ServedConfig says which dialects are served on each listener, by the keys of their sections. nil: all. The native API, which is
// no cloud's, always is.
type ServedConfig struct {
	Socket []string `yaml:"socket"`
	Listen []string `yaml:"listen"`
}

func (c *ServedConfig) validate(check func(ok bool, key, format string, args ...any)) {
	known := dialectNames()
	for key, names := range map[string][]string{"dialects.socket": c.Socket, "dialects.listen": c.Listen} {
		for i, name := range names {
			check(slices.Contains(known, name) && !slices.Contains(names[:i], name), key, "must list some of %s, each once", strings.Join(known, ", "))
		}
	}
}

// dialectNames returns the keys of all dialects.
func dialectNames() []string {
	names := make([]string, len(dialects))
	for i := range dialects {
		names[i] = dialects[i].Key
	}
	return names
}

// where says on which listeners a dialect is served.
func (c *ServedConfig) where(key string) dialect.Where {
	return dialect.Where{Socket: c.Socket == nil || slices.Contains(c.Socket, key), Port: c.Listen == nil || slices.Contains(c.Listen, key)}
}

// newSections returns a new section of every dialect.
func newSections() map[string]dialect.Section {
	sections := map[string]dialect.Section{}
	for _, d := range dialects {
		sections[d.Key] = d.Section()
	}
	return sections
}

// readSections decodes the sections of dialects from the text of the file. nodes are those of its keys that no field of the
// Config has.
func (c *Config) readSections(text []byte, nodes map[string]yaml.Node) error {
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(nodes)) {
		section := sectionOf(key)
		if section == nil {
			errs = append(errs, fmt.Errorf("line %d: field %s not found in type Config", nodes[key].Line, key)) // in the words of the decoder
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

// sectionTypes returns the types with all keys of a configuration.
func sectionTypes() []reflect.Type {
	types := []reflect.Type{reflect.TypeFor[Config]()}
	for _, d := range dialects {
		types = append(types, reflect.StructOf([]reflect.StructField{
			{Name: "Section", Type: reflect.TypeOf(d.Section()), Tag: reflect.StructTag(fmt.Sprintf("yaml:%q", d.Key))},
		}))
	}
	return types
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

// openDialects returns the router of the dialects. It also has those that are not served, whose marks count all the same.
func openDialects(cfg *Config, core *kms.Service, host dialect.Host) *dialect.Router {
	router := dialect.NewRouter()
	for _, d := range dialects {
		section := cfg.sections[d.Key]
		limits := section.OwnLimits().Over(core.Limits())
		host.Limits = &limits
		router.Add(section.New(host, core), d.Marks, cfg.Dialects.where(d.Key))
	}
	return router
}
