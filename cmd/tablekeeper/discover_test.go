package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tablekeeper/storage/shelf"
)

func TestUniqueNames(t *testing.T) {
	got := uniqueNames([]string{
		"/srv/a/main.db", "/srv/b/main.db", "/other/b/main.db", "/x/Größe & co.sqlite", "/x/.hidden", "/y/日本.db", "/z/日本.db", "/" + strings.Repeat("n", 200) + ".db",
		"/main", "/main.sqlite",
	})
	want := []string{"main", "b-main", "other-b-main", shelf.SuggestName("Größe & co"), "hidden", "table", "z-table", strings.Repeat("n", 64), "t2-main", "t3-main"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, name := range got {
		if !shelf.ValidName(name) {
			t.Errorf("%q is no name", name)
		}
	}
}
