package kms_test

import (
	"context"
	"testing"

	"github.com/keyside/keyside/sidecar/audit"
	"github.com/keyside/keyside/sidecar/kms"
)

// nullHSM answers at once: what is left is the service's own cost.
type nullHSM struct {
	*fakeHSM
	iv   [12]byte
	body []byte
}

func (h *nullHSM) Encrypt(_ context.Context, _ kms.KeyRef, plaintext, _ []byte) ([]byte, []byte, error) {
	for i := range h.iv { // no IV like the one before
		if h.iv[i]++; h.iv[i] != 0 {
			break
		}
	}
	return h.iv[:], h.body[:len(plaintext)+16], nil
}

// BenchmarkEncrypt measures the service around an HSM that costs nothing, without an audit log and with one.
func BenchmarkEncrypt(b *testing.B) {
	for name, open := range map[string]func() (kms.Auditor, error){
		"audit=off":    func() (kms.Auditor, error) { return noAudit{}, nil },
		"audit=nosync": func() (kms.Auditor, error) { return audit.Open(audit.Options{Dir: b.TempDir()}) },
		"audit=sync":   func() (kms.Auditor, error) { return audit.Open(audit.Options{Dir: b.TempDir(), Sync: true}) },
	} {
		b.Run(name, func(b *testing.B) {
			auditor, err := open()
			if err != nil {
				b.Fatal(err)
			}
			if log, ok := auditor.(*audit.Log); ok {
				defer log.Close()
			}
			hsm := &nullHSM{fakeHSM: newHSM(), body: make([]byte, 5000)}
			s, err := kms.New(kms.Config{Store: newStore(b), HSM: hsm, Auditor: auditor, Tenant: "bench"})
			if err != nil {
				b.Fatal(err)
			}
			key, err := s.CreateKey(admin, kms.CreateKeyInput{Alias: "bench"})
			if err != nil {
				b.Fatal(err)
			}
			in := kms.EncryptInput{KeyID: key.ID, Plaintext: make([]byte, 32)}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Encrypt(admin, in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type noAudit struct{}

func (noAudit) Record(context.Context, *kms.AuditRecord) error { return nil }
func (noAudit) Ready(context.Context) error                    { return nil }
func (noAudit) Line(*kms.AuditRecord) []byte                   { return nil }
