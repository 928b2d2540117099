package health

import (
	"cmp"
	"context"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

// Lister is a shelf, as far as a Watch needs one.
type Lister interface{ Tables() []shelf.Table }

// Watch looks at all tables again and again. A file that has not changed is not measured again, and those who ask at the
// same time share one look, so that many watchers cost little more than one. It is safe for concurrent use.
type Watch struct {
	shelf Lister
	now   func() time.Time

	asked atomic.Uint64
	mu    sync.Mutex
	seen  uint64 // the questions that the last look answers
	last  []Report
	files map[string]measured
}

// NewWatch makes a Watch. now is the clock by which backups are overdue.
func NewWatch(s Lister, now func() time.Time) *Watch {
	return &Watch{shelf: s, now: now, files: map[string]measured{}}
}

// measured is a table's figures, and of which files they are.
type measured struct {
	main, wal stamp
	stats     table.Stats
}

// stamp tells one content of a file from another, as far as that is known without reading it.
type stamp struct {
	size     int64
	modified int64 // nanoseconds; 0: there is no such file
}

func stampOf(path string) stamp {
	info, err := os.Lstat(path)
	if err != nil {
		return stamp{}
	}
	return stamp{info.Size(), info.ModTime().UnixNano()}
}

// tick is longer than any file system's clock stands still: a file that was written to within it may be written to again
// without a new time.
const tick = 2 * time.Second

func (s stamp) settled() bool { return time.Since(time.Unix(0, s.modified)) > tick }

// All judges every table, worst first. It is never older than the call; the result is shared, and must not be changed.
// The error is only ctx's.
func (w *Watch) All(ctx context.Context) ([]Report, error) {
	mine := w.asked.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen >= mine {
		return w.last, nil
	}
	answers := w.asked.Load()
	reports, err := w.look(ctx)
	if err != nil {
		return nil, err
	}
	w.seen, w.last = answers, reports
	return reports, nil
}

func (w *Watch) look(ctx context.Context) ([]Report, error) {
	tables, now := w.shelf.Tables(), w.now()
	files := make(map[string]measured, len(tables))
	reports := make([]Report, 0, len(tables))
	for _, t := range tables {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		m := measured{main: stampOf(t.Path), wal: stampOf(t.Path + "-wal")}
		var err error
		if known, ok := w.files[t.Path]; ok && known.main == m.main && known.wal == m.wal {
			m = known
		} else {
			m.stats, err = table.Stat(ctx, t.Path)
		}
		if err == nil && m.main.settled() && m.wal.settled() {
			files[t.Path] = m
		}
		reports = append(reports, judge(t, m.stats, err, now))
	}
	w.files = files
	order := Verdicts()
	slices.SortStableFunc(reports, func(a, b Report) int {
		return cmp.Or(cmp.Compare(slices.Index(order, a.Health), slices.Index(order, b.Health)), cmp.Compare(a.Table, b.Table))
	})
	return reports, nil
}
