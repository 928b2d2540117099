package dir

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// poll is how often a lock that another process holds is tried. Commits hold it for a few syncs.
const poll = 2 * time.Millisecond

// lock waits until no other commit is under way, in this process or another. The mark was seen just before: it keeps this from
// making a lock file in a folder that is no bucket any more.
func (b *Bucket) lock(ctx context.Context, d disk) (unlock func(), err error) {
	select {
	case b.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	release := func() { <-b.busy }
	if err := makeFolder(d, ours); err != nil {
		release()
		return nil, err
	}
	l := flock.New(filepath.Join(b.path, filepath.FromSlash(lockName)), flock.SetPermissions(0o644))
	if _, err := l.TryLockContext(ctx, poll); err != nil {
		release()
		return nil, fmt.Errorf("lock %s: %w", l.Path(), err)
	}
	return func() {
		_ = l.Close() // closing the descriptor unlocks, whatever else it says
		release()
	}, nil
}

// Temporary names tell which machine made them: the locks of a dead process are free at once on its own machine, but on file systems that
// do not share locks a living one's look free from elsewhere.
const (
	staleHere      = time.Minute
	staleElsewhere = 24 * time.Hour
)

func newTemp(kind string) string {
	return fmt.Sprintf("%s/%s-%s-%s", tempName, kind, machine(), rand.Text())
}

func machine() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:4])
}

// sweep removes temporary files whose makers are surely gone: not held, and old by the file system's own clock, of which now is a
// fresh sample. The commit lock is held, so that short-lived ones of other commits are never seen.
func sweep(d disk, now time.Time) error {
	folder, err := d.Open(tempName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	for {
		entries, err := folder.ReadDir(256)
		for _, e := range entries {
			if err := sweepOne(d, e.Name(), now); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func sweepOne(d disk, name string, now time.Time) error {
	limit := staleElsewhere
	if parts := strings.Split(name, "-"); len(parts) == 3 && parts[1] == machine() {
		limit = staleHere
	}
	path := tempName + "/" + name
	file, err := d.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || !file.Mode().IsRegular() || now.Sub(file.ModTime()) < limit {
		return err
	}
	f, err := d.Open(path)
	if err != nil {
		return err
	}
	free, err := f.Hold()
	if err == nil && free {
		err = discard(d, path)
	}
	return errors.Join(err, f.Close())
}
