package policy_test

import (
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/keyside/keyside/policy"
)

// BenchmarkDecide decides among 10,000 grants on 1,000 keys: by the last grant of the key, by a role, and with policies.
func BenchmarkDecide(b *testing.B) {
	byKey := make([][]*policy.Grant, 1000)
	for i := range 10_000 {
		key := [16]byte{byte(i % 1000), byte(i % 1000 >> 8)}
		g := &policy.Grant{ID: hex.EncodeToString(key[:]), Key: key, Grantee: fmt.Sprintf("user-%d", i), Issuer: "owner",
			Operations: []policy.Operation{policy.OpDescribeKey, policy.OpCreateDataKey, policy.OpDecryptDataKey}}
		byKey[i%1000] = append(byKey[i%1000], g)
	}
	texts := ""
	for i := range 10 {
		texts += fmt.Sprintf("permit (principal == User::\"u%d\", action in [Action::\"use\"], resource is Key) when { resource.hasTag(\"team\") && resource.getTag(\"team\") == \"t%d\" };\n", i, i)
	}
	policies, err := policy.ParsePolicies(policy.Text{Name: "x.cedar", Body: []byte(texts)})
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name     string
		who      policy.Principal
		policies *policy.Policies
	}{
		{"grant", policy.Principal{}, nil}, {"role", policy.Principal{Role: policy.Administrator}, nil}, {"policies", policy.Principal{}, policies},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i = (i + 1) % 1000 {
				grants := byKey[i]
				who := c.who
				who.Name = grants[len(grants)-1].Grantee
				d := policy.Decide(&policy.Request{Operation: policy.OpDecryptDataKey, Principal: who}, &policy.Facts{
					Time: time.Unix(1, 0), Key: policy.Key{ID: grants[0].Key, Exists: true, Tags: []policy.Tag{{Key: "team", Value: "t1"}}},
					Grants: grants, Policies: c.policies,
				})
				if !d.Allow {
					b.Fatal(d)
				}
			}
		})
	}
}
