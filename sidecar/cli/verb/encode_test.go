package verb

import (
	"testing"
)

// TestDecodeBase64 decodes base64 and returns binary input unchanged.
func TestDecodeBase64(t *testing.T) {
	raw := string([]byte{0, 1, 0xfe, '\n', 0xff})
	for in, want := range map[string]string{
		"AAH+Cv8=\n": raw, " AAH+\nCv8= ": raw, raw: raw, "": "", "not base64!": "not base64!",
	} {
		if got := string(DecodeBase64([]byte(in))); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
