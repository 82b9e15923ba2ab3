package imports

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/cli/verb"
	"github.com/keyside/keyside/sidecar/kms"
)

// defaultWrapping is the default of --algorithm.
const defaultWrapping = "RSAES_OAEP_SHA_256"

// Wrapping algorithms and the specs of wrapping keys.
var (
	wrappingAlgorithms = kms.WrappingNames()
	wrappingSpecs      = kms.SpecNames(kms.RSA)
	aesSpecs           = []string{string(kms.AES128), string(kms.AES192), string(kms.AES256)}
)

// wrappingFlags select the wrapping of material.
type wrappingFlags struct {
	algorithm, spec string
}

func (w *wrappingFlags) add(cmd *cobra.Command) {
	w.addAlgorithm(cmd)
	cmd.Flags().StringVar(&w.spec, "wrapping-spec", wrappingSpecs[0], "spec of the wrapping key: "+strings.Join(wrappingSpecs, ", "))
	verb.CompleteFlag(cmd, "wrapping-spec", wrappingSpecs)
}

func (w *wrappingFlags) addAlgorithm(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.algorithm, "algorithm", defaultWrapping, strings.Join(wrappingAlgorithms, ", ")+"; also written with hyphens")
	verb.CompleteFlag(cmd, "algorithm", wrappingAlgorithms)
}

// check checks the flags and gives them their own spelling: VNG Cloud writes RSA-AES-KEY-WRAP-SHA-256.
func (w *wrappingFlags) check() (err error) {
	if w.algorithm, err = verb.OneOf("--algorithm", w.algorithm, wrappingAlgorithms); err != nil {
		return err
	}
	w.spec, err = verb.Optional("--wrapping-spec", w.spec, wrappingSpecs)
	return err
}

// keyWrap reports whether an algorithm puts the wrapped temporary key and the wrapped material into one file.
func keyWrap(algorithm string) bool { return strings.HasPrefix(algorithm, "RSA_AES_KEY_WRAP") }
