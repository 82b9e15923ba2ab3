// Package spelling finds the words that are most like a mistyped one, and says where a text is wrong in its own lines.
package spelling

import (
	"cmp"
	"slices"
	"strings"
)

// maxNearest is the number of words that an error suggests.
const maxNearest = 3

// Nearest returns the words that are most like a mistyped one, best first, at most three.
func Nearest(typed string, words []string) []string {
	type candidate struct {
		word     string
		distance int
	}
	typed = Plain(typed)
	var found []candidate
	for i, word := range words {
		if slices.Contains(words[:i], word) {
			continue
		}
		plain := Plain(word)
		d := distance(typed, plain)
		if len(typed) >= 3 && (strings.HasPrefix(plain, typed) || strings.HasPrefix(typed, plain) && len(plain) >= 3) {
			d = min(d, 1)
		}
		if d <= 1+len(typed)/4 && d < len(typed) {
			found = append(found, candidate{word, d})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return cmp.Compare(a.distance, b.distance) })
	var nearest []string
	for _, c := range found {
		if len(nearest) < maxNearest && !slices.Contains(nearest, c.word) {
			nearest = append(nearest, c.word)
		}
	}
	return nearest
}

// DidYouMean returns the end of an error: "; did you mean A or B?", or nothing.
func DidYouMean(typed string, words []string) string {
	nearest := Nearest(typed, words)
	if len(nearest) == 0 {
		return ""
	}
	return "; did you mean " + alternatives(nearest) + "?"
}

// alternatives joins words: "A, B or C".
func alternatives(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	return strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
}

// Plain returns a word in lower case without hyphens, underscores and blanks, in which its spellings are the same.
func Plain(word string) string {
	return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(word))
}

// distance returns the number of letters to insert, delete, replace or swap with their neighbor (optimal string alignment).
func distance(a, b string) int {
	before, last, now := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range now {
		now[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, now = last, now, before
		now[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			now[j] = min(last[j]+1, now[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				now[j] = min(now[j], before[j-2]+1)
			}
		}
	}
	return now[len(b)]
}
