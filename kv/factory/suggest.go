package factory

import (
	"fmt"
	"strings"
)

// didYouMean returns `, did you mean "x"?` for the nearest of known, or nothing
// if none is near.
func didYouMean(word string, known []string) string {
	best := nearest(word, known)
	if best == "" {
		return ""
	}
	return fmt.Sprintf(", did you mean %q?", best)
}

// nearest returns the one of known that is nearest to word, empty if none is
// near.
func nearest(word string, known []string) string {
	word = strings.ToLower(strings.ReplaceAll(word, "-", "_"))
	best, bestDistance := "", max(1, min(3, len(word)/2))+1
	for _, k := range known {
		if d := distance(word, strings.ToLower(strings.ReplaceAll(k, "-", "_"))); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is Levenshtein's: the insertions, deletions and substitutions of
// bytes that turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
