package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"text/template"

	"go.yaml.in/yaml/v3"

	"github.com/keyside/keyside/sidecar/cli/verb"
)

// upValues is the values in the two configuration files of a first run.
type upValues struct {
	Dir          upDir
	Driver       string
	Tenant       string
	Token        string
	Module       string
	ModuleSHA256 string
	Listen       string
	UID          int
	Direct       bool
}

// Path returns the path of a file in the directory, for the templates.
func (v upValues) Path(name string) string { return v.Dir.path(name) }

// SoftHSM reports whether the driver is SoftHSM, for the templates.
func (v upValues) SoftHSM() bool { return v.Driver == driverSoftHSM }

// driverYAML is the driver's section, indented by four.
const driverYAML = `{{define "driver"}}name: {{.Driver}}
{{- if .SoftHSM}}
    kind: pkcs11
    settings:
      profile: softhsm
      module: {{q .Module}}
      # Another module is refused. After an upgrade of SoftHSM, keyside doctor shows the new checksum.
      module_sha256: {{.ModuleSHA256}}
      token: {{.Token}}
    env:
      SOFTHSM2_CONF: {{q (.Path "softhsm2.conf")}}
{{- else}}
    kind: soft
    settings:
      file: {{q (.Path "soft.keys")}}
{{- end}}
    credential:
      file: {{q (.Path "pin")}}
{{end}}`

const hsmdYAML = driverYAML + `# Written by keyside up on its first run. Edit it freely: up does not change it.
socket: {{q (.Path "hsmd.sock")}}
socket_mode: "0600"
tenants:
  - name: {{.Tenant}}
    uids: [{{.UID}}]
drivers:
  - {{template "driver" .}}`

const sidecarYAML = driverYAML + `# Written by keyside up on its first run. Edit it freely: up changes only listen and hsm, if its flags are set.
socket: {{q (.Path "kms.sock")}}
socket_mode: "0600"
{{- if .Listen}}
listen: {{q .Listen}}
{{- end}}
data: {{q (.Path "db")}}
audit:
  dir: {{q (.Path "audit")}}
tenant: {{.Tenant}}
owner: {{.UID}}
hsm:
  init: true
{{- if .Direct}}
  driver:
    {{template "driver" .}}
{{- else}}
  via:
    socket: {{q (.Path "hsmd.sock")}}
    name: {{.Driver}}
    uid: {{.UID}}
{{- end}}
`

func renderYAML(text string, values upValues) ([]byte, error) {
	t, err := template.New("config").Funcs(template.FuncMap{"q": quoteYAML}).Parse(text)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, values)
	return b.Bytes(), err
}

// upSidecar is the settings of sidecar.yaml that up uses.
type upSidecar struct {
	Socket string     `yaml:"socket"`
	Listen string     `yaml:"listen"`
	TLS    *yaml.Node `yaml:"tls"`
	HSM    struct {
		Via *yaml.Node `yaml:"via"`
	} `yaml:"hsm"`
}

// adaptConfig changes sidecar.yaml as the flags of this run say, and returns it. A flag that is not set changes nothing.
func (d upDir) adaptConfig(o upOptions, values upValues) (*upSidecar, error) {
	path := d.path("sidecar.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, unusable(path, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, unusable(path, errors.New("it has no settings"))
	}
	changed := false
	if o.listenSet {
		changed = setYAML(&doc, "listen", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: o.listen}) || changed
	}
	var now upSidecar
	if err := doc.Decode(&now); err != nil {
		return nil, unusable(path, err)
	}
	if now.Socket != d.path("kms.sock") {
		return nil, verb.Failf(verb.ExitUsage, "%s has socket %q, not %s: was the directory moved? Correct the paths in it and in hsmd.yaml, or restore both from a backup",
			path, now.Socket, d.path("kms.sock"))
	}
	if direct := now.HSM.Via == nil; o.modeSet && direct != (o.mode == modeDirect) {
		hsm, err := renderedHSM(values)
		if err != nil {
			return nil, err
		}
		changed = setYAML(&doc, "hsm", hsm) || changed
		now.HSM.Via = nil
		if err := doc.Decode(&now); err != nil {
			return nil, err
		}
	}
	if !changed {
		return &now, nil
	}
	out, err := yaml.Marshal(&doc)
	if err != nil {
		return nil, err
	}
	return &now, verb.WriteFile(path, out, true)
}

// checkHSMD refuses an hsmd.yaml with which hsmd would not serve where up waits for it.
func (d upDir) checkHSMD() error {
	path := d.path("hsmd.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var now struct {
		Socket string `yaml:"socket"`
	}
	if err := yaml.Unmarshal(text, &now); err != nil {
		return unusable(path, err)
	}
	if now.Socket != d.path("hsmd.sock") {
		return unusable(path, fmt.Errorf("socket is %q, not %s", now.Socket, d.path("hsmd.sock")))
	}
	return nil
}

func unusable(path string, why error) error {
	return verb.Failf(verb.ExitUsage, "%s: %w; correct the file, or restore it from a backup", path, why)
}

// renderedHSM returns the hsm section of a new sidecar.yaml.
func renderedHSM(values upValues) (*yaml.Node, error) {
	text, err := renderYAML(sidecarYAML, values)
	if err != nil {
		return nil, err
	}
	var fresh struct {
		HSM yaml.Node `yaml:"hsm"`
	}
	if err := yaml.Unmarshal(text, &fresh); err != nil {
		return nil, fmt.Errorf("rendered sidecar.yaml: %w", err)
	}
	return &fresh.HSM, nil
}

// setYAML sets a top-level key of a document. It reports whether the document changed.
func setYAML(doc *yaml.Node, key string, value *yaml.Node) bool {
	root := doc.Content[0]
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value != key {
			continue
		}
		same := value.Kind == yaml.ScalarNode && root.Content[i+1].Value == value.Value
		if !same {
			root.Content[i+1] = value
		}
		return !same
	}
	root.Content = append(root.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: key}, value)
	return true
}

// writeConfig writes a configuration file if it does not exist. Later runs keep the operator's changes, and do not replace a lost file: a
// new one would forget its principals and policies.
func (d upDir) writeConfig(name, text string, values upValues) error {
	path := d.path(name)
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if d.hasServed() {
		return verb.Failf(verb.ExitFailure, "%s does not exist: restore it from a backup, or remove %s to have it written as on the first run",
			path, d.path(createdName))
	}
	content, err := renderYAML(text, values)
	if err != nil {
		return err
	}
	return verb.WriteFile(path, content, true)
}
