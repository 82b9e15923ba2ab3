package verb

import (
	"slices"
	"strings"

	"github.com/keyside/keyside/policy/spelling"
)

// DidYouMean returns the end of an error: "; did you mean A or B?", or nothing.
func DidYouMean(typed string, words []string) string { return spelling.DidYouMean(typed, words) }

// OneOf returns the one of words that the value of a flag names, whatever its case and its hyphens and underscores.
func OneOf(flag, value string, words []string) (string, error) {
	if slices.Contains(words, value) {
		return value, nil
	}
	for _, word := range words {
		if spelling.Plain(word) == spelling.Plain(value) {
			return word, nil
		}
	}
	return "", Failf(ExitUsage, "%s %q is none of: %s%s", flag, value, strings.Join(words, ", "), DidYouMean(value, words))
}

// Optional is OneOf for a flag that may be empty.
func Optional(flag, value string, words []string) (string, error) {
	if value == "" {
		return "", nil
	}
	return OneOf(flag, value, words)
}
