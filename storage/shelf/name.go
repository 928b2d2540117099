package shelf

import (
	"path/filepath"
	"regexp"
	"strings"
)

// maxName is the longest name of a table, in bytes.
const maxName = 64

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)

// ValidName tells whether name may be the name of a table: a to z, 0 to 9, "_" and "-", 64 bytes at most, the first a
// letter or a digit.
func ValidName(name string) bool { return nameRule.MatchString(name) }

// BaseName is the name that a file gives its table: its base name without the ending. It may not be valid: nothing is
// lowercased or replaced behind anybody's back, see SuggestName.
func BaseName(path string) string {
	base := filepath.Base(path)
	return strings.TrimSuffix(base, filepath.Ext(base))
}

// SuggestName is a valid name as near to s as can be, "" if nothing of s can stay.
func SuggestName(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() == maxName {
			break
		}
	}
	return strings.Trim(b.String(), "-_")
}

// Nearest is the one of names that word was probably meant to be: the nearest within an edit distance of a third of
// word's length (2 at least), "" if there is none.
func Nearest(word string, names []string) string {
	limit := max(2, len(word)/3)
	best := ""
	for _, name := range names {
		if len(name)-len(word) > limit || len(word)-len(name) > limit {
			continue
		}
		if d := distance(word, name); d <= limit {
			best, limit = name, d-1
		}
	}
	return best
}

// distance is the Levenshtein distance of two strings, in bytes.
func distance(a, b string) int {
	above := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			swap := above[j]
			if a[i] != b[j] {
				swap++
			}
			row[j+1] = min(swap, above[j+1]+1, row[j]+1)
		}
		above, row = row, above
	}
	return above[len(b)]
}
