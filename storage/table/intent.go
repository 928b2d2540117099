package table

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrIntent: an interrupted swap left an intent file that this program does not understand: damaged, or of a newer
// version. Nothing was touched.
var ErrIntent = errors.New("the intent file of an interrupted swap cannot be read")

// ErrInterrupted: an earlier swap of the table was interrupted. Resume settles it.
var ErrInterrupted = errors.New("an earlier swap was interrupted and has to be resumed first")

// intent says what a swap is about to do. It is written once, before the first change, and removed after the last; how far
// the swap came is told by the files themselves.
type intent struct {
	Format     int    `json:"format"`
	Operation  string `json:"operation"`
	Table      string `json:"table"`         // base name
	New        string `json:"new"`           // name of the new file, relative to the table's folder
	NewInode   uint64 `json:"new_inode"`     // inodes, not devices: those may change their numbers at a reboot
	OldInode   uint64 `json:"old_inode"`     // 0: the table did not exist
	Quarantine string `json:"quarantine"`    // name of the folder for the old file
	PID        int    `json:"pid,omitempty"` // for the reader
}

const (
	intentFormat = 1
	intentMost   = 64 << 10 // bytes
)

func (in intent) write(d disk, path string) error {
	content, err := json.Marshal(in)
	if err != nil {
		return err
	}
	err = d.publish(statePath(path, ".intent"), Temporary(path, "intent"), append(content, '\n'), 0o644)
	if err != nil {
		return fmt.Errorf("write the intent: %w", err)
	}
	return nil
}

// readIntent returns nil if there is none.
func readIntent(path string) (*intent, error) {
	file := statePath(path, ".intent")
	info, err := os.Lstat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > intentMost {
		return nil, fmt.Errorf("%s: %w: it is not a small regular file", file, ErrIntent)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	in, err := parseIntent(content, filepath.Base(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; look at it, at the table and at its quarantine, then remove it", file, err)
	}
	return &in, nil
}

// parseIntent believes nothing that could lead outside the table's folder.
func parseIntent(content []byte, base string) (intent, error) {
	var version struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(content, &version); err != nil {
		return intent{}, fmt.Errorf("%w: %w", ErrIntent, err)
	}
	if version.Format != intentFormat {
		return intent{}, fmt.Errorf("%w: its format is %d, this program knows %d", ErrIntent, version.Format, intentFormat)
	}
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	var in intent
	if err := decoder.Decode(&in); err != nil {
		return intent{}, fmt.Errorf("%w: %w", ErrIntent, err)
	}
	_, _, known := parseQuarantineName(in.Quarantine)
	switch dir, file := filepath.Split(in.New); {
	case in.Operation != "swap":
		return intent{}, fmt.Errorf("%w: unknown operation %q", ErrIntent, in.Operation)
	case in.Table != base:
		return intent{}, fmt.Errorf("%w: it is of %q", ErrIntent, in.Table)
	case !filepath.IsLocal(in.New) || file == "" || file == base || dir != "" && dir != StateFolder+string(filepath.Separator):
		return intent{}, fmt.Errorf("%w: bad name of a new file: %q", ErrIntent, in.New)
	case !known:
		return intent{}, fmt.Errorf("%w: bad name in quarantine: %q", ErrIntent, in.Quarantine)
	case in.NewInode == 0 || in.NewInode == in.OldInode:
		return intent{}, fmt.Errorf("%w: it names no new file", ErrIntent)
	}
	return in, nil
}
