package shelf

import (
	"encoding/json"
	"errors"
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
	file, aside := beside(path, suffix), table.Temporary(path, strings.TrimPrefix(suffix, "."))
	if err := writeAside(aside, append(text, '\n'), durable); err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	if err := os.Rename(aside, file); err != nil {
		return errors.Join(err, os.Remove(aside))
	}
	if !durable {
		return nil
	}
	return syncDir(filepath.Dir(file))
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
