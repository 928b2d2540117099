package table

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// DefaultThreshold is the share of free pages above which a table is worth compacting.
const DefaultThreshold = 0.10

// What becomes of a compaction.
const (
	Compacted = "compacted"
	Skipped   = "skipped"
	Failed    = "failed"
)

// Why a compaction was skipped, or failed.
const (
	BelowThreshold = "below_threshold" // too little to gain
	WouldBlock     = "would_block"     // users would wait for longer than MaxPause
	LockedOut      = "locked"          // the write lock was not free for as long as we wait
	NoSpace        = "no_space"        // the disk has no room for the work
	RowidsInUse    = "rowids_in_use"   // VACUUM would renumber rowids that the schema refers to
	NotSupported   = "unsupported"     // the schema needs what is not here
	DryRun         = "dry_run"         // it would be compacted
	Damaged        = "corrupt"         // the table failed its check: nothing was done, or see the error
	Unchanged      = "unchanged"       // the table is of the wanted kind already
)

// CompactOptions say when and how to compact. The zero value compacts what is free to more than a tenth, within a second.
type CompactOptions struct {
	Threshold float64       // skip unless the share of free pages is larger; 0: 0.10; negative: compact anything that has a free page
	Force     bool          // whatever the threshold, and whatever becomes of rowids; never longer than MaxPause
	MaxPause  time.Duration // how long writers may be kept waiting at a time; 0: 1 s
	Wait      time.Duration // how long to wait for the write lock; 0: 5 s
	DryRun    bool          // only say what would be done
	// Convert, if not "", has the whole table written anew with this auto_vacuum, whatever is free in it: to incremental or none.
	Convert  string
	Progress func(phase string, done, total int64)
}

func (o *CompactOptions) defaults() {
	if o.Threshold == 0 {
		o.Threshold = DefaultThreshold
	}
	if o.MaxPause <= 0 {
		o.MaxPause = defaultPause
	}
	if o.Wait <= 0 {
		o.Wait = defaultWait
	}
	if o.Progress == nil {
		o.Progress = func(string, int64, int64) {}
	}
}

// Compaction is what became of a compaction.
type Compaction struct {
	Status           string  `json:"status"`
	Reason           string  `json:"reason,omitempty"`
	Note             string  `json:"note,omitempty"`     // in words, for a human
	Strategy         string  `json:"strategy,omitempty"` // vacuum, copy_in, slices or online
	BytesBefore      int64   `json:"bytes_before"`       // of the main file
	BytesAfter       int64   `json:"bytes_after"`        // measured
	PagesBefore      int64   `json:"pages_before"`
	PagesAfter       int64   `json:"pages_after"`
	FreeBefore       int64   `json:"free_before"`    // pages
	FreelistRatio    float64 `json:"freelist_ratio"` // before
	PredictedPauseMS int64   `json:"predicted_pause_ms"`
	BlockedMS        int64   `json:"blocked_ms"` // the longest that the write lock was held at one go, measured
	DiskNeeded       int64   `json:"disk_needed"`
	// Of an online compaction: rounds of catching up with the writers, the rows carried over in them, and what the cut took.
	Rounds       int   `json:"rounds,omitempty"`
	RowsCaughtUp int64 `json:"rows_caught_up,omitempty"`
	CutUS        int64 `json:"cut_us,omitempty"`
}

// GainBytes is what compacting would give, or gave, back.
func (c Compaction) GainBytes() int64 {
	if c.Status == Compacted {
		return c.BytesBefore - c.BytesAfter
	}
	if c.PagesBefore == 0 {
		return 0
	}
	return c.BytesBefore / c.PagesBefore * c.FreeBefore
}

// compaction is one run of Compact.
type compaction struct {
	Compaction
	path   string
	opts   CompactOptions
	before Stats
	conn   *conn
	owned  bool // its owner checkpoints it
	// checked: the table passed its check in an attempt before this one.
	checked bool
}

// Compact gives a table's free pages back to the file system, in place: other processes keep the file open and lose nothing.
//
// A table with auto_vacuum=incremental is compacted in slices, each a short transaction. Of any other a compacted copy is made, while its
// users go on, and put in under the write lock: copy_in, see copyin.go. One so small that nobody would notice a VACUUM gets that; so does
// one whose users commit too often for a copy, if a VACUUM fits. Both keep writers out (and readers, where there is a rollback journal)
// for a time that is predicted from the bytes in use and the pace of this table's last compaction, else from a cautious one; what does not
// fit into MaxPause is skipped, would_block or too_busy. Work that takes longer than predicted is interrupted and leaves nothing behind;
// only its last part cannot be, which writes what is left and syncs: so BlockedMS may exceed MaxPause on a disk that slows down.
//
// The table is checked before, because a VACUUM of a damaged file drops rows without a word. A copy is checked, and its row counts are compared,
// before it is put in; then each page is read back. After a VACUUM the table is checked again; row counts are compared if nobody
// else committed meanwhile. Settings of the file (page size, encoding, journal mode, auto_vacuum, user_version, application_id) stay.
// VACUUM may renumber the rowids of SQL tables without an INTEGER PRIMARY KEY; a copy keeps them. Where there is no time for a copy, a table whose
// schema refers to such rowids is skipped, rowids_in_use, unless forced.
//
// A skip is no error. With one, the Compaction says Failed and what is known; errors are ErrCorrupt, ErrNoSpace, ErrNotDatabase,
// ErrNetworkFS, ErrForeignJournal, the context's. The caller holds the table's Lock.
func Compact(ctx context.Context, path string, opts CompactOptions) (Compaction, error) {
	opts.defaults()
	path, err := absolute(path)
	if err != nil {
		return Compaction{Status: Failed}, err
	}
	k := &compaction{path: path, opts: opts}
	if err = k.measure(ctx); err == nil && k.Status == "" {
		err = k.work(ctx)
	}
	if err = k.excuse(err); err != nil {
		k.Status = Failed
		return k.Compaction, fmt.Errorf("compact %s: %w", path, asCorrupt(path, err))
	}
	return k.Compaction, nil
}

// excuse makes a skip of an error that is one.
func (k *compaction) excuse(err error) error {
	switch {
	case err == nil:
		return nil
	case k.Status == Compacted: // it went wrong afterwards
	case errors.Is(err, ErrCorrupt):
		k.Reason = Damaged
	case errors.Is(err, ErrBusy):
		k.skip(LockedOut, "%v", err)
		return nil
	case errors.Is(err, ErrWouldBlock):
		k.skip(WouldBlock, "%v", err)
		return nil
	case errors.Is(err, ErrUnsupported), isPlainError(err):
		k.skip(NotSupported, "%v", err)
		return nil
	case errors.Is(err, ErrNoSpace):
		k.Reason = NoSpace
	}
	return err
}

func (k *compaction) skip(reason, note string, args ...any) {
	k.Status, k.Reason = Skipped, reason
	k.note(note, args...)
}

func (k *compaction) note(format string, args ...any) {
	if k.Note != "" {
		k.Note += "; "
	}
	k.Note += fmt.Sprintf(format, args...)
}

// measure decides from the file's header whether there is work, how it would be done and what it would take. It sets Status if
// there is nothing to do.
func (k *compaction) measure(ctx context.Context) error {
	s, err := Stat(ctx, k.path)
	if err != nil {
		return err
	}
	k.take(s)
	k.plan()
	switch {
	case k.opts.Convert == s.AutoVacuum:
		k.skip(Unchanged, "it has auto_vacuum=%s", s.AutoVacuum)
	case k.idle():
		k.skip(BelowThreshold, "%.1f %% of the pages are free", 100*s.FreeRatio)
	case k.PredictedPauseMS > k.opts.MaxPause.Milliseconds():
		k.wouldBlock()
	default:
		return k.room()
	}
	return nil
}

// idle: there is too little to gain.
func (k *compaction) idle() bool {
	return k.opts.Convert == "" && !k.opts.Force && (k.before.FreeRatio <= k.opts.Threshold || k.before.FreePages == 0)
}

func (k *compaction) take(s Stats) {
	k.before = s
	k.BytesBefore, k.PagesBefore, k.FreeBefore, k.FreelistRatio = s.Bytes, s.PageCount, s.FreePages, s.FreeRatio
	k.BytesAfter, k.PagesAfter = s.Bytes, s.PageCount
}

// room skips what the disk has no room for.
func (k *compaction) room() error {
	err := enoughSpace(k.needs()...)
	switch {
	case errors.Is(err, ErrNoSpace):
		k.skip(NoSpace, "%v", err)
		return nil
	case err == nil && k.opts.DryRun && k.opts.Convert != "":
		k.skip(DryRun, "auto_vacuum=%s would become %s", k.before.AutoVacuum, k.opts.Convert)
	case err == nil && k.opts.DryRun:
		k.skip(DryRun, "it would be compacted")
	}
	return err
}

// work checks, compacts, and checks again.
func (k *compaction) work(ctx context.Context) (err error) {
	if k.conn, err = open(ctx, k.path, openOptions{wait: k.opts.Wait}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.conn.close()) }()
	// A checkpoint after our commit is not the writers' to wait for: it is run by itself.
	if err := k.conn.exec(ctx, fmt.Sprintf("PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-%d", compactCache>>10)); err != nil {
		return err
	}
	if k.Strategy == strategyVacuum {
		err = k.spareRowids(ctx)
	}
	if err == nil && k.Status == "" && k.Strategy == strategyCopyIn {
		err = k.copyInFirst(ctx)
	}
	if err != nil || k.Status != "" {
		return err
	}
	return k.direct(ctx)
}

// direct compacts the table itself: by a VACUUM or in slices.
func (k *compaction) direct(ctx context.Context) error {
	version, err := k.version(ctx)
	if err != nil {
		return err
	}
	rows, err := k.check(ctx, "check")
	if err != nil {
		return err
	}
	if err := k.compact(ctx); err != nil {
		return errors.Join(err, k.measureAfter(context.WithoutCancel(ctx)))
	}
	k.Status = Compacted
	return errors.Join(k.measureAfter(ctx), k.compare(ctx, version, rows))
}

// copyInFirst compacts by a copy. If the table's users are too busy for that, it leaves Status empty and a VACUUM as the strategy,
// where that fits.
func (k *compaction) copyInFirst(ctx context.Context) error {
	err := k.copyIn(ctx)
	if !errors.Is(err, errMoved) {
		return errors.Join(err, k.measureAfter(context.WithoutCancel(ctx)))
	}
	k.note("%v, %d times", errMoved, mostCopyIns)
	if k.vacuumPause() > k.opts.MaxPause {
		k.skip(TooBusy, "a VACUUM would hold writers for about %d ms, %d ms are allowed: try again in a quieter hour"+k.adviseConversion(), k.vacuumPause().Milliseconds(), k.opts.MaxPause.Milliseconds())
		return nil
	}
	k.planVacuum()
	k.addUp()
	if err := k.room(); err != nil || k.Status != "" {
		return err
	}
	moving, err := k.renumbers(ctx)
	if err != nil {
		return err
	}
	return k.rowids(ctx, moving)
}

func (k *compaction) compact(ctx context.Context) error {
	var err error
	switch k.Strategy {
	case strategySlices:
		err = k.slices(ctx)
	case strategyHeader:
		err = k.changeHeader(ctx)
	default:
		err = k.vacuum(ctx)
	}
	if err == nil && k.before.JournalMode == "wal" && !k.owned {
		err = k.checkpoint(ctx, k.conn)
	}
	return err
}

// version changes when another connection commits, and only then.
func (k *compaction) version(ctx context.Context) (v int64, err error) {
	if err := k.conn.patience(ctx, k.opts.Wait); err != nil {
		return 0, err
	}
	err = k.conn.row(ctx, "PRAGMA data_version", &v)
	return v, err
}

// compactCache is the page cache of a VACUUM in bytes: SQLite sorts new indexes in as much.
const compactCache = 32 << 20

// check is an integrity_check and the row counts, on a connection of its own and in a way that keeps writers waiting for no
// longer than allowed.
func (k *compaction) check(ctx context.Context, phase string) (rows map[string]int64, err error) {
	return k.snapshot(ctx, phase, SnapshotOptions{})
}

func (k *compaction) snapshot(ctx context.Context, phase string, opts SnapshotOptions) (rows map[string]int64, err error) {
	k.opts.Progress(phase, 0, 1)
	opts.MaxPause, opts.Wait = k.opts.MaxPause, k.opts.Wait
	err = TakeSnapshot(ctx, k.path, opts, func(_ context.Context, s *Snapshot) error {
		rows = s.Rows()
		return nil
	})
	if err == nil {
		k.opts.Progress(phase, 1, 1)
	}
	return rows, err
}

// compare checks the compacted table. Rows can only be compared if nobody else committed between the two counts.
func (k *compaction) compare(ctx context.Context, version int64, rows map[string]int64) error {
	after, err := k.snapshot(ctx, "verify", SnapshotOptions{Quick: true}) // the indexes are as old as the VACUUM, which made them of the rows
	var now int64
	if err == nil {
		now, err = k.version(ctx)
	}
	if errors.Is(err, ErrWouldBlock) || errors.Is(err, ErrBusy) {
		k.note("not checked afterwards: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	if now != version {
		k.note("rows were not compared: others committed meanwhile")
		return nil
	}
	var problems []string
	for name, n := range rows {
		if after[name] != n {
			problems = append(problems, fmt.Sprintf("%s had %d rows, has %d after the compaction", name, n, after[name]))
		}
	}
	if len(problems) > 0 {
		return &CorruptError{k.path, problems}
	}
	return nil
}

func (k *compaction) measureAfter(ctx context.Context) error {
	s, err := Stat(ctx, k.path)
	if err != nil {
		return err
	}
	k.BytesAfter, k.PagesAfter = s.Bytes, s.PageCount
	if k.Status == Compacted && k.opts.Convert != "" && s.AutoVacuum != k.opts.Convert {
		return fmt.Errorf("it was to have auto_vacuum=%s and has %s: %w", k.opts.Convert, s.AutoVacuum, ErrUnsupported)
	}
	if s.Bytes > s.PageCount*s.PageSize {
		k.note("%d bytes more will be given back when readers let go of the WAL", s.Bytes-s.PageCount*s.PageSize)
	}
	return nil
}
