package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

const (
	defaultLimit = 50
	maxLimit     = 1000
	minPrefix    = 4
)

const runColumns = `seq, id, function, job, trigger, actor, retry_of, coalesce(key, ''), event, status, reason, queued, started, ended,
	attempts, error, hint, tables, done, skipped, failed, log_dropped`

type scanner interface{ Scan(...any) error }

// scanRun reads runColumns, and what was selected beyond them into more.
func scanRun(row scanner, more ...any) (Run, error) {
	var r Run
	var event string
	var queued, started, ended int64
	into := []any{&r.Seq, &r.ID, &r.Function, &r.Job, &r.Trigger, &r.Actor, &r.RetryOf, &r.IdempotencyKey, &event, &r.Status, &r.Reason, &queued, &started, &ended,
		&r.Attempts, &r.Error, &r.Hint, &r.Counts.Tables, &r.Counts.Done, &r.Counts.Skipped, &r.Counts.Failed, &r.LogDropped}
	if err := row.Scan(append(into, more...)...); err != nil {
		return Run{}, err
	}
	r.Event = rawOrNil(event)
	r.Queued, r.Started, r.Ended = fromMillis(queued), fromMillis(started), fromMillis(ended)
	if !r.Started.IsZero() && !r.Ended.IsZero() {
		r.DurationMS = max(0, ended-started)
	}
	return r, nil
}

// Filter chooses runs or entries. Zero fields choose everything.
type Filter struct {
	Function string
	Table    string
	Job      string
	Trigger  string
	Statuses []string  // of runs for List, of entries for Entries
	Since    time.Time // queued at or after
	Until    time.Time // queued before
	Limit    int       // default 50, at most 1000
	Cursor   string    // a page's Next
}

// Page is a part of the runs, newest first.
type Page struct {
	Runs []Run  `json:"runs"`
	Next string `json:"next,omitempty"` // cursor of the page after; "" at the end
}

// ErrCursor is a cursor that no page gave.
var ErrCursor = errors.New("not a cursor of this list")

// where builds the condition of a filter on runs, and its arguments.
func (f Filter) where() (string, []any) {
	conditions, args := []string{"1"}, []any(nil)
	add := func(condition string, given bool, arg any) {
		if given {
			conditions, args = append(conditions, condition), append(args, arg)
		}
	}
	add("runs.function = ?", f.Function != "", f.Function)
	add("runs.job = ?", f.Job != "", f.Job)
	add("runs.trigger = ?", f.Trigger != "", f.Trigger)
	add("runs.queued >= ?", !f.Since.IsZero(), millis(f.Since))
	add("runs.queued < ?", !f.Until.IsZero(), millis(f.Until))
	return strings.Join(conditions, " AND "), args
}

func (f Filter) limit() int {
	if f.Limit <= 0 {
		return defaultLimit
	}
	return min(f.Limit, maxLimit)
}

func in(column string, values []string) (string, []any) {
	if len(values) == 0 {
		return "", nil
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	return " AND " + column + " IN (?" + strings.Repeat(", ?", len(values)-1) + ")", args
}

// List gives runs, newest first, without entries, phases and log.
func (s *Store) List(ctx context.Context, f Filter) (Page, error) {
	where, args := f.where()
	statuses, more := in("runs.status", f.Statuses)
	where, args = where+statuses, append(args, more...)
	if f.Table != "" {
		where, args = where+" AND EXISTS (SELECT 1 FROM entries WHERE entries.tbl = ? AND entries.run = runs.seq)", append(args, f.Table)
	}
	if f.Cursor != "" {
		seq, err := strconv.ParseInt(f.Cursor, 10, 64)
		if err != nil {
			return Page{}, fmt.Errorf("list runs after %q: %w", f.Cursor, ErrCursor)
		}
		where, args = where+" AND runs.seq < ?", append(args, seq)
	}
	limit := f.limit()
	page := Page{Runs: []Run{}}
	err := s.view(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT `+runColumns+` FROM runs WHERE `+where+` ORDER BY seq DESC LIMIT ?`, append(args, limit+1)...)
		if err != nil {
			return err
		}
		page.Runs, err = collect(rows, func() (Run, error) { return scanRun(rows) })
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("list runs: %w", err)
	}
	if len(page.Runs) > limit {
		page.Runs = page.Runs[:limit]
		page.Next = strconv.FormatInt(page.Runs[limit-1].Seq, 10)
	}
	return page, nil
}

func collect[T any](rows *sql.Rows, scan func() (T, error)) ([]T, error) {
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		v, err := scan()
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// AmbiguousError is an abbreviated id that several runs share.
type AmbiguousError struct {
	Prefix string
	IDs    []string // a few of them
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("several runs have ids like %s: %s", e.Prefix, strings.Join(e.IDs, ", "))
}

// Hint is what to do about it.
func (e *AmbiguousError) Hint() string { return "give more of the id, or its last 8 characters" }

// Find expands an abbreviated id: the beginning of an id or its end, at least 4 characters. (Ids of runs from the same
// minute begin alike; their ends are random.) No such run: fs.ErrNotExist.
func (s *Store) Find(ctx context.Context, id string) (string, error) {
	id = strings.ToLower(strings.TrimSpace(id))
	if len(id) < minPrefix || strings.Trim(id, "0123456789abcdef-") != "" {
		return "", notFound(id)
	}
	var ids []string
	err := s.view(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT id FROM runs WHERE id >= ?1 AND id < ?1 || 'g' UNION SELECT id FROM runs WHERE substr(id, -length(?1)) = ?1 LIMIT 4`, id) //nolint:sqlclosecheck // collect closes them
		if err != nil {
			return err
		}
		ids, err = collect(rows, func() (one string, err error) {
			err = rows.Scan(&one)
			return one, err
		})
		return err
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("find run %s: %w", id, err)
	case len(ids) == 0:
		return "", notFound(id)
	case len(ids) > 1:
		return "", &AmbiguousError{Prefix: id, IDs: ids}
	}
	return ids[0], nil
}

// Get is one run with entries, phases and log. The id may be abbreviated, see Find.
func (s *Store) Get(ctx context.Context, id string) (Run, error) {
	id, err := s.Find(ctx, id)
	if err != nil {
		return Run{}, err
	}
	var r Run
	err = s.view(func(db *sql.DB) error {
		// One transaction, so that the parts belong together while the run goes on.
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if r, err = scanRun(tx.QueryRowContext(ctx, `SELECT `+runColumns+` FROM runs WHERE id = ?`, id)); err != nil {
			return err
		}
		return fillRun(ctx, tx, &r)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return Run{}, notFound(id)
	}
	if err != nil {
		return Run{}, fmt.Errorf("read run %s: %w", id, err)
	}
	return r, nil
}

// Keyed is the id of the run that has an idempotency key; fs.ErrNotExist if none has.
func (s *Store) Keyed(ctx context.Context, key string) (id string, err error) {
	err = s.view(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, `SELECT id FROM runs WHERE key = ?`, key).Scan(&id)
	})
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", fmt.Errorf("no run has the key %.40q: %w", key, fs.ErrNotExist)
	case err != nil:
		return "", fmt.Errorf("find the run of a key: %w", err)
	}
	return id, nil
}

const entryColumns = `entries.tbl, entries.status, entries.reason, entries.duration_ms, entries.attempts, entries.report`

func scanEntry(row scanner, before ...any) (Entry, error) {
	var e Entry
	var report string
	err := row.Scan(append(before, &e.Table, &e.Status, &e.Reason, &e.DurationMS, &e.Attempts, &report)...)
	e.Report = rawOrNil(report)
	return e, err
}

func fillRun(ctx context.Context, tx *sql.Tx, r *Run) error {
	rows, err := tx.QueryContext(ctx, `SELECT `+entryColumns+` FROM entries WHERE run = ? ORDER BY n`, r.Seq)
	if err != nil {
		return err
	}
	if r.Entries, err = collect(rows, func() (Entry, error) { return scanEntry(rows) }); err != nil {
		return err
	}
	rows, err = tx.QueryContext(ctx, `SELECT name, tbl, attempt, started, duration_ms, bytes FROM phases WHERE run = ? ORDER BY n`, r.Seq)
	if err != nil {
		return err
	}
	r.Phases, err = collect(rows, func() (p Phase, err error) {
		var started int64
		err = rows.Scan(&p.Name, &p.Table, &p.Attempt, &started, &p.DurationMS, &p.Bytes)
		p.Started = fromMillis(started)
		return p, err
	})
	if err != nil {
		return err
	}
	rows, err = tx.QueryContext(ctx, `SELECT time, level, tbl, message, attrs FROM log WHERE run = ? ORDER BY n`, r.Seq)
	if err != nil {
		return err
	}
	r.Log, err = collect(rows, func() (l LogLine, err error) {
		var at int64
		err = rows.Scan(&at, &l.Level, &l.Table, &l.Message, &l.Attrs)
		l.Time = fromMillis(at)
		return l, err
	})
	return err
}
