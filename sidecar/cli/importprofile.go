package cli

import (
	"cmp"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// profile is what the guide of one cloud does differently when a key of one's own is imported: whoever follows that guide
// finds its names and its limits here.
type profile struct {
	files            map[string]string // what import parameters writes: see fileForms
	command          string            // the form of the wrapping key that the guide's openssl commands read
	opensslEnc       bool              // under RSA_AES_KEY_WRAP private keys come in files of openssl enc, and AES keys in bare RSA blocks
	onlyLast         bool              // of several tokens only the last is good
	repeat           bool              // the same material may be imported over what is there
	minWait, maxWait int               // days until a deletion
}

// fileForms are the files of import parameters: the wrapping key in three forms, the token in base64, and what explains them.
// In their names ID stands for the key's id and TIME for when they were written.
var fileForms = []string{"der", "base64", "pem", "token", "readme"}

// profiles are by the cloud's name. Huawei's console downloads three files (its user guide, 2.3.2, step 10), to which the
// base64 of its API's guide comes; those of the others are what their guides' commands read, and their guides name no token.
// The days are those of the guides, for Alibaba Cloud of its API's reference.
var profiles = map[string]profile{
	"huawei": {
		files: map[string]string{"der": "wrappingKey_ID_TIME", "base64": "PublicKey.b64", "pem": "PublicKey.pem",
			"token": "importToken_ID_TIME", "readme": "README_ID_TIME.txt"},
		command: "der", minWait: minWait, maxWait: maxWait,
	},
	"vng": {
		files: map[string]string{"der": "WrappingPublicKey.der", "base64": "WrappingPublicKey.b64", "pem": "WrappingPublicKey.pem",
			"token": "ImportToken.b64", "readme": "README.txt"},
		command: "pem", opensslEnc: true, repeat: true, minWait: minWait, maxWait: 30,
	},
	"tencent": {
		files: map[string]string{"der": "public_key.bin", "base64": "public_key.base64", "pem": "public_key.pem",
			"token": "import_token.base64", "readme": "README.txt"},
		command: "der", onlyLast: true, repeat: true, minWait: minWait, maxWait: 30,
	},
	"alibaba": {
		files: map[string]string{"der": "PublicKey.bin", "base64": "PublicKey.b64", "pem": "PublicKey.pem",
			"token": "ImportToken.b64", "readme": "README.txt"},
		command: "der", minWait: minWait, maxWait: 366,
	},
}

const profileVariable = "KEYSIDE_PROFILE"

// profileFlag is --profile.
type profileFlag string

func (p *profileFlag) add(cmd *cobra.Command) {
	cmd.Flags().StringVar((*string)(p), "profile", "", "whose guide you follow, for its names and limits: "+
		strings.Join(words(profiles), ", ")+" (default $"+profileVariable+", else huawei)")
	completeFlag(cmd, "profile", words(profiles))
}

func (p profileFlag) get() (profile, error) {
	name := cmp.Or(string(p), os.Getenv(profileVariable), "huawei")
	found, ok := profiles[name]
	if !ok {
		return profile{}, failf(ExitUsage, "there is no profile %q; there are: %s", name, strings.Join(words(profiles), ", "))
	}
	return found, nil
}

// Wrapping algorithms and the specs of wrapping keys.
const defaultWrapping = "RSAES_OAEP_SHA_256"

var (
	wrappingAlgorithms = []string{
		defaultWrapping, "RSA_AES_KEY_WRAP_SHA_256", "RSAES_OAEP_SHA_1", "RSA_AES_KEY_WRAP_SHA_1", "RSAES_PKCS1_V1_5",
	}
	wrappingSpecs = []string{"RSA_2048", "RSA_3072", "RSA_4096"}
)

// wrappingFlags say how material is wrapped.
type wrappingFlags struct {
	algorithm, spec string
}

func (w *wrappingFlags) add(cmd *cobra.Command) {
	w.addAlgorithm(cmd)
	cmd.Flags().StringVar(&w.spec, "wrapping-spec", wrappingSpecs[0], "of the wrapping key: "+strings.Join(wrappingSpecs, ", "))
	completeFlag(cmd, "wrapping-spec", wrappingSpecs)
}

func (w *wrappingFlags) addAlgorithm(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.algorithm, "algorithm", defaultWrapping, strings.Join(wrappingAlgorithms, ", ")+"; also written with hyphens")
	completeFlag(cmd, "algorithm", wrappingAlgorithms)
}

// check brings the algorithm's name into the one form that the API has: VNG Cloud writes RSA-AES-KEY-WRAP-SHA-256.
func (w *wrappingFlags) check() error {
	name := strings.ToUpper(strings.ReplaceAll(w.algorithm, "-", "_"))
	if !slices.Contains(wrappingAlgorithms, name) {
		return failf(ExitUsage, "--algorithm %q is none of: %s", w.algorithm, strings.Join(wrappingAlgorithms, ", "))
	}
	w.algorithm = name
	if w.spec != "" && !slices.Contains(wrappingSpecs, w.spec) {
		return failf(ExitUsage, "--wrapping-spec %q is none of: %s", w.spec, strings.Join(wrappingSpecs, ", "))
	}
	return nil
}

// keyWrap reports the algorithms under which one file holds all: a temporary key, and under it the material.
func keyWrap(algorithm string) bool { return strings.HasPrefix(algorithm, "RSA_AES_KEY_WRAP") }
