package verb

import (
	"path/filepath"
	"testing"
	"time"
)

// TestProfiles checks the table of guides: the files of a guide have different names.
func TestProfiles(t *testing.T) {
	at := time.Date(2017, 9, 27, 1, 11, 6, 0, time.FixedZone("", 3600))
	if got := FileNames(profiles["huawei"].Files, "K", at)["der"]; got != "wrappingKey_K_20170927001106" {
		t.Errorf("wrapping key in %s", got)
	}
	for name, p := range profiles {
		seen := map[string]bool{}
		for _, form := range fileForms {
			if file := p.Files[form]; file == "" || seen[file] || filepath.Base(file) != file {
				t.Errorf("%s: %s in %q", name, form, file)
			}
			seen[p.Files[form]] = true
		}
		if len(p.Files) != len(fileForms) || p.MinWait < minWait || p.MaxWait > maxWait || (p.Command != "der" && p.Command != "pem") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	t.Setenv(profileVariable, "tencent")
	if p, err := ProfileFlag("").Get(); err != nil || !p.OnlyLast {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := ProfileFlag("aws").Get(); ExitCode(err) != ExitUsage {
		t.Error(err)
	}
}
