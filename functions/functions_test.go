package functions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tablekeeper/storage/archive"
	"tablekeeper/storage/bucket"
	"tablekeeper/storage/shelf"
	"tablekeeper/storage/table"
)

type event struct {
	Tables []string `json:"tables"`
	Force  bool     `json:"force"`
	Limit  int64    `json:"limit"`
}

func TestDecode(t *testing.T) {
	cases := []struct {
		event string
		want  event
		err   string
		hint  string
	}{
		{"", event{}, "", ""},
		{" null ", event{}, "", ""},
		{"{}", event{}, "", ""},
		{`{"tables":["a","b*"],"force":true,"limit":3}`, event{[]string{"a", "b*"}, true, 3}, "", ""},
		{`{"table":["a"]}`, event{}, `unknown field "table"`, `did you mean "tables"?`},
		{`{"Force":true}`, event{}, `unknown field "Force"`, `did you mean "force"?`},
		{`{"zzzzzzzzz":1}`, event{}, `unknown field "zzzzzzzzz"`, "known fields: tables, force, limit"},
		{`{"tables":"a"}`, event{}, `"tables" cannot be a string`, `it is a list, such as ["*"]`},
		{`{"force":1}`, event{}, `"force" cannot be a number`, "it is a true or false"},
		{`{"force":true,"force":false}`, event{}, `"force" is given twice`, ""},
		{`[]`, event{}, "no JSON object", ""},
		{`{} {}`, event{}, "something follows", ""},
		{`{"force":`, event{}, "ends in the middle", ""},
		{`{"force":true`, event{}, "ends in the middle", ""},
		{`{1:2}`, event{}, "invalid", ""},
		{"\x00", event{}, "no JSON object", ""},
	}
	for _, c := range cases {
		var got event
		err := Decode([]byte(c.event), &got)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: error %v, want %q", c.event, err, c.err)
		}
		var e *EventError
		if errors.As(err, &e) && (!strings.Contains(e.Hint(), c.hint) || !e.Permanent()) {
			t.Errorf("%s: hint %q, want %q", c.event, e.Hint(), c.hint)
		}
		if err == nil && fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %+v", c.event, got)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"", "{}", `{"tables":["a"]}`, `{"tables":{}}`, `{"force":true,"force":1}`, `{"limit":1e99}`, "{\"a\":\xff}"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got event
		var e *EventError
		if err := Decode(text, &got); err != nil && !errors.As(err, &e) {
			t.Errorf("%q: %v is no EventError", text, err)
		}
	})
}

func TestReasonOf(t *testing.T) {
	cases := map[string]error{
		"corrupt":            fmt.Errorf("x: %w", &table.CorruptError{Path: "p"}),
		"bucket_unreachable": fmt.Errorf("x: %w", bucket.ErrUnreachable),
		"backup_truncated":   fmt.Errorf("x: %w", archive.ErrTruncated),
		"timeout":            fmt.Errorf("x: %w", errors.Join(table.ErrBusy, context.DeadlineExceeded)),
		"overdue":            fmt.Errorf("x: %w", &Failure{Reason: "overdue", Err: fs.ErrNotExist}),
		"not_found":          &Failure{Err: fs.ErrNotExist},
		"error":              errors.New("anything"),
	}
	for want, err := range cases {
		if got := ReasonOf(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
}

func TestAnUnreachableBucketIsNoBadBackup(t *testing.T) {
	for err, want := range map[error]bool{
		archive.ErrSum: true, archive.ErrFormat: true, archive.ErrTruncated: true, ErrNotAsDescribed: true, fs.ErrNotExist: true,
		bucket.ErrUnreachable: false, bucket.ErrNoBucket: false, bucket.ErrDenied: false, archive.ErrWrongKey: false, archive.ErrNewer: false,
		table.ErrNoSpace: false, context.Canceled: false, errors.New("anything"): false, errors.Join(archive.ErrSum, bucket.ErrUnreachable): false,
	} {
		if got := BadBackup(fmt.Errorf("open: %w", err)); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestEntryIsFlatInAReport(t *testing.T) {
	var report struct {
		Entry
		Key string `json:"key"`
	}
	report.Table = "a"
	report.End(bucket.ErrUnreachable, 1500*time.Microsecond)
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"table":"a","status":"failed","reason":"bucket_unreachable","detail":"bucket cannot be reached now","duration_ms":1,"blocked_ms":0,"retried":0,"key":""}`
	if string(text) != want {
		t.Errorf("%s", text)
	}
}

// silent is a bucket that takes a mark and never answers.
type silent struct{}

func (silent) MarkFailed(ctx context.Context, _ archive.Key, _ time.Time) error {
	<-ctx.Done()
	return fmt.Errorf("mark: %w", context.Cause(ctx))
}

// What happens even if the context has ended does not hold up a shutdown for ever, and keeps what it can.
func TestAnAccusationEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app.db")
	key, err := archive.ParseKey("app/20261122T100000.000Z-00000000.db.zst")
	if err != nil {
		t.Fatal(err)
	}
	if err := shelf.WriteRecord(path, shelf.Record{Table: "app", Bucket: "b", Key: key.String()}); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := Accuse(ctx, silent{}, path, "b", key, time.Now(), archive.ErrSum); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
	if record, err := shelf.ReadRecord(path); err != nil || record.Distrust == "" {
		t.Errorf("%+v, %v", record, err)
	}
}
