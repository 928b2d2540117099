package functions

import (
	"errors"
	"time"
)

// Status says how a function ended for one table.
type Status string

// The statuses of an entry.
const (
	Compacted Status = "compacted"
	Skipped   Status = "skipped" // nothing was to be done, or nothing may be done now; the reason says which
	BackedUp  Status = "backed_up"
	Verified  Status = "verified"
	Restored  Status = "restored"
	Repaired  Status = "repaired"
	Degraded  Status = "degraded"
	Swept     Status = "swept"
	Failed    Status = "failed"
)

// Entry is what every function reports of a table; each adds fields of its own beside it.
type Entry struct {
	Table      string   `json:"table"`
	Status     Status   `json:"status"`
	Reason     string   `json:"reason,omitempty"` // one word, for programs: "unchanged", "no_space"
	Detail     string   `json:"detail,omitempty"` // a sentence, for people
	Notes      []string `json:"notes,omitempty"`  // what is worth knowing though it changed nothing
	DurationMS int64    `json:"duration_ms"`
	BlockedMS  int64    `json:"blocked_ms"` // the longest that a user of the table was held up by us
	Retried    int      `json:"retried"`    // attempts before this one; the runner knows
}

// Skip makes the entry one of a table that was left alone, and why.
func (e *Entry) Skip(reason, detail string) {
	e.Status, e.Reason, e.Detail = Skipped, reason, detail
}

// End completes the entry: a failure if err is not nil, so that report and error never disagree, and how long it took.
func (e *Entry) End(err error, took time.Duration) {
	e.DurationMS = took.Milliseconds()
	if err != nil {
		e.Status, e.Reason, e.Detail = Failed, ReasonOf(err), err.Error()
	}
}

// Failure is an error that knows its name in a report, what to do about it, and whether trying again is of use.
type Failure struct { //nolint:errname // the word of the reports: what a failed entry is made of
	Reason string // one word
	Err    error
	Try    string // the next step, "" if the cause says it
	Final  bool   // the same call fails again until something changes
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Hint is the next step: its own, or that of its cause.
func (f *Failure) Hint() string {
	if f.Try == "" {
		return hintOf(f.Err)
	}
	return f.Try
}

func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

// Permanent tells the runner not to try again.
func (f *Failure) Permanent() bool { return f.Final }

// Progress is told how far a function is. Nil fields are not told.
type Progress struct {
	Phase func(name string) func(bytes int64)  // begins a part of the work; the result ends it, with what it moved
	Step  func(done, total int64, note string) // total 0: unknown
}

// Begin starts a phase.
func (p Progress) Begin(name string) (end func(bytes int64)) {
	if p.Phase == nil {
		return func(int64) {}
	}
	return p.Phase(name)
}

// Tell says how far the work is.
func (p Progress) Tell(done, total int64, note string) {
	if p.Step != nil {
		p.Step(done, total, note)
	}
}
