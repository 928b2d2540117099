package admin

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"tablekeeper/jobs/history"
)

// sheet is a list in the form that was asked for.
type sheet struct {
	Kind string `header:"Content-Type"`
	Name string `header:"Content-Disposition"`
	Vary string `header:"Vary"`
	Body []byte
}

func (s *Server) registerPast(api huma.API) {
	records := huma.SchemaFromType(api.OpenAPI().Components.Schemas, typeOf[history.Records]())
	compactions := s.operation(http.MethodGet, "/compactions", "list-compactions", "runs", "The history of compactions: a line for each table of each run, newest first")
	compactions.Responses = map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{
		"application/json": {Schema: records}, "text/csv": {Schema: &huma.Schema{Type: huma.TypeString}},
	}}}
	huma.Register(api, compactions, func(ctx context.Context, in *struct {
		Span
		Accept string `header:"Accept"`
		Format string `query:"format" enum:"json,csv" doc:"instead of the header Accept, for links"`
	}) (*sheet, error) {
		f := in.filter()
		f.Function = "compact"
		list, err := s.History.Entries(ctx, f)
		if err != nil {
			return nil, explain(err)
		}
		if in.Format == "csv" || in.Format == "" && wantsCSV(in.Accept) {
			return csvOf(list)
		}
		body, err := json.Marshal(list)
		return &sheet{Kind: "application/json", Vary: "Accept", Body: body}, explain(err)
	})
	huma.Register(api, s.operation(http.MethodGet, "/recoveries", "list-recoveries", "runs", "What was recovered, or restored, newest first"),
		func(ctx context.Context, in *struct {
			Span
			Function string `query:"function" default:"recover" enum:"recover,restore"`
		}) (*answer[history.Records], error) {
			f := in.filter()
			f.Function = in.Function
			return reply(s.History.Entries(ctx, f))
		})
}

// wantsCSV tells whether CSV is asked for before JSON.
func wantsCSV(accept string) bool {
	kinds := strings.Split(accept, ",")
	place := func(kind string) int {
		return slices.IndexFunc(kinds, func(k string) bool {
			k, _, _ = strings.Cut(k, ";")
			return strings.EqualFold(strings.TrimSpace(k), kind)
		})
	}
	csvAt, jsonAt := place("text/csv"), place("application/json")
	return csvAt >= 0 && (jsonAt < 0 || csvAt < jsonAt)
}

var csvColumns = []string{"timestamp", "table", "status", "reason", "duration_ms", "bytes_before", "bytes_after", "blocked_ms", "trigger", "actor", "run_id"}

func csvOf(list history.Records) (*sheet, error) {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	rows := [][]string{csvColumns}
	for _, r := range list.Records {
		var report struct {
			Before  int64 `json:"bytes_before"`
			After   int64 `json:"bytes_after"`
			Blocked int64 `json:"blocked_ms"`
		}
		// Figures that are not there are zero.
		_ = json.Unmarshal(r.Entry.Report, &report)
		at := r.Ended
		if at.IsZero() {
			at = r.Started
		}
		rows = append(rows, []string{
			at.UTC().Format(time.RFC3339), cell(r.Entry.Table), cell(r.Entry.Status), cell(r.Entry.Reason), number(r.Entry.DurationMS),
			number(report.Before), number(report.After), number(report.Blocked), cell(r.Trigger), cell(r.Actor), cell(r.RunID),
		})
	}
	if err := w.WriteAll(rows); err != nil {
		return nil, fmt.Errorf("write the list: %w", err)
	}
	return &sheet{Kind: "text/csv; charset=utf-8", Name: `attachment; filename="compactions.csv"`, Vary: "Accept", Body: b.Bytes()}, nil
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// cell keeps a spreadsheet from taking a text for a formula (OWASP, CSV Injection).
func cell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}
