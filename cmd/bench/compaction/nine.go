package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"tablekeeper"
	"tablekeeper/functions"
	"tablekeeper/functions/compact"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/jobs/template"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/stores"
	"tablekeeper/storage/table"
)

const offeredToEach = 20 * time.Millisecond // between two writes to one of the nine

// nine has the runner compact the nine tables of the stores, each of so many megabytes, as it does on schedule, and prints the longest writes.
func (b *bench) nine(ctx context.Context, size int) (err error) {
	dir, err := os.MkdirTemp(b.dir, "tablekeeper-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary
	f := fleet{dir: dir}
	if f.shelf, err = shelf.Open(nil, shelf.Options{}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.shelf.CloseOwned()) }()
	schemas := stores.Schemas()
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		fmt.Fprintf(b.progress, "%s, %d MB\n", name, size)
		if err := f.add(ctx, name, schemas[name], size); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if _, err := f.shelf.Refresh(ctx); err != nil {
		return err
	}
	without, err := f.underLoad(func() error { time.Sleep(baseline); return nil })
	if err != nil {
		return err
	}
	start := time.Now()
	var run history.Run
	during, err := f.underLoad(func() (err error) {
		run, err = f.schedule(ctx)
		start, run.DurationMS = time.Now(), time.Since(start).Milliseconds()
		time.Sleep(after)
		return err
	})
	if err == nil && len(run.Entries) != len(f.names) {
		err = fmt.Errorf("the run was of %d tables", len(run.Entries))
	}
	if err != nil {
		return err
	}
	f.print(b.stdout, size, run, without, during)
	return nil
}

// fleet are tables under load.
type fleet struct {
	dir   string
	shelf *shelf.Shelf
	names []string
	users []user
	rows  int
}

// add makes a table half of which is free.
func (f *fleet) add(ctx context.Context, name, schema string, size int) error {
	handle, err := f.shelf.Own(ctx, name, filepath.Join(f.dir, name+".db"), shelf.OwnOptions{
		Schema:  []string{schema},
		Recover: func(_ context.Context, _ string, r table.Report) error { return r.Err },
	})
	if err != nil {
		return err
	}
	f.rows = size * 1000
	for _, statement := range []string{
		schema,
		"CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, v BLOB)",
		fmt.Sprintf(`WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < %d)
			INSERT INTO t SELECT n, 'name of row '||n, randomblob(900) FROM c`, f.rows),
		"CREATE INDEX t_name ON t(name)",
		"DELETE FROM t WHERE id / 100 % 2 = 0",
	} {
		err := handle.Write(ctx, func(tx *sql.Tx) error { _, err := tx.ExecContext(ctx, statement); return err })
		if err != nil {
			return err
		}
	}
	_, err = handle.Checkpoint(ctx)
	f.names, f.users = append(f.names, name), append(f.users, owned(ctx, handle))
	return err
}

// underLoad has every table written and read while do lasts, and returns the writes of each.
func (f *fleet) underLoad(do func() error) (writes [][]latency, err error) {
	var all []*users
	for _, u := range f.users {
		all = append(all, begin(u, f.rows, offeredToEach))
	}
	err = do()
	for _, s := range all {
		w, _, endErr := s.end()
		writes, err = append(writes, w), errors.Join(err, endErr)
	}
	return writes, err
}

// schedule runs the function as the service does when its time has come.
func (f *fleet) schedule(ctx context.Context) (run history.Run, err error) {
	declared, err := template.Read("template.yaml", tablekeeper.Template, nil)
	if err != nil {
		return run, err
	}
	store, err := history.Open(ctx, filepath.Join(f.dir, history.File), history.Options{})
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	runner, err := jobs.New(jobs.Config{Template: declared, History: store, Functions: map[string]jobs.Function{
		"compact": scheduled{compact.New(compact.Config{Shelf: f.shelf})},
	}})
	if err != nil {
		return run, err
	}
	run, err = runner.Invoke(ctx, jobs.Invocation{Function: "compact", Trigger: jobs.TriggerSchedule})
	return run, errors.Join(err, runner.Shutdown(ctx))
}

// scheduled is the function as the runner knows it.
type scheduled struct{ *compact.Function }

func (s scheduled) Tables(ctx context.Context, event json.RawMessage) ([]string, error) {
	var e compact.Event
	if err := functions.Decode(event, &e); err != nil {
		return nil, err
	}
	return s.Function.Tables(ctx, e)
}

func (s scheduled) Run(ctx context.Context, call jobs.Call) (json.RawMessage, error) {
	entry, err := s.Function.Run(ctx, compact.Event{}, call.Table, functions.Progress{})
	report, encodeErr := json.Marshal(entry)
	return report, errors.Join(err, encodeErr)
}

func (f *fleet) print(w io.Writer, size int, run history.Run, without, during [][]latency) {
	type report struct {
		Strategy string `json:"strategy"`
		CutUS    int64  `json:"cut_us"`
	}
	reports := map[string]report{}
	for _, e := range run.Entries {
		var r report
		if err := json.Unmarshal(e.Report, &r); err != nil {
			r.Strategy = err.Error()
		}
		reports[e.Table] = r
	}
	fmt.Fprintf(w, "A scheduled run over the nine tables of the stores, %d MB each, half of it free, all under load: %s in %.1f s; load average now: %s\n\n",
		size, run.Status, float64(run.DurationMS)/1000, load())
	fmt.Fprintln(w, "| table | strategy | cut | write p99 | max | p99, max without |\n|---|---|---|---|---|---|")
	for i, name := range f.names {
		_, idle99, idle := quantiles(durations(without[i]))
		_, p99, most := quantiles(durations(during[i]))
		r := reports[name]
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s, %s |\n", name, r.Strategy, ms(r.CutUS), ms(p99), ms(most), ms(idle99), ms(idle))
	}
	fmt.Fprintln(w)
}
