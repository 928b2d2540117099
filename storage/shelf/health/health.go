// Package health judges how well a table is from what can be read without opening it: the header of its file and of its
// WAL, the state that is kept beside it, and the record of its last backup.
//
// It asks neither SQLite nor a bucket, and changes nothing, so that a thousand tables can be looked at while somebody waits. Who is
// told, and how it looks, is left to cmd and infra.
package health

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"

	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Verdict is how a table is, in one word.
type Verdict string

// The verdicts. Suspect, Recovering and Degraded are the table's state.
const (
	Missing    Verdict = "missing" // the file is gone though it was backed up
	Error      Verdict = "error"   // the file, or what is known of it, cannot be read
	Degraded   Verdict = "degraded"
	Suspect    Verdict = "suspect"
	Recovering Verdict = "recovering"
	Overdue    Verdict = "overdue"  // the last good backup is older than the table's RPO
	NoBackup   Verdict = "none"     // it was never backed up
	Unproved   Verdict = "unproved" // backed up, but no drill has restored the backup yet
	Healthy    Verdict = "healthy"
)

// Verdicts are all of them, worst first.
func Verdicts() []Verdict {
	return []Verdict{Missing, Error, Degraded, Suspect, Recovering, Overdue, NoBackup, Unproved, Healthy}
}

// Well tells whether nobody needs to do anything.
func (v Verdict) Well() bool { return v == Healthy || v == Unproved }

// Report is what is known of one table. Sizes are in bytes.
type Report struct {
	Table      string      `json:"table"`
	Path       string      `json:"path"`
	Health     Verdict     `json:"health"`
	Reason     string      `json:"reason,omitempty"` // a sentence, for people
	State      shelf.State `json:"state"`
	StateSince time.Time   `json:"state_since,omitzero"`
	Missing    bool        `json:"missing"`

	Bytes         int64   `json:"bytes"`
	WALBytes      int64   `json:"wal_bytes"`
	FreeBytes     int64   `json:"free_bytes"`
	FreeRatio     float64 `json:"free_ratio"`
	Threshold     float64 `json:"threshold"` // of FreeRatio, above which the table is compacted
	PageSize      int64   `json:"page_size"`
	PageCount     int64   `json:"page_count"`
	FreePages     int64   `json:"free_pages"`
	JournalMode   string  `json:"journal_mode,omitempty"`
	AutoVacuum    string  `json:"auto_vacuum,omitempty"`
	Encoding      string  `json:"encoding,omitempty"`
	UserVersion   int64   `json:"user_version"`
	ApplicationID int64   `json:"application_id"`

	LastBackup  time.Time `json:"last_backup,omitzero"` // when the table was last known to equal a backup
	Backup      string    `json:"backup,omitempty"`
	BackupAgeMS int64     `json:"backup_age_ms,omitempty"` // 0: there is none
	RPOMS       int64     `json:"rpo_ms"`
	LastProved  time.Time `json:"last_proved,omitzero"`
	MaxPauseMS  int64     `json:"max_pause_ms"`
}

// skew is how far in the future a time may lie before it is taken for the mark of a clock that was wrong.
const skew = 5 * time.Minute

// Look judges one table.
func Look(ctx context.Context, t shelf.Table, now time.Time) Report {
	stats, err := table.Stat(ctx, t.Path)
	return judge(t, stats, err, now)
}

func judge(t shelf.Table, stats table.Stats, err error, now time.Time) Report {
	r := Report{
		Table: t.Name, Path: t.Path, State: t.State, StateSince: t.Since, Reason: t.Reason, Missing: t.Missing,
		Threshold: t.Settings.Threshold, RPOMS: t.Settings.RPO.Milliseconds(), MaxPauseMS: t.Settings.MaxPause.Milliseconds(),
	}
	if r.State == "" {
		r.State = shelf.Healthy
	}
	record, recordErr := shelf.ReadRecord(t.Path)
	if recordErr == nil {
		r.remember(record, now)
	}
	if err == nil {
		r.measure(stats)
	}
	switch {
	case t.Missing || errors.Is(err, fs.ErrNotExist):
		r.Health, r.Missing, r.Reason = Missing, true, "the file is gone: tablekeeper restore "+t.Name+" --in-place"
	case err != nil:
		r.Health, r.Reason = Error, err.Error()
	case r.State != shelf.Healthy:
		r.Health = Verdict(r.State)
	default:
		r.judgeBackup(record, recordErr, t.Settings.RPO, now)
	}
	return r
}

func (r *Report) remember(record shelf.Record, now time.Time) {
	r.LastBackup, r.Backup, r.LastProved = record.Created, record.Key, record.Proved
	if record.LastProved.After(r.LastProved) {
		r.LastProved = record.LastProved
	}
	if !record.Confirmed.IsZero() { // the other may be the time in its key, which can lie ahead
		r.LastBackup = record.Confirmed
	}
	r.BackupAgeMS = max(now.Sub(r.LastBackup).Milliseconds(), 1)
}

func (r *Report) measure(s table.Stats) {
	r.Bytes, r.WALBytes, r.FreeRatio, r.FreeBytes = s.Bytes, s.WALBytes, s.FreeRatio, s.FreePages*s.PageSize
	r.PageSize, r.PageCount, r.FreePages = s.PageSize, s.PageCount, s.FreePages
	r.JournalMode, r.AutoVacuum, r.Encoding = s.JournalMode, s.AutoVacuum, s.Encoding
	r.UserVersion, r.ApplicationID = s.UserVersion, s.ApplicationID
}

func (r *Report) judgeBackup(record shelf.Record, err error, rpo time.Duration, now time.Time) {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.Health, r.Reason = NoBackup, "no backup yet"
	case err != nil:
		r.Health, r.Reason = Error, err.Error()
	case record.Distrust != "":
		r.Health, r.Reason = Overdue, "no good backup: "+record.Distrust
	case r.LastBackup.After(now.Add(skew)):
		r.Health, r.Reason = Overdue, "the last backup bears a time in the future: the clock was wrong then, or is now"
	case rpo > 0 && now.Sub(r.LastBackup) > rpo:
		r.Health, r.Reason = Overdue, "the last backup is older than "+span(rpo)
	case record.Proved.IsZero() && !record.LastProved.IsZero():
		r.Health, r.Reason = Unproved, "no drill has restored the newest backup yet"
	case record.Proved.IsZero():
		r.Health, r.Reason = Unproved, "no drill has restored the backup yet"
	default:
		r.Health = Healthy
	}
}

// span shows a length of time without the zeros of time.Duration: 12h, 90m, 1h30m.
func span(d time.Duration) string {
	s := d.Round(time.Second).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
