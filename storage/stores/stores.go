// Package stores keeps what agents tell each other: six stores on nine owned tables (a table is one SQLite file).
//
//	mailbox    agent_mailbox                      send, receive, acknowledge
//	channels   agent_channels, channel_history    create, subscribe, publish, read on
//	taskqueue  task_queue, task_dead_letter       enqueue, claim with a lease, complete, fail, requeue
//	threads    thread_messages, thread_replies    start, reply, read
//	history    message_history                    append, query by time and party
//	config     config                             get, set with versions, watch
//
// A store says what is kept and in which order; the owned table beneath it (storage/table) decides how it is made durable and
// what happens when it is damaged. HTTP is in infra/hub.
//
// Every id is a UUIDv7 (RFC 9562): ids sort by the time of their making, and an id that was handed out is not handed out
// again after a table went back to an older backup. So a reader's cursor, which is the id it saw last, stays valid.
package stores

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// Table is the owned table beneath a store. Both calls run fn in one transaction, which is committed if fn returns nil;
// fn may run more than once, so it sets what it returns rather than adding to it.
type Table interface {
	Read(ctx context.Context, fn func(*sql.Tx) error) error
	Write(ctx context.Context, fn func(*sql.Tx) error) error
}

// Limits on what callers hand in.
const (
	MaxBody = 1 << 20 // bytes of a body, payload or value
	MaxPage = 1000    // rows of one answer
)

var (
	// ErrInvalid marks what the caller has to change: a name, a size, a missing field.
	ErrInvalid = errors.New("invalid")
	// ErrConflict says that the state is not the one the caller stated: another version, a lost lease, a name that is taken.
	ErrConflict = errors.New("conflict")
	// ErrNotFound is fs.ErrNotExist.
	ErrNotFound = fs.ErrNotExist
)

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:@/-]{0,127}$`)

// checkNames takes pairs of a field and its value; each value must be a name: 1 to 128 letters, digits and ._:@/-, the
// first a letter or a digit.
func checkNames(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if !namePattern.MatchString(pairs[i+1]) {
			return fmt.Errorf("%w: %s %.140q: 1 to 128 letters, digits or ._:@/- are allowed", ErrInvalid, pairs[i], pairs[i+1])
		}
	}
	return nil
}

func checkBody(field, body string) error {
	if len(body) > MaxBody {
		return fmt.Errorf("%w: %s has %d bytes, the limit is %d", ErrInvalid, field, len(body), MaxBody)
	}
	return nil
}

// lastYear is the last that a time in an answer may have: RFC 3339 knows no later one.
const lastYear = 9999

// checkTime accepts the zero time and those that the tables keep and an answer can hold.
func checkTime(field string, at time.Time) error {
	if at.IsZero() || at.UnixMilli() > 0 && at.UTC().Year() <= lastYear {
		return nil
	}
	return fmt.Errorf("%w: %s: times from 1970 to %d are allowed", ErrInvalid, field, lastYear)
}

// page clamps the number of rows asked for: 0 means 100.
func page(limit int) int {
	switch {
	case limit <= 0:
		return 100
	case limit > MaxPage:
		return MaxPage
	}
	return limit
}

// identify returns id if the caller chose one, so that a repeated call does nothing twice, else a new one.
func identify(id string) (string, error) {
	if id == "" {
		made, err := uuid.NewV7()
		return made.String(), err
	}
	if _, err := uuid.Parse(id); err != nil {
		return "", fmt.Errorf("%w: id %.64q is not a UUID", ErrInvalid, id)
	}
	return id, nil
}

// nextID makes an id that sorts after every id there is, whatever the clock says; newest is a query for the largest one. It
// runs inside the write transaction: writers take turns, so ids become visible in their order and a cursor never passes one
// that is still to come.
func nextID(ctx context.Context, tx *sql.Tx, newest string) (string, error) {
	made, err := uuid.NewV7()
	if err != nil {
		return "", err
	}
	var last sql.NullString
	if err := tx.QueryRowContext(ctx, newest).Scan(&last); err != nil {
		return "", err
	}
	if made.String() > last.String {
		return made.String(), nil
	}
	return successor(last.String)
}

// successor adds one to the random part of a UUIDv7: its last seven bytes, 56 of the 62 bits of rand_b.
func successor(id string) (string, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return "", fmt.Errorf("%w: id %.64q is not a UUID", ErrInvalid, id)
	}
	for i := len(u) - 1; i > 8; i-- {
		u[i]++
		if u[i] != 0 {
			return u.String(), nil
		}
	}
	return "", fmt.Errorf("no id is left after %s", id)
}

// checkCursor accepts "" (from the beginning) and ids.
func checkCursor(after string) error {
	if after == "" {
		return nil
	}
	_, err := identify(after)
	return err
}

// millis and moment convert between times and what the tables hold: milliseconds since 1970, 0 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func moment(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// collect runs a query and scans each row with one.
func collect[T any](ctx context.Context, tx *sql.Tx, one func(scan func(...any) error) (T, error), query string, args ...any) ([]T, error) {
	rows, err := tx.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []T{}
	for rows.Next() {
		item, err := one(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, item)
	}
	return all, rows.Err()
}

// changed tells whether a statement touched a row.
func changed(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// define creates the SQL tables of a store where they are missing.
func define(ctx context.Context, t Table, schema string) error {
	return t.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, schema)
		return err
	})
}
