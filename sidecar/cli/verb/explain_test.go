package verb

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// answeredCode finds the codes that the dialect's source holds.
var answeredCode = regexp.MustCompile(`"((?:KMS|APIGW)\.\d{4})"`)

// TestAdvices holds that somebody has thought of what to do about every code that the sidecar answers.
func TestAdvices(t *testing.T) {
	files, err := filepath.Glob("../../dialect/huawei/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range answeredCode.FindAllStringSubmatch(string(source), -1) {
			a, known := advices[found[1]]
			if isPlain := slices.Contains(plain, found[1]); known == isPlain {
				t.Errorf("%s: %s must be in advices or in plain", file, found[1])
			} else if known && a.next == "" {
				t.Errorf("the advice for %s says nothing", found[1])
			}
		}
	}
}
