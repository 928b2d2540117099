package stores

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// TaskQueueSchema is the SQL of the table task_queue.
const TaskQueueSchema = `
CREATE TABLE IF NOT EXISTS tasks (
  id           TEXT PRIMARY KEY,
  queue        TEXT NOT NULL,
  priority     INTEGER NOT NULL,
  payload      TEXT NOT NULL,
  state        TEXT NOT NULL CHECK (state IN ('ready', 'leased', 'done', 'dead')),
  attempts     INTEGER NOT NULL DEFAULT 0,
  max_attempts INTEGER NOT NULL,
  not_before   INTEGER NOT NULL,
  worker       TEXT NOT NULL DEFAULT '',
  lease        TEXT NOT NULL DEFAULT '',
  lease_until  INTEGER NOT NULL DEFAULT 0,
  result       TEXT NOT NULL DEFAULT '',
  last_error   TEXT NOT NULL DEFAULT '',
  enqueued     INTEGER NOT NULL,
  updated      INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tasks_ready ON tasks (queue, priority DESC, id) WHERE state = 'ready';
CREATE INDEX IF NOT EXISTS tasks_leased ON tasks (lease_until) WHERE state = 'leased';
CREATE INDEX IF NOT EXISTS tasks_dead ON tasks (id) WHERE state = 'dead';
`

// TaskState is where a task stands.
type TaskState string

// A task is ready until a worker claims it, leased while the worker has it, then done; or dead once its attempts are spent.
const (
	TaskReady  TaskState = "ready"
	TaskLeased TaskState = "leased"
	TaskDone   TaskState = "done"
	TaskDead   TaskState = "dead"
)

// Task is a piece of work. Higher priorities are claimed first, among equals the older one.
type Task struct {
	ID          string    `json:"id"`
	Queue       string    `json:"queue"`
	Priority    int       `json:"priority"`
	Payload     string    `json:"payload"`
	State       TaskState `json:"state"`
	Attempts    int       `json:"attempts"`
	MaxAttempts int       `json:"max_attempts"`
	NotBefore   time.Time `json:"not_before,omitzero"`
	Worker      string    `json:"worker,omitempty"`
	Lease       string    `json:"lease,omitempty"`
	LeaseUntil  time.Time `json:"lease_until,omitzero"`
	Result      string    `json:"result,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	Enqueued    time.Time `json:"enqueued"`
}

// Bounds of a lease and of the attempts a task may ask for.
const (
	DefaultLease       = 30 * time.Second
	MaxLease           = 12 * time.Hour
	DefaultMaxAttempts = 3
	MaxMaxAttempts     = 100
)

// TaskQueue hands each task to one worker at a time, for the length of a lease. A worker that dies loses its lease, and the
// task is ready again; a task whose attempts are spent goes to the dead letters, from where it can be put back.
type TaskQueue struct {
	queue  Table
	dead   deadLetters
	now    func() time.Time
	moving chan struct{} // has one while tasks move between the two tables; see moveAlone
}

// NewTaskQueue opens the store on the tables task_queue and task_dead_letter, and finishes moves between the two that a
// crash cut in half.
func NewTaskQueue(ctx context.Context, queue, deadLetter Table, now func() time.Time) (*TaskQueue, error) {
	q := &TaskQueue{queue: queue, dead: deadLetters{deadLetter}, now: now, moving: make(chan struct{}, 1)}
	err := errors.Join(define(ctx, queue, TaskQueueSchema), define(ctx, deadLetter, TaskDeadLetterSchema))
	if err == nil {
		err = q.moveAlone(ctx, func() error { return errors.Join(q.bury(ctx), q.revive(ctx)) })
	}
	if err != nil {
		return nil, fmt.Errorf("open task queue: %w", err)
	}
	return q, nil
}

const taskColumns = `id, queue, priority, payload, state, attempts, max_attempts, not_before, worker, lease, lease_until, result, last_error, enqueued`

// Enqueue adds a task. A task whose id is there already is not added again.
func (q *TaskQueue) Enqueue(ctx context.Context, t Task) (Task, error) {
	if err := checkNames("queue", t.Queue); err != nil {
		return Task{}, err
	}
	if err := errors.Join(checkBody("payload", t.Payload), checkTime("not_before", t.NotBefore)); err != nil {
		return Task{}, err
	}
	if t.MaxAttempts == 0 {
		t.MaxAttempts = DefaultMaxAttempts
	}
	if t.MaxAttempts < 0 || t.MaxAttempts > MaxMaxAttempts {
		return Task{}, fmt.Errorf("%w: max_attempts %d: 1 to %d are allowed", ErrInvalid, t.MaxAttempts, MaxMaxAttempts)
	}
	var err error
	if t.ID, err = identify(t.ID); err != nil {
		return Task{}, err
	}
	fresh := Task{ID: t.ID, Queue: t.Queue, Priority: t.Priority, Payload: t.Payload, State: TaskReady, MaxAttempts: t.MaxAttempts,
		NotBefore: t.NotBefore, Enqueued: q.now().UTC().Truncate(time.Millisecond)}
	return fresh, q.insert(ctx, fresh)
}

func (q *TaskQueue) insert(ctx context.Context, t Task) error {
	return q.queue.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO tasks (id, queue, priority, payload, state, max_attempts, not_before, enqueued, updated)
			VALUES (?,?,?,?,'ready',?,?,?,?) ON CONFLICT (id) DO NOTHING`,
			t.ID, t.Queue, t.Priority, t.Payload, t.MaxAttempts, millis(t.NotBefore), millis(t.Enqueued), millis(q.now()))
		return err
	})
}

// Claim leases the next task of a queue to a worker; ErrNotFound if none is ready. A lease of 0 is DefaultLease.
func (q *TaskQueue) Claim(ctx context.Context, queue, worker string, lease time.Duration) (Task, error) {
	if err := checkNames("queue", queue, "worker", worker); err != nil {
		return Task{}, err
	}
	if lease == 0 {
		lease = DefaultLease
	}
	if lease < 0 || lease > MaxLease {
		return Task{}, fmt.Errorf("%w: lease of %s: up to %s is allowed", ErrInvalid, lease, MaxLease)
	}
	if err := q.expire(ctx); err != nil {
		return Task{}, err
	}
	token := rand.Text()
	var task Task
	err := q.queue.Write(ctx, func(tx *sql.Tx) (err error) {
		now := q.now()
		task, err = scanTask(tx.QueryRowContext(ctx, `UPDATE tasks SET state = 'leased', attempts = attempts + 1, worker = ?, lease = ?, lease_until = ?, updated = ?
			WHERE id = (SELECT id FROM tasks WHERE queue = ? AND state = 'ready' AND not_before <= ? ORDER BY priority DESC, id LIMIT 1)
			RETURNING `+taskColumns, worker, token, millis(now.Add(lease)), millis(now), queue, millis(now)).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("a ready task in queue %q: %w", queue, ErrNotFound)
		}
		return err
	})
	return task, err
}

// Extend lengthens a lease to now + lease; ErrConflict if it is no longer the caller's.
func (q *TaskQueue) Extend(ctx context.Context, id, lease string, by time.Duration) (time.Time, error) {
	if by <= 0 || by > MaxLease {
		return time.Time{}, fmt.Errorf("%w: lease of %s: up to %s is allowed", ErrInvalid, by, MaxLease)
	}
	until := q.now().Add(by).UTC().Truncate(time.Millisecond)
	return until, q.leased(ctx, id, lease, `UPDATE tasks SET lease_until = ?3, updated = ?4 WHERE id = ?1 AND lease = ?2 AND state = 'leased'`,
		millis(until), millis(q.now()))
}

// Complete ends a task with its result; ErrConflict if the lease is no longer the caller's.
func (q *TaskQueue) Complete(ctx context.Context, id, lease, result string) error {
	if err := checkBody("result", result); err != nil {
		return err
	}
	return q.leased(ctx, id, lease, `UPDATE tasks SET state = 'done', result = ?3, lease = '', lease_until = 0, updated = ?4
		WHERE id = ?1 AND lease = ?2 AND state = 'leased'`, result, millis(q.now()))
}

// Fail ends an attempt: the task is ready again after retryAfter, or a dead letter if that was its last attempt.
func (q *TaskQueue) Fail(ctx context.Context, id, lease, cause string, retryAfter time.Duration) error {
	if err := checkBody("error", cause); err != nil {
		return err
	}
	err := q.leased(ctx, id, lease, `UPDATE tasks SET state = CASE WHEN attempts >= max_attempts THEN 'dead' ELSE 'ready' END,
		last_error = ?3, not_before = ?4, lease = '', lease_until = 0, worker = '', updated = ?5 WHERE id = ?1 AND lease = ?2 AND state = 'leased'`,
		cause, millis(q.now().Add(retryAfter)), millis(q.now()))
	if err != nil {
		return err
	}
	return q.moveAlone(ctx, func() error { return q.bury(ctx) })
}

// leased runs an update that only the holder of a lease may make.
func (q *TaskQueue) leased(ctx context.Context, id, lease, update string, args ...any) error {
	return q.queue.Write(ctx, func(tx *sql.Tx) error {
		held, err := changed(tx.ExecContext(ctx, update, append([]any{id, lease}, args...)...))
		if err == nil && !held {
			err = fmt.Errorf("%w: the lease of task %.64q has ended or belongs to another worker", ErrConflict, id)
		}
		return err
	})
}

// Get returns a task of the queue, done ones too until they are purged.
func (q *TaskQueue) Get(ctx context.Context, id string) (Task, error) {
	var task Task
	err := q.queue.Read(ctx, func(tx *sql.Tx) (err error) {
		task, err = scanTask(tx.QueryRowContext(ctx, `SELECT `+taskColumns+` FROM tasks WHERE id = ?`, id).Scan)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("task %.64q: %w", id, ErrNotFound)
		}
		return err
	})
	return task, err
}

// Counts returns how many tasks of a queue are in each state.
func (q *TaskQueue) Counts(ctx context.Context, queue string) (map[TaskState]int, error) {
	counts := map[TaskState]int{}
	err := q.queue.Read(ctx, func(tx *sql.Tx) error {
		clear(counts)
		rows, err := tx.QueryContext(ctx, `SELECT state, count(*) FROM tasks WHERE queue = ? GROUP BY state`, queue)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var state TaskState
			var n int
			if err := rows.Scan(&state, &n); err != nil {
				return err
			}
			counts[state] = n
		}
		return rows.Err()
	})
	return counts, err
}

// Purge removes tasks that were done before a time and returns how many.
func (q *TaskQueue) Purge(ctx context.Context, before time.Time) (int, error) {
	return purge(ctx, q.queue, `DELETE FROM tasks WHERE state = 'done' AND updated < ?`, millis(before))
}

// expire takes back leases that have ended.
func (q *TaskQueue) expire(ctx context.Context) error {
	now := millis(q.now())
	var due bool
	err := q.queue.Read(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM tasks WHERE state = 'leased' AND lease_until <= ?)
			OR EXISTS (SELECT 1 FROM tasks WHERE state = 'dead')`, now).Scan(&due)
	})
	if err != nil || !due {
		return err
	}
	err = q.queue.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE tasks SET state = CASE WHEN attempts >= max_attempts THEN 'dead' ELSE 'ready' END,
			last_error = 'the lease of ' || worker || ' ended', lease = '', lease_until = 0, worker = '', updated = ?1
			WHERE state = 'leased' AND lease_until <= ?1`, now)
		return err
	})
	if err != nil {
		return err
	}
	return q.moveAlone(ctx, func() error { return q.bury(ctx) })
}

func scanTask(scan func(...any) error) (t Task, err error) {
	var notBefore, leaseUntil, enqueued int64
	err = scan(&t.ID, &t.Queue, &t.Priority, &t.Payload, &t.State, &t.Attempts, &t.MaxAttempts, &notBefore, &t.Worker, &t.Lease, &leaseUntil,
		&t.Result, &t.LastError, &enqueued)
	t.NotBefore, t.LeaseUntil, t.Enqueued = moment(notBefore), moment(leaseUntil), moment(enqueued)
	return t, err
}
