package huawei

import (
	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Settings is the dialect's section of the configuration: what it calls this place, and its own limits.
type Settings struct {
	Region    string     `yaml:"region"`
	ProjectID string     `yaml:"project_id"`
	DomainID  string     `yaml:"domain_id"`
	Limits    kms.Limits `yaml:"limits"`
}

// Section returns the settings of an empty section.
func Section() dialect.Section {
	return &Settings{Region: "local", ProjectID: "keyside", DomainID: "keyside"}
}

// Validate implements dialect.Section.
func (s *Settings) Validate(check func(ok bool, key, format string, args ...any)) {
	for key, v := range map[string]string{"region": s.Region, "project_id": s.ProjectID, "domain_id": s.DomainID} {
		check(dialect.IsName(v), key, "must be 1 to 64 letters, digits, - and _")
	}
}

// OwnLimits implements dialect.Section.
func (s *Settings) OwnLimits() kms.Limits { return s.Limits }

// New implements dialect.Section.
func (s *Settings) New(host dialect.Host, core *kms.Service) dialect.Dialect {
	return New(Config{Host: host, Core: core, Region: s.Region, ProjectID: s.ProjectID, DomainID: s.DomainID})
}
