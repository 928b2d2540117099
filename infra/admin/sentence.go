package admin

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"tablekeeper/jobs/history"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

// Fleet is all tables together.
type Fleet struct {
	Sentence string                 `json:"sentence"`
	Tone     string                 `json:"tone" enum:"good,careful,bad"`
	Tables   int                    `json:"tables"`
	Unwell   int                    `json:"unwell"`
	ByHealth map[health.Verdict]int `json:"by_health"`
	Bytes    int64                  `json:"bytes"`
	Free     int64                  `json:"free_bytes"`
	WAL      int64                  `json:"wal_bytes"`
	Problems []shelf.Problem        `json:"problems" doc:"what is in the folders and is no table"`
	Notices  []Notice               `json:"notices" doc:"what is missing for the fleet to be safe"`
	Alerts   int                    `json:"alerts_open"`
	Sequence int64                  `json:"sequence" doc:"of the newest event"`
	Active   []history.Run          `json:"active" doc:"the runs under way"`
	Version  string                 `json:"version"`
	Build    string                 `json:"build"`
	Started  time.Time              `json:"started_at"`
}

// Notice is something that is missing for the fleet to be safe.
type Notice struct {
	ID   string `json:"id" enum:"no_bucket,no_alert_channel,no_backup,jobs_paused"`
	Text string `json:"text"`
	Hint string `json:"hint"`
}

func (s *Server) fleet(ctx context.Context) (Fleet, error) {
	f := Fleet{ByHealth: map[health.Verdict]int{}, Problems: []shelf.Problem{}, Active: s.Runner.Active(), Version: s.opts.Version, Build: s.opts.Build, Started: s.started.UTC()}
	if err := s.opts.Refresh(ctx); err != nil {
		return f, err
	}
	reports, err := s.Fleet.All(ctx)
	if err != nil {
		return f, err
	}
	if _, f.Sequence, err = s.History.EventBounds(ctx); err != nil {
		return f, err
	}
	for _, r := range reports {
		f.Tables++
		f.ByHealth[r.Health]++
		f.Bytes, f.Free, f.WAL = f.Bytes+r.Bytes, f.Free+r.FreeBytes, f.WAL+r.WALBytes
		if !r.Health.Well() {
			f.Unwell++
		}
	}
	for _, p := range s.Shelf.Problems() {
		if !p.Ignorable() {
			f.Problems = append(f.Problems, p)
		}
	}
	if s.opts.Alerts != nil {
		f.Alerts = len(s.opts.Alerts.Open())
	}
	f.Sentence, f.Tone = sentence(reports)
	f.Notices = s.notices(f)
	return f, nil
}

// conditions say of one table, and of several, what its verdict means.
var conditions = map[health.Verdict][2]string{
	health.Missing:    {"is missing", "are missing"},
	health.Error:      {"cannot be read", "cannot be read"},
	health.Degraded:   {"is degraded", "are degraded"},
	health.Suspect:    {"is damaged", "are damaged"},
	health.Recovering: {"is being recovered", "are being recovered"},
	health.Overdue:    {"is overdue for a backup", "are overdue for a backup"},
	health.NoBackup:   {"has no backup yet", "have no backup yet"},
}

// sentence says how all tables are, worst first, and in which tone. The reports come in that order.
func sentence(reports []health.Report) (text, tone string) {
	if len(reports) == 0 {
		return "No tables were found.", "careful"
	}
	var parts []string
	unwell, unproved, tone := 0, 0, "good"
	for _, verdict := range health.Verdicts() {
		var names []string
		for _, r := range reports {
			if r.Health == verdict {
				names = append(names, r.Table)
			}
		}
		switch {
		case len(names) == 0:
		case verdict == health.Unproved:
			unproved = len(names)
		case !verdict.Well():
			unwell += len(names)
			tone = worse(tone, verdict)
			parts = append(parts, clause(names, conditions[verdict]))
		}
	}
	if unwell == 0 {
		return allWell(len(reports), unproved), tone
	}
	needs := "need you"
	if unwell == 1 {
		needs = "needs you"
	}
	return fmt.Sprintf("%d of %s %s: %s.", unwell, count(len(reports), "table"), needs, strings.Join(parts, "; ")), tone
}

func worse(tone string, v health.Verdict) string {
	if tone == "bad" || v == health.Missing || v == health.Error || v == health.Degraded || v == health.Suspect {
		return "bad"
	}
	return "careful"
}

func clause(names []string, words [2]string) string {
	switch len(names) {
	case 1:
		return names[0] + " " + words[0]
	case 2:
		return names[0] + " and " + names[1] + " " + words[1]
	}
	return fmt.Sprintf("%s and %d more %s", names[0], len(names)-1, words[1])
}

func allWell(tables, unproved int) string {
	all := "All " + count(tables, "table") + " are healthy and backed up"
	if tables == 1 {
		all = "The one table is healthy and backed up"
	}
	switch {
	case unproved == tables:
		return all + "; no drill has proved the backups yet."
	case unproved > 0:
		return fmt.Sprintf("%s; %d not yet proved by a drill.", all, unproved)
	}
	return all + "; every backup was proved to restore."
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func (s *Server) notices(f Fleet) []Notice {
	all := []Notice{}
	if s.opts.Backups == nil {
		all = append(all, Notice{"no_bucket", "Nothing is backed up: no bucket is configured.", "Set bucket: in tablekeeper.yaml."})
	} else if f.Tables > 0 && f.ByHealth[health.NoBackup] == f.Tables {
		all = append(all, Notice{"no_backup", "There is no backup yet.", "Press Back up, or wait for the schedule."})
	}
	if !slices.Contains(s.opts.Without, "alerts") && (s.opts.Alerts == nil || len(s.opts.Alerts.Channels()) == 0) {
		all = append(all, Notice{"no_alert_channel", "Nobody is told when something goes wrong: no alert channel is configured.", "Set alerts: in tablekeeper.yaml."})
	}
	paused := []string{}
	for _, j := range s.Schedules.States() {
		if j.Paused {
			paused = append(paused, j.Name)
		}
	}
	if len(paused) > 0 {
		all = append(all, Notice{"jobs_paused", "Paused: " + strings.Join(paused, ", ") + ".", "Resume them on the page Jobs."})
	}
	return all
}
