package shelf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tablekeeper/storage/table"
)

// State is how a table is, as far as is known.
type State string

// The states: healthy -> suspect -> recovering -> healthy or degraded. A degraded table was started anew, empty; an
// operator ends that by a restore or by accepting it.
const (
	Healthy    State = "healthy"
	Suspect    State = "suspect"
	Recovering State = "recovering"
	Degraded   State = "degraded"
)

// ParseState reads a state; "" is healthy.
func ParseState(s string) (State, error) {
	switch state := State(s); state {
	case "":
		return Healthy, nil
	case Healthy, Suspect, Recovering, Degraded:
		return state, nil
	}
	return "", fmt.Errorf("state %q: want healthy, suspect, recovering or degraded", s)
}

// Condition is a state with why and since when.
type Condition struct {
	State  State     `json:"state"`
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`
}

const (
	stateSuffix  = ".state"
	recordSuffix = ".backup"
)

// beside is the file of the given suffix that belongs to the table at path.
func beside(path, suffix string) string {
	return filepath.Join(table.StateDir(path), filepath.Base(path)+suffix)
}

// ReadCondition reads the state kept beside the table at path. No file means healthy; one that cannot be understood
// means suspect, and is an error too: better one check too many.
func ReadCondition(path string) (Condition, error) {
	text, err := os.ReadFile(beside(path, stateSuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return Condition{State: Healthy}, nil
	}
	var c Condition
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err == nil {
		c.State, err = ParseState(string(c.State))
	}
	if err != nil {
		return Condition{State: Suspect, Reason: "its state file cannot be read"}, fmt.Errorf("read the state of %s: %w", path, err)
	}
	return c, nil
}

// writeCondition keeps a state beside the table at path, atomically and durably. That of a healthy table is no file.
func writeCondition(path string, c Condition) error {
	if c.State == Healthy {
		err := os.Remove(beside(path, stateSuffix))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("write the state of %s: %w", path, err)
		}
		return nil
	}
	if err := writeJSON(path, stateSuffix, c, true); err != nil {
		return fmt.Errorf("write the state of %s: %w", path, err)
	}
	return nil
}

// Record is what is known of the newest backup of a table, kept beside it so that an unchanged table is not read again
// and a lost one is missed. It is a memory, not the truth: that is the bucket. Losing it costs one reading of the table.
type Record struct {
	Format     int       `json:"format"`
	Table      string    `json:"table"`
	Token      string    `json:"token,omitempty"`       // of the file whose content the backup has; "": unknown
	Bucket     string    `json:"bucket"`                // which bucket, without credentials
	Key        string    `json:"key"`                   // of the backup
	Size       int64     `json:"size"`                  // bytes stored
	SHA256     string    `json:"sha256"`                // of the database inside, hex
	SumsSHA256 string    `json:"sums_sha256,omitempty"` // of its page sums, hex
	State      string    `json:"state,omitempty"`       // of the table then: "" or "degraded"
	Created    time.Time `json:"created"`               // when the backup was made
	Confirmed  time.Time `json:"confirmed"`             // when the table was last seen to equal it
	Proved     time.Time `json:"proved,omitzero"`       // when a drill last restored it
	LastProved time.Time `json:"last_proved,omitzero"`  // when a drill last restored a backup before it
	Distrust   string    `json:"distrust,omitempty"`    // why it must not be relied on, "" if nothing is known
}

const recordFormat = 1

// ReadRecord reads the record of the table at path; fs.ErrNotExist if there is none.
func ReadRecord(path string) (Record, error) {
	text, err := os.ReadFile(beside(path, recordSuffix))
	if err != nil {
		return Record{}, fmt.Errorf("read the backup record of %s: %w", path, err)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return Record{}, fmt.Errorf("read the backup record of %s: %w", path, err)
	}
	if r.Format != recordFormat {
		return Record{}, fmt.Errorf("read the backup record of %s: format %d is not known here (want %d)", path, r.Format, recordFormat)
	}
	return r, nil
}

// WriteRecord keeps the record of the table at path, atomically. It waits for no disk, since a thousand unchanged tables are
// confirmed one after the other; a record that a power cut damages is one that cannot be read.
func WriteRecord(path string, r Record) error {
	r.Format = recordFormat
	if err := writeJSON(path, recordSuffix, r, false); err != nil {
		return fmt.Errorf("write the backup record of %s: %w", path, err)
	}
	return nil
}

// ForgetRecord removes the record of the table at path, so that a table that was deleted on purpose is no longer missed.
func ForgetRecord(path string) error {
	if err := os.Remove(beside(path, recordSuffix)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the backup record of %s: %w", path, err)
	}
	return nil
}

// kept lists what a state folder holds: the base names of the tables that have a state and those that have a record.
type kept struct{ states, records map[string]bool }

func keptIn(dir string) (kept, error) {
	k := kept{states: map[string]bool{}, records: map[string]bool{}}
	entries, err := os.ReadDir(filepath.Join(dir, table.StateFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return k, fmt.Errorf("read what is kept of the tables in %s: %w", dir, err)
	}
	for _, entry := range entries {
		if base, ok := strings.CutSuffix(entry.Name(), stateSuffix); ok {
			k.states[base] = true
		}
		if base, ok := strings.CutSuffix(entry.Name(), recordSuffix); ok {
			k.records[base] = true
		}
	}
	return k, nil
}
