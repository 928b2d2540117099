package metrics

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tablekeeper/storage/shelf/health"
)

// fleet asks for the tables at each scrape. Measuring is cheap where nothing has changed (package health), so nothing is kept here.
type fleet struct {
	source Source
	now    func() time.Time

	size, free, wal, age, rpo, proved, verdict *prometheus.Desc
	tables, runs, alerts, broken               *prometheus.Desc
}

func newFleet(source Source, now func() time.Time) *fleet {
	table := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, append([]string{"table"}, more...), nil)
	}
	whole := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &fleet{source: source, now: now,
		size:    table("table_size_bytes", "Size of the table's main file."),
		free:    table("table_free_ratio", "Share of the table's pages that are free, 0 to 1."),
		wal:     table("table_wal_bytes", "Size of the table's write-ahead log."),
		age:     table("table_backup_age_seconds", "Time since the table was last known to equal a backup. Missing: there is none."),
		rpo:     table("table_rpo_seconds", "Age beyond which the last backup is overdue."),
		proved:  table("table_proved_age_seconds", "Time since a drill last restored the table's backup. Missing: none did."),
		verdict: table("table_health", "1 for the health that the table is in.", "health"),
		tables:  whole("tables", "Tables by health.", "health"),
		runs:    whole("runs_active", "Runs under way, by function and status (queued, running).", "function", "status"),
		alerts:  whole("alerts_open", "Alerts that last, by severity.", "severity"),
		broken:  whole("scrape_incomplete", "1 if the tables could not be looked at."),
	}
}

// Describe implements prometheus.Collector.
func (f *fleet) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{f.size, f.free, f.wal, f.age, f.rpo, f.proved, f.verdict, f.tables, f.runs, f.alerts, f.broken} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (f *fleet) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	reports, err := f.source.Fleet.All(ctx)
	incomplete := 0.0
	if err != nil {
		incomplete = 1
	}
	gauge(f.broken, incomplete)
	byHealth := map[health.Verdict]int{}
	for _, r := range reports {
		byHealth[r.Health]++
		f.table(r, gauge)
	}
	for _, verdict := range health.Verdicts() {
		gauge(f.tables, float64(byHealth[verdict]), string(verdict))
	}
	type kind struct{ function, status string }
	active := map[kind]int{}
	for _, run := range f.source.Active() {
		active[kind{run.Function, string(run.Status)}]++
	}
	for k, n := range active {
		gauge(f.runs, float64(n), k.function, k.status)
	}
	if f.source.Alerts != nil {
		for severity, n := range f.source.Alerts() {
			gauge(f.alerts, float64(n), severity)
		}
	}
}

func (f *fleet) table(r health.Report, gauge func(*prometheus.Desc, float64, ...string)) {
	now := f.now()
	gauge(f.verdict, 1, r.Table, string(r.Health))
	gauge(f.rpo, seconds(r.RPOMS), r.Table)
	if !r.LastBackup.IsZero() {
		gauge(f.age, max(0, now.Sub(r.LastBackup).Seconds()), r.Table)
	}
	if !r.LastProved.IsZero() {
		gauge(f.proved, max(0, now.Sub(r.LastProved).Seconds()), r.Table)
	}
	if r.Missing || r.Health == health.Error {
		return // there is no size to tell
	}
	gauge(f.size, float64(r.Bytes), r.Table)
	gauge(f.free, r.FreeRatio, r.Table)
	gauge(f.wal, float64(r.WALBytes), r.Table)
}
