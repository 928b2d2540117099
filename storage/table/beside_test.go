package table

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSnapshotWithTheCheckBesideIsTheSame(t *testing.T) {
	eachFixture(t, func(t *testing.T, _ fixture, path string) {
		want, rows := dump(t, path), shellRows(t, path)
		copied := path + ".copy"
		must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{Beside: true}, func(ctx context.Context, s *Snapshot) error {
			_, err := save(ctx, s, copied)
			if diff := cmp.Diff(rows, s.Rows()); diff != "" {
				t.Error(diff)
			}
			return err
		}))
		if diff := cmp.Diff(want, dump(t, copied)); diff != "" {
			t.Error(diff)
		}
		soundAtEnd(t, copied)
	})
}

// The pages of a damaged table never end well, and neither does the snapshot, whatever use makes of them.
func TestSnapshotWithTheCheckBesideFindsDamage(t *testing.T) {
	for name, mode := range map[string]string{"wal": "WAL", "rollback": "DELETE"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.db")
			shell(t, path, "PRAGMA journal_mode="+mode+";", "CREATE TABLE a(x TEXT); CREATE INDEX ax ON a(x);",
				"INSERT INTO a WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 500) SELECT 'row '||n FROM c;")
			damagePages(t, path, func(page func(n int) []byte) { clear(page(4)[:100]) })
			var ended error
			err := TakeSnapshot(t.Context(), path, SnapshotOptions{Beside: true}, func(ctx context.Context, s *Snapshot) error {
				for _, err := range s.Pages(ctx) {
					ended = err
				}
				return nil // as if nothing had been noticed
			})
			if !errors.Is(err, ErrCorrupt) || !errors.Is(ended, ErrCorrupt) {
				t.Errorf("the snapshot: %v; its pages: %v", err, ended)
			}
		})
	}
}

func TestSnapshotWithTheCheckBesideIsOneMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "PRAGMA journal_mode=WAL; CREATE TABLE log(n INTEGER PRIMARY KEY, filler BLOB); CREATE INDEX log_f ON log(filler);")
	w := startWriter(t, path, "PRAGMA wal_autocheckpoint=10; PRAGMA synchronous=OFF")
	rounds := 20
	if raceEnabled {
		rounds = 2
	}
	for range rounds {
		copied := path + ".copy"
		var counted int64
		must(t, TakeSnapshot(t.Context(), path, SnapshotOptions{Wait: time.Minute, Beside: true}, func(ctx context.Context, s *Snapshot) error {
			_, err := save(ctx, s, copied)
			counted = s.Rows()["log"]
			return err
		}))
		if read := shellRows(t, copied)["log"]; read != counted {
			t.Errorf("%d rows were counted beside, the pages have %d", counted, read)
		}
		soundAtEnd(t, copied)
		removeAll(t, copied)
	}
	w.verify(t)
}

// Two connections that begin on different commits are noticed.
func TestConnectionsApartAreNoticed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.db")
	shell(t, path, "PRAGMA journal_mode=WAL; CREATE TABLE a(x);")
	one, err := open(t.Context(), path, openOptions{})
	must(t, err)
	two, err := open(t.Context(), path, openOptions{})
	must(t, err)
	defer func() { must(t, errors.Join(one.close(), two.close())) }()
	must(t, one.beginWith(t.Context(), two, func(Stats) error { return nil }))

	before, err := two.dataVersion(t.Context())
	must(t, err)
	shell(t, path, "INSERT INTO a VALUES (1);")
	must(t, two.read(t.Context(), func() error {
		after, err := two.dataVersion(t.Context())
		if after == before {
			t.Error("a commit in between was not noticed")
		}
		return err
	}))
}
