package table

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Owner says who works on a table, for the message to whoever finds it locked. It decides nothing: the kernel's lock does.
type Owner struct {
	PID      int       `json:"pid"`            // 0: this process
	Host     string    `json:"host,omitempty"` // "": this machine
	Function string    `json:"function,omitempty"`
	Run      string    `json:"run,omitempty"`
	Since    time.Time `json:"since,omitzero"`
}

func (o Owner) String() string {
	var parts []string
	if o.Function != "" {
		parts = append(parts, o.Function)
	}
	if o.Run != "" {
		parts = append(parts, "run "+o.Run)
	}
	if o.PID != 0 {
		parts = append(parts, fmt.Sprintf("process %d", o.PID))
	}
	if o.Host != "" {
		parts = append(parts, "on "+o.Host)
	}
	if !o.Since.IsZero() {
		parts = append(parts, "since "+o.Since.UTC().Format(time.RFC3339))
	}
	if len(parts) == 0 {
		return "unknown"
	}
	return strings.Join(parts, ", ")
}

// LockedError names who has the lock. It is ErrLocked.
type LockedError struct {
	Path  string
	Owner Owner // zero if it cannot be told
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("lock %s: %v: %s", e.Path, ErrLocked, e.Owner)
}

func (e *LockedError) Unwrap() error { return ErrLocked }

// Held is a table's lock, held until Release or the end of the process.
type Held struct {
	path string
	lock *flock.Flock
}

// Lock takes the table's lock at once, or returns a *LockedError. It is a lock among tablekeepers, of all processes on
// this machine and of the goroutines of one, on a file in the table's StateDir; programs that only use the table do not
// know of it. The table itself may be missing, its folder may not.
func Lock(ctx context.Context, path string, owner Owner) (*Held, error) {
	return LockWait(ctx, path, owner, 0)
}

// lockPoll is how often a wait for the lock looks again.
const lockPoll = 20 * time.Millisecond

// LockWait is Lock, but waits up to wait for the lock to be free.
func LockWait(ctx context.Context, path string, owner Owner, wait time.Duration) (*Held, error) {
	real, err := realPath(path)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := MakeStateDir(real); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	file := statePath(real, ".lock")
	lock := flock.New(file, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ok, err := lock.TryLock()
	if err == nil && !ok && wait > 0 {
		ok, err = lock.TryLockContext(waiting, lockPoll)
	}
	switch {
	case ctx.Err() != nil:
		return nil, errors.Join(ctx.Err(), lock.Close())
	case ok:
		// Without its owner a lock is still a lock.
		_ = writeOwner(file, owner)
		return &Held{path: real, lock: lock}, nil
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, &LockedError{Path: path, Owner: readOwner(file)}
}

// Path returns the resolved path of the table.
func (h *Held) Path() string { return h.path }

// Release gives the lock back. The lock file stays: removing it would give two holders two different files.
func (h *Held) Release() error { return h.lock.Unlock() }

// ownerOffset leaves the first byte alone: on Windows it is the locked one, and nobody else can read it.
const ownerOffset = 1

func writeOwner(file string, owner Owner) error {
	if owner.PID == 0 {
		owner.PID = os.Getpid()
	}
	if owner.Host == "" {
		owner.Host, _ = os.Hostname()
	}
	content, err := json.Marshal(owner)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(content, '\n'), ownerOffset)
	if err == nil {
		err = f.Truncate(ownerOffset + int64(len(content)) + 1)
	}
	_, _ = f.WriteAt([]byte{'\n'}, 0) // so that the file is JSON; refused on Windows
	return errors.Join(err, f.Close())
}

// readOwner returns the zero Owner for what cannot be read: the file may be half written at this moment.
func readOwner(file string) Owner {
	f, err := os.Open(file)
	if err != nil {
		return Owner{}
	}
	defer func() { _ = f.Close() }() // only read
	const most = 4 << 10
	content, err := io.ReadAll(io.NewSectionReader(f, ownerOffset, most))
	if err != nil {
		return Owner{}
	}
	return parseOwner(content)
}

func parseOwner(content []byte) Owner {
	var owner Owner
	if json.NewDecoder(bytes.NewReader(content)).Decode(&owner) != nil {
		return Owner{}
	}
	return owner
}

// pause waits, or returns the context's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
