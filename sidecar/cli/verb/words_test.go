package verb

import "testing"

func TestOneOf(t *testing.T) {
	words := []string{"AES_256", "EC_P256", "pending-import"}
	for typed, want := range map[string]string{"AES_256": "AES_256", "aes-256": "AES_256", "ecp256": "EC_P256", "PendingImport": "pending-import"} {
		if got, err := OneOf("--spec", typed, words); err != nil || got != want {
			t.Errorf("%s: %s, %v", typed, got, err)
		}
	}
	_, err := OneOf("--spec", "AES_265", words)
	if want := `--spec "AES_265" is none of: AES_256, EC_P256, pending-import; did you mean AES_256?`; ExitCode(err) != ExitUsage || err.Error() != want {
		t.Error(err)
	}
	if got, err := Optional("--spec", "", words); got != "" || err != nil {
		t.Error(got, err)
	}
}
