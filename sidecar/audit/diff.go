package audit

import (
	"fmt"
	"slices"
)

type leaf [hashSize]byte

// difference is where the records of a file differ from the expected ones.
type difference struct {
	kind   Kind
	at     int // index of the expected record, from 0
	line   int // index of the present record, from 0
	detail string
}

// compare returns how records differ from the expected ones, by their leaf hashes.
func compare(want, have []leaf) (out []difference) {
	have = slices.Clone(have)
	inWant, inHave := places(want), places(have)
	for i, j := 0, 0; i < len(want) || j < len(have); {
		switch {
		case i < len(want) && j < len(have) && want[i] == have[j]:
			i, j = i+1, j+1
			continue
		case j == len(have):
			return append(out, difference{Truncated, i, j, fmt.Sprintf("%s missing at the end of the file", count(len(want)-i, "record is", "records are"))})
		case i == len(want):
			return append(out, difference{Added, i, j, fmt.Sprintf("%s after the end", count(len(have)-j, "record was added", "records were added"))})
		}
		at, known := inWant[have[j]]
		known = known && at > i
		line, later := inHave[want[i]]
		later = later && line > j
		switch {
		case known && later && at-i == line-j:
			out = append(out, difference{Swapped, i, j, fmt.Sprintf("it is swapped with the record in line %d", line+1)})
			have[j], have[line] = have[line], have[j]
		case known:
			out = append(out, difference{Missing, i, j, fmt.Sprintf("%s missing before this line", count(at-i, "record is", "records are"))})
			i = at
		case later:
			out = append(out, difference{Added, i, j, fmt.Sprintf("%s here", count(line-j, "record was added", "records were added"))})
			j = line
		default:
			out = append(out, difference{Changed, i, j, "the record differs from the acknowledged one"})
			i, j = i+1, j+1
		}
	}
	return out
}

func places(leaves []leaf) map[leaf]int {
	m := make(map[leaf]int, len(leaves))
	for i, l := range leaves {
		m[l] = i
	}
	return m
}

// count returns a number with the words for one or for several.
func count(n int, one, several string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, several)
}
