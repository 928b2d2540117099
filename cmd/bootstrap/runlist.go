package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tablekeeper/jobs/history"
	"tablekeeper/storage/bucket"
)

// The list of runs is a small object a run, with its head, whose key sorts the newest first. Once a run is over for good its head is written again as it
// ended, so that nobody has to read its marks any more.
const listPrefix = runPrefix + "newest/"

var listed = regexp.MustCompile(`^(\d{13})-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$`)

// farthest is a time in milliseconds after all others, of as many digits.
const farthest = 9_999_999_999_999

// placeOf is where a run is in the list: the cursor of what comes after it.
func placeOf(run history.Run) string {
	return fmt.Sprintf("%013d-%s", farthest-run.Queued.UnixMilli(), run.ID)
}

// enlist puts a run on the list. That it is there already is no error.
func (r *runs) enlist(ctx context.Context, run history.Run) error {
	err := r.writeHead(ctx, run, bucket.PutOptions{IfAbsent: true})
	if errors.Is(err, bucket.ErrExists) {
		return nil
	}
	return err
}

func (r *runs) writeHead(ctx context.Context, run history.Run, opts bucket.PutOptions) error {
	run.Entries, run.Event = nil, nil // the run itself has them
	text, err := json.Marshal(run)
	if err == nil {
		_, err = r.state.Put(ctx, listPrefix+placeOf(run)+".json", bytes.NewReader(text), opts)
	}
	if err != nil {
		return fmt.Errorf("list run %s: %w", run.ID, err)
	}
	return nil
}

const (
	defaultPage = 50
	// lookedThrough is how many runs one page looks through for those that a filter wants. It may be empty and not be the last.
	lookedThrough = 200
)

// List implements admin.History: the runs that the admin API has begun, newest first.
func (r *runs) List(ctx context.Context, f history.Filter) (history.Page, error) {
	page := history.Page{Runs: []history.Run{}}
	limit := cmp.Or(f.Limit, defaultPage)
	places, more, err := r.places(ctx, f, max(limit, lookedThrough))
	if err != nil {
		return page, err
	}
	for len(places) > 0 {
		n := min(len(places), max(limit-len(page.Runs), 1))
		some, err := r.heads(ctx, places[:n], f)
		if err != nil {
			return page, err
		}
		page.Runs = append(page.Runs, some...)
		last := places[n-1]
		if places = places[n:]; len(page.Runs) >= limit || len(places) == 0 {
			if more || len(places) > 0 {
				page.Next = last
			}
			break
		}
	}
	return page, nil
}

// places are those of the runs that were queued in the time of a filter, n at most; and whether there are more.
func (r *runs) places(ctx context.Context, f history.Filter, n int) (all []string, more bool, err error) {
	after := ""
	if f.Cursor != "" {
		if !listed.MatchString(f.Cursor) {
			return nil, false, history.ErrCursor
		}
		after = listPrefix + f.Cursor + ".json"
	}
	for info, err := range r.state.List(ctx, listPrefix, after) {
		if err != nil {
			return nil, false, fmt.Errorf("list the runs: %w", err)
		}
		place := strings.TrimSuffix(path.Base(info.Key), ".json")
		parts := listed.FindStringSubmatch(place)
		if parts == nil {
			continue
		}
		ms, _ := strconv.ParseInt(parts[1], 10, 64) // 13 digits
		queued := time.UnixMilli(farthest - ms)
		switch {
		case !f.Until.IsZero() && !queued.Before(f.Until):
			continue
		case !f.Since.IsZero() && queued.Before(f.Since):
			return all, false, nil // and all that come after
		case len(all) == n:
			return all, true, nil
		}
		all = append(all, place)
	}
	return all, false, nil
}

// heads are those of the runs at some places that a filter wants, in the same order.
func (r *runs) heads(ctx context.Context, places []string, f history.Filter) ([]history.Run, error) {
	var wg sync.WaitGroup
	found, wanted, errs := make([]history.Run, len(places)), make([]bool, len(places)), make([]error, len(places))
	slots := make(chan struct{}, readers)
	for i, place := range places {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			found[i], wanted[i], errs[i] = r.head(ctx, place, f)
			if errors.Is(errs[i], fs.ErrNotExist) {
				wanted[i], errs[i] = false, nil // it has just expired
			}
		})
	}
	wg.Wait()
	all := []history.Run{}
	for i, run := range found {
		if wanted[i] {
			all = append(all, run)
		}
	}
	return all, errors.Join(errs...)
}

// head is the run at a place as it is now, if a filter wants it.
func (r *runs) head(ctx context.Context, place string, f history.Filter) (run history.Run, wanted bool, err error) {
	text, err := readAll(ctx, r.state, listPrefix+place+".json")
	if err == nil {
		err = json.Unmarshal(text, &run)
	}
	if err != nil {
		return run, false, fmt.Errorf("read the list of runs: %w", err)
	}
	if f.Function != "" && run.Function != f.Function || f.Trigger != "" && run.Trigger != f.Trigger || f.Job != "" && run.Job != f.Job {
		return run, false, nil
	}
	if f.Table != "" || !run.Status.Ended() {
		a, err := r.read(ctx, run.ID)
		if err != nil {
			return run, false, err
		}
		if f.Table != "" && !slices.Contains(a.Tables, f.Table) {
			return run, false, nil
		}
		if run, err = r.settle(ctx, run, a); err != nil {
			return run, false, err
		}
	}
	return run, len(f.Statuses) == 0 || slices.Contains(f.Statuses, string(run.Status)), nil
}

const (
	// few tables have their marks read at each look; of more, only when each has one.
	few = 100
	// retried is how long a table that failed may be tried again: three times, with the waiting.
	retried = 3 * time.Hour
)

// settle finds out how a run goes, unless its head says how it ended.
func (r *runs) settle(ctx context.Context, run history.Run, a asked) (history.Run, error) {
	if run.Status.Ended() {
		return run, nil
	}
	if len(a.Tables) > few {
		n, err := r.begun(ctx, a)
		if err != nil || n < len(a.Tables) {
			if run.Status = history.Queued; n > 0 {
				run.Status = history.Running
			}
			return run, err
		}
	}
	now, err := r.now(ctx, a)
	if err != nil {
		return run, err
	}
	now.Entries, now.Event = nil, nil
	if now.Status == history.Succeeded || now.Status.Ended() && r.Now().Sub(now.Queued) > retried {
		if err := r.writeHead(ctx, now, bucket.PutOptions{}); err != nil {
			r.Log.Warn("the list of runs is read more slowly than it could be", "run", now.ID, "error", err)
		}
	}
	return now, nil
}

// begun is how many tables of a run have a mark.
func (r *runs) begun(ctx context.Context, a asked) (n int, err error) {
	for _, err := range r.state.List(ctx, a.marks(), "") {
		if err != nil {
			return n, fmt.Errorf("look how run %s goes: %w", a.Run.ID, err)
		}
		n++
	}
	return n, nil
}
