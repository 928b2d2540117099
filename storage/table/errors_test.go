package table

import (
	"errors"
	"fmt"
	"testing"
)

func TestCorruptErrorIsOneLine(t *testing.T) {
	for want, problems := range map[string][]string{
		"a.db: the database is damaged":                                       nil,
		"a.db: the database is damaged: row 3 missing from index i":           {"row 3 missing from index i"},
		"a.db: the database is damaged: row 3 missing from i (and 1 more)":    {"row 3 missing from i", "row 4 missing from i"},
		"a.db: the database is damaged: Tree 4 page 106: bad (and 2 more)":    {"*** in database main ***\nTree 4 page 106: bad\nTree 5: bad", "row 3 missing"},
		"a.db: the database is damaged: *** in database temp ***":             {"*** in database temp ***"},
		"a.db: the database is damaged: page 7 is not what was written to it": {"\npage 7 is not what was written to it\n"},
	} {
		if got := (&CorruptError{Path: "a.db", Problems: problems}).Error(); got != want {
			t.Errorf("%q: %q, want %q", problems, got, want)
		}
	}
}

func TestAsCorruptSaysItOnce(t *testing.T) {
	err := asCorrupt("a.db", fmt.Errorf("%w: %w", ErrCorrupt, errors.New("database disk image is malformed (11)")))
	if want := "a.db: the database is damaged: database disk image is malformed (11)"; err.Error() != want {
		t.Errorf("%q, want %q", err, want)
	}
}
