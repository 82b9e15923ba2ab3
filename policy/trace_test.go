package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyside/keyside/policy"
)

// guideTraces is table 1-7 of the user guide, but for the console's deleteKeyRiskTips.
const guideTraces = `createDataKeyWithoutPlaintext enableKey disableKey encryptDatakey decryptDatakey scheduleKeyDeletion cancelKeyDeletion
	genRandom updateKeyAlias updateKeyDescription importKeyMaterial deleteImportedKeyMaterial createGrant retireGrant revokeGrant
	encryptData decryptData createKeyTag deleteKeyTag batchCreateKeyTags batchDeleteKeyTags enableKeyRotation updateKeyRotationInterval
	disableKeyRotation`

// TestTraces holds that every trace of the guide is one of an operation's, and that each operation has one of its own.
func TestTraces(t *testing.T) {
	have := []string{policy.TraceTagInBatch, policy.TraceUntagInBatch}
	for _, op := range slices.Concat(policy.Operations, policy.Scheduled) {
		name := op.Trace()
		if slices.Contains(have, name) || strings.ContainsAny(name, "-_ ") || name == "" || strings.ToLower(name[:1]) != name[:1] {
			t.Errorf("%s has the trace %q", op, name)
		}
		have = append(have, name)
	}
	for _, name := range strings.Fields(guideTraces) {
		if !slices.Contains(have, name) {
			t.Errorf("no operation has the trace %s", name)
		}
	}
}
