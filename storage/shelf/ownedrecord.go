package shelf

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
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
	// Ended are the times of the last recoveries, oldest first.
	Ended []time.Time `json:"ended,omitempty"`
}

// maxEnded bounds the times that are kept.
const maxEnded = 16

// ReadRecovery reads what is kept of recoveries of the table at path; the zero Recovery if there is nothing, or nothing that can be
// read: it is an aid, not the truth.
func ReadRecovery(path string) Recovery {
	var r Recovery
	text, err := os.ReadFile(beside(path, recoverySuffix))
	if err != nil || json.Unmarshal(text, &r) != nil {
		return Recovery{}
	}
	return r
}

// WriteRecovery keeps it, atomically and durably.
func WriteRecovery(path string, r Recovery) error {
	if n := len(r.Ended); n > maxEnded {
		r.Ended = r.Ended[n-maxEnded:]
	}
	var err error
	if r.Outcome == nil && !r.Degraded && len(r.Ended) == 0 {
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
