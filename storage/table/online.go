package table

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"tablekeeper/storage/ledger"
)

// # Online compaction
//
// The table is copied by VACUUM INTO while its writer goes on. What the writer touches meanwhile is captured (listen.go, capture.go)
// and carried over into the copy in rounds (approach.go, catchup.go), each shorter than the one before. When one is short enough, the
// copy is proved (complete.go), the writer is held for the rest, and the copy takes the table's place (cut.go).
//
// The table is not changed before the cut: whatever goes wrong until then costs a temporary file.

const (
	strategyOnline = "online"

	// TooBusy: the writers changed rows faster than they could be carried over.
	TooBusy = "too_busy"
	// SchemaBusy: the schema kept changing.
	SchemaBusy = "schema_changes"

	mostCopies  = 3  // times to start again for a schema that changed
	mostRounds  = 40 // rounds of catching up before the cut has to be made with what is left, or not at all
	cutRows     = 20 // so few rows left are carried over while the writer waits
	calmRows    = 1000
	cutCatchUp  = 5 * time.Millisecond // or more, if they can be carried over in this time
	spareRounds = 3
)

var (
	errTooBusy = errors.New("rows change faster than they can be carried over")
	// errForeign: another process wrote to the table, and nobody captured what.
	errForeign = errors.New("another process writes to the table")
	// errAway: the table was closed, detached or replaced.
	errAway = errors.New("the table went out of service")
)

// online is one online compaction.
type online struct {
	*compaction
	t       *Table
	s       *session // whose writer is captured
	shapes  []*shape
	capture *capture
	copy    *follower
	newFile string
	next    *ledger.Ledger // of the new file; nil until it is complete
	schema  int64
	data    int64 // changes when somebody else commits
	perRow  time.Duration
	disk    disk
}

// compactOnline copies the table beside itself and swaps the copy in.
func (t *Table) compactOnline(ctx context.Context, k *compaction) error {
	end, err := takePlace(ctx)
	if err != nil {
		return err
	}
	defer end()
	defer moreProcs()()
	k.opts.Progress = oneByOne(k.opts.Progress)
	for attempt := 1; ; attempt++ {
		o := &online{compaction: k, t: t, disk: t.disk, newFile: Temporary(t.path, "compact")}
		err := o.run(ctx)
		err = errors.Join(err, o.clean(context.WithoutCancel(ctx)))
		if !errors.Is(err, errSchemaMoved) || attempt == mostCopies {
			return err
		}
		k.note("the schema changed: started again")
	}
}

// oneByOne is for those who are told by two goroutines.
func oneByOne(tell func(phase string, done, total int64)) func(string, int64, int64) {
	var mu sync.Mutex
	return func(phase string, done, total int64) {
		mu.Lock()
		defer mu.Unlock()
		tell(phase, done, total)
	}
}

func (o *online) run(ctx context.Context) error {
	if err := o.listen(ctx); err != nil {
		return err
	}
	if err := o.copySound(ctx); err != nil {
		return err
	}
	if err := o.approach(ctx, calmRows, false); err != nil {
		return err
	}
	if err := o.complete(ctx); err != nil {
		return err
	}
	for range spareRounds {
		if err := o.approach(ctx, cutRows, true); err != nil {
			return err
		}
		err := o.cut(ctx)
		if !errors.Is(err, errNotYet) {
			return err
		}
	}
	return errTooBusy
}

// copySound makes the copy, and checks meanwhile what it is made of: a copy of what is damaged would look sound.
func (o *online) copySound(ctx context.Context) error {
	copying, endCopy := context.WithCancel(ctx)
	defer endCopy()
	checking, endCheck := context.WithCancel(ctx)
	defer endCheck()
	checked := make(chan error, 1)
	go func() {
		err := inBackground(func() error { return o.sound(checking) })
		if err != nil {
			endCopy()
		}
		checked <- err
	}()
	err := o.duplicate(copying)
	if err != nil && asDamage(err) == nil && copying.Err() == nil { // of damage the check has more to say
		endCheck()
		return cmp.Or(err, <-checked)
	}
	return cmp.Or(<-checked, err)
}

// sound finds damage. The pages first, since most flips are seen by nothing else.
func (o *online) sound(ctx context.Context) error {
	done, err := o.t.Scrub(ctx, ScrubOptions{Progress: func(done, total int64) { o.opts.Progress("scrub", done, total) }})
	if err == nil && len(done.Bad) > 0 {
		err = pagesDamage(done.Bad)
	}
	if err != nil {
		return err
	}
	o.opts.Progress("check", 0, 1)
	return o.whole(ctx)
}

// whole checks the b-trees of the table.
func (o *online) whole(ctx context.Context) error {
	c, missing, err := openToCheck(ctx, o.path, openOptions{wait: o.opts.Wait})
	if err != nil {
		return err
	}
	check := CheckOptions{SkipRows: true, alone: true}
	check.defaults()
	r := CheckReport{path: o.path}
	err = r.take(c.read(ctx, func() error { return r.run(ctx, c, missing, check) }))
	if err == nil && len(r.Problems) > 0 {
		err = &CorruptError{o.path, r.Problems}
	}
	return errors.Join(err, c.close(), lacking(missing))
}

// lacking refuses what could only be compacted by a program that has more than this one.
func lacking(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the schema needs %q: %w", missing, ErrUnsupported)
}

// alone runs fn on the writer's connection while nobody writes, and counts the time as held up.
func (o *online) alone(ctx context.Context, fn func(*conn) error) error {
	s := o.t.gate.enterNow()
	if s == nil {
		return errAway
	}
	defer o.t.gate.leave(s)
	release, err := o.t.writeLock(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	defer func() {
		release()
		o.blocked(time.Since(start))
	}()
	if o.t.gate.current() != s || o.s != nil && o.s != s {
		return errAway
	}
	o.s = s
	return s.onWriter(ctx, fn)
}

func (s *session) onWriter(ctx context.Context, fn func(*conn) error) error {
	c, err := s.writer.Conn(ctx)
	if err != nil {
		return classify(err)
	}
	defer func() { _ = c.Close() }() // goes back to the pool
	return fn(&conn{path: s.path, sql: c})
}

// duplicate makes the copy.
func (o *online) duplicate(ctx context.Context) (err error) {
	if err := MakeStateDir(o.t.path); err != nil {
		return err
	}
	c, err := connect(ctx, o.t.path, openOptions{wait: o.opts.Wait, private: true})
	if err != nil {
		return err
	}
	o.opts.Progress("copy", 0, 1)
	even := evenOut(o.newFile)
	err = c.convert(ctx, o.opts.Convert)
	if err == nil {
		err = inBackground(func() error { return c.exec(ctx, "VACUUM INTO ?", o.newFile) })
	}
	if err = errors.Join(err, even(), c.close()); err != nil {
		return fmt.Errorf("copy the table: %w", err)
	}
	o.opts.Progress("copy", 1, 1)
	o.copy, err = follow(ctx, o.newFile, o.t.path, o.shapes)
	return err
}

// clean takes away what is left of a compaction that ended, in whatever way.
func (o *online) clean(ctx context.Context) error {
	var err error
	if o.capture != nil && o.capture.driver != nil {
		o.s.unhook(ctx, o.t, o.capture)
	}
	if o.copy != nil {
		err = o.copy.close()
	}
	if o.next != nil {
		err = errors.Join(err, o.next.Close(), disk{}.remove(nextLedger(o.t.path)))
	}
	for _, ending := range append([]string{""}, sidecars...) {
		err = errors.Join(err, disk{}.remove(o.newFile+ending))
	}
	return err
}
