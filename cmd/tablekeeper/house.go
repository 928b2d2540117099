package main

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"tablekeeper/cmd/tablekeeper/settings"
	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/compact"
	"tablekeeper/functions/restore"
	"tablekeeper/functions/sweep"
	"tablekeeper/functions/verify"
	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/schedule"
	"tablekeeper/storage/bucket"
)

// house is everything wired together: tables, buckets, functions, history, bus and runner. Both the service and a command that works by
// itself are one.
type house struct {
	*fleet
	now     func() time.Time
	first   *store // nil: no bucket is configured
	second  *store // nil: none
	locks   *locks
	history *history.Store
	bus     *events.Bus
	runner  *jobs.Runner
	watch   *watch
	since   time.Time      // when the service began; zero for a command
	works   []string       // the functions that the runner has
	planned []schedule.Job // what the service does by itself

	refreshing sync.Mutex
	refreshed  time.Time
}

// houseOptions are what differs between a service and a command.
type houseOptions struct {
	service bool
	planned []schedule.Job
	watch   *watch // nil: nobody watches
}

// openHouse builds the house on a fleet. Close it.
func (p *program) openHouse(ctx context.Context, f *fleet, opts houseOptions) (h *house, err error) {
	h = &house{fleet: f, now: p.now, watch: opts.watch, planned: opts.planned, refreshed: p.now()}
	if opts.service {
		h.since = p.now()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close(ctx))
		}
	}()
	if err := h.openStores(ctx); err != nil {
		return h, err
	}
	state, err := f.stateFolder()
	if err != nil {
		return h, err
	}
	h.history, err = history.Open(ctx, filepath.Join(state, history.File), history.Options{Logger: f.log, Now: p.now})
	if err != nil {
		return h, err
	}
	h.bus = events.NewBus(events.Options{Log: h.history, Now: p.now, Logger: f.log})
	h.locks = newLocks(f.shelf, p.now)
	work, err := h.functions(ctx)
	if err != nil {
		return h, err
	}
	h.works = slices.Sorted(maps.Keys(work))
	h.runner, err = jobs.New(jobs.Config{
		Template: f.template, History: h.history, Functions: work, Bus: h.bus, Locker: h.locks,
		OnFailure: failureLog{h.runLog(opts)}, Recorded: h.recorded, Now: p.now, Logger: h.runLog(opts),
	})
	return h, err
}

// runLog is where runs are logged. A command shows the run itself, so it logs only if it was told how much.
func (h *house) runLog(opts houseOptions) *slog.Logger {
	if opts.service || h.cfg.Origin("log.level") != "default" {
		return h.log
	}
	return slog.New(slog.DiscardHandler)
}

func (h *house) openStores(ctx context.Context) (err error) {
	if h.cfg.Bucket == "" {
		return nil
	}
	if h.first, err = openStore(ctx, h.fleet, h.cfg.Bucket); err != nil {
		return err
	}
	if h.cfg.SecondBucket != "" {
		h.second, err = openStore(ctx, h.fleet, h.cfg.SecondBucket)
	}
	return err
}

// functions are those of the template that can work with what is configured.
func (h *house) functions(ctx context.Context) (map[string]jobs.Function, error) {
	all := map[string]jobs.Function{}
	c := compact.Config{Shelf: h.shelf, Now: h.now}
	if h.first != nil {
		backups := h.backer()
		all["backup"] = adapt(h, "backup", backups)
		c.NeedBackup, c.BackUp = true, backUpFirst(backups)
		if err := h.addBucketFunctions(ctx, all); err != nil {
			return nil, err
		}
	}
	all["compact"] = adapt(h, "compact", compact.New(c))
	return all, h.withoutUndeclared(all)
}

func (h *house) backer() *backup.Function {
	return backup.New(backup.Config{
		Shelf: h.shelf, Catalogue: h.first.Catalogue, Objects: h.first.Bucket, Bucket: h.first.Address, ToolVersion: toolVersion(), Now: h.now,
	})
}

// backUpFirst makes the backup without which nothing is compacted: schedules fire when they like, and a table may be backed up by hand only.
// It happens under the lock of the compaction, and is told in its report.
func backUpFirst(backups *backup.Function) func(context.Context, string, functions.Progress) error {
	return func(ctx context.Context, name string, p functions.Progress) error {
		_, err := backups.Run(ctx, backup.Event{Tables: []string{name}}, name, p)
		return err
	}
}

func (h *house) addBucketFunctions(ctx context.Context, all map[string]jobs.Function) error {
	rate, err := h.scrubRate()
	if err != nil {
		return err
	}
	all["verify"] = adapt(h, "verify", verify.New(verify.Config{
		Shelf: h.shelf, Catalogue: h.first.Catalogue, Bucket: h.first.Address, ScrubRate: rate, Held: h.locks.of, Now: h.now,
	}))
	all["restore"] = adapt(h, "restore", h.restorer())
	all["recover"] = adapt(h, "recover", h.recoverer())
	sweeper, err := h.sweeper(ctx)
	all["sweep"] = adapt(h, "sweep", sweeper)
	return err
}

// scrubRate is no limit where the user's own template has none.
func (h *house) scrubRate() (int64, error) {
	if _, ok := h.template.Parameter("ScrubRate"); !ok {
		return 0, nil
	}
	rate, err := h.template.Rate("ScrubRate")
	if err != nil {
		return 0, usage("", "%w", err)
	}
	return rate, nil
}

// sweeper leaves retention to a bucket that has a rule for it.
func (h *house) sweeper(ctx context.Context) (*sweep.Function, error) {
	c := sweep.Config{Shelf: h.shelf, Bucket: h.first.Address, Catalogue: h.first.Catalogue, Since: h.since, Now: h.now}
	for name, to := range map[string]*time.Duration{"RetentionDays": &c.Retention, "QuarantineDays": &c.QuarantineAge} {
		if _, ok := h.template.Parameter(name); !ok {
			continue
		}
		var err error
		if *to, err = h.template.Days(name); err != nil {
			return nil, usage("", "%w", err)
		}
	}
	if l, ok := h.first.Bucket.(bucket.Lifecycler); ok && !h.since.IsZero() {
		ctx, cancel := context.WithTimeout(ctx, healthPatience)
		defer cancel()
		rules, err := l.Lifecycle(ctx)
		if err != nil {
			h.log.Warn("the bucket's lifecycle rules cannot be read, so sweep removes old backups itself", "error", err)
		} else if len(rules) > 0 {
			h.log.Info("old backups are left to the bucket's lifecycle rules", "rules", rules)
			c.Catalogue = nil
		}
	}
	return sweep.New(c), nil
}

// restorer looks into the second bucket where the first has no good backup.
func (h *house) restorer() work[restore.Event, restore.Entry] {
	from := func(s *store) *restore.Function {
		return restore.New(restore.Config{Shelf: h.shelf, Catalogue: s.Catalogue, Bucket: s.Address, Held: h.locks.of, Now: h.now})
	}
	if h.second == nil {
		return from(h.first)
	}
	return &fallback{first: from(h.first), second: from(h.second), address: h.second.Address}
}

// fallback restores from the second bucket what the first has no good backup of.
type fallback struct {
	first, second *restore.Function
	address       string
}

// Tables implements work.
func (f *fallback) Tables(ctx context.Context, e restore.Event) ([]string, error) {
	return f.first.Tables(ctx, e)
}

// Run implements work.
func (f *fallback) Run(ctx context.Context, e restore.Event, table string, p functions.Progress) (restore.Entry, error) {
	entry, err := f.first.Run(ctx, e, table, p)
	if reason := functions.ReasonOf(err); err == nil || (reason != "no_backup" && reason != "no_good_backup") {
		return entry, err
	}
	again, secondErr := f.second.Run(ctx, e, table, p)
	again.Notes = append(again.Notes, "the first bucket has no good backup ("+err.Error()+"); this is from "+f.address)
	again.PassedOver = append(entry.PassedOver, again.PassedOver...)
	if secondErr != nil {
		return entry, errors.Join(err, secondErr)
	}
	return again, nil
}

// withoutUndeclared removes what the user's own template does not declare.
func (h *house) withoutUndeclared(all map[string]jobs.Function) error {
	for name := range all {
		if f, ok := h.template.Function(name); !ok || f.Name != name {
			delete(all, name)
		}
	}
	if len(all) == 0 {
		return usage("name a function CompactFunction, BackupFunction, ...", "%s declares none of the functions of this program", h.template.File)
	}
	return nil
}

// stale is for how long what was found of the tables holds. A run looks again after that, so that new tables are seen.
const stale = 2 * time.Second

// refresh looks for tables again.
func (h *house) refresh(ctx context.Context) error {
	h.refreshing.Lock()
	defer h.refreshing.Unlock()
	if h.now().Sub(h.refreshed).Abs() < stale {
		return nil
	}
	if _, err := h.shelf.Refresh(ctx); err != nil {
		return err
	}
	h.refreshed = h.now()
	return nil
}

// closePatience is for how long what is under way may go on when the house is closed.
const closePatience = 30 * time.Second

// Close ends what is under way and lets go of everything. It may be called on a house that is half built.
func (h *house) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closePatience)
	defer cancel()
	var errs []error
	if h.runner != nil {
		errs = append(errs, h.runner.Shutdown(ctx))
	}
	errs = append(errs, h.shelf.CloseOwned())
	if h.bus != nil {
		errs = append(errs, h.bus.Close(ctx))
	}
	if h.history != nil {
		errs = append(errs, h.history.Close())
	}
	return errors.Join(errs...)
}

// failureLog is the on-failure destination of a machine on which no other is configured: the log. The bus is told by the runner.
type failureLog struct{ log *slog.Logger }

// Failed implements jobs.FailureDestination.
func (l failureLog) Failed(_ context.Context, f jobs.Failure) error {
	l.log.Error("run failed for good", "run", f.Run.ID, "function", f.Run.Function, "condition", f.Condition, "error", f.Run.Error, "hint", f.Run.Hint)
	return nil
}

// needBucket is the error of a command that works with backups where no bucket is configured.
func needBucket(cfg settings.Config) error {
	if cfg.Bucket == "" {
		return usage("--bucket URL, or bucket: in tablekeeper.yaml", "no bucket is configured")
	}
	return nil
}
