package admin

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"tablekeeper/jobs/history"
)

var nine = []string{"agents", "channels", "config", "history", "letters", "mailbox", "orders", "replies", "threads"}

func TestCompactAllNine(t *testing.T) {
	g := newRig(t, nil, nine...)
	g.Fill("orders", 400)
	g.Exec("orders", "DELETE FROM items WHERE id > 40; PRAGMA wal_checkpoint(TRUNCATE)")
	var all struct {
		Status  string
		RunID   string `json:"run_id"`
		Counts  history.Counts
		Results []struct {
			Table, Status string
			DurationMS    *int64 `json:"duration_ms"`
		}
	}
	g.call(Operator, "POST", "/api/admin/compact", nil).want(http.StatusOK).into(&all)
	if all.Status != "succeeded" || all.Counts.Tables != 9 || all.Counts.Done != 1 || len(all.Results) != 9 {
		t.Fatalf("%+v", all)
	}
	for _, r := range all.Results {
		want := "skipped"
		if r.Table == "orders" {
			want = "compacted"
		}
		if r.Status != want || r.DurationMS == nil {
			t.Errorf("%+v", r)
		}
	}
	one := g.call(Operator, "POST", "/api/admin/compact/orders", map[string]any{"force": true}).want(http.StatusOK).object()
	if one["table"] != "orders" || one["status"] != "compacted" || one["run_status"] != "succeeded" || one["run_id"] == "" || one["bytes_after"] == nil || one["duration_ms"] == nil {
		t.Errorf("%v", one)
	}
	g.compactionHistory(t)
	some := g.call(Operator, "POST", "/api/admin/compact", map[string]any{"tables": []string{"c*"}}).want(http.StatusOK).object()
	if n := len(some["results"].([]any)); n != 2 {
		t.Errorf("%d tables", n)
	}
	// Every table has its trend, its last results and its size.
	var tables struct{ Tables []Table }
	g.call(Viewer, "GET", "/api/admin/tables", nil).want(http.StatusOK).into(&tables)
	if len(tables.Tables) != 9 {
		t.Fatalf("%d tables", len(tables.Tables))
	}
	for _, seen := range tables.Tables {
		if len(seen.Free) == 0 || seen.Last["compact"].RunID == "" || seen.Bytes == 0 || seen.Health != "none" {
			t.Errorf("%+v", seen)
		}
	}
}

func (g *rig) compactionHistory(t *testing.T) {
	var page history.Records
	g.call(Viewer, "GET", "/api/admin/compactions?limit=4", nil).want(http.StatusOK).into(&page)
	if len(page.Records) != 4 || page.Next == "" || page.Records[0].Entry.Table != "orders" {
		t.Fatalf("%+v", page)
	}
	seen := len(page.Records)
	for page.Next != "" {
		next := "/api/admin/compactions?limit=4&cursor=" + page.Next
		page = history.Records{}
		g.call(Viewer, "GET", next, nil).want(http.StatusOK).into(&page)
		seen += len(page.Records)
	}
	if seen != 10 {
		t.Errorf("%d lines, want 10", seen)
	}
	for _, got := range []result{
		g.call(Viewer, "GET", "/api/admin/compactions", nil, "Accept", "text/csv"), g.call(Viewer, "GET", "/api/admin/compactions?format=csv", nil, "Accept", "application/json"),
	} {
		rows, err := csv.NewReader(strings.NewReader(string(got.want(http.StatusOK).body))).ReadAll()
		if err != nil || len(rows) != 11 || strings.Join(rows[0], ",") != strings.Join(csvColumns, ",") || rows[1][1] != "orders" || !strings.HasPrefix(got.Header.Get("Content-Type"), "text/csv") {
			t.Errorf("%v, %v", rows, err)
		}
	}
	if got := g.call(Viewer, "GET", "/api/admin/compactions", nil, "Accept", "application/json, text/csv"); got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s", got.body)
	}
}

func TestBackupVerifyAndBackups(t *testing.T) {
	g := newRig(t, nil, "orders", "users")
	if made := g.call(Operator, "POST", "/api/admin/backup/orders", nil).want(http.StatusOK).object(); made["status"] != "backed_up" || made["backup"] == "" {
		t.Errorf("%v", made)
	}
	if proved := g.call(Operator, "POST", "/api/admin/verify/orders", nil).want(http.StatusOK).object(); proved["outcome"] != "proved" {
		t.Errorf("%v", proved)
	}
	var list backupList
	g.call(Viewer, "GET", "/api/admin/tables/orders/backups", nil).want(http.StatusOK).into(&list)
	if len(list.Backups) != 1 || list.Backups[0].Proved.IsZero() || list.Backups[0].Size == 0 {
		t.Errorf("%+v", list)
	}
	g.call(Viewer, "GET", "/api/admin/tables/nobody/backups", nil).problem(http.StatusNotFound)
	var one Table
	g.call(Viewer, "GET", "/api/admin/tables/orders", nil).want(http.StatusOK).into(&one)
	if one.Health != "healthy" || one.LastProved.IsZero() || one.RPOMS == 0 {
		t.Errorf("%+v", one)
	}
	fleet := g.call(Viewer, "GET", "/api/admin/fleet", nil).want(http.StatusOK).object()
	if fleet["sentence"] != "1 of 2 tables needs you: users has no backup yet." || fleet["tone"] != "careful" || fleet["unwell"] != 1.0 || fleet["alerts_open"] != 1.0 {
		t.Errorf("%v", fleet)
	}
	// A table that was damaged fails its run, and the answer says how.
	g.Exec("users", "PRAGMA wal_checkpoint(TRUNCATE)")
	g.Damage(g.Path("users"), 4096, strings.Repeat("\xff", 4000))
	failed := g.call(Operator, "POST", "/api/admin/backup/users", nil).want(http.StatusOK).object()
	if failed["status"] != "failed" || failed["reason"] != "corrupt" || failed["error"] == nil || failed["run_status"] != "failed" {
		t.Errorf("%v", failed)
	}
}

func TestRestoreNeedsAPlan(t *testing.T) {
	g := newRig(t, nil, "orders", "users")
	before := g.Rows(g.Path("orders"))
	g.call(Operator, "POST", "/api/admin/backup", nil).want(http.StatusOK)
	g.Exec("orders", "DELETE FROM items WHERE id > 5")
	const path = "/api/admin/restore/orders"
	for name, body := range map[string]any{"nothing": nil, "latest": map[string]any{"backup": "latest"}, "empty": "{}"} {
		if p := g.call(Operator, "POST", path, body).problem(http.StatusConflict); p.Code != "plan_required" {
			t.Errorf("%s: %+v", name, p)
		}
	}
	plan := func() map[string]any {
		made := g.call(Operator, "POST", path, map[string]any{"dry_run": true}).want(http.StatusOK).object()
		if made["plan"] == "" || made["record_count"] != 20.0 || made["replaces"].(map[string]any)["record_count"] != 5.0 {
			t.Fatalf("%v", made)
		}
		return map[string]any{"plan": made["plan"]}
	}
	if runs, err := g.history.List(t.Context(), history.Filter{Function: "restore"}); err != nil || len(runs.Runs) > 0 {
		t.Errorf("planning is a run: %v, %v", runs, err)
	}
	wrong := []struct {
		path string
		body map[string]any
		code string
	}{
		{"/api/admin/restore/users", plan(), "plan_expired"},
		{path, map[string]any{"plan": "guessed"}, "plan_expired"},
	}
	for _, w := range wrong {
		if p := g.call(Operator, "POST", w.path, w.body).problem(http.StatusConflict); p.Code != w.code {
			t.Errorf("%+v", p)
		}
	}
	late := plan()
	g.pass(15*time.Minute + time.Second)
	if p := g.call(Operator, "POST", path, late).problem(http.StatusConflict); p.Code != "plan_expired" {
		t.Errorf("%+v", p)
	}
	stale := plan()
	g.Exec("orders", "INSERT INTO items (label) VALUES ('new')")
	if p := g.call(Operator, "POST", path, stale).problem(http.StatusConflict); p.Code != "plan_changed" {
		t.Errorf("%+v", p)
	}
	g.call(Operator, "POST", path, map[string]any{"plan": plan0(t, g, path), "backup": "latest"}).problem(http.StatusUnprocessableEntity)
	stale["even_if_changed"] = true
	got := g.call(Operator, "POST", path, stale).want(http.StatusOK).object()
	if got["status"] != "restored" || !strings.HasPrefix(got["backup_used"].(string), "orders/") || got["record_count"] != 20.0 || got["file_size"] == 0.0 {
		t.Errorf("%v", got)
	}
	if g.Rows(g.Path("orders")) != before {
		t.Error("the content is another")
	}
	// Sent again, the plan gives the run that it was.
	if again := g.call(Operator, "POST", path, stale).want(http.StatusOK).object(); again["run_id"] != got["run_id"] {
		t.Errorf("%v", again)
	}
}

func plan0(t *testing.T, g *rig, path string) any {
	t.Helper()
	return g.call(Operator, "POST", path, map[string]any{"dry_run": true}).want(http.StatusOK).object()["plan"]
}

func TestRestoreWhatIsGone(t *testing.T) {
	g := newRig(t, nil, "orders")
	before := g.Rows(g.Path("orders"))
	g.call(Operator, "POST", "/api/admin/restore/orders", map[string]any{"dry_run": true}).problem(http.StatusNotFound)
	g.call(Operator, "POST", "/api/admin/backup", nil).want(http.StatusOK)
	for _, ending := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(g.Path("orders") + ending); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
	}
	g.Refresh()
	var one Table
	g.call(Viewer, "GET", "/api/admin/tables/orders", nil).want(http.StatusOK).into(&one)
	if one.Health != "missing" || !one.Missing {
		t.Errorf("%+v", one)
	}
	got := g.call(Operator, "POST", "/api/admin/restore/orders", map[string]any{}).want(http.StatusOK).object()
	if got["status"] != "restored" || g.Rows(g.Path("orders")) != before {
		t.Errorf("%v", got)
	}
}

func TestUnderWay(t *testing.T) {
	g := newRig(t, nil, "orders", "users")
	open := g.gate.close("backup/orders")
	defer open()
	got := g.call(Operator, "POST", "/api/admin/backup/orders", nil, "Prefer", "respond-async", "Idempotency-Key", "k1").want(http.StatusAccepted)
	id, _ := got.object()["run_id"].(string)
	if got.Header.Get("Location") != "/api/admin/runs/"+id || got.Header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("%v", got.Header)
	}
	<-g.gate.at
	if live := g.call(Viewer, "GET", "/api/admin/runs/"+id, nil).want(http.StatusOK).object(); live["status"] != "running" {
		t.Errorf("%v", live)
	}
	for _, path := range []string{"compact/orders", "verify/orders", "backup/orders"} {
		if p := g.call(Operator, "POST", "/api/admin/"+path, nil).problem(http.StatusConflict); p.RunID != id || p.Code != "under_way" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	// The same key is the same run; another function cannot have it.
	if same := g.call(Operator, "POST", "/api/admin/backup/orders", nil, "Prefer", "Wait=1, respond-async", "Idempotency-Key", "k1").want(http.StatusAccepted).object(); same["run_id"] != id {
		t.Errorf("%v", same)
	}
	if p := g.call(Operator, "POST", "/api/admin/compact/users", nil, "Idempotency-Key", "k1").problem(http.StatusConflict); p.Code != "key_reused" {
		t.Errorf("%+v", p)
	}
	g.call(Operator, "POST", "/api/admin/backup/users", nil).want(http.StatusOK)
	var one Table
	g.call(Viewer, "GET", "/api/admin/tables/orders", nil).want(http.StatusOK).into(&one)
	if one.Running == nil || one.Running.RunID != id || one.Running.Function != "backup" {
		t.Errorf("%+v", one.Running)
	}
	open()
	if _, err := g.server.await(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if ended := g.call(Operator, "POST", "/api/admin/backup/orders", nil, "Idempotency-Key", "k1").want(http.StatusOK).object(); ended["run_id"] != id || ended["status"] != "backed_up" {
		t.Errorf("%v", ended)
	}
}

// Whoever asks again with the key of what is long over gets that run, whatever is under way now.
func TestAKeyIsKnownWhateverIsUnderWay(t *testing.T) {
	g := newRig(t, nil, "orders", "users")
	one := g.call(Operator, "POST", "/api/admin/backup/orders", nil, "Idempotency-Key", "k1").want(http.StatusOK).object()
	all := g.call(Operator, "POST", "/api/admin/backup", nil, "Idempotency-Key", "k2").want(http.StatusOK).object()
	open := g.gate.close("backup/orders")
	defer open()
	now := g.call(Operator, "POST", "/api/admin/backup", map[string]any{"force": true}, "Prefer", "respond-async").want(http.StatusAccepted).object()
	<-g.gate.at
	for path, c := range map[string]struct {
		key  string
		want any
	}{"/api/admin/backup/orders": {"k1", one["run_id"]}, "/api/admin/backup": {"k2", all["run_id"]}} {
		if again := g.call(Operator, "POST", path, nil, "Idempotency-Key", c.key).want(http.StatusOK).object(); again["run_id"] != c.want {
			t.Errorf("%s: %v", path, again)
		}
		if p := g.call(Operator, "POST", path, nil, "Idempotency-Key", "new").problem(http.StatusConflict); p.RunID != now["run_id"] {
			t.Errorf("%s: %+v", path, p)
		}
	}
	open()
	id, _ := now["run_id"].(string)
	if _, err := g.server.await(t.Context(), id); err != nil {
		t.Fatal(err)
	}
}

func TestCancelAndRetry(t *testing.T) {
	g := newRig(t, nil, "orders", "users", "config")
	open := g.gate.close("backup/users")
	defer open()
	id := g.call(Operator, "POST", "/api/admin/backup", nil, "Prefer", "respond-async").want(http.StatusAccepted).object()["run_id"].(string)
	<-g.gate.at
	if p := g.call(Operator, "POST", "/api/admin/backup", nil).problem(http.StatusConflict); p.RunID != id {
		t.Errorf("%+v", p)
	}
	g.call(Operator, "POST", "/api/admin/runs/"+id+"/retry", nil).problem(http.StatusConflict)
	if got := g.call(Operator, "POST", "/api/admin/runs/"+id[len(id)-12:]+"/cancel", nil).want(http.StatusAccepted).object(); got["run_id"] != id {
		t.Errorf("%v", got)
	}
	run, err := g.server.await(t.Context(), id)
	if err != nil || run.Status != history.Cancelled {
		t.Fatalf("%+v, %v", run, err)
	}
	open()
	if p := g.call(Operator, "POST", "/api/admin/runs/"+id+"/cancel", nil).problem(http.StatusConflict); p.Code != "not_active" {
		t.Errorf("%+v", p)
	}
	var again Result
	got := g.call(Operator, "POST", "/api/admin/runs/"+id+"/retry", nil).want(http.StatusOK)
	got.into(&again)
	if again.Status != history.Succeeded {
		t.Errorf("%s", got.body)
	}
	full, err := g.history.Get(t.Context(), again.RunID)
	if err != nil || full.RetryOf != id || full.Trigger != "retry" || full.Actor != "the-operator" || strings.Contains(string(full.Event), "*") {
		t.Errorf("%+v, %v", full, err)
	}
	g.call(Operator, "POST", "/api/admin/runs/01999999-none/cancel", nil).problem(http.StatusNotFound)
	g.call(Operator, "POST", "/api/admin/runs/ffff-ffff/retry", nil).problem(http.StatusNotFound)
}

func TestRetryIsNarrowed(t *testing.T) {
	entry := func(table, status string) history.Entry { return history.Entry{Table: table, Status: status} }
	for name, c := range map[string]struct {
		run   history.Run
		event string
		table string
	}{
		"one of all": {history.Run{Event: json.RawMessage(`{"tables":["*"],"force":true,"schedule":""}`), Entries: []history.Entry{entry("a", "backed_up"), entry("b", "failed")}}, `{"force":true,"tables":["b"]}`, "b"},
		"two":        {history.Run{Event: json.RawMessage(`{}`), Entries: []history.Entry{entry("a", "lost"), entry("b", "failed"), entry("c", "skipped")}}, `{"tables":["a","b"]}`, ""},
		"none":       {history.Run{Event: json.RawMessage(`{"tables":["x"]}`)}, `{"tables":["x"]}`, ""},
		"by table":   {history.Run{Event: json.RawMessage(`{"table":"x"}`), Entries: []history.Entry{entry("x", "failed")}}, `{"table":"x"}`, "x"},
		"no table":   {history.Run{Event: json.RawMessage(`{}`), Entries: []history.Entry{entry("", "failed")}}, `{}`, ""},
	} {
		event, table, err := again(c.run)
		if err != nil || string(event) != c.event || table != c.table {
			t.Errorf("%s: %s %q, %v", name, event, table, err)
		}
	}
}

func TestRunsAreListed(t *testing.T) {
	g := newRig(t, nil, "orders", "users")
	for range 3 {
		g.call(Operator, "POST", "/api/admin/compact", nil).want(http.StatusOK)
	}
	g.call(Operator, "POST", "/api/admin/backup/users", nil).want(http.StatusOK)
	for query, want := range map[string]int{"": 4, "?function=compact": 3, "?table=orders": 3, "?status=succeeded": 4, "?status=failed,lost": 0, "?trigger=api&limit=1000": 4, "?since=2026-01-01T00:00:00Z": 4, "?until=2026-01-01T00:00:00Z": 0, "?job=x": 0} {
		var page history.Page
		g.call(Viewer, "GET", "/api/admin/runs"+query, nil).want(http.StatusOK).into(&page)
		if len(page.Runs) != want {
			t.Errorf("%s: %d runs, want %d", query, len(page.Runs), want)
		}
	}
	for _, query := range []string{"?status=fine", "?limit=0", "?limit=1001", "?limit=x", "?since=yesterday", "?cursor=x", "?colour=red"} {
		g.call(Viewer, "GET", "/api/admin/runs"+query, nil).problem(http.StatusUnprocessableEntity)
	}
}

func TestUnknownTablesAreSuggested(t *testing.T) {
	g := newRig(t, nil, "orders")
	for _, path := range []string{"tables/oders", "compact/oders", "backup/oders", "restore/oders", "verify/oders"} {
		method := "POST"
		if strings.HasPrefix(path, "tables") {
			method = "GET"
		}
		if p := g.call(Operator, method, "/api/admin/"+path, nil).problem(http.StatusNotFound); p.Hint != "did you mean orders?" {
			t.Errorf("%s: %+v", path, p)
		}
	}
	g.call(Operator, "POST", "/api/admin/compact", map[string]any{"tables": []string{"oders"}}).problem(http.StatusNotFound)
	// recover is not among the functions of this service.
	if p := g.call(Operator, "POST", "/api/admin/recover/orders", map[string]any{"reason": "it smells"}).problem(http.StatusNotFound); p.Code != "no_function" {
		t.Errorf("%+v", p)
	}
}

func TestAlertsRoutes(t *testing.T) {
	g := newRig(t, nil)
	g.call(Viewer, "GET", "/api/admin/alerts", nil).want(http.StatusOK)
	if got := g.call(Viewer, "GET", "/api/admin/alerts/channels", nil).want(http.StatusOK).object(); got["push"] != true {
		t.Errorf("%v", got)
	}
	g.call(Operator, "POST", "/api/admin/alerts/test", map[string]string{"channel": "webhook-1"}).want(http.StatusOK)
	g.call(Operator, "POST", "/api/admin/alerts/test", map[string]string{"channel": "pigeon"}).problem(http.StatusNotFound)
	g.call(Operator, "POST", "/api/admin/alerts/deliveries/d1/redeliver", nil).want(http.StatusAccepted)
	sub := `{"endpoint":"https://push.example/1","expirationTime":null,"keys":{"p256dh":"x","auth":"y"}}`
	g.call(Operator, "POST", "/api/admin/alerts/push/subscriptions", sub).want(http.StatusNoContent)
	g.call(Operator, "DELETE", "/api/admin/alerts/push/subscriptions?endpoint=https://push.example/1", nil).want(http.StatusNoContent)
	want := []string{"test webhook-1", "redeliver d1", "subscribe https://push.example/1", "unsubscribe https://push.example/1"}
	if fmt.Sprint(g.alerts.asked) != fmt.Sprint(want) {
		t.Errorf("%v", g.alerts.asked)
	}
	g.alerts.err = fmt.Errorf("it did not like it")
	g.call(Operator, "POST", "/api/admin/alerts/push/subscriptions", sub).problem(http.StatusUnprocessableEntity)
	g.call(Operator, "POST", "/api/admin/alerts/test", map[string]string{"channel": "webhook-1"}).problem(http.StatusBadGateway)
}

func TestWithoutBucketAndAlerts(t *testing.T) {
	g := newRig(t, func(o *Options) { o.Backups, o.Planner, o.Alerts, o.Assets, o.Metrics = nil, nil, nil, nil, nil }, "orders")
	if p := g.call(Operator, "POST", "/api/admin/restore/orders", map[string]any{"dry_run": true}).problem(http.StatusNotFound); p.Code != "no_bucket" {
		t.Errorf("%+v", p)
	}
	g.call(Viewer, "GET", "/api/admin/tables/orders/backups", nil).problem(http.StatusNotFound)
	g.call(Operator, "POST", "/api/admin/alerts/test", map[string]string{"channel": "x"}).problem(http.StatusNotFound)
	for _, path := range []string{"alerts", "alerts/channels", "alerts/deliveries", "alerts/push/key"} {
		g.call(Viewer, "GET", "/api/admin/"+path, nil).want(http.StatusOK)
	}
	notices := fmt.Sprint(g.call(Viewer, "GET", "/api/admin/fleet", nil).object()["notices"])
	if !strings.Contains(notices, "no_bucket") || !strings.Contains(notices, "no_alert_channel") {
		t.Error(notices)
	}
	g.call("", "GET", "/", nil).problem(http.StatusNotFound)
	g.call(Viewer, "GET", "/metrics", nil).problem(http.StatusNotFound)
}
