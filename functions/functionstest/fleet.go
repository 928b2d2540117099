// Package functionstest makes real tables in a real folder with a real bucket, for the tests of the functions, and looks
// afterwards whether any table was harmed or any litter left.
package functionstest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket/dir"
	"tablekeeper/storage/bucket/faulty"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// BucketName is what the records of backups call the fleet's bucket.
const BucketName = "file:///test"

// Patient lets a pause be long: on a busy machine a test may be stopped in the middle of one.
var Patient = shelf.Settings{MaxPause: time.Minute}

// Fleet is some tables and where their backups go.
type Fleet struct {
	T         *testing.T
	Dir       string // of the tables
	BucketDir string
	Bucket    *faulty.Bucket
	Shelf     *shelf.Shelf
	Catalogue *archive.Catalogue
	Damaged   map[string]bool // files that are not expected to be sound at the end

	mu  sync.Mutex
	now time.Time
}

// New makes a fleet without tables. Its clock stands at 2026-11-22 10:00 UTC and goes on by a second whenever it is read.
func New(t *testing.T) *Fleet {
	t.Helper()
	f := &Fleet{
		T: t, Dir: t.TempDir(), BucketDir: t.TempDir(), Damaged: map[string]bool{},
		now: time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC),
	}
	objects, err := dir.Create(f.BucketDir)
	f.Must(err)
	f.Bucket = faulty.Wrap(objects)
	f.Catalogue = archive.NewCatalogue(f.Bucket, archive.CatalogueOptions{})
	f.Shelf, err = shelf.Open([]shelf.Source{{Path: f.Dir, Settings: Patient}}, shelf.Options{Now: f.Now})
	f.Must(err)
	t.Cleanup(f.inspect)
	return f
}

// Now reads the clock.
func (f *Fleet) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(time.Second)
	return f.now
}

// Jump moves the clock, also backwards.
func (f *Fleet) Jump(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(by)
}

// Must ends the test on an error.
func (f *Fleet) Must(err error) {
	f.T.Helper()
	if err != nil {
		f.T.Fatal(err)
	}
}

// Path is where the table of that name is.
func (f *Fleet) Path(name string) string { return filepath.Join(f.Dir, name+".db") }

// Make makes a table of that many rows, in WAL mode, and puts it on the shelf.
func (f *Fleet) Make(name string, rows int) {
	f.T.Helper()
	f.Exec(name, "PRAGMA journal_mode=WAL; CREATE TABLE items (id INTEGER PRIMARY KEY, label TEXT, body BLOB); CREATE INDEX by_label ON items(label)")
	f.Fill(name, rows)
	f.Refresh()
}

// Fill adds rows.
func (f *Fleet) Fill(name string, rows int) {
	f.T.Helper()
	f.Exec(name, fmt.Sprintf("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) "+
		"INSERT INTO items (label, body) SELECT 'label ' || i, randomblob(200) FROM n", rows))
}

// Exec runs SQL on a table, on a connection of its own.
func (f *Fleet) Exec(name, query string) {
	f.T.Helper()
	f.Must(f.TryExec(name, query))
}

// TryExec is Exec for goroutines that are not the test's own.
func (f *Fleet) TryExec(name, query string) error {
	db, err := sql.Open("sqlite", f.Path(name)+"?_pragma=busy_timeout(120000)")
	if err != nil {
		return err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(context.Background(), query)
	return errors.Join(err, db.Close())
}

// Refresh looks at the folder again, and gives the problems.
func (f *Fleet) Refresh() []shelf.Problem {
	f.T.Helper()
	problems, err := f.Shelf.Refresh(context.Background())
	f.Must(err)
	return problems
}

// Rows are all rows of a table's items, as one text: the content, whatever file it is in.
func (f *Fleet) Rows(path string) string {
	f.T.Helper()
	db, err := sql.Open("sqlite", path)
	f.Must(err)
	defer db.Close()
	var text sql.NullString
	f.Must(db.QueryRowContext(context.Background(), "SELECT group_concat(id || ':' || label || ':' || hex(body), x'0a') FROM (SELECT * FROM items ORDER BY id)").Scan(&text))
	return text.String
}

// Backups are the keys of a table's backups, newest first.
func (f *Fleet) Backups(name string) []string {
	f.T.Helper()
	all, err := archive.NewCatalogue(f.calm(), archive.CatalogueOptions{}).Backups(context.Background(), name)
	f.Must(err)
	keys := make([]string, len(all))
	for i, b := range all {
		keys[i] = b.Key.String()
	}
	return keys
}

// Backup stores a backup of the table as it is, the way functions/backup does it, and gives its key.
func (f *Fleet) Backup(name string) archive.Key {
	f.T.Helper()
	t, err := f.Shelf.Get(name)
	f.Must(err)
	var stored archive.Backup
	var m archive.Manifest
	f.Must(table.TakeSnapshot(context.Background(), t.Path, table.SnapshotOptions{}, func(ctx context.Context, s *table.Snapshot) error {
		key, err := f.Catalogue.NextKey(ctx, name, f.Now(), "00000000")
		if err != nil {
			return err
		}
		stored, m, err = f.Catalogue.Put(ctx, key, func(w io.Writer) (archive.Manifest, error) { return f.encode(ctx, s, key, w) })
		return err
	}))
	f.Must(shelf.WriteRecord(t.Path, shelf.Record{
		Table: name, Bucket: BucketName, Key: stored.Key.String(), Size: stored.Size, SHA256: m.SHA256, Created: stored.Key.Created, Confirmed: f.Now(),
	}))
	return stored.Key
}

func (f *Fleet) encode(ctx context.Context, s *table.Snapshot, key archive.Key, w io.Writer) (archive.Manifest, error) {
	e, err := f.Catalogue.NewEncoder(w, archive.EncoderOptions{
		Table: key.Table, Created: key.Created, PageSize: int(s.Stats().PageSize), PageCount: s.Stats().PageCount,
	})
	if err != nil {
		return archive.Manifest{}, err
	}
	for page, err := range s.Pages(ctx) {
		if err == nil {
			err = e.WritePage(page.Data, page.Free)
		}
		if err != nil {
			return archive.Manifest{}, err
		}
	}
	stats := s.Stats()
	m := archive.Manifest{
		Rows: s.Rows(), Schema: s.Schema(), SQLiteVersion: stats.SQLiteVersion, JournalMode: stats.JournalMode,
		Encoding: stats.Encoding, AutoVacuum: stats.AutoVacuum, UserVersion: stats.UserVersion, ApplicationID: stats.ApplicationID,
	}
	if t, err := f.Shelf.Get(key.Table); err == nil && t.State == shelf.Degraded {
		m.State = archive.StateDegraded
	}
	return e.Close(m)
}

// calm is the bucket without faults.
func (f *Fleet) calm() *dir.Bucket {
	f.T.Helper()
	objects, err := dir.Open(f.BucketDir)
	f.Must(err)
	return objects
}

// Damage overwrites bytes of a file without a trace: its size and time stay.
func (f *Fleet) Damage(path string, offset int64, content string) {
	f.T.Helper()
	info, err := os.Stat(path)
	f.Must(err)
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	f.Must(err)
	_, err = file.WriteAt([]byte(content), offset)
	f.Must(err)
	f.Must(file.Close())
	f.Must(os.Chtimes(path, time.Time{}, info.ModTime()))
	f.Damaged[path] = true
}

// Object is the file of a backup.
func (f *Fleet) Object(key string) string { return filepath.Join(f.BucketDir, filepath.FromSlash(key)) }

// SpoilFrameSum inverts a bit of the checksum that zstd keeps of the data of a small backup: its content is as it was.
func (f *Fleet) SpoilFrameSum(key archive.Key) {
	f.T.Helper()
	object := f.Object(key.String())
	content, err := os.ReadFile(object)
	f.Must(err)
	sums := bytes.Index(content, []byte{0x57, 0x2a, 0x4d, 0x18}) // the frame of page sums follows the only data frame
	content[sums-1] ^= 1
	f.Must(os.WriteFile(object, content, 0o600))
}

// Flip inverts a bit in the middle of a backup.
func (f *Fleet) Flip(key archive.Key) {
	f.T.Helper()
	content, err := os.ReadFile(f.Object(key.String()))
	f.Must(err)
	content[len(content)/3] ^= 4
	f.Must(os.WriteFile(f.Object(key.String()), content, 0o600))
}

var litter = regexp.MustCompile(`\.tmp(-wal|-shm|-journal)?$|\.intent$`)

// Litter lists temporary files and intents in a folder of tables.
func Litter(dir string) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
		if litter.MatchString(path) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// Litter lists temporary files and intents beside the tables.
func (f *Fleet) Litter() []string { return Litter(f.Dir) }

// inspect is done at the end of each test.
func (f *Fleet) inspect() {
	if left := f.Litter(); len(left) > 0 {
		f.T.Errorf("left behind: %v", left)
	}
	entries, err := os.ReadDir(f.Dir)
	f.Must(err)
	for _, entry := range entries {
		path := filepath.Join(f.Dir, entry.Name())
		if strings.HasSuffix(path, ".db") && entry.Type().IsRegular() && !f.Damaged[path] {
			f.Sound(path)
		}
	}
}

// Sound fails the test unless SQLite finds the file in order.
func (f *Fleet) Sound(path string) {
	f.T.Helper()
	db, err := sql.Open("sqlite", path)
	f.Must(err)
	defer db.Close()
	var result string
	if err := db.QueryRowContext(context.Background(), "PRAGMA integrity_check").Scan(&result); err != nil || result != "ok" {
		f.T.Errorf("%s: integrity_check: %q, %v", path, result, err)
	}
}
