package admin

import (
	"bytes"
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/jobs/history"
)

// Entry stands for history.Entry in the description of the API: what a function reports of one table, with fields of its own beside these.
type Entry struct{}

// Schema implements huma.SchemaProvider.
func (Entry) Schema(huma.Registry) *huma.Schema {
	return object("What a function reports of one table. Each function adds fields of its own.", entryFields())
}

func object(about string, fields map[string]*huma.Schema) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Description: about, AdditionalProperties: true, Properties: fields}
}

func text(about string) *huma.Schema { return &huma.Schema{Type: huma.TypeString, Description: about} }

func integer(about string) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Format: "int64", Description: about}
}

func entryFields() map[string]*huma.Schema {
	return map[string]*huma.Schema{
		"table": text(""), "status": text("compacted, skipped, backed_up, verified, restored, repaired, degraded, swept, failed; pending, running, lost"),
		"reason": text("one word, for programs"), "detail": text("a sentence, for people"), "error": text(""), "hint": text("the next step"),
		"duration_ms": integer(""), "blocked_ms": integer("the longest that a user of the table was held up"), "retried": {Type: huma.TypeBoolean}, "attempts": integer(""),
	}
}

// Result is how a run ended, or that it is queued.
type Result struct {
	RunID      string          `json:"run_id"`
	Function   string          `json:"function"`
	Status     history.Status  `json:"status"`
	Location   string          `json:"location,omitempty" doc:"where to look, while it is not over"`
	Reason     string          `json:"reason,omitempty"`
	Error      string          `json:"error,omitempty"`
	Hint       string          `json:"hint,omitempty"`
	DurationMS int64           `json:"duration_ms"`
	Counts     history.Counts  `json:"counts"`
	Results    []history.Entry `json:"results"`
}

func resultOf(run history.Run) Result {
	r := Result{RunID: run.ID, Function: run.Function, Status: run.Status, Reason: run.Reason, Error: run.Error, Hint: run.Hint,
		DurationMS: run.DurationMS, Counts: run.Counts, Results: run.Entries}
	if r.Results == nil {
		r.Results = []history.Entry{}
	}
	if !run.Status.Ended() {
		r.Location = Prefix + "/runs/" + run.ID
	}
	return r
}

// TableResult is how a run about one table ended: the table's entry, and which run it was.
type TableResult struct {
	table string
	run   history.Run
}

// MarshalJSON puts the run beside the fields of the entry.
func (t TableResult) MarshalJSON() ([]byte, error) {
	fields := map[string]any{"table": t.table, "status": t.run.Status, "duration_ms": t.run.DurationMS}
	for name, value := range map[string]string{"reason": t.run.Reason, "error": t.run.Error, "hint": t.run.Hint} {
		if value != "" {
			fields[name] = value
		}
	}
	for _, e := range t.run.Entries {
		entry, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		if err := decodeInto(entry, fields); err != nil {
			return nil, err
		}
	}
	fields["run_id"], fields["function"], fields["run_status"] = t.run.ID, t.run.Function, t.run.Status
	if !t.run.Status.Ended() {
		fields["location"] = Prefix + "/runs/" + t.run.ID
	}
	return json.Marshal(fields)
}

// decodeInto keeps numbers as they are: some are larger than a float64 holds exactly.
func decodeInto(data []byte, fields map[string]any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return d.Decode(&fields)
}

// Schema implements huma.SchemaProvider.
func (TableResult) Schema(huma.Registry) *huma.Schema {
	fields := entryFields()
	fields["run_id"], fields["function"], fields["run_status"] = text(""), text(""), text("of the run as a whole")
	fields["location"] = text("where to look, while it is not over")
	for _, name := range []string{"backup_used", "destination", "quarantine"} {
		fields[name] = text("of a restore")
	}
	fields["record_count"], fields["file_size"] = integer("of a restore, a backup or a drill"), integer("of the database, in bytes")
	return object("How a run about one table ended: the table's entry, and which run it was.", fields)
}
