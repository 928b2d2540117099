package dir

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"time"

	"tablekeeper/storage/bucket"
)

// Put implements bucket.Bucket. The object is on the disk, its folder too, when it returns. What a crash leaves in tmp, later
// Puts remove.
func (b *Bucket) Put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions) (bucket.Info, error) {
	info, err := b.put(ctx, key, r, opts)
	return info, wrap("put", key, err)
}

func (b *Bucket) put(ctx context.Context, key string, r io.Reader, opts bucket.PutOptions) (bucket.Info, error) {
	if err := errors.Join(bucket.CheckKey(key), bucket.CheckTags(opts.Tags)); err != nil {
		return bucket.Info{}, err
	}
	d, err := b.enterToWrite(ctx)
	if err != nil {
		return bucket.Info{}, err
	}
	defer d.Close()
	if _, err := b.permitted(d, key, opts); err != nil {
		return bucket.Info{}, err // before the reader is read for nothing
	}
	s, err := spoolTo(ctx, d, r)
	if err != nil {
		return bucket.Info{}, err
	}
	s.record.Tags = opts.Tags
	if err := b.commit(ctx, d, key, s, opts); err != nil {
		return bucket.Info{}, errors.Join(err, s.close(), discard(d, s.name))
	}
	// The object is there for good; a temporary name that cannot be removed now is removed later.
	_ = discard(d, s.name)
	return s.record.info(key), nil
}

// permitted looks up what has the key now, nil if nothing, and whether opts let a Put replace it.
func (b *Bucket) permitted(d disk, key string, opts bucket.PutOptions) (fs.FileInfo, error) {
	current, err := b.plain(d, key)
	if errors.Is(err, fs.ErrNotExist) {
		if opts.IfMatch != "" {
			return nil, fmt.Errorf("%w: the object is not there", bucket.ErrPrecondition)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if opts.IfAbsent {
		return nil, bucket.ErrExists
	}
	if opts.IfMatch != "" {
		r, err := readRecord(d, key, current)
		if err != nil {
			return nil, err
		}
		if r.etag() != opts.IfMatch {
			return nil, fmt.Errorf("%w: ETag %s instead of %s", bucket.ErrPrecondition, r.etag(), opts.IfMatch)
		}
	}
	return current, nil
}

// spool is an object that has no name yet. While its file is open, it is held against removal as stale.
type spool struct {
	name   string
	f      file // nil once closed
	record record
}

func spoolTo(ctx context.Context, d disk, r io.Reader) (*spool, error) {
	s := &spool{name: newTemp("put")}
	var err error
	if s.f, err = d.Create(s.name); err != nil {
		return nil, err
	}
	if err := s.fill(ctx, r); err != nil {
		return nil, errors.Join(err, s.close(), discard(d, s.name))
	}
	return s, nil
}

func (s *spool) fill(ctx context.Context, r io.Reader) error {
	if _, err := s.f.Hold(); err != nil {
		return fmt.Errorf("lock a temporary file: %w", err)
	}
	sent, written := bucket.Sum(r), &sender{f: s.f}
	source := &source{ctx: ctx, r: sent}
	_, err := io.CopyBuffer(struct{ io.Writer }{written}, source, make([]byte, 256<<10))
	if source.err != nil {
		return &sourceError{source.err}
	}
	if err != nil {
		return err
	}
	if s.record, err = written.record(sent.Digest()); err != nil {
		return err
	}
	return s.f.Sync()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sendBytes is how much is written before the kernel is told to begin to send it to the disk.
const sendBytes = 8 << 20

// sender writes to a file and has the kernel send it to the disk meanwhile, where it can be told to: the sync at the end then waits for
// little, and so does everybody else who syncs on that disk.
type sender struct {
	f             file
	written, sent int64
	crc32c        uint32 // of what was written
}

func (s *sender) Write(p []byte) (int, error) {
	n, err := s.f.Write(p)
	s.written += int64(n)
	s.crc32c = crc32.Update(s.crc32c, castagnoli, p[:n])
	if f, ok := s.f.(interface{ send(off, n int64) }); ok && s.written-s.sent >= sendBytes {
		f.send(s.sent, s.written-s.sent)
		s.sent = s.written
	}
	return n, err
}

// record is that of the object, if what was written is what was read. The sums are the source's, which may have been taken far from here; a
// CRC-32C of our own is enough to tell that nothing has changed since.
func (s *sender) record(read *bucket.Digest) (record, error) {
	if crc32c := fmt.Sprintf("%08x", s.crc32c); s.written != read.Size() || crc32c != read.CRC32C() {
		return record{}, fmt.Errorf("%w: %d bytes with CRC-32C %s were written, %d with %s were read", bucket.ErrNotStored, s.written, crc32c, read.Size(), read.CRC32C())
	}
	return record{Size: read.Size(), SHA256: read.SHA256(), CRC32C: read.CRC32C()}, nil
}

func (s *spool) close() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

// finish closes the file, which is when some file systems report that it was not written, and takes its time of change.
func (s *spool) finish(d disk) error {
	if err := s.close(); err != nil {
		return err
	}
	file, err := d.Lstat(s.name)
	if err != nil {
		return err
	}
	if file.Size() != s.record.Size {
		return fmt.Errorf("%w: %d bytes instead of %d are in the temporary file", bucket.ErrNotStored, file.Size(), s.record.Size)
	}
	s.record.Modified = file.ModTime()
	return nil
}

// source reads what is put, until its context ends, and remembers an error: that one is not the disk's.
type source struct {
	ctx context.Context
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		s.err = context.Cause(s.ctx)
		return 0, s.err
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// commit gives a spool its key, alone among all processes.
func (b *Bucket) commit(ctx context.Context, d disk, key string, s *spool, opts bucket.PutOptions) error {
	unlock, err := b.lock(ctx, d)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.finish(d); err != nil {
		return err
	}
	if err := sweep(d, s.record.Modified); err != nil {
		return fmt.Errorf("remove stale temporary files: %w", err)
	}
	current, err := b.permitted(d, key, opts)
	if err != nil {
		return err
	}
	if err := makeFolders(d, recordName(key)); err != nil {
		return err
	}
	if current == nil {
		return create(d, key, s)
	}
	return replace(d, key, s, current)
}

// makeFolders makes the folders above a record file, and so those above its object.
func makeFolders(d disk, name string) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if err := makeFolder(d, name[:i]); err != nil {
			return err
		}
	}
	return nil
}

// create publishes an object under a key that has none. The record goes first: alone it means nothing.
func create(d disk, key string, s *spool) error {
	if err := writeRecords(d, key, s.record); err != nil {
		return errors.Join(err, discard(d, recordName(key)))
	}
	err := publish(d, s.name, key)
	if errors.Is(err, fs.ErrExist) {
		err = bucket.ErrExists // by someone who does not know the lock
	}
	if err != nil {
		return errors.Join(err, discard(d, recordName(key)))
	}
	if err := d.SyncDir(folderOf(key)); err != nil {
		return errors.Join(err, d.Remove(key), discard(d, recordName(key)))
	}
	return nil
}

// replace puts a new version in the place of current. Both have their record while the name changes hands; the old version keeps a
// second name until the new one is durable.
func replace(d disk, key string, s *spool, current fs.FileInfo) error {
	old, err := readRecord(d, key, current)
	if err != nil {
		return err
	}
	if err := s.distinguish(d, current); err != nil {
		return err
	}
	if err := writeRecords(d, key, s.record, old); err != nil {
		return err
	}
	kept := newTemp("old")
	if err := d.Link(key, kept); err != nil && !linkless(err) {
		return err
	} else if err != nil {
		kept = ""
	}
	err = d.Rename(s.name, key)
	if err == nil {
		if err = d.SyncDir(folderOf(key)); err != nil && kept != "" {
			return errors.Join(err, d.Rename(kept, key))
		}
	}
	if kept != "" {
		_ = discard(d, kept) // a later Put removes it, if this does not
	}
	return err
}

// distinguish makes sure that no record can fit both the old and the new version: where clocks of files are coarse, they may agree in
// time, and by chance in size.
func (s *spool) distinguish(d disk, current fs.FileInfo) error {
	for _, step := range []time.Duration{time.Microsecond, 20 * time.Millisecond, 4 * time.Second} {
		if !s.record.describes(current) {
			return nil
		}
		if err := d.Chtimes(s.name, current.ModTime().Add(step)); err != nil {
			return err
		}
		file, err := d.Lstat(s.name)
		if err != nil {
			return err
		}
		s.record.Modified = file.ModTime()
	}
	if s.record.describes(current) {
		return errors.New("the file system keeps no times of change")
	}
	return nil
}
