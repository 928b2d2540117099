package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"filippo.io/age"
	"golang.org/x/sync/errgroup"

	"tablekeeper/storage/bucket"
)

// Blocks of the ranged reads in bytes. One page should not cost a megabyte; age
// reads in chunks of 64 KiB, of which many should come at once.
const (
	plainBlock  = 256 << 10
	sealedBlock = 1 << 20
)

// tagCalls is how many tags are asked for at once.
const tagCalls = 8

// CatalogueOptions are the keys of encrypted backups, and a limit.
type CatalogueOptions struct {
	Recipients []age.Recipient // whom new backups are encrypted to; none: not encrypted
	Identities []age.Identity  // for reading
	MaxSize    int64           // of a table that Open accepts, in bytes; 0: what SQLite can hold
}

// Catalogue is the backups of all tables in a bucket. Their order comes from
// their names, never from the store's clock. It is safe for concurrent use, by
// several processes too.
type Catalogue struct {
	b    bucket.Bucket
	opts CatalogueOptions
}

// NewCatalogue gives the catalogue of b.
func NewCatalogue(b bucket.Bucket, opts CatalogueOptions) *Catalogue {
	return &Catalogue{b: b, opts: opts}
}

// Backup is one backup as its bucket lists it. Its manifest is not read.
type Backup struct {
	Key        Key
	Size       int64     // of the object in bytes
	Proved     time.Time // when a drill last restored it; zero if never, or if a later drill failed
	Failed     time.Time // when a drill found it bad; zero if none did since it was proved
	Degraded   bool      // of a table in that state; known of proved ones only
	Superseded bool      // a newer one was proved: retention may remove it
}

// stands says whether older backups may go because of this one.
func (b Backup) stands() bool {
	return !b.Proved.IsZero() && b.Failed.IsZero() && !b.Degraded
}

// Backups lists the backups of a table, newest first. What is in the bucket and
// is no backup of the table is passed over.
func (c *Catalogue) Backups(ctx context.Context, table string) ([]Backup, error) {
	listed, err := c.list(ctx, table)
	if err != nil {
		return nil, err
	}
	found := make([]Backup, len(listed))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(tagCalls)
	for i, o := range listed {
		g.Go(func() error {
			var err error
			found[i], err = c.describe(gctx, o)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("list backups of %s: %w", table, err)
	}
	found = slices.DeleteFunc(found, func(b Backup) bool { return b.Key.IsZero() })
	slices.Reverse(found)
	return found, nil
}

// object is a backup in a listing.
type object struct {
	key  Key
	info bucket.Info
}

// list gives the backups of a table in the order of their keys, oldest first.
func (c *Catalogue) list(ctx context.Context, table string) ([]object, error) {
	if !validTable(table) {
		return nil, fmt.Errorf("list backups: %.100q is no table's name", table)
	}
	var found []object
	for info, err := range c.b.List(ctx, table+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("list backups of %s: %w", table, err)
		}
		if key, err := ParseKey(info.Key); err == nil && key.Table == table {
			found = append(found, object{key, info})
		}
	}
	slices.SortFunc(found, func(a, b object) int { return a.key.Compare(b.key) })
	return found, nil
}

// describe adds an object's tags. The zero Backup means that it is gone.
func (c *Catalogue) describe(ctx context.Context, o object) (Backup, error) {
	tags := o.info.Tags
	if tags == nil {
		var err error
		tags, err = c.b.Tags(ctx, o.key.String())
		if errors.Is(err, fs.ErrNotExist) {
			return Backup{}, nil
		}
		if err != nil {
			return Backup{}, fmt.Errorf("tags of %s: %w", o.key, err)
		}
	}
	return newBackup(o.key, o.info.Size, tags), nil
}

// Latest is the newest backup of a table; fs.ErrNotExist if there is none.
func (c *Catalogue) Latest(ctx context.Context, table string) (Backup, error) {
	listed, err := c.list(ctx, table)
	if err != nil {
		return Backup{}, err
	}
	for _, o := range slices.Backward(listed) {
		latest, err := c.describe(ctx, o)
		if err != nil {
			return Backup{}, fmt.Errorf("latest backup of %s: %w", table, err)
		}
		if !latest.Key.IsZero() {
			return latest, nil
		}
	}
	return Backup{}, fmt.Errorf("latest backup of %s: %w", table, fs.ErrNotExist)
}

// NextKey names a new backup of a table, to sort after all that the bucket
// holds. id is the SnapshotID.
func (c *Catalogue) NextKey(ctx context.Context, table string, now time.Time, id string) (Key, error) {
	listed, err := c.list(ctx, table)
	if err != nil {
		return Key{}, err
	}
	var newest Key
	if len(listed) > 0 {
		newest = listed[len(listed)-1].key
	}
	key := NextKey(table, now, id, len(c.opts.Recipients) > 0, newest)
	return key, key.check()
}

// Tables names the tables that have a backup, in order.
func (c *Catalogue) Tables(ctx context.Context) ([]string, error) {
	var names []string
	for info, err := range c.b.List(ctx, "", "") {
		if err != nil {
			return nil, fmt.Errorf("list tables: %w", err)
		}
		if key, err := ParseKey(info.Key); err == nil {
			names = append(names, key.Table)
			names = slices.Compact(names)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Open opens a backup by ranged reads, which end with ctx. fs.ErrNotExist if it
// is missing; ErrFormat if it is of another table than its key says; else as
// Open of this package.
func (c *Catalogue) Open(ctx context.Context, key Key) (*Reader, error) {
	if err := key.check(); err != nil {
		return nil, err
	}
	info, err := c.b.Head(ctx, key.String())
	if err != nil {
		return nil, fmt.Errorf("open backup %s: %w", key, err)
	}
	block := plainBlock
	if key.Encrypted {
		block = sealedBlock
	}
	src := bucket.NewReaderAt(ctx, c.b, key.String(), info.Size, block)
	r, err := Open(ctx, src, info.Size, OpenOptions{Identities: c.opts.Identities, MaxSize: c.opts.MaxSize})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if r.manifest.Table != key.Table {
		return nil, fmt.Errorf("%s: %w", key, formatError("it is a backup of table %s", r.manifest.Table))
	}
	return r, nil
}
