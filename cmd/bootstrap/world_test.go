package main

import (
	"context"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tablekeeper/functions/functionstest"
	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/bucket/dir"
)

// world is the buckets and the queues of an account, and tables to put there.
type world struct {
	*functionstest.Fleet
	*cloud
	env     map[string]string
	tables  bucket.Bucket
	state   bucket.Bucket
	backups bucket.Bucket
}

// newWorld has folders for buckets.
func newWorld(t *testing.T) *world {
	w := bare(t)
	for name, to := range map[string]*bucket.Bucket{"TABLES": &w.tables, "STATE": &w.state, "BUCKET": &w.backups} {
		path := t.TempDir()
		b, err := dir.Create(path)
		w.Must(err)
		*to = b
		w.env["TABLEKEEPER_"+name] = (&url.URL{Scheme: "file", Path: path}).String()
	}
	return w
}

func bare(t *testing.T) *world {
	w := &world{Fleet: functionstest.New(t), cloud: newCloud(t)}
	w.env = w.cloud.env()
	return w
}

// function starts one of the functions. More are variables, name and value by turns.
func (w *world) function(name string, more ...string) *lambdaHost {
	w.T.Helper()
	return sandbox(w.T, bootstrap(w.T), w.environment(name, more...))
}

func (w *world) environment(name string, more ...string) map[string]string {
	env := map[string]string{"TABLEKEEPER_FUNCTION": name}
	for k, v := range w.env {
		env[k] = v
	}
	for i := 0; i+1 < len(more); i += 2 {
		env[more[i]] = more[i+1]
	}
	return env
}

// upload stores a table of the fleet, with its -wal if it has one.
func (w *world) upload(name string) {
	w.T.Helper()
	for _, ending := range []string{".db", ".db-wal"} {
		file, err := os.Open(strings.TrimSuffix(w.Path(name), ".db") + ending)
		if os.IsNotExist(err) {
			continue
		}
		w.Must(err)
		_, err = bucket.Put(context.Background(), w.tables, name+ending, file, bucket.PutOptions{})
		w.Must(err)
		w.Must(file.Close())
	}
}

// download fetches the object of a table, and its -wal, into a new folder.
func (w *world) download(name string) string {
	w.T.Helper()
	folder := w.T.TempDir()
	for _, key := range []string{name + ".db", name + ".db-wal"} {
		if _, err := w.tables.Head(context.Background(), key); err != nil {
			continue
		}
		text, err := readAll(context.Background(), w.tables, key)
		w.Must(err)
		w.Must(os.WriteFile(filepath.Join(folder, key), text, 0o600))
	}
	return filepath.Join(folder, name+".db")
}

// stored are the keys of a table's backups in the account.
func (w *world) stored(name string) []archive.Backup {
	w.T.Helper()
	all, err := archive.NewCatalogue(w.backups, archive.CatalogueOptions{}).Backups(context.Background(), name)
	w.Must(err)
	return all
}

// etag names the version of a table's object.
func (w *world) etag(key string) string {
	w.T.Helper()
	info, err := w.tables.Head(context.Background(), key)
	w.Must(err)
	return info.ETag
}

// count counts what is kept under a prefix.
func (w *world) count(prefix string) (n int) {
	w.T.Helper()
	for _, err := range w.state.List(context.Background(), prefix, "") {
		w.Must(err)
		n++
	}
	return n
}

// during runs a statement on a table, and f while the connection is still open.
func (w *world) during(name, query string, f func()) {
	w.T.Helper()
	db, err := sql.Open("sqlite", w.Path(name)+"?_pragma=wal_autocheckpoint(0)")
	w.Must(err)
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(context.Background(), query)
	w.Must(err)
	f()
	w.Must(db.Close())
}
