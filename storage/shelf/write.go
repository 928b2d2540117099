package shelf

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tablekeeper/storage/table"
)

// writeJSON makes the file of the given suffix beside the table at path hold v, or what it held before: written aside and
// renamed; if it is to be durable, the file and the folder are fsynced. What a killed write leaves aside, table.Resume
// removes.
func writeJSON(path, suffix string, v any, durable bool) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := table.MakeStateDir(path); err != nil {
		return err
	}
	// Whoever begins to work on the table removes temporary files of it, and some of this is written without the table's lock.
	const tries = 5
	for range tries {
		if err = place(path, suffix, append(text, '\n'), durable); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil || !durable {
		return err
	}
	return syncDir(filepath.Dir(beside(path, suffix)))
}

func place(path, suffix string, text []byte, durable bool) error {
	aside := table.Temporary(path, strings.TrimPrefix(suffix, "."))
	err := writeAside(aside, text, durable)
	if err == nil {
		err = os.Rename(aside, beside(path, suffix))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(os.Remove(aside)))
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func writeAside(file string, text []byte, durable bool) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}
