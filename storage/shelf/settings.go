package shelf

import (
	"maps"
	"time"
)

// Settings are what a source sets for its tables. A zero field means the default.
type Settings struct {
	Threshold float64           // share of free pages above which a table is compacted; negative: whatever is free
	MaxPause  time.Duration     // how long a compaction may hold up the table's users
	RPO       time.Duration     // how old the newest confirmed backup may become
	Windows   []Window          // when a table may be compacted; none: always
	Schedules map[string]string // function to schedule expression, over the template's
}

// DefaultSettings are those of the design: more than a tenth free, one second, twice the six hours between backups.
func DefaultSettings() Settings {
	return Settings{Threshold: 0.10, MaxPause: time.Second, RPO: 12 * time.Hour}
}

// Over is s, with what it leaves open taken from base.
func (s Settings) Over(base Settings) Settings {
	if s.Threshold == 0 {
		s.Threshold = base.Threshold
	}
	if s.MaxPause == 0 {
		s.MaxPause = base.MaxPause
	}
	if s.RPO == 0 {
		s.RPO = base.RPO
	}
	if s.Windows == nil {
		s.Windows = base.Windows
	}
	if len(base.Schedules) > 0 {
		all := maps.Clone(base.Schedules)
		maps.Copy(all, s.Schedules)
		s.Schedules = all
	}
	return s
}

// Open tells whether t is in one of the windows; without windows it always is.
func (s Settings) Open(t time.Time) bool {
	for _, w := range s.Windows {
		if w.Contains(t) {
			return true
		}
	}
	return len(s.Windows) == 0
}

// NextOpen is when the next window after t begins, the zero time if there is none.
func (s Settings) NextOpen(t time.Time) time.Time {
	var first time.Time
	for _, w := range s.Windows {
		if next := w.Next(t); first.IsZero() || next.Before(first) {
			first = next
		}
	}
	return first
}
