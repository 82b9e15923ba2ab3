package policy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
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

// TestEveryOperationHasARow holds that no declared operation is missing in the table: it would always be refused.
func TestEveryOperationHasARow(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "operations.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := []policy.Operation{"list-projects", "list-domains", "list-regions", "list-algorithms", "get-account-status"} // which their dialects declare
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "Op") && spec.Type != nil {
			name, _ := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			declared = append(declared, policy.Operation(name))
		}
		return true
	})
	listed := slices.Concat(policy.Operations, policy.Scheduled)
	slices.Sort(declared)
	slices.Sort(listed)
	if !slices.Equal(declared, listed) {
		t.Errorf("declared %v\nlisted %v", declared, listed)
	}
}

// TestNames holds that every operation is found by each of its names, and that no two share one, but for the look-ups.
func TestNames(t *testing.T) {
	of := map[string]policy.Operation{}
	for _, op := range slices.Concat(policy.Operations, policy.Scheduled) {
		for _, name := range []string{op.Name(), string(op), op.Trace()} {
			if name == "discover" {
				continue
			}
			name = strings.ToLower(strings.ReplaceAll(name, "-", ""))
			if other, taken := of[name]; taken && other != op {
				t.Errorf("%s is a name of %s and of %s", name, op, other)
			}
			of[name] = op
			if got, ok := policy.ParseOperation(name); !ok || got != op {
				t.Errorf("%s is parsed as %q, want %q", name, got, op)
			}
		}
	}
	for name, want := range map[string]policy.Operation{
		"Encrypt": policy.OpEncryptData, "kms:Decrypt": policy.OpDecryptData, "decrypt-data": policy.OpDecryptData, "decryptDatakey": policy.OpDecryptDataKey,
		"GenerateDataKeyWithoutPlaintext": policy.OpCreateDataKeyNoText, "ReEncrypt": policy.OpReEncrypt, "schedule_key_deletion": policy.OpScheduleDeletion,
		"TagResource": policy.OpTagKey, "ListResourceTags": policy.OpListKeyTags, "GetKeyRotationStatus": policy.OpGetRotation, "GetParametersForImport": policy.OpGetImportParameters,
	} {
		if op, ok := policy.ParseOperation(name); !ok || op != want {
			t.Errorf("%q is parsed as %s", name, op)
		}
	}
	// UpdateAlias renames at one cloud and moves at another; GenerateDataKeyPair stands for two operations.
	for _, name := range []string{"", "discover", "unserved", "UpdateAlias", "GenerateDataKeyPair", "s3:Decrypt"} {
		if op, ok := policy.ParseOperation(name); ok {
			t.Errorf("%q is parsed as %s", name, op)
		}
	}
}
