package jobs

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"tablekeeper/jobs/history"
)

// The bounds of a run's record.
const (
	maxLines     = 1000 // log lines; errors have as many places again, so that noise cannot hide them
	maxPhases    = 20_000
	maxLineBytes = 8 << 10 // a stack fits
)

// call makes what a function is given. finish is called when the attempt is over: what comes later from a function that
// does not stop is not recorded.
func (x *run) call(table string, number int) (call Call, finish func()) {
	var mu sync.Mutex
	over := false
	live := func(do func()) {
		mu.Lock()
		defer mu.Unlock()
		if !over {
			do()
		}
	}
	own := x.r.log.Handler().WithAttrs([]slog.Attr{slog.String("run", x.id), slog.String("function", x.spec.Name), slog.String("table", table)})
	call = Call{Event: x.rec.Event, Table: table, RunID: x.id, Attempt: number}
	call.Log = slog.New(slog.NewMultiHandler(own, &recording{x: x, table: table, live: live}))
	call.Phase = func(name string) func(int64) {
		began := x.r.now()
		live(func() { x.progress(Progress{Table: table, Phase: name}, false) })
		var once sync.Once
		return func(bytes int64) {
			once.Do(func() {
				live(func() {
					x.phase(history.Phase{Name: name, Table: table, Attempt: number, Started: began.UTC().Round(0),
						DurationMS: max(0, x.r.now().Sub(began).Milliseconds()), Bytes: bytes})
				})
			})
		}
	}
	call.Progress = func(done, total int64, note string) {
		live(func() { x.progress(Progress{Table: table, Done: done, Total: total, Note: note}, false) })
	}
	return call, func() {
		mu.Lock()
		over = true
		mu.Unlock()
	}
}

func (x *run) phase(p history.Phase) {
	x.update(func(rec *history.Run) {
		if len(rec.Phases) < maxPhases {
			rec.Phases = append(rec.Phases, p)
		}
	})
}

// note adds a line to the run's record.
func (x *run) note(level, table, message, attrs string) {
	line := history.LogLine{Time: x.r.now().UTC().Round(0), Level: level, Table: table, Message: clip(message), Attrs: clip(attrs)}
	x.update(func(rec *history.Run) {
		room := maxLines
		if level == "ERROR" {
			room *= 2
		}
		if len(rec.Log) >= room {
			rec.LogDropped++
			return
		}
		rec.Log = append(rec.Log, line)
	})
}

func clip(s string) string {
	if len(s) <= maxLineBytes {
		return s
	}
	return strings.ToValidUTF8(s[:maxLineBytes], "") + "..."
}

// recording is a slog.Handler that writes to a run's record.
type recording struct {
	x      *run
	table  string
	live   func(func())
	prefix string // of the open groups
	attrs  string // what With has added
}

func (h *recording) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

func (h *recording) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool {
		writeAttr(&b, h.prefix, a)
		return true
	})
	h.live(func() { h.x.note(r.Level.String(), h.table, r.Message, strings.TrimSpace(b.String())) })
	return nil
}

func (h *recording) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	b.WriteString(h.attrs)
	for _, a := range attrs {
		writeAttr(&b, h.prefix, a)
	}
	with := *h
	with.attrs = b.String()
	return &with
}

func (h *recording) WithGroup(name string) slog.Handler {
	with := *h
	if name != "" {
		with.prefix += name + "."
	}
	return &with
}

func writeAttr(b *strings.Builder, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, inner := range v.Group() {
			writeAttr(b, prefix, inner)
		}
		return
	}
	if a.Equal(slog.Attr{}) || b.Len() > maxLineBytes {
		return
	}
	text := v.String()
	if v.Kind() == slog.KindTime {
		text = v.Time().UTC().Format(time.RFC3339Nano)
	}
	if strings.ContainsAny(text, " \"\n=") {
		text = fmt.Sprintf("%q", text)
	}
	b.WriteString(prefix + a.Key + "=" + text + " ")
}
