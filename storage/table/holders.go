package table

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrUnseen: the list of processes that have a file open may lack some: other users' without the right to look into
// them, or those of other containers.
var ErrUnseen = errors.New("not every process can be looked into")

// Process has a table's file open, or its -wal, -shm or -journal.
type Process struct {
	PID       int    `json:"pid"`
	Name      string `json:"name"`       // of its program, at most 15 bytes
	ReadWrite bool   `json:"read_write"` // false: it can only read
}

func (p Process) String() string {
	if p.ReadWrite {
		return fmt.Sprintf("%s (pid %d)", p.Name, p.PID)
	}
	return fmt.Sprintf("%s (pid %d, reading)", p.Name, p.PID)
}

// Holders returns the processes, this one aside, that have the table at path open, by device and inode: whatever they call it.
// An error that is ErrUnseen comes with those that could be seen. Where a platform has no way to tell, the error is
// ErrUnsupported. Nobody holds a path that is not there, unless its -wal, -shm or -journal is.
func Holders(path string) ([]Process, error) {
	open, err := ScanOpen()
	if err != nil && !errors.Is(err, ErrUnseen) {
		return nil, fmt.Errorf("look who has %s open: %w", path, err)
	}
	return open.Holders(path), err
}

// InUseError names who has a file open. It is ErrInUse.
type InUseError struct {
	Path      string
	Processes []Process // none: they cannot be seen from here
	Own       bool      // this process itself has it open
}

func (e *InUseError) Error() string {
	var names []string
	for _, p := range e.Processes {
		names = append(names, p.String())
	}
	switch {
	case e.Own:
		names = append(names, "this process itself")
	case len(names) == 0:
		names = append(names, "one that cannot be seen from here (of another user or container, or just opening it)")
	}
	return fmt.Sprintf("%s: %v: %s", e.Path, ErrInUse, strings.Join(names, ", "))
}

func (e *InUseError) Unwrap() error { return ErrInUse }

// inUse makes the error for a file that turned out to be open somewhere else than in so many descriptors of our own.
func inUse(path string, known int) error {
	e := &InUseError{Path: path}
	open, err := ScanOpen()
	if err == nil || errors.Is(err, ErrUnseen) {
		e.Processes = open.Holders(path)
		e.Own = open.own(path) > known
	}
	return e
}

// tableFiles are the files of a table that are there.
func tableFiles(path string) []os.FileInfo {
	var files []os.FileInfo
	for _, ending := range append([]string{""}, sidecars...) {
		if info, err := os.Lstat(path + ending); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	return files
}
