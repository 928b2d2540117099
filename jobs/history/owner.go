package history

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// owner is a process as far as its runs are concerned: a file that it holds locked for as long as it lives. The kernel
// lets go of the lock however the process ends; a process id would say nothing across containers or after a reboot.
type owner struct {
	name string
	held *heldFile
}

var errHeld = errors.New("held by another process")

func (s *Store) ownersDir() string { return s.path + ".owners" }

// own gives the name of this process's owner file, which it makes and locks the first time. Called under s.write.
func (s *Store) own() (string, error) {
	if s.owner != nil {
		return s.owner.name, nil
	}
	if err := os.MkdirAll(s.ownersDir(), 0o700); err != nil {
		return "", fmt.Errorf("claim runs: %w", err)
	}
	name := uuid.NewString()
	held, err := lockFile(filepath.Join(s.ownersDir(), name))
	if err != nil {
		return "", fmt.Errorf("claim runs: %w", err)
	}
	s.mu.Lock()
	s.owner = &owner{name: name, held: held}
	s.mu.Unlock()
	return name, nil
}

// disown gives up an owner file that went away with its folder: others would take this process for dead. The caller holds the store's locks.
func (s *Store) disown() {
	if s.owner == nil {
		return
	}
	if _, err := os.Stat(s.owner.held.path); errors.Is(err, fs.ErrNotExist) {
		_ = s.owner.release() // nobody sees the file any more
		s.owner = nil
	}
}

func (o *owner) release() error {
	err := o.held.release()
	if gone := os.Remove(o.held.path); !errors.Is(gone, fs.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// dead reports whether the process with this owner file is gone. The name comes from a file: it is checked.
func (s *Store) dead(name string) bool {
	if uuid.Validate(name) != nil {
		return true
	}
	path := filepath.Join(s.ownersDir(), name)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	held, err := lockFile(path)
	if err != nil {
		return false // held, or we cannot know: a live run must never be called lost
	}
	_ = held.release()
	_ = os.Remove(path) // a file that stays behind is found dead again
	return true
}

// Reap finds runs whose process died in the middle of them and marks them lost. Runs of live processes, this one
// included, are left alone. The runs are returned without their entries.
func (s *Store) Reap(ctx context.Context) ([]Run, error) {
	open, err := s.openRuns(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for lost runs: %w", err)
	}
	verdicts := map[string]bool{}
	var lost []Run
	for _, r := range open {
		dead, known := verdicts[r.owner]
		if !known {
			dead = s.dead(r.owner)
			verdicts[r.owner] = dead
		}
		if !dead {
			continue
		}
		marked, err := s.markLost(ctx, r.run, r.owner)
		if err != nil {
			return lost, fmt.Errorf("mark run %s lost: %w", r.run.ID, err)
		}
		if marked.Status == Lost {
			lost = append(lost, marked)
		}
	}
	return lost, nil
}

type ownedRun struct {
	run   Run
	owner string
}

func (s *Store) openRuns(ctx context.Context) ([]ownedRun, error) {
	s.mu.RLock()
	mine := ""
	if s.owner != nil {
		mine = s.owner.name
	}
	s.mu.RUnlock()
	var open []ownedRun
	err := s.view(func(db *sql.DB) error {
		rows, err := db.QueryContext(ctx, `SELECT `+runColumns+`, owner FROM runs WHERE ended = 0 AND owner <> ?`, mine)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var o ownedRun
			if o.run, err = scanRun(rows, &o.owner); err != nil {
				return err
			}
			open = append(open, o)
		}
		return rows.Err()
	})
	return open, err
}

// What a lost run says.
const (
	lostError = "the process that worked on it ended in the middle of it"
	lostHint  = "look at the tables it had begun; the next scheduled run takes them up again, or invoke it by hand"
)

func (s *Store) markLost(ctx context.Context, r Run, owner string) (Run, error) {
	r.Status, r.Error, r.Hint, r.Ended = Lost, lostError, lostHint, s.opts.Now()
	if r.Ended.Before(r.Queued) {
		r.Ended = r.Queued // the clock was set back
	}
	err := s.update(ctx, func(tx *sql.Tx) error {
		counted := func(condition string) string {
			return `(SELECT count(*) FROM entries WHERE run = runs.seq AND status ` + condition + `)`
		}
		err := tx.QueryRowContext(ctx, `UPDATE runs SET status = ?, ended = ?, error = ?, hint = ?,
			done = `+counted(`NOT IN ('pending', 'running', 'failed', 'degraded', 'skipped')`)+`, skipped = `+counted(`= 'skipped'`)+`,
			failed = `+counted(`IN ('pending', 'running', 'failed', 'degraded')`)+` WHERE id = ? AND owner = ? AND ended = 0 RETURNING done, skipped, failed`,
			Lost, millis(r.Ended), r.Error, r.Hint, r.ID, owner).Scan(&r.Counts.Done, &r.Counts.Skipped, &r.Counts.Failed)
		if errors.Is(err, sql.ErrNoRows) {
			r.Status = "" // another process has marked it meanwhile
			return nil
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE entries SET status = ?, reason = 'lost' WHERE run = ? AND status IN (?, ?)`, EntryLost, r.Seq, EntryPending, EntryRunning)
		return err
	})
	return r, err
}
