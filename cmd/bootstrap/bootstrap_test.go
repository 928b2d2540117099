package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"tablekeeper/functions"
	"tablekeeper/storage/shelf"
)

// entryOf is the report of one table.
func entryOf(t *testing.T, r report, i int) functions.Entry {
	t.Helper()
	var e functions.Entry
	if i >= len(r.Entries) {
		t.Fatalf("%d entries: %+v", len(r.Entries), r)
	}
	if err := json.Unmarshal(r.Entries[i], &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTheCycleOnLambda(t *testing.T) {
	w := newWorld(t)
	w.Make("app", 300)
	w.upload("app")
	back := w.function("backup")
	if e := entryOf(t, back.must("1", `{"tables":["app"]}`), 0); e.Status != functions.BackedUp {
		t.Fatalf("%+v", e)
	}
	if e := entryOf(t, back.must("2", `{"tables":["app"]}`), 0); e.Status != functions.Skipped || e.Reason != "unchanged" || !strings.Contains(e.Detail, "was not fetched") {
		t.Errorf("%+v", e) // it was not even read
	}
	before := w.Rows(w.download("app"))
	comp := w.function("compact")
	w.Exec("app", "DELETE FROM items WHERE id % 4 > 0")
	w.upload("app")
	want := w.Rows(w.Path("app"))
	if e := entryOf(t, comp.must("3", `{"tables":["app"]}`), 0); e.Status != functions.Compacted {
		t.Errorf("%+v", e)
	}
	if got := w.Rows(w.download("app")); got != want {
		t.Error("compaction changed the content")
	}
	if r := w.function("verify").must("4", `{"tables":["app"]}`); entryOf(t, r, 0).Status != functions.Verified {
		t.Errorf("%+v", r)
	}
	if w.stored("app")[0].Proved.IsZero() {
		t.Error("the backup is not marked as proved")
	}
	if r := w.function("restore").must("5", `{"table":"app"}`); entryOf(t, r, 0).Status != functions.Restored {
		t.Errorf("%+v", r)
	}
	if got := w.Rows(w.download("app")); got != before {
		t.Error("the restored table is another one")
	}
	if n := w.count(quarantinePrefix); n == 0 {
		t.Error("what was replaced is not kept")
	}
	line := metric(t, back, "BytesStored")
	if line["Function"] != "backup" || line["BytesStored"].(float64) <= 0 {
		t.Errorf("%v", line)
	}
}

// metric is the first line of standard output with a metric of that name.
func metric(t *testing.T, h *lambdaHost, name string) map[string]any {
	t.Helper()
	for lines := bufio.NewScanner(strings.NewReader(h.stdout.String())); lines.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("%v: %s", err, lines.Text())
		}
		if _, ok := line[name]; ok && line["_aws"] != nil {
			return line
		}
	}
	t.Fatalf("no metric %s in\n%s", name, h.stdout)
	return nil
}

func TestErrorsHaveTypes(t *testing.T) {
	w := newWorld(t)
	w.Make("app", 10)
	w.upload("app")
	w.Make("bad", 300)
	w.Damage(w.Path("bad"), 4096, strings.Repeat("garbage ", 512))
	w.upload("bad")
	back := w.function("backup")
	back.fail("1", `{"tables":["ap"]}`, "UnknownTable", `did you mean "app"?`)
	back.fail("2", `{"table":["app"]}`, "InvalidEvent", `did you mean "tables"?`)
	back.fail("3", `[]`, "InvalidEvent", "JSON object")
	back.fail("4", `{"tables":["bad"]}`, "Corrupt", "Try: ")
	back.fail("4", `{"tables":["bad"]}`, "Corrupt", "Try: ") // Lambda's retry must fail too, or the destination is not told
	if got := w.messages(recoverQueue); len(got) != 1 || got[0].Group != "bad" {
		t.Errorf("nobody recovers the damaged table: %+v", got)
	}
	if r := back.must("5", `{"tables":["app"]}`); entryOf(t, r, 0).Status != functions.BackedUp {
		t.Errorf("%+v", r) // it goes on after failures
	}
	w.function("restore").fail("6", `{"table":"app","output":"/tmp/x.db"}`, "InvalidEvent", "no disk here that stays")
	back.fail("7", `{"tables":["app","bad"],"force":true}`, "Corrupt", "bad:")
	if len(w.stored("app")) != 2 || len(w.stored("bad")) != 0 {
		t.Errorf("%+v, %+v", w.stored("app"), w.stored("bad"))
	}
}

func TestWrongEnvironment(t *testing.T) {
	w := newWorld(t)
	h := w.function("compacts", "TABLEKEEPER_COMPACT_THRESHOLD", "much", "TABLEKEEPER_STATE", "")
	<-h.ended
	for _, want := range []string{`"compacts" is none of`, `"much" is no number`, "TABLEKEEPER_STATE is not set"} {
		if !strings.Contains(h.stderr.String(), want) {
			t.Errorf("no %q in %s", want, h.stderr)
		}
	}
}

func TestPanicIsReported(t *testing.T) {
	w := newWorld(t)
	w.Make("app", 10)
	w.upload("app")
	w.Make("boom", 1)
	w.upload("boom")
	h := sandbox(t, os.Args[0], w.environment("backup", panicVariable, "1"))
	h.fail("1", `{"tables":["app","boom"]}`, "Panic", "nil pointer")
	if len(w.stored("app")) != 1 {
		t.Error("the other table was not backed up")
	}
	h.must("2", `{"tables":["app"]}`) // the process lives
}

// TestDeliveredTwice: an event is done once, whatever makes its deliveries one.
func TestDeliveredTwice(t *testing.T) {
	w := newWorld(t)
	w.Make("app", 50)
	w.upload("app")
	back := w.function("backup")
	first := back.must("same", `{"tables":["app"],"force":true}`)
	second := back.must("same", `{"tables":["app"],"force":true}`)
	if string(first.Entries[0]) != string(second.Entries[0]) || len(w.stored("app")) != 1 {
		t.Errorf("%s\n%s\n%d backups", first.Entries, second.Entries, len(w.stored("app")))
	}
	rule := `{"id":"rule-1","detail-type":"x","source":"y","detail":{"tables":["app"],"force":true}}`
	back.must("a", rule)
	back.must("b", rule)
	back.must("c", `{"tables":["app"],"force":true,"event_id":"mine"}`)
	back.must("d", `{"tables":["app"],"force":true,"event_id":"mine"}`)
	if n := len(w.stored("app")); n != 3 {
		t.Errorf("%d backups of 3 events, each delivered twice", n)
	}
	// Delivered to two sandboxes at the same time, it is done by one.
	other := w.function("backup")
	types := make(chan string, 2)
	for _, h := range []*lambdaHost{back, other} {
		go func() {
			a, _ := h.invoke("at once", `{"tables":["app"],"force":true}`, patience)
			types <- a.Type
		}()
	}
	got := []string{<-types, <-types}
	for _, kind := range got {
		if kind != "" && kind != "InProgress" {
			t.Errorf("%q", kind)
		}
	}
	if n := len(w.stored("app")); n != 4 {
		t.Errorf("%d backups of 4 events: %q", n, got)
	}
}

func TestDispatch(t *testing.T) {
	w := newWorld(t)
	for i := range 23 {
		name := fmt.Sprintf("table-%02d", i)
		w.Must(os.WriteFile(w.Path(name), []byte(header), 0o600))
		w.Damaged[w.Path(name)] = true
		w.upload(name)
	}
	back := w.function("backup")
	w.mu.Lock()
	w.refuse = 1 // one entry of a batch: it is sent again
	w.mu.Unlock()
	r := back.must("scheduled", `{"tables":["*"]}`)
	sent := w.messages(ownQueue)
	if r.Dispatched != 23 || len(sent) != 23 {
		t.Fatalf("%+v, %d messages", r, len(sent))
	}
	seen := map[string]bool{}
	for _, m := range sent {
		var j job
		w.Must(json.Unmarshal([]byte(m.Body), &j))
		if m.Group != j.Table || j.ID != "scheduled" || string(j.Event) != fmt.Sprintf(`{"tables":[%q]}`, j.Table) {
			t.Errorf("%+v", m)
		}
		seen[m.Deduplication] = true
	}
	if len(seen) != 23 {
		t.Errorf("%d different messages", len(seen))
	}
	back.must("scheduled", `{"tables":["*"]}`)
	if again := w.messages(ownQueue); len(again) != 0 {
		t.Errorf("the event delivered again sent %d other messages", len(again))
	}
	back.must("next", `{"tables":["table-0*"]}`)
	if again := w.messages(ownQueue); len(again) != 10 {
		t.Errorf("%d messages", len(again))
	}
}

func TestMessages(t *testing.T) {
	w := newWorld(t)
	for i := range 6 {
		w.Make(fmt.Sprintf("t%d", i), 20)
		w.upload(fmt.Sprintf("t%d", i))
	}
	back := w.function("backup", "TABLEKEEPER_CONCURRENCY", "3")
	back.must("1", `{"tables":["*"]}`)
	batch := w.messages(ownQueue)
	gone, err := json.Marshal(job{ID: "1", Event: json.RawMessage(`{"tables":["gone"]}`), Table: "gone"})
	w.Must(err)
	batch = append(batch, batch[0], message{Group: "gone", Body: string(gone)}, message{Group: "junk", Body: "?"})
	a, _ := back.invoke("2", records(batch, 1), patience)
	var got batchAnswer
	if err := json.Unmarshal([]byte(a.Body), &got); err != nil || a.Type != "" {
		t.Fatalf("%+v, %v", a, err)
	}
	// The second of t0 waits for its turn; the table that is gone stays gone, and people are told.
	if len(got.Failures) != 2 || got.Failures[0].ID != "junk-8" || got.Failures[1].ID != "t0-6" {
		t.Errorf("%+v", got.Failures)
	}
	for i := range 6 {
		if n := len(w.stored(fmt.Sprintf("t%d", i))); n != 1 {
			t.Errorf("t%d has %d backups", i, n)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.published) != 1 || !strings.Contains(w.published[0], "gone") {
		t.Errorf("%q", w.published)
	}
	if len(w.again) != 2 {
		t.Errorf("%q", w.again)
	}
}

func TestSweepTellsWhatIsOverdue(t *testing.T) {
	w := newWorld(t)
	w.Make("app", 10)
	w.Make("late", 10)
	w.upload("app")
	w.upload("late")
	w.function("backup").must("1", `{"tables":["app"]}`)
	h := w.function("sweep", "TABLEKEEPER_BACKUP_RPO", "12h")
	h.fail("2", `{}`, "Overdue", "late (since")
	line := metric(t, h, "TablesOverdue")
	if line["TablesOverdue"].(float64) != 1 || line["Tables"].(float64) != 2 {
		t.Errorf("%v", line)
	}
	w.Must(w.tables.Delete(t.Context(), "app.db"))
	w.function("backup").must("3", `{"tables":["late"]}`)
	h.must("4", `{}`)
	w.Must(w.tables.Delete(t.Context(), "late.db"))
	// A table that had a backup and is gone is missed.
	if r := h.must("5", `{}`); r.Tables != 2 {
		t.Errorf("%+v", r)
	}
}

func TestOnEFS(t *testing.T) {
	w := newWorld(t)
	w.env["TABLEKEEPER_TABLES"] = w.Dir
	w.Make("wal", 200)
	w.Make("app", 200)
	w.Exec("app", "DELETE FROM items WHERE id > 20")
	w.Exec("app", "PRAGMA journal_mode=DELETE")
	comp := w.function("compact")
	if e := entryOf(t, comp.must("0", `{"tables":["app"]}`), 0); e.Status != functions.Skipped || e.Reason != "no_backup" {
		t.Errorf("%+v", e)
	}
	if r := w.function("backup").must("3", `{"tables":["app"]}`); entryOf(t, r, 0).Status != functions.BackedUp {
		t.Errorf("%+v", r)
	}
	if e := entryOf(t, comp.must("1", `{"tables":["app"]}`), 0); e.Status != functions.Compacted {
		t.Errorf("%+v", e)
	}
	comp.fail("2", `{"tables":["wal"]}`, "NetworkFileSystem", "PRAGMA journal_mode=DELETE")
	if r, err := shelf.ReadRecord(w.Path("app")); err != nil || r.Table != "app" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestColdStart measures from the start of the process to the first question for work; docs/aws.md has the figure.
func TestColdStart(t *testing.T) {
	w := newWorld(t)
	bootstrap(t)
	started := time.Now()
	h := w.function("backup")
	w.Make("app", 10)
	w.upload("app")
	h.must("1", `{"tables":["app"]}`)
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("cold start: %v until it asks for work", h.first.Sub(started).Round(time.Millisecond))
}
