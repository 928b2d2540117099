package table

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// StateFolder is the name of the folder, beside the tables, that has their locks, intents and quarantine.
const StateFolder = ".tablekeeper"

// sidecars are the files that SQLite keeps beside a database (https://sqlite.org/tempfiles.html).
var sidecars = []string{"-wal", "-journal", "-shm"}

// StateDir returns the folder of the locks, intents, temporary files and quarantine of the table at path: on the table's
// own file system, and the same whoever works on it. It does not make it. Give it a resolved path: a symbolic link's
// folder is not that of its target.
func StateDir(path string) string { return filepath.Join(filepath.Dir(path), StateFolder) }

func statePath(path, ending string) string {
	return filepath.Join(StateDir(path), filepath.Base(path)+ending)
}

// Temporary returns a new name for a temporary file of the table at path, on the same file system. What bears such a name,
// and its -wal, -shm and -journal, is removed by Resume if it is left over. purpose is of a-z.
func Temporary(path, purpose string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails: it would rather crash the program
	return statePath(path, "."+purpose+"-"+hex.EncodeToString(random[:])+".tmp")
}

const temporaryPattern = `\.[a-z]+-[0-9a-f]{16}\.tmp(?:-wal|-shm|-journal)?`

var temporaryEnding = regexp.MustCompile(`^` + temporaryPattern + `$`)

// isTemporary tells whether a name in the state folder is a temporary file of the table with this base name.
func isTemporary(name, base string) bool {
	ending, ok := strings.CutPrefix(name, base)
	return ok && temporaryEnding.MatchString(ending)
}

// MakeStateDir makes the state folder of a table if it is not there, durably.
func MakeStateDir(path string) error { return makeStateDir(disk{}, path) }

func makeStateDir(d disk, path string) error {
	dir := StateDir(path)
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		return nil
	}
	if err := d.mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make the folder for the table's lock: %w", err)
	}
	return nil
}

// realPath resolves symbolic links, so that a table has one lock whatever it is called. The file may be missing, its
// folder may not.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the folder %s is not there, make it first: %w", filepath.Dir(path), fs.ErrNotExist)
	}
	if err != nil {
		return "", err
	}
	real = filepath.Join(dir, filepath.Base(path))
	if info, err := os.Lstat(real); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fmt.Errorf("%s is a symbolic link to a file that is not there: %w", path, fs.ErrNotExist)
	}
	return real, nil
}
