package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tablekeeper/storage/bucket"
	"tablekeeper/storage/table"
)

// stay is one table's stay on the scratch disk.
type stay struct {
	*objects
	pair
	use
	path string
	sum  [sha256.Size]byte // of the object's content as it is in the bucket
	kept keepsake

	found *finding // to be kept, without its version; nil: nothing new
}

func (s *stay) run(ctx context.Context, work func(visit) error) error {
	if err := s.bring(ctx); err != nil {
		return err
	}
	if err := s.recall(ctx); err != nil {
		return err
	}
	set, err := s.shelve(ctx, filepath.Dir(s.path))
	if err != nil {
		return err
	}
	failed := work(visit{shelf: set, keep: func(f *finding) { s.found = f }})
	// What was found out is kept even if the work failed or is out of time; the table only if the work succeeded.
	if failed == nil && s.writes {
		failed = s.store(ctx)
	}
	return errors.Join(failed, s.remember(context.WithoutCancel(ctx)))
}

// runAbsent does the work beside a file that only stands for the table.
func (s *stay) runAbsent(ctx context.Context, kept keepsake, v visit, work func(visit) error) (err error) {
	s.kept = kept
	if err := errors.Join(stub(s.path), kept.lay(s.path)); err != nil {
		return err
	}
	if v.shelf, err = s.shelve(ctx, filepath.Dir(s.path)); err != nil {
		return err
	}
	if kept.Version != s.version() {
		// What is known of the last backup is about another content.
		if err := os.Remove(besideOf(s.path, ".backup")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return work(v)
	}
	if err := work(v); err != nil {
		return err
	}
	return s.remember(context.WithoutCancel(ctx))
}

// bring fetches the table, and moves what its -wal has into it.
func (s *stay) bring(ctx context.Context) error {
	if s.main.Key == "" {
		return nil
	}
	if !s.content {
		return stub(s.path)
	}
	if err := s.fetch(ctx, s.main, s.path); err != nil {
		return err
	}
	if s.wal.Size > 0 {
		if err := s.bringWAL(ctx); err != nil {
			return err
		}
	}
	var err error
	s.sum, err = sumOf(s.path)
	return err
}

// bringWAL settles the -wal. In the bucket that takes two writes, in the order of a checkpoint of SQLite's: first the object gets the
// content of the log, page by page where it belongs; then the log is emptied. Whoever reads between the two applies the same
// pages again. A compacted object beside the old log would be destroyed by it.
func (s *stay) bringWAL(ctx context.Context) error {
	if err := s.fetch(ctx, s.wal, s.path+"-wal"); err != nil {
		return err
	}
	again, err := s.look(ctx, s.name)
	if err != nil {
		return err
	}
	if again.version() != s.version() {
		return errOvertaken // the two may not belong together
	}
	if s.replace {
		// The function deals with the log itself: it may be damaged, and is kept as it is.
		return nil
	}
	if err := fold(ctx, s.path); err != nil || !s.writes {
		return err
	}
	if err := s.put(ctx); err != nil {
		return err
	}
	return s.emptyWAL(ctx)
}

// emptyWAL: an empty log is none to SQLite. It is overwritten rather than deleted, because that can be made to depend on its
// version, and because nobody but sweep may delete.
func (s *stay) emptyWAL(ctx context.Context) error {
	if s.wal.Size == 0 {
		return nil
	}
	info, err := bucket.Put(ctx, s.bucket, s.wal.Key, strings.NewReader(""), bucket.PutOptions{IfMatch: s.wal.ETag})
	if err != nil {
		return overtaken(fmt.Errorf("empty %s: %w", s.wal.Key, err))
	}
	s.wal = info
	return nil
}

// fetch copies one version of an object into a new file.
func (s *stay) fetch(ctx context.Context, info bucket.Info, path string) error {
	body, err := s.get(ctx, info)
	if errors.Is(err, fs.ErrNotExist) {
		return errOvertaken
	}
	if err != nil {
		return overtaken(fmt.Errorf("fetch %s: %w", info.Key, err))
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, body.Close())
	}
	digest := bucket.NewDigest()
	_, err = io.Copy(io.MultiWriter(file, digest), body)
	if err == nil {
		err = digest.Compare(info)
	}
	if err = errors.Join(err, body.Close(), file.Close()); err != nil {
		return overtaken(fmt.Errorf("fetch %s: %w", info.Key, err))
	}
	return nil
}

func (s *stay) get(ctx context.Context, info bucket.Info) (io.ReadCloser, error) {
	if v, ok := s.bucket.(bucket.Versioned); ok {
		return v.GetVersion(ctx, info.Key, info.ETag, 0, -1)
	}
	return s.bucket.Get(ctx, info.Key, 0, -1)
}

// overtaken names the refusal of a condition.
func overtaken(err error) error {
	if errors.Is(err, bucket.ErrPrecondition) || errors.Is(err, bucket.ErrExists) {
		return fmt.Errorf("%w: %w", errOvertaken, err)
	}
	return err
}

// fold moves the log into the file, and lets the file stay in WAL mode: the mode is two bytes of the header,
// https://sqlite.org/fileformat2.html#file_format_version_numbers.
func fold(ctx context.Context, path string) error {
	mode, err := modeOf(path)
	if err != nil {
		return err
	}
	if err := table.Fold(ctx, path); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(mode, modeOffset)
	return errors.Join(err, file.Close())
}

const modeOffset = 18

func modeOf(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	mode := make([]byte, 2)
	_, err = file.ReadAt(mode, modeOffset)
	return mode, errors.Join(err, file.Close())
}

// store puts the table into the bucket if it is another than before, and sound.
func (s *stay) store(ctx context.Context) error {
	size, err := sizeOf(s.path)
	if err != nil || size == 0 {
		return err
	}
	log, err := sizeOf(s.path + "-wal")
	if err != nil {
		return err
	}
	if log > 0 {
		if err := fold(ctx, s.path); err != nil {
			return err
		}
	}
	sum, err := sumOf(s.path)
	if err != nil || sum == s.sum && s.wal.Size == 0 {
		return err
	}
	report, err := table.Check(ctx, s.path, table.CheckOptions{})
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return fmt.Errorf("check the table before it is stored: %w", err)
	}
	if s.replace {
		if err := s.quarantine(ctx); err != nil {
			return err
		}
	}
	// The old log leaves first: SQLite would replay it into the new table.
	if err := s.emptyWAL(ctx); err != nil {
		return err
	}
	return s.put(ctx)
}

// put stores the file as the next version of the object that was fetched.
func (s *stay) put(ctx context.Context) error {
	file, err := os.Open(s.path)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil {
		opts := bucket.PutOptions{IfMatch: s.main.ETag, IfAbsent: s.main.Key == "", SizeHint: info.Size()}
		s.main, err = bucket.Put(ctx, s.bucket, cmp.Or(s.main.Key, s.base()), file, opts)
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return overtaken(fmt.Errorf("store the table: %w", err))
	}
	return nil
}

// quarantine keeps what is about to be replaced: what the function put into quarantine here goes into that of the bucket. It is there
// before the table is replaced, and expires by the bucket's rule.
func (s *stay) quarantine(ctx context.Context) error {
	all, err := table.QuarantineList(filepath.Dir(s.path))
	if err != nil {
		return err
	}
	for _, q := range all {
		entries, err := os.ReadDir(q.Path)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if err := s.upload(ctx, filepath.Join(q.Path, e.Name()), quarantinePrefix+s.name+"/"+filepath.Base(q.Path)+"/"+e.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *stay) upload(ctx context.Context, path, key string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = bucket.Put(ctx, s.state, key, file, bucket.PutOptions{})
	if err = errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("keep what is replaced: %w", err)
	}
	return nil
}

func sumOf(path string) (sum [sha256.Size]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	h := sha256.New()
	_, err = io.Copy(h, file)
	h.Sum(sum[:0])
	return sum, errors.Join(err, file.Close())
}
