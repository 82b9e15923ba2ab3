package verb

import (
	"cmp"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Profile is what the guide of one cloud does differently when a key of one's own is imported: whoever follows that guide
// finds its names and its limits here.
type Profile struct {
	Files            map[string]string // what import parameters writes: see fileForms
	Command          string            // the form of the wrapping key that the guide's openssl commands read
	OpensslEnc       bool              // under RSA_AES_KEY_WRAP private keys come in files of openssl enc, and AES keys in bare RSA blocks
	OnlyLast         bool              // of several tokens only the last is good
	Repeat           bool              // the same material may be imported over what is there
	MinWait, MaxWait int               // days until a deletion
}

// fileForms are the files of import parameters: the wrapping key in three forms, the token in base64, and what explains them.
// In their names ID stands for the key's id and TIME for when they were written.
var fileForms = []string{"der", "base64", "pem", "token", "readme"}

// profiles are by the cloud's name. Huawei's console downloads three files (its user guide, 2.3.2, step 10), to which the
// base64 of its API's guide comes; those of the others are what their guides' commands read, and their guides name no token.
// The days are those of the guides, for Alibaba Cloud of its API's reference.
var profiles = map[string]Profile{
	"huawei": {
		Files: map[string]string{"der": "wrappingKey_ID_TIME", "base64": "PublicKey.b64", "pem": "PublicKey.pem",
			"token": "importToken_ID_TIME", "readme": "README_ID_TIME.txt"},
		Command: "der", MinWait: minWait, MaxWait: maxWait,
	},
	"vng": {
		Files: map[string]string{"der": "WrappingPublicKey.der", "base64": "WrappingPublicKey.b64", "pem": "WrappingPublicKey.pem",
			"token": "ImportToken.b64", "readme": "README.txt"},
		Command: "pem", OpensslEnc: true, Repeat: true, MinWait: minWait, MaxWait: 30,
	},
	"tencent": {
		Files: map[string]string{"der": "public_key.bin", "base64": "public_key.base64", "pem": "public_key.pem",
			"token": "import_token.base64", "readme": "README.txt"},
		Command: "der", OnlyLast: true, Repeat: true, MinWait: minWait, MaxWait: 30,
	},
	"alibaba": {
		Files: map[string]string{"der": "PublicKey.bin", "base64": "PublicKey.b64", "pem": "PublicKey.pem",
			"token": "ImportToken.b64", "readme": "README.txt"},
		Command: "der", MinWait: minWait, MaxWait: 366,
	},
}

const profileVariable = "KEYSIDE_PROFILE"

// ProfileFlag is --profile.
type ProfileFlag string

func (p *ProfileFlag) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(p), "profile", "", "whose guide you follow, for its names and limits: "+
		strings.Join(Words(profiles), ", ")+" (default $"+profileVariable+", else huawei)")
	CompleteFlag(cmd, "profile", Words(profiles))
}

func (p ProfileFlag) Get() (Profile, error) {
	name := cmp.Or(string(p), os.Getenv(profileVariable), "huawei")
	found, ok := profiles[name]
	if !ok {
		return Profile{}, Failf(ExitUsage, "there is no profile %q; there are: %s", name, strings.Join(Words(profiles), ", "))
	}
	return found, nil
}

// FileNames fills the names of a profile's files in.
func FileNames(files map[string]string, id string, now time.Time) map[string]string {
	names := make(map[string]string, len(files))
	fill := strings.NewReplacer("ID", id, "TIME", now.UTC().Format("20060102150405"))
	for form, name := range files {
		names[form] = fill.Replace(name)
	}
	return names
}

// Days that a key waits for its deletion (the user guide, 2.4.4).
const (
	minWait = 7
	maxWait = 1096
)
