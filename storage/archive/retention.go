package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"time"

	"tablekeeper/storage/bucket"
)

// Tags on a backup's object. bucket.SupersededTag, which lifecycle rules select
// by, is the third.
const (
	TagProved = "tablekeeper-proved" // RFC 3339 time of the last good drill
	TagFailed = "tablekeeper-failed" // RFC 3339 time of the drill that found it bad
	TagState  = "tablekeeper-state"  // StateDegraded, on proved backups of a degraded table
)

func newBackup(key Key, size int64, tags map[string]string) Backup {
	return Backup{
		Key: key, Size: size,
		Proved: tagTime(tags, TagProved), Failed: tagTime(tags, TagFailed),
		Degraded:   tags[TagState] != "",
		Superseded: tags[bucket.SupersededTag] == bucket.SupersededValue,
	}
}

// tagTime reads a time; one that is missing or unreadable proves nothing.
func tagTime(tags map[string]string, name string) time.Time {
	at, err := time.Parse(time.RFC3339, tags[name])
	if err != nil {
		return time.Time{}
	}
	return at.UTC()
}

func formatTag(at time.Time) string { return at.UTC().Format(time.RFC3339) }

// errUnproved: the proof that older backups were to be superseded by is gone.
var errUnproved = errors.New("its proof is gone: another drill failed meanwhile, or the backup was removed")

// MarkProved records that a drill restored the backup, at a time. Then it marks
// every older backup of the table as superseded, so that retention may remove
// it; the backup of a degraded table supersedes nothing. Repeating it is
// harmless, and completes what an error cut short.
func (c *Catalogue) MarkProved(ctx context.Context, key Key, at time.Time) error {
	r, err := c.Open(ctx, key)
	if err != nil {
		return fmt.Errorf("mark as proved: %w", err)
	}
	proof := map[string]string{TagProved: formatTag(at), TagFailed: "", TagState: r.Manifest().State}
	if err := c.retag(ctx, key, proof); err != nil {
		return fmt.Errorf("mark %s as proved: %w", key, err)
	}
	if !r.Manifest().Degraded() {
		if err := c.supersedeBefore(ctx, key); err != nil {
			return fmt.Errorf("supersede the backups before %s: %w", key, err)
		}
	}
	return c.dropStaleMark(ctx, key)
}

// dropStaleMark is for a backup that was superseded already: a store changes
// all tags at once, so the proof may have brought back a mark that a drill
// elsewhere had just taken away.
func (c *Catalogue) dropStaleMark(ctx context.Context, key Key) error {
	b, err := c.look(ctx, key)
	if err == nil && b.Superseded {
		err = c.reinstate(ctx, key.Table, Key{})
	}
	if err != nil {
		return fmt.Errorf("look whether %s is still superseded: %w", key, err)
	}
	return nil
}

// MarkFailed records that a drill found the backup bad, at a time: it counts as
// proved no more, and the backups that only it superseded are needed again.
// Repeating it is harmless, and completes what an error cut short.
func (c *Catalogue) MarkFailed(ctx context.Context, key Key, at time.Time) error {
	if err := key.check(); err != nil {
		return err
	}
	// The older ones first, so that they are safe whatever fails after; and
	// again, for those that a drill elsewhere marks meanwhile.
	err := errors.Join(
		c.reinstate(ctx, key.Table, key),
		c.retag(ctx, key, map[string]string{TagFailed: formatTag(at), TagProved: "", TagState: ""}),
		c.reinstate(ctx, key.Table, key))
	if err != nil {
		return fmt.Errorf("mark %s as bad: %w", key, err)
	}
	return nil
}

// supersedeBefore marks the backups before key. Proofs can be withdrawn at the
// same time, by a drill elsewhere that takes back the marks it sees: so it looks
// at key's proof before each mark, and once more after the last.
func (c *Catalogue) supersedeBefore(ctx context.Context, key Key) error {
	listed, err := c.list(ctx, key.Table)
	if err != nil {
		return err
	}
	marked := false
	var errs []error
	for _, o := range listed {
		if o.key.Compare(key) >= 0 {
			break
		}
		tried, err := c.supersede(ctx, o.key, key)
		marked = marked || tried
		errs = append(errs, err)
	}
	if !marked {
		return errors.Join(errs...)
	}
	if ok, err := c.stands(ctx, key); err != nil {
		errs = append(errs, err)
	} else if !ok {
		errs = append(errs, errUnproved, c.reinstate(ctx, key.Table, key))
	}
	return errors.Join(errs...)
}

// supersede marks old if by stands. It says whether it came to that.
func (c *Catalogue) supersede(ctx context.Context, old, by Key) (bool, error) {
	b, err := c.look(ctx, old)
	if err != nil || b.Key.IsZero() || b.Superseded {
		return false, err
	}
	if ok, err := c.stands(ctx, by); err != nil {
		return false, err
	} else if !ok {
		return false, errUnproved
	}
	err = c.retag(ctx, old, map[string]string{bucket.SupersededTag: bucket.SupersededValue})
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return true, err
}

// reinstate takes the mark from every superseded backup of the table that no
// newer one stands for; without does not count.
func (c *Catalogue) reinstate(ctx context.Context, table string, without Key) error {
	backups, err := c.Backups(ctx, table)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range backups {
		if b.Superseded {
			err := c.retag(ctx, b.Key, map[string]string{bucket.SupersededTag: ""})
			if !errors.Is(err, fs.ErrNotExist) { // a rule of the bucket was faster
				errs = append(errs, err)
			}
		}
		if b.stands() && b.Key != without {
			break
		}
	}
	return errors.Join(errs...)
}

// stands asks the bucket whether older backups may go because of key.
func (c *Catalogue) stands(ctx context.Context, key Key) (bool, error) {
	b, err := c.look(ctx, key)
	return err == nil && b.stands(), err
}

// look asks for a backup's head and tags as they are now. The zero Backup means
// that it is gone.
func (c *Catalogue) look(ctx context.Context, key Key) (Backup, error) {
	info, err := c.b.Head(ctx, key.String())
	if errors.Is(err, fs.ErrNotExist) {
		return Backup{}, nil
	}
	if err != nil {
		return Backup{}, fmt.Errorf("head of %s: %w", key, err)
	}
	return c.describe(ctx, object{key: key, info: bucket.Info{Key: info.Key, Size: info.Size}})
}

// retag sets those of an object's tags that are named, or removes them if the
// value is empty, and looks whether the store kept that.
func (c *Catalogue) retag(ctx context.Context, key Key, change map[string]string) error {
	before, err := c.b.Tags(ctx, key.String())
	if err != nil {
		return fmt.Errorf("tags of %s: %w", key, err)
	}
	tags := map[string]string{}
	maps.Copy(tags, before)
	maps.Copy(tags, change)
	maps.DeleteFunc(tags, func(_, value string) bool { return value == "" })
	if maps.Equal(tags, before) {
		return nil
	}
	if err := c.b.SetTags(ctx, key.String(), tags); err != nil {
		return fmt.Errorf("set tags of %s: %w", key, err)
	}
	after, err := c.b.Tags(ctx, key.String())
	if err != nil {
		return fmt.Errorf("tags of %s: %w", key, err)
	}
	for name, value := range change {
		if after[name] != value {
			return fmt.Errorf("set tags of %s: %w: %s is %q, not %q", key, bucket.ErrNotStored, name, after[name], value)
		}
	}
	return nil
}

// Sweep removes the backups of a table that are superseded and were created
// before a time, and says which. A dry run removes nothing and says which it
// would. Right before each removal it asks the bucket again whether the backup is
// superseded and a newer one proved. It also takes the mark from superseded
// backups that no newer proved one stands for any more, so that no lifecycle
// rule removes them. After an error it goes on with the others.
func (c *Catalogue) Sweep(ctx context.Context, table string, olderThan time.Time, dryRun bool) ([]Backup, error) {
	backups, err := c.Backups(ctx, table)
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	var errs []error
	if !dryRun {
		errs = append(errs, c.reinstate(ctx, table, Key{}))
	}
	var removed []Backup
	for i, b := range slices.Backward(backups) {
		newer := slices.DeleteFunc(slices.Clone(backups[:i]), func(b Backup) bool { return !b.stands() })
		if !b.Superseded || !b.Key.Created.Before(olderThan) || len(newer) == 0 {
			continue
		}
		if !dryRun {
			ok, err := c.remove(ctx, b.Key, newer)
			errs = append(errs, err)
			if !ok {
				continue
			}
		}
		removed = append(removed, b)
	}
	if err := errors.Join(errs...); err != nil {
		return removed, fmt.Errorf("sweep %s: %w", table, err)
	}
	return removed, nil
}

// remove deletes a backup if it is still superseded and one of newer still
// stands.
func (c *Catalogue) remove(ctx context.Context, key Key, newer []Backup) (bool, error) {
	b, err := c.look(ctx, key)
	if err != nil || !b.Superseded {
		return false, err
	}
	for _, n := range newer {
		ok, err := c.stands(ctx, n.Key)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		if err := c.b.Delete(ctx, key.String()); err != nil {
			return false, fmt.Errorf("remove %s: %w", key, err)
		}
		return true, nil
	}
	return false, nil
}
