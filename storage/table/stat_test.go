package table

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestStatAgreesWithTheShell(t *testing.T) {
	eachFixture(t, func(t *testing.T, f fixture, path string) {
		before := tree(t, filepath.Dir(path))
		s, err := Stat(t.Context(), path)
		must(t, err)
		if after := tree(t, filepath.Dir(path)); !reflect.DeepEqual(before, after) {
			t.Errorf("Stat left %v, there was %v", after, before)
		}
		mode := map[bool]string{true: "wal", false: "delete"}[f.wal]
		auto := map[string]string{"none": "0", "full": "1", "incremental": "2"}[s.AutoVacuum]
		got := fmt.Sprintf("%d\n%d\n%d\n%s\n%s\n%s\n%d\n%d", s.PageSize, s.PageCount, s.FreePages, s.JournalMode, auto, s.Encoding, s.UserVersion, s.ApplicationID)
		want := shell(t, path, "PRAGMA page_size;", "PRAGMA page_count;", "PRAGMA freelist_count;") + "\n" + mode + "\n" +
			shell(t, path, "PRAGMA auto_vacuum;", "PRAGMA encoding;", "PRAGMA user_version;", "PRAGMA application_id;")
		if got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if f.free != (s.FreePages > 0) {
			t.Errorf("%d free pages", s.FreePages)
		}
		if info, _ := os.Stat(path); s.Bytes != info.Size() || s.WrittenBy == "" || s.SQLiteVersion == "" {
			t.Errorf("%+v", s)
		}
	})
}

// What is committed counts, wherever it is.
func TestStatReadsTheWAL(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	_, end := startChild(t, "hold", path, "PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0", "CREATE TABLE a(x)",
		"INSERT INTO a SELECT zeroblob(100000)", "PRAGMA user_version=7")
	first, err := ReadToken(path)
	must(t, err)
	s, err := Stat(t.Context(), path)
	must(t, err)
	if s.Bytes != 4096 || s.PageCount < 25 || s.UserVersion != 7 || s.WALBytes < 100000 {
		t.Errorf("%+v", s)
	}
	shell(t, path, "DELETE FROM a;")
	again, err := Stat(t.Context(), path)
	must(t, err)
	if again.FreePages < 20 || again.FreeRatio < 0.5 {
		t.Errorf("%+v", again)
	}
	if second, err := ReadToken(path); err != nil || second == first {
		t.Errorf("token %s stands after a commit, %v", second, err)
	}
	end()
	soundAtEnd(t, path)
}

func TestToken(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE", "PERSIST", "TRUNCATE"} {
		t.Run(mode, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			shell(t, path, "PRAGMA journal_mode="+mode+"; CREATE TABLE a(x);")
			_, end := startChild(t, "hold", path, "SELECT 1") // so that the WAL stays
			defer end()
			seen := map[Token]bool{}
			for i := range 20 {
				token, err := ReadToken(path)
				must(t, err)
				if seen[token] {
					t.Fatalf("commit %d left the token as it was", i)
				}
				seen[token] = true
				if _, err := Check(context.Background(), path, CheckOptions{}); err != nil {
					t.Fatal(err)
				}
				if again, _ := ReadToken(path); mode != "WAL" && again != token {
					t.Fatalf("a reader changed the token")
				}
				shell(t, path, "INSERT INTO a VALUES (1);")
			}
			soundAtEnd(t, path)
		})
	}
}

// Frames of a transaction that was rolled back stay behind the last commit, and must not hide the next one.
func TestTokenSeesACommitBeforeOldFrames(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "PRAGMA journal_mode=WAL; CREATE TABLE a(x);")
	_, end := startChild(t, "hold", path, "PRAGMA wal_autocheckpoint=0", "INSERT INTO a VALUES (0)", "PRAGMA cache_size=2", "BEGIN",
		"INSERT INTO a SELECT zeroblob(200000)", "ROLLBACK")
	defer end()
	before, err := ReadToken(path)
	must(t, err)
	shell(t, path, "INSERT INTO a VALUES (1);")
	if after, err := ReadToken(path); err != nil || after == before {
		t.Errorf("the token is still %s, %v", after, err)
	}
	soundAtEnd(t, path)
}
