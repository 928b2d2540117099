package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"tablekeeper/infra/lambdaapi"
	"tablekeeper/jobs"
	"tablekeeper/jobs/history"
	"tablekeeper/storage/table"
)

// serving starts the real service on a table and returns how to ask it, and the table's path.
func serving(t *testing.T) (s *service, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "orders.db")
	if err := makeDemoTable(t.Context(), path, []string{"CREATE TABLE item(id INTEGER PRIMARY KEY)", "INSERT INTO item VALUES (1), (2)"}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	var log bytes.Buffer
	go func() {
		ended <- run(ctx, []string{"--tables", dir, "--bucket", filepath.Join(dir, "bucket"), "serve"}, strings.NewReader(""), io.Discard, &log)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitDone {
			t.Errorf("serve ended with status %d:\n%s", code, &log)
		}
	})
	for s == nil {
		select {
		case code := <-ended:
			t.Fatalf("serve ended with status %d:\n%s", code, &log)
		default:
		}
		s, _ = findService(t.Context(), filepath.Join(dir, ".tablekeeper")) // an error: it listens, and is busy with its start
		runtime.Gosched()
	}
	return s, path
}

func TestControl(t *testing.T) {
	s, _ := serving(t)
	var health struct {
		Status string `json:"status"`
		Tables int    `json:"tables"`
	}
	if _, err := s.ask(t.Context(), http.MethodGet, "/healthz", &health); err != nil || health.Status != "ok" || health.Tables != 1+9 { // and the nine of the stores
		t.Errorf("health is %+v, %v", health, err)
	}
	for path, want := range map[string]int{"/jobs/nothing/pause": 404, "/runs/nothing/cancel": 404, "/nowhere": 404, "/jobs/sweep/pause": 204} {
		if status, _ := s.ask(t.Context(), http.MethodPost, path, nil); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	known, err := s.list(t.Context())
	if err != nil || len(known) < 4 {
		t.Errorf("jobs are %+v, %v", known, err)
	}
}

func TestInvokeAsAnyLambdaClient(t *testing.T) {
	s, _ := serving(t)
	client := lambdaapi.Client{HTTP: s.http}
	ask := func(function, event string, kind lambdaapi.Kind) (lambdaapi.Response, error) {
		return client.Invoke(t.Context(), lambdaapi.Request{Function: function, Kind: kind, Payload: json.RawMessage(event), Tail: true})
	}
	resp, err := ask("BackupFunction:live", `{"tables":["orders"]}`, lambdaapi.RequestResponse)
	var run history.Run
	if err != nil || json.Unmarshal(resp.Payload, &run) != nil || run.Status != history.Succeeded || run.Trigger != jobs.TriggerAPI || run.ID != resp.ID {
		t.Errorf("%s, %v", resp.Payload, err)
	}
	resp, err = ask("restore", `{"table":"nobody","output":"/nowhere/x"}`, "")
	if err != nil || resp.Failure == nil || resp.Failure.Message == "" {
		t.Errorf("%+v, %v", resp, err)
	}
	for kind, id := range map[lambdaapi.Kind]bool{lambdaapi.DryRun: true, lambdaapi.Event: true} {
		if resp, err := ask("sweep", `{}`, kind); err != nil || (resp.ID != "") != id || len(resp.Payload) > 0 {
			t.Errorf("%s: %+v, %v", kind, resp, err)
		}
	}
	for function, want := range map[string]int{"nothing": 404, "backup": 400} {
		_, err := ask(function, `[]`, "")
		var refusal *lambdaapi.Error
		if !errors.As(err, &refusal) || refusal.Status != want {
			t.Errorf("%s: %v", function, err)
		}
	}
}

// A command that is interrupted takes its work with it.
func TestInterruptedCommandEndsItsRun(t *testing.T) {
	s, path := serving(t)
	held, err := table.LockWait(t.Context(), path, table.Owner{Function: "test"}, time.Minute) // a service that starts backs up what has no backup
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := s.invoke(ctx, jobs.Invocation{Function: "compact", Event: json.RawMessage(`{}`), Trigger: jobs.TriggerCLI, Actor: "test"})
		ended <- err
	}()
	store, err := history.OpenReader(t.Context(), filepath.Join(filepath.Dir(path), ".tablekeeper", history.File), history.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	find := func(want history.Status) {
		for t.Context().Err() == nil {
			page, err := store.List(t.Context(), history.Filter{Trigger: jobs.TriggerCLI})
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Runs) == 1 && page.Runs[0].Status == want {
				return
			}
			runtime.Gosched()
		}
	}
	find(history.Running)
	interrupt()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	find(history.Cancelled)
	if err := held.Release(); err != nil {
		t.Error(err)
	}
}
