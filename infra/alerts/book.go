package alerts

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
)

// Severity of an alert.
type Severity string

// Severities, from the mildest.
const (
	Info     Severity = "info" // it happened and needs nobody: a table was repaired
	Warning  Severity = "warning"
	Critical Severity = "critical" // data is at stake: corruption, a degraded table
)

// Alert is something that is wrong for as long as it has members, which are functions on tables.
type Alert struct {
	Key      string            `json:"key"` // function/reason, or the one cause of many
	Severity Severity          `json:"severity"`
	Members  map[string]Member `json:"members"` // by function:table
	Since    time.Time         `json:"since"`
	Changed  time.Time         `json:"changed"`
	Told     time.Time         `json:"told,omitzero"`  // when it was last told
	Times    int               `json:"times"`          // how often it was told
	Ended    time.Time         `json:"ended,omitzero"` // when the last member went
	Hint     string            `json:"hint,omitempty"`
	RunID    string            `json:"run_id,omitempty"`
}

// Member is one table's part of an alert.
type Member struct {
	Function string `json:"function"`
	Table    string `json:"table,omitempty"`
	Reason   string `json:"reason"`
	Detail   string `json:"detail,omitempty"`
	Told     bool   `json:"told,omitempty"`
}

// Notice is what a channel is told.
type Notice struct {
	Key      string    `json:"key"`
	State    string    `json:"state"` // firing, repeated, resolved or happened
	Severity Severity  `json:"severity"`
	Title    string    `json:"title"`
	Tables   []string  `json:"tables"` // the first hundred, by name
	Count    int       `json:"count"`  // of members
	Detail   string    `json:"detail,omitempty"`
	Hint     string    `json:"hint,omitempty"`
	RunID    string    `json:"run_id,omitempty"`
	Since    time.Time `json:"since"`
}

// States of a notice.
const (
	Firing   = "firing"
	Repeated = "repeated"
	Resolved = "resolved"
	Happened = "happened"
)

// Timing of notices. Zero fields are the defaults.
type Timing struct {
	Gather time.Duration // before the first notice, so that what belongs together is told together; default 10 s
	Grown  time.Duration // between notices of an alert that gains members; default 5 min
	Repeat time.Duration // between notices of one that lasts; default 4 h
}

func (t Timing) withDefaults() Timing {
	return Timing{Gather: cmp.Or(t.Gather, 10*time.Second), Grown: cmp.Or(t.Grown, 5*time.Minute), Repeat: cmp.Or(t.Repeat, 4*time.Hour)}
}

// book turns events into alerts, and alerts into notices. It knows no clock, no channel and no disk.
type book struct {
	timing Timing
	alerts map[string]*Alert
	once   []Notice // what happened and is over
}

func newBook(timing Timing) *book {
	return &book{timing: timing.withDefaults(), alerts: map[string]*Alert{}}
}

// Types of events that are about one table and not about a run.
const (
	corruptionDetected = events.Prefix + "corruption_detected"
	tableDegraded      = events.Prefix + "table_degraded"
	tableAccepted      = events.Prefix + "table_accepted"
	backupOverdue      = events.Prefix + "backup_overdue"
)

// Functions that events of one table are filed under.
const (
	corruption = "corruption"
	degraded   = "degraded"
	overdue    = "overdue"
)

// apply takes an event into the book. Events that say nothing of what is wrong are passed over.
func (b *book) apply(e events.Event) {
	now := e.Time
	switch e.Type {
	case corruptionDetected:
		b.raise(now, corruption, Critical, memberOf(e, corruption, "detected"), "", "")
		return
	case tableDegraded:
		b.clear(now, corruption, e.Subject)
		b.raise(now, degraded, Critical, memberOf(e, degraded, "empty"), "restore a backup, or accept the empty table: tablekeeper recover "+e.Subject+" --accept", "")
		return
	case tableAccepted:
		b.clear(now, degraded, e.Subject)
		return
	case backupOverdue:
		b.raise(now, overdue, Warning, memberOf(e, overdue, "overdue"), "", "")
		return
	case events.RunProgress:
		return
	}
	var outcome jobs.Outcome
	if json.Unmarshal(e.Data, &outcome) == nil && outcome.Function != "" {
		b.outcome(now, outcome)
	}
}

// memberOf reads an event about one table.
func memberOf(e events.Event, function, reason string) Member {
	m := Member{Function: function, Table: e.Subject, Reason: reason}
	var said struct{ Detail string }
	if json.Unmarshal(e.Data, &said) == nil {
		m.Detail = said.Detail
	}
	return m
}

// outcome takes the end of a run into the book.
func (b *book) outcome(now time.Time, o jobs.Outcome) {
	if o.Status == history.Cancelled {
		return
	}
	if o.Error == "" {
		b.clear(now, o.Function, "")
	}
	failed := 0
	for _, entry := range o.Results {
		switch entry.Status {
		case history.EntryFailed, history.EntryLost:
			failed++
			b.raise(now, keyOf(o.Function, entry.Reason), severityOf(o.Function, entry.Reason), entryMember(o.Function, entry), o.Hint, o.RunID)
		case history.EntryPending, history.EntryRunning, history.EntrySkipped:
			if healthySkips[entry.Reason] {
				b.good(now, o, entry)
			}
		default:
			b.good(now, o, entry)
		}
	}
	if o.Error != "" && failed == 0 {
		b.raise(now, o.Function+"/error", Warning, Member{Function: o.Function, Reason: "error", Detail: o.Error}, o.Hint, o.RunID)
	}
}

// healthySkips are the reasons of a skip that say as much as a success.
var healthySkips = map[string]bool{"unchanged": true, "below_threshold": true}

// good notes that a function went well on a table.
func (b *book) good(now time.Time, o jobs.Outcome, entry history.Entry) {
	b.clear(now, o.Function, entry.Table)
	switch o.Function {
	case "backup":
		b.clear(now, overdue, entry.Table)
	case "recover", "restore":
		b.clear(now, corruption, entry.Table)
		if entry.Status != degraded {
			b.clear(now, degraded, entry.Table)
		}
		if o.Function == "recover" && entry.Status != history.EntrySkipped {
			m := entryMember(o.Function, entry)
			b.once = append(b.once, Notice{Key: "recover/" + entry.Status, State: Happened, Severity: Warning, Tables: []string{entry.Table}, Count: 1,
				Title: fmt.Sprintf("%s was corrupted and is %s", entry.Table, entry.Status), Detail: m.Detail, RunID: o.RunID, Since: now})
		}
	}
}

func entryMember(function string, entry history.Entry) Member {
	m := Member{Function: function, Table: entry.Table, Reason: cmp.Or(entry.Reason, "error")}
	var said struct{ Detail, Error string }
	if json.Unmarshal(entry.Report, &said) == nil {
		m.Detail = cmp.Or(said.Detail, said.Error)
	}
	return m
}

// bucketReasons have one cause, whatever the function and the table.
var bucketReasons = []string{"bucket_unreachable", "bucket_denied", "no_bucket", "bucket_full"}

func keyOf(function, reason string) string {
	if slices.Contains(bucketReasons, reason) {
		return reason
	}
	return function + "/" + cmp.Or(reason, "error")
}

func severityOf(function, reason string) Severity {
	if function == "recover" || reason == "corrupt" || reason == "backup_damaged" {
		return Critical
	}
	return Warning
}

// raise adds a member to an alert. A member is in one alert at a time: the newest reason is the one that counts.
func (b *book) raise(now time.Time, key string, severity Severity, m Member, hint, runID string) {
	id := m.Function + ":" + m.Table
	for other := range b.alerts {
		if other != key {
			b.remove(now, other, id)
		}
	}
	a := b.alerts[key]
	if a == nil || !a.Ended.IsZero() && a.Told.IsZero() {
		a = &Alert{Key: key, Severity: severity, Members: map[string]Member{}, Since: now}
		b.alerts[key] = a
	}
	a.Ended, a.Changed = time.Time{}, now
	m.Told = a.Members[id].Told
	a.Members[id] = m
	a.Hint, a.RunID = cmp.Or(hint, a.Hint), cmp.Or(runID, a.RunID)
}

// clear removes a function's table from whatever alert it is in.
func (b *book) clear(now time.Time, function, table string) {
	for key := range b.alerts {
		b.remove(now, key, function+":"+table)
	}
}

func (b *book) remove(now time.Time, key, member string) {
	a := b.alerts[key]
	if _, there := a.Members[member]; !there {
		return
	}
	delete(a.Members, member)
	a.Changed = now
	if len(a.Members) == 0 {
		a.Ended = now
	}
}

// due returns the notices whose time has come, and takes them for told. An alert that came and went before it was told is
// not told at all.
func (b *book) due(now time.Time) []Notice {
	notices := b.once
	b.once = nil
	for _, key := range slices.Sorted(maps.Keys(b.alerts)) {
		a := b.alerts[key]
		a.Since, a.Told, a.Ended = notAfter(a.Since, now), notAfter(a.Told, now), notAfter(a.Ended, now)
		state := a.state(now, b.timing)
		switch {
		case !a.Ended.IsZero() && a.Told.IsZero():
			delete(b.alerts, key)
		case state != "":
			notices = append(notices, a.notice(state))
			a.told(now)
		}
		if state == Resolved {
			delete(b.alerts, key)
		}
	}
	return notices
}

// notAfter brings a time back that was put down before the clock was set back: nobody waits for it to come again.
func notAfter(t, now time.Time) time.Time {
	if t.After(now) {
		return now
	}
	return t
}

func (a *Alert) told(now time.Time) {
	a.Told = now
	a.Times++
	for id, m := range a.Members {
		m.Told = true
		a.Members[id] = m
	}
}

// grown tells whether there are members that were not told.
func (a *Alert) grown() bool {
	for _, m := range a.Members {
		if !m.Told {
			return true
		}
	}
	return false
}

// next is when due has something to say again; zero if nothing is known.
func (b *book) next() (at time.Time) {
	for _, a := range b.alerts {
		if when := a.when(b.timing); at.IsZero() || when.Before(at) {
			at = when
		}
	}
	return at
}

// when is the time of the alert's next notice.
func (a *Alert) when(t Timing) time.Time {
	switch {
	case !a.Ended.IsZero():
		return a.Ended.Add(t.Gather)
	case a.Told.IsZero():
		return a.Since.Add(t.Gather)
	case a.grown():
		return a.Told.Add(t.Grown)
	}
	return a.Told.Add(t.Repeat)
}

// state of the notice that is due, "" if none is.
func (a *Alert) state(now time.Time, t Timing) string {
	switch {
	case now.Before(a.when(t)):
		return ""
	case !a.Ended.IsZero():
		return Resolved
	case a.Told.IsZero() || a.grown():
		return Firing
	}
	return Repeated
}

const maxNamed = 100

func (a *Alert) notice(state string) Notice {
	n := Notice{Key: a.Key, State: state, Severity: a.Severity, Count: len(a.Members), Hint: a.Hint, RunID: a.RunID, Since: a.Since, Tables: []string{}}
	for _, id := range slices.Sorted(maps.Keys(a.Members)) {
		m := a.Members[id]
		if m.Table != "" && !slices.Contains(n.Tables, m.Table) && len(n.Tables) < maxNamed {
			n.Tables = append(n.Tables, m.Table)
		}
		n.Detail = cmp.Or(n.Detail, m.Detail)
	}
	n.Title = a.title(state, n.Tables)
	return n
}

// title says it in one line: "backup fails: bucket_unreachable (agent_mailbox and 11 more)".
func (a *Alert) title(state string, tables []string) string {
	what := a.Key
	if function, reason, ok := strings.Cut(a.Key, "/"); ok {
		what = function + " fails: " + strings.ReplaceAll(reason, "_", " ")
	} else if said := titles[a.Key]; said != "" {
		what = said
	}
	if state == Resolved {
		return "resolved: " + what
	}
	switch len(tables) {
	case 0:
		return what
	case 1:
		return what + " (" + tables[0] + ")"
	}
	return fmt.Sprintf("%s (%s and %d more)", what, tables[0], len(a.Members)-1)
}

// titles of the alerts that are not a function's.
var titles = map[string]string{
	corruption:           "a table is corrupted",
	degraded:             "a table is degraded: it was recovered empty",
	overdue:              "backups are overdue",
	"bucket_unreachable": "the bucket is unreachable",
	"bucket_denied":      "the bucket refuses us",
	"no_bucket":          "the bucket is not there",
	"bucket_full":        "the bucket is full",
}
