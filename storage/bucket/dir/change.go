package dir

import (
	"context"
	"errors"
	"io/fs"

	"tablekeeper/storage/bucket"
)

// Delete implements bucket.Bucket, and removes folders that it empties.
func (b *Bucket) Delete(ctx context.Context, key string) error {
	return wrap("delete", key, b.delete(ctx, key))
}

func (b *Bucket) delete(ctx context.Context, key string) error {
	if err := bucket.CheckKey(key); err != nil {
		return err
	}
	d, err := b.enterToWrite(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	unlock, err := b.lock(ctx, d)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := b.plain(d, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	} else if err == nil {
		if err := d.Remove(key); err != nil {
			return err
		}
		if err := d.SyncDir(folderOf(key)); err != nil {
			return err
		}
	}
	// Also without an object: the delete before this one may have been cut short here.
	if err := discard(d, recordName(key)); err != nil && !notFolder(err) {
		return err
	}
	prune(d, folderOf(key))
	return nil
}

// prune removes empty folders from the innermost outwards. Whatever stops it may stay: an empty folder is no object.
func prune(d disk, folder string) {
	for folder != "." {
		if discard(d, folder+"/"+ours) != nil || d.Remove(folder) != nil {
			return
		}
		folder = folderOf(folder)
	}
}

// SetTags implements bucket.Bucket.
func (b *Bucket) SetTags(ctx context.Context, key string, tags map[string]string) error {
	return wrap("set tags", key, b.setTags(ctx, key, tags))
}

func (b *Bucket) setTags(ctx context.Context, key string, tags map[string]string) error {
	if err := errors.Join(bucket.CheckKey(key), bucket.CheckTags(tags)); err != nil {
		return err
	}
	d, err := b.enterToWrite(ctx)
	if err != nil {
		return err
	}
	defer d.Close()
	unlock, err := b.lock(ctx, d)
	if err != nil {
		return err
	}
	defer unlock()
	file, err := b.plain(d, key)
	if err != nil {
		return b.missing(d, err)
	}
	r, err := readRecord(d, key, file)
	if err != nil {
		return err
	}
	r.Tags = tags
	if err := makeFolders(d, recordName(key)); err != nil {
		return err
	}
	return writeRecords(d, key, r)
}
