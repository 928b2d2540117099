package sweep

import (
	"errors"
	"io/fs"
	"time"

	"tablekeeper/storage/shelf"
)

// skew is how far in the future a time may lie before it is taken for the mark of a clock that was wrong.
const skew = 5 * time.Minute

// overdue looks when the table was last known to equal a backup. That counts, and not whether runs failed.
func (s *sweep) overdue(t shelf.Table) {
	last, why := s.lastConfirmed(t)
	rpo := t.Settings.RPO
	from := last
	if from.IsZero() {
		from = s.firstSeen(t)
	} else {
		s.protected(t)
	}
	if rpo <= 0 || s.now.Sub(from) <= rpo {
		return
	}
	since := s.now
	if !from.IsZero() {
		since = from.Add(rpo)
	}
	if t.Missing {
		why = "its file is gone"
	}
	s.entry.Overdue = append(s.entry.Overdue, Overdue{Table: t.Name, Since: since.UTC(), Last: last, RPOMS: rpo.Milliseconds(), Why: why})
}

// lastConfirmed is zero if the table is not known to have a backup in this bucket.
func (s *sweep) lastConfirmed(t shelf.Table) (time.Time, string) {
	record, err := shelf.ReadRecord(t.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return time.Time{}, "it was never backed up"
	case err != nil:
		return time.Time{}, err.Error()
	case record.Bucket != s.Bucket:
		return time.Time{}, "its last backup is in another bucket"
	case record.Distrust != "":
		return time.Time{}, "its last backup is bad: " + record.Distrust
	case record.Confirmed.After(s.now.Add(skew)):
		return time.Time{}, "its last backup bears a time in the future: the clock was wrong then, or is now"
	}
	return record.Confirmed, "no backup since"
}

// firstSeen is from when on a table without a good backup has been known to this service; zero where there is no service, but
// one sweep by hand.
func (s *sweep) firstSeen(t shelf.Table) time.Time {
	if s.Since.IsZero() {
		return time.Time{}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.unprotected[t.Name]; !ok {
		s.unprotected[t.Name] = s.now
		if !s.swept { // the first sweep: it was so when the service began
			s.unprotected[t.Name] = s.Since
		}
	}
	return s.unprotected[t.Name]
}

// protected forgets that the table was without a good backup.
func (s *sweep) protected(t shelf.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unprotected, t.Name)
}
