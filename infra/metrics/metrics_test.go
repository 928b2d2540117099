package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/shelf/health"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type list []shelf.Table

func (l list) Tables() []shelf.Table { return l }

// fleetOf makes files that are no tables, and one record of a backup.
func fleetOf(t *testing.T, n int) *health.Watch {
	t.Helper()
	dir := t.TempDir()
	var all list
	for i := range n {
		all = append(all, shelf.Table{Name: fmt.Sprintf("t%d", i), Path: filepath.Join(dir, fmt.Sprintf("t%d.db", i)), Settings: shelf.DefaultSettings()})
	}
	header := make([]byte, 8192)
	copy(header, "SQLite format 3\x00")
	header[16], header[18], header[19], header[21], header[22], header[23] = 0x10, 1, 1, 64, 32, 32
	header[27], header[95], header[31], header[39], header[47], header[59] = 1, 1, 2, 1, 4, 1
	if err := os.WriteFile(all[0].Path, header, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := shelf.WriteRecord(all[0].Path, shelf.Record{Format: 1, Table: "t0", Key: "k", Created: now.Add(-time.Hour), Confirmed: now.Add(-time.Minute), Proved: now.Add(-30 * time.Minute)}); err != nil {
		t.Fatal(err)
	}
	return health.NewWatch(all, func() time.Time { return now })
}

func newMetrics(t *testing.T, tables int) *Metrics {
	return New(Source{Fleet: fleetOf(t, tables), Active: func() []history.Run {
		return []history.Run{{Function: "backup", Status: history.Running}, {Function: "backup", Status: history.Queued}, {Function: "backup", Status: history.Running}}
	}, Alerts: func() map[string]int { return map[string]int{"critical": 2, "warning": 0} }}, Options{Version: "v1", Now: func() time.Time { return now }})
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	data, err := io.ReadAll(w.Result().Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %s, %v", w.Code, data, err)
	}
	return string(data)
}

func wantLines(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("there is no line %q", line)
		}
	}
}

func TestTables(t *testing.T) {
	text := scrape(t, newMetrics(t, 2))
	wantLines(t, text,
		`tablekeeper_table_size_bytes{table="t0"} 8192`, `tablekeeper_table_free_ratio{table="t0"} 0.5`, `tablekeeper_table_wal_bytes{table="t0"} 0`,
		`tablekeeper_table_backup_age_seconds{table="t0"} 60`, `tablekeeper_table_rpo_seconds{table="t0"} 43200`, `tablekeeper_table_proved_age_seconds{table="t0"} 1800`,
		`tablekeeper_table_health{health="healthy",table="t0"} 1`, `tablekeeper_table_health{health="missing",table="t1"} 1`,
		`tablekeeper_tables{health="healthy"} 1`, `tablekeeper_tables{health="missing"} 1`, `tablekeeper_tables{health="overdue"} 0`,
		`tablekeeper_runs_active{function="backup",status="running"} 2`, `tablekeeper_runs_active{function="backup",status="queued"} 1`,
		`tablekeeper_alerts_open{severity="critical"} 2`, `tablekeeper_build_info{version="v1"} 1`, `tablekeeper_scrape_incomplete 0`)
	if strings.Contains(text, `size_bytes{table="t1"}`) || strings.Contains(text, `backup_age_seconds{table="t1"}`) {
		t.Error("a table that is gone has a size, or an age of its backup")
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	problems = slices.DeleteFunc(problems, func(p promlint.Problem) bool { return !strings.HasPrefix(p.Metric, namespace) })
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestRunsAreCounted(t *testing.T) {
	m := newMetrics(t, 1)
	bus := events.NewBus(events.Options{})
	counted := make(chan struct{})
	go func() { defer close(counted); m.Run(t.Context(), bus) }()
	// The bus hands an event to those who are there: wait until the counter is.
	for !strings.Contains(scrape(t, m), `tablekeeper_runs_total{function="probe"`) {
		bus.Publish(ended("probe", history.Succeeded))
		runtime.Gosched()
	}
	bus.Publish(ended("compact", history.Partial, `{"status":"compacted","blocked_ms":20}`, `{"status":"skipped","blocked_ms":0}`, `{"status":"failed"}`,
		`{"status":"skipped","reason":"would_block","blocked_ms":500}`))
	bus.Publish(ended("recover", history.Succeeded, `{"status":"repaired","rung":"pages"}`))
	bus.Publish(events.Event{Type: events.Prefix + "backup_overdue", Subject: "t", Data: json.RawMessage(`{"detail":"x"}`)})
	bus.Publish(events.Event{Type: events.Prefix + "odd", Data: json.RawMessage(`[1]`)})
	if err := bus.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-counted
	wantLines(t, scrape(t, m),
		`tablekeeper_runs_total{function="compact",status="partial"} 1`, `tablekeeper_run_tables_total{function="compact",status="failed"} 1`,
		`tablekeeper_run_duration_seconds_sum{function="compact"} 1.5`, `tablekeeper_blocked_seconds_count{function="compact"} 2`, `tablekeeper_blocked_seconds_sum{function="compact"} 0.52`,
		`tablekeeper_recoveries_total{rung="pages"} 1`, `tablekeeper_events_missed_total 0`)
}

// fragile is a history of which the first reading fails.
type fragile struct {
	mu     sync.Mutex
	events []events.Event
	asked  int
}

func (f *fragile) AppendEvents(_ context.Context, list []events.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range list {
		list[i].Sequence = int64(len(f.events) + 1)
		f.events = append(f.events, list[i])
	}
	return nil
}

func (f *fragile) EventsAfter(_ context.Context, after int64, limit int) ([]events.Event, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.asked++; f.asked == 1 {
		return nil, errors.New("busy")
	}
	rest := f.events[after:]
	return slices.Clone(rest[:min(limit, len(rest))]), nil
}

func (f *fragile) EventBounds(context.Context) (first, last int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return 1, int64(len(f.events)), nil
}

// What is too much at once is read from the history, which does not answer at first. A run over many tables has more than its event says.
func TestWhatIsReadFromTheHistoryIsCounted(t *testing.T) {
	const runs = 500
	of := func(n int) []string { return slices.Repeat([]string{`{"status":"backed_up"}`}, n) }
	synctest.Test(t, func(t *testing.T) {
		all := Source{Fleet: fleetOf(t, 1), Active: func() []history.Run { return nil }, Entries: func(context.Context, string) ([]history.Entry, error) {
			var entries []history.Entry
			for i := range 300 {
				entries = append(entries, history.Entry{Table: fmt.Sprint(i), Status: "backed_up"})
			}
			return append(entries, history.Entry{Table: "late", Status: history.EntryPending}), nil
		}}
		m, log := New(all, Options{Now: func() time.Time { return now }}), &fragile{}
		bus := events.NewBus(events.Options{Log: log})
		counted := make(chan struct{})
		go func() { defer close(counted); m.Run(t.Context(), bus) }()
		synctest.Wait()
		publish := func(truncated bool) {
			e := ended("backup", history.Succeeded, of(200)...)
			var o jobs.Outcome
			if err := json.Unmarshal(e.Data, &o); err != nil {
				t.Fatal(err)
			}
			o.Truncated = truncated
			for i := range o.Results {
				o.Results[i].Table = fmt.Sprint(i)
				o.Results[i].Report = nil
			}
			e.Data, _ = json.Marshal(o)
			for range runs {
				bus.Publish(e)
			}
		}
		publish(false)
		time.Sleep(time.Minute)
		if log.asked == 0 {
			t.Fatal("the history was not asked")
		}
		publish(true)
		if err := bus.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-counted
		wantLines(t, scrape(t, m), fmt.Sprintf(`tablekeeper_runs_total{function="backup",status="succeeded"} %d`, 2*runs),
			fmt.Sprintf(`tablekeeper_run_tables_total{function="backup",status="backed_up"} %d`, runs*(200+300)))
	})
}

func ended(function string, status history.Status, reports ...string) events.Event {
	o := jobs.Outcome{RunID: "r", Function: function, Status: status, DurationMS: 1500}
	for _, r := range reports {
		var e history.Entry
		if err := json.Unmarshal([]byte(r), &e); err != nil {
			panic(errors.Join(err, errors.New(r)))
		}
		o.Results = append(o.Results, e)
	}
	data, _ := json.Marshal(o)
	return events.Event{Type: jobs.EventType(function, false), Data: data}
}

// TestTheFilesInDocsUseWhatThereIs holds dashboard and alert rules to the names.
func TestTheFilesInDocsUseWhatThereIs(t *testing.T) {
	m := newMetrics(t, 1)
	for _, o := range []events.Event{ended("compact", history.Succeeded, `{"status":"compacted","blocked_ms":1}`), ended("recover", history.Succeeded, `{"status":"repaired","rung":"pages"}`)} {
		m.count(t.Context(), o)
	}
	text := scrape(t, m)
	name := regexp.MustCompile(`tablekeeper_[a-z_]+`)
	for _, file := range []string{"grafana-dashboard.json", "alert-rules.yml", "metrics.md"} {
		data, err := os.ReadFile(filepath.Join("../../docs", file))
		if err != nil {
			t.Fatal(err)
		}
		if file == "grafana-dashboard.json" && !json.Valid(data) {
			t.Error("the dashboard is no JSON")
		}
		used := name.FindAllString(string(data), -1)
		if len(used) < 5 {
			t.Errorf("%s uses %v", file, used)
		}
		for _, n := range used {
			if !strings.Contains(text, "\n"+n+"{") && !strings.Contains(text, "\n"+n+" ") {
				if family := strings.TrimSuffix(n, "_bucket"); !strings.Contains(text, "# TYPE "+family+" ") {
					t.Errorf("%s uses %s, which there is not", file, n)
				}
			}
		}
	}
	if file, err := os.ReadFile("../../docs/metrics.md"); err == nil {
		for _, line := range strings.Split(text, "\n") {
			if n, ok := strings.CutPrefix(line, "# TYPE tablekeeper_"); ok && !strings.Contains(string(file), "tablekeeper_"+strings.Fields(n)[0]) {
				t.Errorf("docs/metrics.md says nothing of tablekeeper_%s", strings.Fields(n)[0])
			}
		}
	}
}
