// Package jobs runs the functions that template.yaml declares, with Lambda's meaning: synchronous, asynchronous and
// dry-run invocation, a timeout per attempt, retries of what failed, an on-failure destination, and one table never
// worked on by two at once. It keeps the record of each run (jobs/history), tells the bus (jobs/events) and fires
// schedules (jobs/schedule).
//
// What a function does with a table, and where tables and backups live, is left to functions/ and storage/: this
// package knows a table by its name alone. Exit statuses, HTTP and wiring are left to cmd/ and infra/.
package jobs

import (
	"context"
	"encoding/json"
	"log/slog"
	"time"

	"tablekeeper/jobs/history"
)

// Function is one of the template's functions. A function must be safe for concurrent use: the runner calls it for
// many tables at a time, but never twice for the same table.
type Function interface {
	// Tables expands the event to the names of the tables it is about, each once. Nil means one unit of work
	// without a table. An event with unknown fields or of the wrong shape is an error.
	Tables(ctx context.Context, event json.RawMessage) ([]string, error)
	// Run does one table. The entry is a JSON object with at least "status" (and "reason" when skipped); it may come
	// with an error, and then says what was found out until then. An error is retried unless a `Permanent() bool` in
	// its chain says true; its hint is what a `Hint() string` in its chain says.
	Run(ctx context.Context, call Call) (entry json.RawMessage, err error)
}

// Urgent is an optional ability of a Function: others stand aside for it. An urgent run does not wait for a slot behind them, and ends
// their attempts at the table that it needs. Those count as attempts at a table that another held: they are made anew, once it is free.
type Urgent interface {
	// Over names the functions that stand aside for a run with this event; none: it waits like any other.
	Over(event json.RawMessage) []string
}

// Call is what a function is given for one attempt at one table.
type Call struct {
	Event   json.RawMessage // the invocation's event, a JSON object
	Table   string          // "" for a unit without a table
	RunID   string
	Attempt int          // from 1
	Log     *slog.Logger // goes to the service's log and, bounded, to the run's record

	// Phase starts a named phase of the work; the returned func ends it and says how many bytes it moved.
	Phase func(name string) func(bytes int64)
	// Progress says how far the work is; total 0 is unknown. It is cheap and may be called often.
	Progress func(done, total int64, note string)
}

// Owner says who holds a table's lock, for the one who has to wait.
type Owner struct {
	Function string `json:"function"`
	RunID    string `json:"run_id"`
	Actor    string `json:"actor,omitempty"`
}

// Locker excludes other processes from a table. (Within the process the runner excludes by itself.)
type Locker interface {
	// Lock takes the table's lock. If another holds it, Lock answers *BusyError, at once or when ctx ends; the runner
	// asks again until its own patience ends. unlock is called exactly once.
	Lock(ctx context.Context, table string, owner Owner) (unlock func(), err error)
}

// BusyError is a Locker's answer when another process holds the table.
type BusyError struct {
	Table  string
	Holder string // who, for a human: "backup (pid 4711, run 0198...)"
}

func (e *BusyError) Error() string {
	if e.Holder == "" {
		return "table " + e.Table + " is locked"
	}
	return "table " + e.Table + " is locked by " + e.Holder
}

// Type is how an invocation is answered, as in Lambda's X-Amz-Invocation-Type.
type Type string

// The invocation types.
const (
	Sync   Type = "sync"    // RequestResponse: Invoke returns when the run has ended
	Async  Type = "async"   // Event: Invoke returns when the run is recorded as queued
	DryRun Type = "dry_run" // DryRun: only checks that the function exists and takes the event
)

// Triggers: who asked for a run.
const (
	TriggerSchedule = "schedule"
	TriggerCatchUp  = "catch_up" // a schedule whose time passed while the service was down or asleep
	TriggerCLI      = "cli"
	TriggerAPI      = "api"
	TriggerRetry    = "retry" // an operator's retry of an earlier run
	TriggerHotPath  = "hot_path"
)

// Invocation asks for one run of a function.
type Invocation struct {
	Function       string          // short name or logical id in the template
	Event          json.RawMessage // a JSON object; nil is {}
	Type           Type            // "" is Sync
	Trigger        string          // one of the Trigger constants; "" is TriggerCLI
	Actor          string          // who, for the audit: a user, a token's name, a schedule
	Job            string          // name of the schedule that fired, if one did
	RetryOf        string          // run id that this one repeats
	IdempotencyKey string          // the same key always gives the first run; "" is none
}

// Failure is what an on-failure destination gets when a run has failed for good.
type Failure struct {
	Destination string // as the template says it: a logical id or an opaque expression
	Condition   string // RetriesExhausted, or EventAgeExceeded
	Run         history.Run
}

// FailureDestination takes the failures of functions whose template entry has an OnFailure destination.
type FailureDestination interface {
	Failed(ctx context.Context, f Failure) error
}

// The defaults of Config.
const (
	DefaultConcurrency = 4
	DefaultLockWait    = 30 * time.Second
	DefaultAbandon     = 10 * time.Second
)
