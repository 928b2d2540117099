package history

import (
	"encoding/json"
	"time"
)

// Status is the state of a run.
type Status string

// The statuses of a run. Queued and running are the only ones that change.
const (
	Queued    Status = "queued"
	Running   Status = "running"
	Succeeded Status = "succeeded" // no table failed; single tables may have been skipped
	Failed    Status = "failed"    // every table failed, or the run could not begin
	Partial   Status = "partial"   // some tables failed
	Skipped   Status = "skipped"   // nothing was tried: overlap, or every table locked by others
	Cancelled Status = "cancelled"
	Lost      Status = "lost" // the process died, or had to stop, in the middle of it
	TimedOut  Status = "timed_out"
)

// Statuses lists every status, for checks of input.
func Statuses() []Status {
	return []Status{Queued, Running, Succeeded, Failed, Partial, Skipped, Cancelled, Lost, TimedOut}
}

// Ended reports whether a run of this status is over.
func (s Status) Ended() bool { return s != Queued && s != Running && s != "" }

// Run is the record of one invocation.
type Run struct {
	Seq            int64           `json:"seq"` // order of acceptance
	ID             string          `json:"id"`  // UUIDv7
	Function       string          `json:"function"`
	Job            string          `json:"job,omitempty"` // schedule that fired it
	Trigger        string          `json:"trigger"`
	Actor          string          `json:"actor,omitempty"`
	RetryOf        string          `json:"retry_of,omitempty"`
	IdempotencyKey string          `json:"idempotency_key,omitempty"`
	Event          json.RawMessage `json:"event"`
	Status         Status          `json:"status"`
	Reason         string          `json:"reason,omitempty"` // of a skipped run: overlap, locked
	Queued         time.Time       `json:"queued_at"`
	Started        time.Time       `json:"started_at,omitzero"`
	Ended          time.Time       `json:"ended_at,omitzero"`
	DurationMS     int64           `json:"duration_ms"`
	Attempts       int             `json:"attempts"` // highest attempt of any table
	Error          string          `json:"error,omitempty"`
	Hint           string          `json:"hint,omitempty"`
	Counts         Counts          `json:"counts"`
	Entries        []Entry         `json:"entries,omitempty"` // only where asked for: Get, Invoke
	Phases         []Phase         `json:"phases,omitempty"`
	Log            []LogLine       `json:"log,omitempty"`
	LogDropped     int             `json:"log_dropped,omitempty"` // lines over the bound
}

// Counts is how the tables of a run fared.
type Counts struct {
	Tables  int `json:"tables"`
	Done    int `json:"done"` // neither failed nor skipped
	Skipped int `json:"skipped"`
	Failed  int `json:"failed"`
}

// Tables are the names of the run's tables, in the order of the run. Only where Entries are filled.
func (r Run) Tables() []string {
	names := make([]string, 0, len(r.Entries))
	for _, e := range r.Entries {
		if e.Table != "" {
			names = append(names, e.Table)
		}
	}
	return names
}

// Entry is one table's part of a run.
type Entry struct {
	Table      string
	Status     string // pending, running, or the function's: compacted skipped backed_up verified restored repaired degraded failed
	Reason     string
	DurationMS int64
	Attempts   int
	Report     json.RawMessage // the function's own object with table, status, reason, duration_ms, retried in it; null while pending
}

// Statuses of an entry that the runner gives; the others are the function's.
const (
	EntryPending = "pending"
	EntryRunning = "running"
	EntrySkipped = "skipped"
	EntryFailed  = "failed"
	EntryLost    = "lost"
)

// MarshalJSON gives the report itself: an entry in JSON is what the function said, not a wrapper around it.
func (e Entry) MarshalJSON() ([]byte, error) {
	if len(e.Report) > 0 {
		return e.Report, nil
	}
	return json.Marshal(entryJSON{Table: e.Table, Status: e.Status, Reason: e.Reason, DurationMS: e.DurationMS})
}

// UnmarshalJSON is the inverse of MarshalJSON, so that a client of the API reads what the service wrote.
func (e *Entry) UnmarshalJSON(data []byte) error {
	var j entryJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	*e = Entry{Table: j.Table, Status: j.Status, Reason: j.Reason, DurationMS: j.DurationMS, Attempts: j.Attempts}
	e.Report = append(json.RawMessage(nil), data...)
	return nil
}

type entryJSON struct {
	Table      string `json:"table,omitempty"`
	Status     string `json:"status"`
	Reason     string `json:"reason,omitempty"`
	DurationMS int64  `json:"duration_ms"`
	Attempts   int    `json:"attempts,omitempty"`
}

// Phase is a named stretch of the work on one table.
type Phase struct {
	Name       string    `json:"name"`
	Table      string    `json:"table,omitempty"`
	Attempt    int       `json:"attempt"`
	Started    time.Time `json:"started_at"`
	DurationMS int64     `json:"duration_ms"`
	Bytes      int64     `json:"bytes"`
}

// LogLine is one line of a run's log.
type LogLine struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // DEBUG INFO WARN ERROR
	Table   string    `json:"table,omitempty"`
	Message string    `json:"message"`
	Attrs   string    `json:"attrs,omitempty"` // key=value pairs, bounded
}
