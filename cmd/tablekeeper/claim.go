package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

const (
	claimLock = "serve.lock"
	claimNote = "serve.json"
	claimSock = "serve.sock"
)

// maxSocketPath is the longest path that every platform takes for a socket (macOS: 104 bytes with the NUL).
const maxSocketPath = 100

// claim is the hold of a running service on its state folder: nobody else serves from it, and commands find it there.
type claim struct {
	Listener net.Listener
	dir      string
	lock     *flock.Flock
	temp     string // folder made for the socket, "" if it is in the state folder
}

// claimed is what the service tells of itself in the state folder.
type claimed struct {
	PID     int       `json:"pid"`
	Socket  string    `json:"socket"`
	Bucket  string    `json:"bucket"` // without credentials
	Started time.Time `json:"started_at"`
	Version string    `json:"version"`
}

// takeState claims the state folder, which is made if it is missing, and listens on a socket that only this user may open.
func takeState(ctx context.Context, dir, bucket string, now time.Time) (*claim, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state folder: %w", err)
	}
	c := &claim{dir: dir, lock: flock.New(filepath.Join(dir, claimLock))}
	ok, err := c.tryLock(ctx)
	if err != nil {
		return nil, fmt.Errorf("claim the state folder %s: %w", dir, err)
	}
	if !ok {
		by, _ := readClaim(dir)
		return nil, fail(exitLocked, "stop it first, or give this one another --state",
			"another tablekeeper (pid %d) serves from %s", by.PID, dir)
	}
	if err := c.listen(ctx, claimed{PID: os.Getpid(), Bucket: bucket, Started: now.UTC(), Version: toolVersion()}); err != nil {
		return nil, errors.Join(fmt.Errorf("open the control socket: %w", err), c.Close())
	}
	return c, nil
}

// tryLock waits a moment: whoever asks for a service has the lock while he looks. The tries are counted, not the time: on a busy machine there
// may be two or three of them in two seconds.
func (c *claim) tryLock(ctx context.Context) (ok bool, err error) {
	const tries, poll = 100, 20 * time.Millisecond
	for range tries {
		if ok, err = c.lock.TryLock(); ok || err != nil {
			return ok, err
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(poll):
		}
	}
	return false, nil
}

func (c *claim) listen(ctx context.Context, note claimed) error {
	path := filepath.Join(c.dir, claimSock)
	if len(path) > maxSocketPath {
		temp, err := os.MkdirTemp("", "tablekeeper-")
		if err != nil {
			return err
		}
		c.temp, path = temp, filepath.Join(temp, claimSock)
	}
	// We hold the lock, so a socket that is there was left by a service that died.
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	c.Listener = l
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	note.Socket = path
	data, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(c.dir, claimNote), data)
}

// writeWhole replaces a small file that readers must never see half. It need not survive a power cut.
func writeWhole(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

// Close lets go of the folder. The lock file stays: removing it would let two services lock two files of one name.
func (c *claim) Close() error {
	var errs []error
	if c.Listener != nil {
		if err := c.Listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
		if err := os.Remove(filepath.Join(c.dir, claimNote)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if c.temp != "" {
		errs = append(errs, os.RemoveAll(c.temp))
	}
	return errors.Join(append(errs, c.lock.Unlock())...)
}

// readClaim is what the service of a state folder says of itself; fs.ErrNotExist if none does.
func readClaim(dir string) (claimed, error) {
	var by claimed
	data, err := os.ReadFile(filepath.Join(dir, claimNote))
	if err != nil {
		return by, err
	}
	if err := json.Unmarshal(data, &by); err != nil {
		return by, fmt.Errorf("read %s: %w", filepath.Join(dir, claimNote), err)
	}
	return by, nil
}
