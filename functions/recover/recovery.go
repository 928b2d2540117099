package recover

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/ledger"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// LevelCritical is the level of the log line that says that a table was emptied.
const LevelCritical = slog.LevelError + 4

// recovery is one recovery under way.
type recovery struct {
	*Function
	event    Event
	table    shelf.Table
	handle   *table.Table // nil: other programs own the table
	held     *table.Held
	entry    *Entry
	progress functions.Progress
	start    time.Time

	scene scene
}

func (r *recovery) run(ctx context.Context) error {
	if _, err := functions.Resume(ctx, r.table.Path, r.held); err != nil {
		return err
	}
	if err := r.tooOften(); err != nil {
		return r.giveUp(err)
	}
	degraded := r.table.State == shelf.Degraded || shelf.ReadRecovery(r.table.Path).Degraded
	if degraded {
		// The state is about to change, and must not be forgotten if this process dies.
		if err := r.keep(func(k *shelf.Recovery) { k.Degraded = true }); err != nil {
			return err
		}
	}
	was := r.table.State
	r.setState(shelf.Recovering, cmpReason(r.event.Reason, "by hand"))
	if err := r.detach(ctx); err != nil {
		return r.leave(err)
	}
	for attempt := 1; ; attempt++ {
		found, err := r.climb(ctx)
		if err != nil {
			return r.leave(err)
		}
		if found.file == "" {
			return r.resumed(ctx, was)
		}
		if err := r.conclude(ctx, found); !errors.Is(err, table.ErrChanged) {
			return err
		} else if attempt == mostAttempts {
			return r.leave(&functions.Failure{Err: err, Try: "run it again when the table is less busy, or stop the programs that have it open"})
		}
		if err := r.again(); err != nil {
			return r.leave(err)
		}
	}
}

// mostAttempts is how often others may write to a table while it is mended: what they have committed would not be in it.
const mostAttempts = 3

// again forgets what was found of a table that others have written to since.
func (r *recovery) again() error {
	r.note("other programs wrote to the table while it was mended: begun anew")
	r.scene = scene{report: r.scene.report, original: r.scene.original}
	return r.keep(func(k *shelf.Recovery) { k.Outcome = nil })
}

func cmpReason(given, otherwise string) string {
	if given != "" {
		return given
	}
	return otherwise
}

// detach takes an owned table out of service.
func (r *recovery) detach(ctx context.Context) error {
	r.scene.open(r)
	if r.handle == nil {
		return nil
	}
	r.scene.report = r.Shelf.OwnedReport(r.table.Name)
	return r.handle.Detach(ctx)
}

// leave ends a recovery that came to nothing. The damaged table stays as it is, out of service.
func (r *recovery) leave(err error) error {
	r.scene.close()
	r.setState(shelf.Suspect, err.Error())
	var failure *functions.Failure
	if errors.As(err, &failure) && failure.Final {
		return r.giveUp(err)
	}
	return err
}

// giveUp tells those who wait that there is nothing to wait for.
func (r *recovery) giveUp(err error) error {
	if r.handle != nil {
		r.handle.Fail(err)
	}
	return err
}

func (r *recovery) setState(state shelf.State, reason string) {
	err := r.Shelf.SetState(r.table.Name, state, reason)
	if err != nil && !errors.Is(err, shelf.ErrUnknown) {
		r.note(err.Error())
	}
}

func (r *recovery) note(text string) { r.entry.Notes = append(r.entry.Notes, text) }

// candidate is a checked file that is to become the table.
type candidate struct {
	file     string
	step     Step
	status   functions.Status
	backup   string
	rows     map[string]int64
	size     int64
	want     ledger.Sums // of its pages, 0: any; nil: only the check of the whole vouches for it
	degraded bool        // its rows are those of a degraded table, or none
	since    time.Time   // what was written after it is lost; zero: nothing is, or it is not known
	lost     string      // in words, "" if nothing is
	full     bool        // it may replace the state of a degraded table
	made     table.Token // it was made from this state of the table, which must not have changed; "" if it was not, or if that cannot be told
}

// conclude puts the candidate in place and ends the incident.
func (r *recovery) conclude(ctx context.Context, c candidate) error {
	r.describe(c)
	if err := r.announce(); err != nil {
		return r.leave(errors.Join(err, functions.RemoveTable(c.file)))
	}
	if c.degraded {
		// First, so that a crash cannot leave an empty table that passes for a healthy one.
		if err := r.keep(func(k *shelf.Recovery) { k.Degraded = true }); err != nil {
			return r.leave(errors.Join(err, functions.RemoveTable(c.file)))
		}
	}
	if err := r.place(ctx, c); err != nil {
		err = errors.Join(err, functions.RemoveTable(c.file))
		*r.entry = Entry{Entry: functions.Entry{Table: r.entry.Table, Notes: r.entry.Notes}, Cause: r.entry.Cause, BadPages: r.entry.BadPages,
			Rungs: r.entry.Rungs, Quarantine: r.entry.Quarantine, Processes: r.entry.Processes}
		if errors.Is(err, table.ErrChanged) {
			return err // it is begun anew
		}
		return r.leave(err)
	}
	r.scene.close()
	return r.end(r.stateAfter(c))
}

func (r *recovery) stateAfter(c candidate) shelf.State {
	if c.degraded || !c.full && shelf.ReadRecovery(r.table.Path).Degraded {
		return shelf.Degraded
	}
	return shelf.Healthy
}

// end records that the table serves again. What was done comes first, so that a crash cannot leave a table that passes for healthy and of which
// nobody says what it lost.
func (r *recovery) end(state shelf.State) error {
	reason := ""
	if state == shelf.Degraded {
		reason = "no good backup was left, and the table began anew; the damaged files are in quarantine"
	}
	r.name()
	r.add(r.untold(r.table.Path))
	if err := shelf.UpdateRecovery(r.table.Path, func(k *shelf.Recovery) error { return r.ended(k, state) }); err != nil {
		return err
	}
	if err := r.Shelf.SetState(r.table.Name, state, reason); err != nil && !errors.Is(err, shelf.ErrUnknown) {
		return err
	}
	r.handed.hand(r.entry.Recoveries)
	if r.entry.Status == functions.Degraded {
		r.Logger.Log(context.Background(), LevelCritical, "the table could not be recovered and is empty now", "severity", "CRITICAL",
			"table", r.table.Name, "quarantine", r.entry.Quarantine, "lost", r.entry.Lost)
	}
	return nil
}

func (r *recovery) ended(k *shelf.Recovery, state shelf.State) error {
	k.Outcome = nil
	if state == shelf.Degraded {
		k.Degraded = true
	} else {
		k.NotDegraded(false, r.Now())
	}
	if r.entry.Method != "" {
		k.Ended = append(k.Ended, r.Now().UTC())
	}
	return r.remember(k)
}

// describe fills the report with what the candidate is.
func (r *recovery) describe(c candidate) {
	r.entry.Rungs = append(r.entry.Rungs, c.step)
	r.entry.Status, r.entry.Rung, r.entry.BackupUsed, r.entry.FileSize = c.status, c.step.Rung, c.backup, c.size
	r.entry.RecordCount, r.entry.LostSince, r.entry.Lost = sum(c.rows), c.since, c.lost
	r.entry.Detail = c.step.Detail
	if c.status == functions.Degraded {
		r.entry.Reason = "no_good_backup"
	}
	r.entry.LostRows = r.lostRows(c)
	r.entry.Cause = string(r.scene.report.Cause)
}

func sum(rows map[string]int64) (all int64) {
	for n := range maps.Values(rows) {
		all += n
	}
	return all
}

// resumed is for a table in which nothing is wrong: not any more, or it never was.
func (r *recovery) resumed(ctx context.Context, was shelf.State) error {
	kept := shelf.ReadRecovery(r.table.Path)
	var before Entry
	finished := kept.Outcome != nil && json.Unmarshal(kept.Outcome, &before) == nil
	state := shelf.Healthy
	if kept.Degraded && (!finished || before.Status != functions.Restored) {
		state = shelf.Degraded
	}
	if r.scene.short && !finished {
		// Once the table is attached, its ledger does not know any more what is missing.
		if err := r.announceLoss(); err != nil {
			return r.leave(err)
		}
	}
	if r.handle != nil {
		// Somebody may have been here before us, and have left a file without its ledger: then the check has to do.
		if err := r.handle.Attach(ctx, table.AttachOptions{LossTold: r.scene.short || finished}); err != nil {
			return r.leave(err)
		}
	}
	r.scene.close()
	switch {
	case finished:
		notes := append(before.Notes, "the recovery was interrupted when the file was in place; this is the end of it")
		*r.entry = before
		r.entry.Notes, r.entry.Quarantine = notes, r.newestQuarantine()
	case was == shelf.Healthy && r.scene.report.Cause == "":
		r.entry.Skip("sound", "nothing is wrong with the table")
	default:
		r.entry.Status, r.entry.Rung, r.entry.LostRows = functions.Repaired, RungNone, new(int64)
		r.entry.Detail = r.whyNothing()
		if r.scene.short {
			r.entry.Status, r.entry.Lost, r.entry.LostRows = functions.Restored, lostWAL, nil
		}
	}
	return r.end(state)
}

// announceLoss keeps what will be said of commits that are nowhere any more.
func (r *recovery) announceLoss() error {
	r.name()
	was := *r.entry
	r.entry.Status, r.entry.Rung, r.entry.Lost, r.entry.Detail = functions.Restored, RungNone, lostWAL, r.whyNothing()
	err := shelf.UpdateRecovery(r.table.Path, r.remember)
	*r.entry = was
	return err
}

// whyNothing says what became of the damage that was reported.
func (r *recovery) whyNothing() string {
	switch r.scene.report.Cause {
	case table.CauseJournal:
		return "nothing is wrong with the table: a journal of another one lay beside it, and was set aside"
	case table.CausePage, table.CauseHeader, table.CauseSQLite, table.CauseTruncated:
		return "nothing is wrong with the table any more: what was damaged came from the write-ahead log"
	default:
		return "nothing is wrong with the table"
	}
}

// newestQuarantine is where the damaged files went before the crash.
func (r *recovery) newestQuarantine() string {
	all, err := table.QuarantineList(filepath.Dir(r.table.Path))
	if err != nil {
		return ""
	}
	for _, q := range slices.Backward(all) { // oldest first, by table
		if q.Table == filepath.Base(r.table.Path) {
			return q.Path
		}
	}
	return ""
}

// step records a rung that led nowhere.
func (r *recovery) step(rung, backup string, started time.Time, outcome string, err error) {
	r.entry.Rungs = append(r.entry.Rungs, Step{
		Rung: rung, Backup: backup, Started: started.UTC(), DurationMS: r.Now().Sub(started).Milliseconds(), Outcome: outcome,
		Detail: err.Error(),
	})
}

// succeed records the rung that led to a sound file.
func (r *recovery) succeed(rung, backup string, started time.Time, detail, lost string) Step {
	return Step{
		Rung: rung, Backup: backup, Started: started.UTC(), DurationMS: r.Now().Sub(started).Milliseconds(), Outcome: Done, Detail: detail, Lost: lost,
	}
}
