package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"tablekeeper/functions"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// endings of the objects that are tables.
var endings = []string{".db", ".sqlite", ".sqlite3"}

// objects is a place in a bucket: each table is an object, perhaps with its -wal beside it.
type objects struct {
	bucket   bucket.Bucket // of the tables
	state    bucket.Bucket // of what is kept of them
	scratch  *scratch
	defaults shelf.Settings
}

// pair is a table's object and its -wal, as they were at one time. Keys are "" for what is not there.
type pair struct {
	name      string
	main, wal bucket.Info
}

// version names the content of both.
func (p pair) version() string { return p.main.ETag + " " + p.wal.ETag }
func (p pair) size() int64     { return p.main.Size + p.wal.Size }
func (p pair) base() string {
	if p.main.Key == "" {
		return p.name + endings[0]
	}
	return p.main.Key
}

// look finds the object of a table. The zero Info, and no error, if there is none.
func (o *objects) look(ctx context.Context, name string) (pair, error) {
	p := pair{name: name}
	if !shelf.ValidName(name) {
		return p, &functions.EventError{Problem: fmt.Sprintf("%q is no name of a table", name), Try: "a-z, 0-9, _ and -, 64 at most"}
	}
	there := map[string]bucket.Info{}
	for info, err := range o.bucket.List(ctx, name+".", "") {
		if err != nil {
			return p, fmt.Errorf("look for table %s: %w", name, err)
		}
		there[info.Key] = info
	}
	for _, ending := range endings {
		if _, ok := there[name+ending]; ok && p.main.Key != "" {
			return p, &functions.Failure{Final: true, Err: fmt.Errorf("%s and %s would be one table", p.main.Key, name+ending), Try: "rename one of them"}
		} else if ok {
			p.main.Key = name + ending
		}
	}
	if p.main.Key == "" {
		return p, nil
	}
	err := o.describe(ctx, &p, there)
	return p, err
}

// describe asks for the heads: a listing has no checksums.
func (o *objects) describe(ctx context.Context, p *pair, there map[string]bucket.Info) (err error) {
	key := p.main.Key
	if there[key+"-journal"].Size > 0 {
		return &functions.Failure{
			Final: true, Err: fmt.Errorf("%s has a -journal beside it: it was copied in the middle of a transaction: %w", key, table.ErrForeignJournal),
			Try: "open both with sqlite3, which rolls the transaction back, and store the table without the journal",
		}
	}
	if p.main, err = o.head(ctx, key); err == nil && there[key+"-wal"].Size > 0 {
		p.wal, err = o.head(ctx, key+"-wal")
	}
	return err
}

// head is the zero Info for what is not there any more.
func (o *objects) head(ctx context.Context, key string) (bucket.Info, error) {
	info, err := o.bucket.Head(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return bucket.Info{}, nil
	}
	if err != nil {
		return bucket.Info{}, fmt.Errorf("look for %s: %w", key, err)
	}
	return info, nil
}

// census lists the bucket, and puts a file with nothing but a header for each table into a folder of its own: so names, globs and
// what is kept of tables mean here what they mean on a disk.
func (o *objects) census(ctx context.Context, kept bool) (*shelf.Shelf, func() error, error) {
	dir, remove, err := o.scratch.folder("census", 0, 1)
	if err != nil {
		return nil, nil, err
	}
	s, err := o.fill(ctx, dir, kept)
	if err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return s, remove, nil
}

func (o *objects) fill(ctx context.Context, dir string, kept bool) (*shelf.Shelf, error) {
	for info, err := range o.bucket.List(ctx, "", "") {
		if err != nil {
			return nil, fmt.Errorf("list the tables: %w", err)
		}
		if strings.Contains(info.Key, "/") || !slices.Contains(endings, path.Ext(info.Key)) {
			continue
		}
		if err := stub(filepath.Join(dir, info.Key)); err != nil {
			return nil, err
		}
	}
	if kept {
		if err := o.layAll(ctx, dir); err != nil {
			return nil, err
		}
	}
	return o.shelve(ctx, dir)
}

// readers is how many small objects are read at a time.
const readers = 32

// layAll lays what is kept of each table, of those too whose object is gone: they are missed.
func (o *objects) layAll(ctx context.Context, dir string) error {
	var (
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
	)
	slots := make(chan struct{}, readers)
	for info, err := range o.state.List(ctx, statePrefix, "") {
		if err != nil {
			wg.Wait()
			return fmt.Errorf("list what is kept of the tables: %w", err)
		}
		name, ok := strings.CutSuffix(strings.TrimPrefix(info.Key, statePrefix), ".json")
		if !ok || !shelf.ValidName(name) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			k, _, err := readKeepsake(ctx, o.state, name)
			if err == nil {
				err = k.lay(standIn(dir, name))
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// standIn is the file of a census that stands for a table.
func standIn(dir, name string) string {
	for _, ending := range endings {
		path := filepath.Join(dir, name+ending)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return filepath.Join(dir, name+endings[0])
}

// header is how a SQLite database begins: enough for the shelf to take a file for one.
const header = "SQLite format 3\x00"

func stub(path string) error {
	if err := os.WriteFile(path, []byte(header), 0o600); err != nil {
		return fmt.Errorf("stand in for %s: %w", filepath.Base(path), err)
	}
	return nil
}

func (o *objects) shelve(ctx context.Context, dir string) (*shelf.Shelf, error) {
	s, err := shelf.Open([]shelf.Source{{Path: dir}}, shelf.Options{Defaults: o.defaults})
	if err == nil {
		_, err = s.Refresh(ctx)
	}
	return s, err
}

// absent has the work done without the content of the table, if its object is still the one that is known from the last time.
func (o *objects) absent(ctx context.Context, p pair, work func(visit) error) error {
	kept, _, err := readKeepsake(ctx, o.state, p.name)
	if err != nil {
		return err
	}
	v := visit{absent: true, found: kept.Found}
	if v.found != nil && v.found.Version != p.version() {
		v.found = nil
	}
	if kept.Version != p.version() && v.found == nil {
		return errAbsent
	}
	dir, remove, err := o.scratch.folder(p.name, 0, 1)
	if err != nil {
		return err
	}
	s := &stay{objects: o, pair: p, path: filepath.Join(dir, p.base())}
	err = s.runAbsent(ctx, kept, v, work)
	return errors.Join(err, remove())
}

// with fetches the table and stores it again if work has changed it and nobody else has.
func (o *objects) with(ctx context.Context, name string, u use, work func(visit) error) error {
	p, err := o.look(ctx, name)
	if err != nil {
		return err
	}
	if p.main.Key == "" && u.content && !u.replace {
		return &functions.Failure{Reason: "unknown_table", Final: true, Err: fmt.Errorf("no table %q: %w", name, fs.ErrNotExist), Try: "name an object of the tables' bucket, without its ending"}
	}
	if u.absent && p.main.Key != "" {
		if err := o.absent(ctx, p, work); !errors.Is(err, errAbsent) {
			return err
		}
	}
	size := p.size()
	if !u.content {
		size = 0 // the drill measures what it restores
	}
	dir, remove, err := o.scratch.folder(name, size, u.times)
	if err != nil {
		return err
	}
	s := &stay{objects: o, pair: p, use: u, path: filepath.Join(dir, p.base())}
	err = s.run(ctx, work)
	return errors.Join(err, remove())
}
