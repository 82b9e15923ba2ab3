package verb

import (
	"cmp"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Profile is the file names and limits of one cloud's guide to importing key material.
type Profile struct {
	Files            map[string]string // file names of import parameters, by the forms of fileForms
	Command          string            // the form of the wrapping key that the guide's openssl commands read
	OpensslEnc       bool              // under RSA_AES_KEY_WRAP, private keys are in files of openssl enc and AES keys in bare RSA blocks
	OnlyLast         bool              // a new token invalidates earlier ones
	Repeat           bool              // the same material may be imported again
	MinWait, MaxWait int               // days until a scheduled deletion
}

// fileForms are the files of import parameters: the wrapping key in three forms, the token in base64, and a README.
// In their names ID stands for the key's id and TIME for the time of writing.
var fileForms = []string{"der", "base64", "pem", "token", "readme"}

// profiles maps the clouds' names to their guides. Huawei's console downloads three files (user guide, 2.3.2, step 10); the
// base64 form is from its API guide. For the other clouds, the wrapping key's files are those that the guide's commands read;
// these guides name no token. The days are from the guides, for Alibaba Cloud from its API reference.
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

// Add adds the flag to cmd.
func (p *ProfileFlag) Add(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(p), "profile", "", "cloud whose guide you follow; selects file names and limits: "+
		strings.Join(Words(profiles), ", ")+" (default $"+profileVariable+", else huawei)")
	CompleteFlag(cmd, "profile", Words(profiles))
}

// Get returns the profile that the flag, the environment or the default selects.
func (p ProfileFlag) Get() (Profile, error) {
	name, err := OneOf("--profile", cmp.Or(string(p), os.Getenv(profileVariable), "huawei"), Words(profiles))
	return profiles[name], err
}

// FileNames returns the names of a profile's files for a key.
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
