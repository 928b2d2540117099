package shelf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"
)

const recoverySuffix = ".recovery"

// Recovery is kept beside a table while it is being recovered, so that whoever goes on after a crash knows what was about to be
// put in place; and afterwards, so that a table that is damaged again and again is noticed.
type Recovery struct {
	// Outcome is the report of the function, as it will be if what it describes was put in place; nil while nothing is about to be.
	Outcome json.RawMessage `json:"outcome,omitempty"`
	// Degraded tells that the table was degraded before it became suspect: a repair that loses nothing does not end that.
	Degraded bool `json:"degraded,omitempty"`
	// DegradedUntil is when an operator ended that, zero if it never was so. What the table was before is kept as if it had been
	// replaced then.
	DegradedUntil time.Time `json:"degraded_until,omitzero"`
	// Untold are the reports of recoveries that are over, and that may not have been recorded yet; see Told.
	Untold []Untold `json:"untold,omitempty"`
	// Ended are the times of the last recoveries, oldest first.
	Ended []time.Time `json:"ended,omitempty"`
}

// Untold is the report of a recovery, with the name by which it is forgotten.
type Untold struct {
	Name   string          `json:"name"`
	Report json.RawMessage `json:"report"`
}

// maxEnded bounds the times that are kept, maxUntold the reports: they are recorded at once, or at the next start.
const (
	maxEnded  = 16
	maxUntold = 16
)

// ReadRecovery reads what is kept of recoveries of the table at path; the zero Recovery if there is nothing, or nothing that can be
// read: it is an aid, not the truth.
func ReadRecovery(path string) Recovery {
	r, err := readRecovery(path)
	if err != nil {
		return Recovery{}
	}
	return r
}

func readRecovery(path string) (r Recovery, err error) {
	text, err := os.ReadFile(beside(path, recoverySuffix))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, fmt.Errorf("read what is kept of recoveries of %s: %w", path, err)
	}
	return r, nil
}

// NotDegraded records the end of a degraded state, if there was one.
func (r *Recovery) NotDegraded(was bool, now time.Time) {
	if was || r.Degraded {
		r.Degraded, r.DegradedUntil = false, now.UTC()
	}
}

// Needed tells whether what the table at path was before it was replaced may be all that is left of it: the table is not well, or began
// anew, and nobody has restored or accepted it. Else since is when that ended, zero if it never was so. What cannot be read
// counts as needed.
func Needed(path string) (needed bool, since time.Time, err error) {
	c, err := ReadCondition(path)
	r, recoveryErr := readRecovery(path)
	err = errors.Join(err, recoveryErr)
	return err != nil || c.State != Healthy || r.Degraded, r.DegradedUntil, err
}

// WriteRecovery keeps it, atomically and durably.
func WriteRecovery(path string, r Recovery) error {
	if n := len(r.Ended); n > maxEnded {
		r.Ended = r.Ended[n-maxEnded:]
	}
	if n := len(r.Untold); n > maxUntold {
		r.Untold = r.Untold[n-maxUntold:]
	}
	var err error
	if r.Outcome == nil && len(r.Untold) == 0 && !r.Degraded && r.DegradedUntil.IsZero() && len(r.Ended) == 0 {
		if err = os.Remove(beside(path, recoverySuffix)); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	} else {
		err = writeJSON(path, recoverySuffix, r, true)
	}
	if err != nil {
		return fmt.Errorf("keep the progress of the recovery of %s: %w", path, err)
	}
	return nil
}

// updating serialises the changes that this process makes. Other processes take the table's lock before they recover it.
var updating sync.Mutex

// UpdateRecovery changes what is kept of recoveries of the table at path. If change fails, nothing is changed.
func UpdateRecovery(path string, change func(*Recovery) error) error {
	updating.Lock()
	defer updating.Unlock()
	kept := ReadRecovery(path)
	if err := change(&kept); err != nil {
		return err
	}
	return WriteRecovery(path, kept)
}

// Told forgets the reports with these names: they have been recorded, so that nobody has to tell of them after a crash.
func Told(path string, names []string) error {
	known := func(u Untold) bool { return slices.Contains(names, u.Name) }
	if !slices.ContainsFunc(ReadRecovery(path).Untold, known) {
		return nil
	}
	return UpdateRecovery(path, func(r *Recovery) error {
		r.Untold = slices.DeleteFunc(r.Untold, known)
		return nil
	})
}
