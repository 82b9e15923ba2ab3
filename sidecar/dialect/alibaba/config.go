package alibaba

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/keyside/keyside/sidecar/dialect"
	"github.com/keyside/keyside/sidecar/kms"
)

// Settings is the dialect's section of the configuration.
type Settings struct {
	Region      string     `yaml:"region"`       // in ARNs; requests may name any
	AccountID   string     `yaml:"account_id"`   // in ARNs; requests may name any
	Signatures  []string   `yaml:"signatures"`   // accepted
	VersionDays int        `yaml:"version_days"` // between two CreateKeyVersion of a key; 0: no limit
	InstanceCA  string     `yaml:"instance_ca"`  // PEM file of the certificates that GetKmsInstance returns; empty: none
	Limits      kms.Limits `yaml:"limits"`
}

// Section returns the settings of an empty section: the cloud's quotas.
func Section() dialect.Section {
	return &Settings{
		Region: "local", AccountID: "1000000000000000", Signatures: signatureNames(), VersionDays: 7,
		Limits: kms.Limits{
			Keys: 200, Data: 6144, Message: 6144, AAD: 8192, Context: 8192, Description: 8192, TagKey: 128, TagValue: 128, Aliases: 300,
		},
	}
}

// Validate implements dialect.Section.
func (s *Settings) Validate(check func(ok bool, key, format string, args ...any)) {
	for key, v := range map[string]string{"region": s.Region, "account_id": s.AccountID} {
		check(dialect.IsName(v), key, "must be 1 to 64 letters, digits, - and _")
	}
	for _, name := range s.Signatures {
		check(slices.Contains(signatureNames(), name), "signatures", "must be some of %s", strings.Join(signatureNames(), ", "))
	}
	check(s.VersionDays >= 0, "version_days", "must not be negative")
	if _, err := s.chain(); err != nil {
		check(false, "instance_ca", "%v", err)
	}
}

// chain reads the certificates of the instances.
func (s *Settings) chain() (string, error) {
	if s.InstanceCA == "" {
		return "", nil
	}
	text, err := os.ReadFile(s.InstanceCA)
	if err == nil && !strings.Contains(string(text), "BEGIN CERTIFICATE") {
		err = fmt.Errorf("%s has no certificate", s.InstanceCA)
	}
	return string(text), err
}

// OwnLimits implements dialect.Section.
func (s *Settings) OwnLimits() kms.Limits { return s.Limits }

// New implements dialect.Section.
func (s *Settings) New(host dialect.Host, core *kms.Service) dialect.Dialect {
	return newDialect(s, host, core)
}
