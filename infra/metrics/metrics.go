// Package metrics shows the fleet to Prometheus: what each table is like now, and how runs went since the start.
//
// Tables and alerts are asked for when somebody scrapes; runs are counted as the bus tells of them. Who may scrape, and where, is decided by
// whoever serves the handler. docs/metrics.md lists the names.
package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"tablekeeper/jobs"
	"tablekeeper/jobs/events"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/shelf/health"
)

// Source is what is asked at a scrape. Fleet and Active are required.
type Source struct {
	Fleet  *health.Watch
	Active func() []history.Run
	Alerts func() map[string]int // open alerts by severity; nil: no alerts are configured
	// Entries are all entries of a run: the event at the end of a large one has only some. nil: those have to do.
	Entries func(ctx context.Context, runID string) ([]history.Entry, error)
}

// Options of Metrics. Zero fields are the defaults.
type Options struct {
	Version string
	Now     func() time.Time // default time.Now
	Logger  *slog.Logger     // default: discards
}

// Metrics are the counters and the registry that they are in: its own, so that nothing is shown that nobody chose.
type Metrics struct {
	registry *prometheus.Registry
	runs     *prometheus.CounterVec
	tables   *prometheus.CounterVec
	took     *prometheus.HistogramVec
	blocked  *prometheus.HistogramVec
	rungs    *prometheus.CounterVec
	lost     prometheus.Counter
	entries  func(ctx context.Context, runID string) ([]history.Entry, error)
	log      *slog.Logger
}

const namespace = "tablekeeper"

// buckets of durations, in seconds: from the pause of a table to the longest run that Lambda allows.
var (
	runBuckets   = []float64{.01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 300, 900}
	blockBuckets = []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// New makes the metrics of a fleet.
func New(source Source, opts Options) *Metrics {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Metrics{registry: prometheus.NewRegistry(), log: opts.Logger, entries: source.Entries,
		runs:    counter("runs_total", "Runs that have ended.", "function", "status"),
		tables:  counter("run_tables_total", "Tables that runs have worked on.", "function", "status"),
		took:    histogram("run_duration_seconds", "How long runs took.", runBuckets, "function"),
		blocked: histogram("blocked_seconds", "The longest that a user of a table was held up, for each table of each run.", blockBuckets, "function"),
		rungs:   counter("recoveries_total", "Recoveries, by the rung of the ladder that ended them.", "rung"),
		lost:    prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "events_missed_total", Help: "Events that the metrics were too slow for."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info", Help: "The version that runs.", ConstLabels: prometheus.Labels{"version": opts.Version}})
	build.Set(1)
	m.registry.MustRegister(m.runs, m.tables, m.took, m.blocked, m.rungs, m.lost, build, newFleet(source, opts.Now),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
}

func histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, labels)
}

// scrapePatience is for how long one scrape may look at the tables.
const scrapePatience = 10 * time.Second

// Handler answers a scrape.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Timeout: scrapePatience, MaxRequestsInFlight: 4, ErrorLog: slog.NewLogLogger(m.log.Handler(), slog.LevelError)})
}

// Run counts what the bus tells until ctx ends.
func (m *Metrics) Run(ctx context.Context, bus *events.Bus) {
	sub := bus.Subscribe(events.SubscribeOptions{Want: func(e events.Event) bool { return e.Type != events.RunProgress }})
	defer sub.Close()
	var lost int64
	for {
		e, err := sub.Next(ctx)
		switch {
		case ctx.Err() != nil || errors.Is(err, events.ErrClosed):
			return
		case err != nil:
			m.log.Error("events were not read; they are asked for again", "error", err)
			pause(ctx)
			continue
		}
		m.count(ctx, e)
		m.lost.Add(float64(sub.Lost() - lost))
		lost = sub.Lost()
	}
}

// again is after how long a history is asked once more that did not answer.
const again = 10 * time.Second

func pause(ctx context.Context) {
	timer := time.NewTimer(again)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// count takes one event. Those that are not the end of a run have no run_id and no function.
func (m *Metrics) count(ctx context.Context, e events.Event) {
	var o jobs.Outcome
	if json.Unmarshal(e.Data, &o) != nil || o.RunID == "" || o.Function == "" || o.Status == "" {
		return
	}
	m.runs.WithLabelValues(o.Function, string(o.Status)).Inc()
	m.took.WithLabelValues(o.Function).Observe(seconds(o.DurationMS))
	if o.Truncated && m.entries != nil {
		all, err := m.entries(ctx, o.RunID)
		if err != nil {
			m.log.Warn("not all tables of a run are counted", "run", o.RunID, "error", err)
		}
		o.Add(all)
	}
	for _, entry := range o.Results {
		m.tables.WithLabelValues(o.Function, entry.Status).Inc()
		var report struct {
			BlockedMS *int64 `json:"blocked_ms"`
			Rung      string `json:"rung"`
		}
		if json.Unmarshal(entry.Report, &report) != nil {
			continue
		}
		// What held nobody up because it was skipped would hide in the average what did. A compaction that was interrupted did.
		if report.BlockedMS != nil && (entry.Status != history.EntrySkipped || *report.BlockedMS > 0) {
			m.blocked.WithLabelValues(o.Function).Observe(seconds(*report.BlockedMS))
		}
		if o.Function == "recover" && report.Rung != "" {
			m.rungs.WithLabelValues(report.Rung).Inc()
		}
	}
}

func seconds(ms int64) float64 { return float64(ms) / 1000 }
