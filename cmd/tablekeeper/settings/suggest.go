package settings

import (
	"maps"
	"slices"
	"strings"
)

// suggestion is the hint for an unknown key: the nearest known one, or all of them.
func suggestion[T any](key string, known map[string]T) string {
	names := slices.Sorted(maps.Keys(known))
	if near := Nearest(key, names); near != "" {
		return "did you mean `" + near + "`?"
	}
	return "known here: " + strings.Join(names, ", ")
}

// Nearest is the name within an edit distance of a third of word's length (2 at least), "" if there is none.
func Nearest(word string, names []string) string {
	limit := max(2, len(word)/3)
	best := ""
	for _, name := range names {
		if d := distance(word, name); d <= limit {
			best, limit = name, d-1
		}
	}
	return best
}

// distance is the Levenshtein distance of two strings, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
