package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"
)

// cleanupTimeout bounds what is done after the caller's context may have ended.
const cleanupTimeout = 30 * time.Second

// Put puts and then proves: it asks for the object's head and compares length, ETag, and the checksums that the store keeps. A store that
// acknowledged what it does not hold is ErrNotStored; if opts.IfAbsent made the object surely ours, it is removed. An error of the proof
// itself (the store cannot be reached any more) leaves the object where it is. The Info is the head's.
func Put(ctx context.Context, b Bucket, key string, r io.Reader, opts PutOptions) (Info, error) {
	sent := Sum(r)
	acknowledged, err := b.Put(ctx, key, sent, opts)
	if err != nil {
		return Info{}, err
	}
	head, err := b.Head(ctx, key)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Info{}, fmt.Errorf("put %s: %w: it is not there", key, ErrNotStored)
	case err != nil:
		return Info{}, fmt.Errorf("put %s: prove that it is there: %w", key, err)
	}
	if err := differs(sent.Digest(), acknowledged, head); err != nil {
		err = fmt.Errorf("put %s: %w: %w", key, ErrNotStored, err)
		if opts.IfAbsent {
			err = errors.Join(err, removeOurs(ctx, b, key))
		}
		return Info{}, err
	}
	return head, nil
}

func differs(digest *Digest, acknowledged, head Info) error {
	if err := digest.Compare(head); err != nil {
		return err
	}
	if acknowledged.ETag != "" && head.ETag != "" && acknowledged.ETag != head.ETag {
		return fmt.Errorf("ETag %s instead of %s", head.ETag, acknowledged.ETag)
	}
	return nil
}

func removeOurs(ctx context.Context, b Bucket, key string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return b.Delete(ctx, key)
}
