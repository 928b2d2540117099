package stores

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// TaskDeadLetterSchema is the SQL of the table task_dead_letter.
const TaskDeadLetterSchema = `
CREATE TABLE IF NOT EXISTS dead_letters (
  id           TEXT PRIMARY KEY,
  queue        TEXT NOT NULL,
  priority     INTEGER NOT NULL,
  payload      TEXT NOT NULL,
  attempts     INTEGER NOT NULL,
  max_attempts INTEGER NOT NULL,
  last_error   TEXT NOT NULL,
  enqueued     INTEGER NOT NULL,
  died         INTEGER NOT NULL,
  requeued     INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS dead_letters_queue ON dead_letters (queue, id);
CREATE INDEX IF NOT EXISTS dead_letters_requeued ON dead_letters (id) WHERE requeued > 0;
`

// DeadLetter is a task whose attempts are spent.
type DeadLetter struct {
	Task
	Died time.Time `json:"died"`
}

// deadLetters is the table on the other side of a move. The two tables are two files, so no transaction spans a move: the
// side that gives first marks the row, then the other side takes it (twice is the same as once), then the mark is removed
// with the row. A move cut in half is finished by its mark.
type deadLetters struct{ table Table }

// moveAlone lets no other move happen meanwhile: one that is overtaken on its way would remove what the other has just put there.
func (q *TaskQueue) moveAlone(ctx context.Context, move func() error) error {
	select {
	case q.moving <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-q.moving }()
	return move()
}

// bury moves the queue's dead tasks to the dead letters. It is called by moveAlone.
func (q *TaskQueue) bury(ctx context.Context) error {
	var dead []Task
	err := q.queue.Read(ctx, func(tx *sql.Tx) (err error) {
		dead, err = collect(ctx, tx, scanTask, `SELECT `+taskColumns+` FROM tasks WHERE state = 'dead'`)
		return err
	})
	if err != nil || len(dead) == 0 {
		return err
	}
	for _, t := range dead {
		if err := q.dead.put(ctx, t, q.now()); err != nil {
			return fmt.Errorf("bury task %s: %w", t.ID, err)
		}
		if _, err := purge(ctx, q.queue, `DELETE FROM tasks WHERE id = ? AND state = 'dead'`, t.ID); err != nil {
			return fmt.Errorf("bury task %s: %w", t.ID, err)
		}
	}
	return nil
}

// put adds a dead letter. One that is there with a mark has been in the queue again since, and died again.
func (d deadLetters) put(ctx context.Context, t Task, now time.Time) error {
	return d.table.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO dead_letters (id, queue, priority, payload, attempts, max_attempts, last_error, enqueued, died)
			VALUES (?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO UPDATE
			SET attempts = excluded.attempts, last_error = excluded.last_error, died = excluded.died, requeued = 0 WHERE requeued > 0`,
			t.ID, t.Queue, t.Priority, t.Payload, t.Attempts, t.MaxAttempts, t.LastError, millis(t.Enqueued), millis(now))
		return err
	})
}

const deadColumns = `id, queue, priority, payload, attempts, max_attempts, last_error, enqueued, died`

// DeadLetters returns the dead letters of a queue after an id, oldest first.
func (q *TaskQueue) DeadLetters(ctx context.Context, queue, after string, limit int) ([]DeadLetter, error) {
	if err := checkCursor(after); err != nil {
		return nil, err
	}
	var letters []DeadLetter
	err := q.dead.table.Read(ctx, func(tx *sql.Tx) (err error) {
		letters, err = collect(ctx, tx, scanDeadLetter, `SELECT `+deadColumns+` FROM dead_letters
			WHERE queue = ? AND requeued = 0 AND id > ? ORDER BY id LIMIT ?`, queue, after, page(limit))
		return err
	})
	return letters, err
}

// Requeue puts a dead letter back into its queue, with all its attempts before it.
func (q *TaskQueue) Requeue(ctx context.Context, id string) error {
	return q.moveAlone(ctx, func() error {
		// What is left in the queue of a task that is only half buried would be in the way.
		if err := q.bury(ctx); err != nil {
			return err
		}
		if err := q.mark(ctx, id); err != nil {
			return err
		}
		return q.revive(ctx)
	})
}

func (q *TaskQueue) mark(ctx context.Context, id string) error {
	return q.dead.table.Write(ctx, func(tx *sql.Tx) error {
		found, err := changed(tx.ExecContext(ctx, `UPDATE dead_letters SET requeued = ? WHERE id = ?`, millis(q.now()), id))
		if err == nil && !found {
			err = fmt.Errorf("dead letter %.64q: %w", id, ErrNotFound)
		}
		return err
	})
}

// revive moves dead letters that are marked back to the queue. It is called by moveAlone.
func (q *TaskQueue) revive(ctx context.Context) error {
	var marked []DeadLetter
	err := q.dead.table.Read(ctx, func(tx *sql.Tx) (err error) {
		marked, err = collect(ctx, tx, scanDeadLetter, `SELECT `+deadColumns+` FROM dead_letters WHERE requeued > 0`)
		return err
	})
	if err != nil {
		return err
	}
	for _, letter := range marked {
		if err := q.insert(ctx, letter.Task); err != nil {
			return fmt.Errorf("requeue task %s: %w", letter.ID, err)
		}
		if _, err := purge(ctx, q.dead.table, `DELETE FROM dead_letters WHERE id = ? AND requeued > 0`, letter.ID); err != nil {
			return fmt.Errorf("requeue task %s: %w", letter.ID, err)
		}
	}
	return nil
}

// Discard removes a dead letter for good.
func (q *TaskQueue) Discard(ctx context.Context, id string) error {
	n, err := purge(ctx, q.dead.table, `DELETE FROM dead_letters WHERE id = ? AND requeued = 0`, id)
	return errors.Join(err, missing(n == 0 && err == nil, "dead letter", id))
}

func missing(is bool, what, id string) error {
	if !is {
		return nil
	}
	return fmt.Errorf("%s %.64q: %w", what, id, ErrNotFound)
}

func scanDeadLetter(scan func(...any) error) (d DeadLetter, err error) {
	var enqueued, died int64
	err = scan(&d.ID, &d.Queue, &d.Priority, &d.Payload, &d.Attempts, &d.MaxAttempts, &d.LastError, &enqueued, &died)
	d.State, d.Enqueued, d.Died = TaskDead, moment(enqueued), moment(died)
	return d, err
}
