package cli

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyside/keyside/sidecar/client"
)

// Words that verbs take and that shells complete.
var (
	keySpecs = []string{
		"AES_256", "RSA_2048", "RSA_3072", "RSA_4096", "EC_P256", "EC_P384", "SECP256K1", "HMAC_256", "HMAC_384", "HMAC_512",
	}
	keyUsages  = []string{"ENCRYPT_DECRYPT", "SIGN_VERIFY", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT"}
	algorithms = []string{
		"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512",
		"RSASSA_PKCS1_V1_5_SHA_256", "RSASSA_PKCS1_V1_5_SHA_384", "RSASSA_PKCS1_V1_5_SHA_512",
		"ECDSA_SHA_256", "ECDSA_SHA_384", "ECDSA_SHA_512",
	}
	macAlgorithms        = []string{"HMAC_SHA_256", "HMAC_SHA_384", "HMAC_SHA_512"}
	encryptionAlgorithms = []string{client.SymmetricDefault, client.RSAOAEPSHA256}
)

// What completion may cost a person who types: so much time, and so many keys.
const (
	completeTimeout = 2 * time.Second
	completeKeysMax = 200
)

// words returns the keys of a table in order.
func words[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// completeFlag offers words for a flag. That a flag is not there, or has words already, is a mistake in this package.
func completeFlag(cmd *cobra.Command, flag string, words []string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// completeKeyFlag offers keys for a flag.
func completeKeyFlag(cmd *cobra.Command, flag string) {
	if err := cmd.RegisterFlagCompletionFunc(flag, completeKeys(0)); err != nil {
		panic(err)
	}
}

// completeKeys offers keys for the first n arguments, for all with 0: aliases, and ids when what is typed begins like one.
func completeKeys(n int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if n > 0 && len(args) >= n {
			return nil, cobra.ShellCompDirectiveDefault
		}
		return keysLike(cmd, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// keysLike asks the sidecar. Whatever goes wrong, there is nothing to offer then: a shell has no place for errors.
func keysLike(cmd *cobra.Command, typed string) []cobra.Completion {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	socket, _ := cmd.Flags().GetString("socket")
	c := client.New(socketPath(socket))
	defer c.Close()
	var offers []cobra.Completion
	offer := func(word string, k *client.Key) {
		if strings.HasPrefix(word, typed) {
			offers = append(offers, cobra.CompletionWithDesc(word, k.Spec+" "+k.State.String()))
		}
	}
	if len(typed) >= 4 && strings.Trim(typed, "0123456789abcdef-") == "" {
		page, err := c.ListKeys(ctx, client.ListKeysRequest{})
		if err != nil {
			return nil
		}
		for i := range page.Keys {
			offer(page.Keys[i].ID, &page.Keys[i])
		}
	}
	found, err := c.FindKeys(ctx, client.FindKeysRequest{Alias: typed, Limit: completeKeysMax})
	if err != nil {
		return offers
	}
	for i := range found.Keys {
		offer(found.Keys[i].Key.Alias, &found.Keys[i].Key)
	}
	return offers
}
