package main

import (
	"context"
	"encoding/json"

	"tablekeeper/functions"
	"tablekeeper/functions/backup"
	"tablekeeper/functions/compact"
	"tablekeeper/storage/shelf"
)

// absent does a job without the content of its table: where that has not changed, there is nothing to be done. Else the answer is errAbsent.
func (h *handler) absent(ctx context.Context, j job, v visit) (json.RawMessage, error) {
	switch h.set.Function {
	case "backup":
		return h.unchanged(ctx, j, v)
	case "compact":
		if entry := h.foundBefore(j, v); entry != nil {
			return entry, nil
		}
	}
	return nil, errAbsent
}

func (h *handler) unchanged(ctx context.Context, j job, v visit) (json.RawMessage, error) {
	var event backup.Event
	if err := functions.Decode(j.Event, &event); err != nil {
		return nil, err
	}
	entry, ok, err := h.backup(v).Untouched(ctx, event, j.Table)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errAbsent
	}
	return json.Marshal(entry)
}

// belowThreshold is the reason of a compaction that found little to gain.
const belowThreshold = "below_threshold"

// thresholdOf is by what a compaction decides; known is false for one that does not decide by the share of free pages alone.
func (h *handler) thresholdOf(j job) (threshold float64, known bool) {
	var event compact.Event
	if functions.Decode(j.Event, &event) != nil || event.Force || event.DryRun {
		return 0, false
	}
	if event.Threshold != nil {
		return *event.Threshold, true
	}
	return h.set.Threshold, true
}

// find keeps what a compaction said of a table that it left as it is.
func (h *handler) find(v visit, j job, entry json.RawMessage) {
	var e functions.Entry
	threshold, known := h.thresholdOf(j)
	if known && json.Unmarshal(entry, &e) == nil && e.Status == functions.Skipped && e.Reason == belowThreshold {
		v.keep(&finding{Threshold: threshold, Entry: entry})
	}
}

// foundBefore is what a compaction would say again.
func (h *handler) foundBefore(j job, v visit) json.RawMessage {
	threshold, known := h.thresholdOf(j)
	if !known || v.found == nil || v.found.Threshold != threshold {
		return nil
	}
	t, err := v.shelf.Get(j.Table)
	if err != nil || (t.State != "" && t.State != shelf.Healthy) {
		return nil // the function has more to say
	}
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(v.found.Entry, &fields) != nil {
		return nil
	}
	fields["detail"], fields["duration_ms"] = json.RawMessage(`"it was not written since it was last looked at, so its content was not fetched"`), json.RawMessage("0")
	entry, err := json.Marshal(fields)
	if err != nil {
		return nil
	}
	return entry
}
