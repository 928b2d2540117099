package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"tablekeeper/jobs/history"
	"tablekeeper/storage/bucket/remote"
	"tablekeeper/storage/needtest"
)

// served is a real service with one table, on a port of its own.
type served struct {
	address string // http://127.0.0.1:port
	state   string
	keys    remote.Keys
}

// safeBuffer takes the log while others may look.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// startService runs `tablekeeper serve` in this process until the test ends.
func startService(t *testing.T) served {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"agent_mailbox", "orders"} {
		db, err := sql.Open("sqlite", filepath.Join(dir, name+".db"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = db.ExecContext(t.Context(), "CREATE TABLE item(id INTEGER PRIMARY KEY, body BLOB); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200) INSERT INTO item SELECT i, zeroblob(400) FROM n; DELETE FROM item WHERE id > 50")
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("HOME", t.TempDir())
	s := served{state: filepath.Join(dir, ".tablekeeper")}
	var log safeBuffer
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	// Schedules are off: only what the test invokes is run.
	config := filepath.Join(t.TempDir(), "tablekeeper.yaml")
	if err := os.WriteFile(config, []byte("version: 1\nparameters: {ScheduleState: DISABLED}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		ended <- run(ctx, []string{"--config", config, "--tables", dir, "--bucket", t.TempDir(), "--listen", "127.0.0.1:0", "serve"}, strings.NewReader(""), &log, &log)
	}()
	t.Cleanup(func() {
		stop()
		if code := <-ended; code != exitDone {
			t.Errorf("serve ended with status %d:\n%s", code, &log)
		}
	})
	for ; s.address == ""; runtime.Gosched() {
		if found, err := findService(t.Context(), s.state); found != nil && err == nil {
			s.address = link.FindStringSubmatch(log.String())[1] // it is said before the service answers
		}
		if len(ended) > 0 {
			t.Fatalf("no service:\n%s", &log)
		}
	}
	var err error
	s.keys, err = remote.KeyFiles{Shared: filepath.Join(s.state, lambdaKeys), Profile: "default"}.Read(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s served) sdk(secret string) *lambda.Client {
	return lambda.New(lambda.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(s.address), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.keys.ID, SecretAccessKey: secret}, nil
		}),
	})
}

// TestLambdaClientsOnARealService has AWS's own clients invoke functions of `serve`.
func TestLambdaClientsOnARealService(t *testing.T) {
	s := startService(t)
	t.Run("keys", func(t *testing.T) { lambdaKeysAreOurs(t, s) })
	t.Run("sdk", func(t *testing.T) { invokeBySDK(t, s) })
	t.Run("cli", func(t *testing.T) { invokeByCLI(t, s) })
}

func lambdaKeysAreOurs(t *testing.T, s served) {
	info, err := os.Stat(filepath.Join(s.state, lambdaKeys))
	if err != nil || (runtime.GOOS != "windows" && info.Mode().Perm() != 0o600) {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	_, err = s.sdk("wrong").Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("compact")})
	if err == nil || !strings.Contains(err.Error(), "InvalidSignatureException") {
		t.Errorf("a wrong secret: %v", err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.address+"/2015-03-31/functions/compact/invocations", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusForbidden || response.Header.Get("x-amzn-ErrorType") == "" {
		t.Errorf("without a signature: %s %v", response.Status, response.Header)
	}
}

func invokeBySDK(t *testing.T, s served) {
	client := s.sdk(s.keys.Secret)
	invoke := func(in lambda.InvokeInput) (*lambda.InvokeOutput, history.Run) {
		t.Helper()
		out, err := client.Invoke(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		var r history.Run
		if len(out.Payload) > 0 && out.FunctionError == nil {
			if err := json.Unmarshal(out.Payload, &r); err != nil {
				t.Fatal(err)
			}
		}
		return out, r
	}
	out, r := invoke(lambda.InvokeInput{FunctionName: aws.String("arn:aws:lambda:eu-central-1:123456789012:function:compact"), LogType: types.LogTypeTail,
		Payload: []byte(`{"tables":["agent_mailbox"],"force":true}`)})
	if r.Status != history.Succeeded || len(r.Entries) != 1 || r.Entries[0].Status != "compacted" || r.Trigger != "api" || r.Actor != "key "+s.keys.ID {
		t.Errorf("compact: %s", out.Payload)
	}
	if log, err := base64.StdEncoding.DecodeString(aws.ToString(out.LogResult)); err != nil || out.LogResult == nil {
		t.Errorf("log tail: %q, %v", log, err)
	}
	// Whoever signs cannot pass for the command line.
	said := base64.StdEncoding.EncodeToString([]byte(`{"custom":{"trigger":"cli","actor":"root"}}`))
	if out, r := invoke(lambda.InvokeInput{FunctionName: aws.String("backup"), ClientContext: &said}); r.Trigger != "api" || r.Actor != "key "+s.keys.ID {
		t.Errorf("a claim was believed: %s", out.Payload)
	}
	if out, _ := invoke(lambda.InvokeInput{FunctionName: aws.String("backup"), InvocationType: types.InvocationTypeDryRun}); out.StatusCode != http.StatusNoContent {
		t.Errorf("dry run: %d", out.StatusCode)
	}
	if out, _ := invoke(lambda.InvokeInput{FunctionName: aws.String("sweep"), InvocationType: types.InvocationTypeEvent}); out.StatusCode != http.StatusAccepted {
		t.Errorf("async: %d", out.StatusCode)
	}
	failed, _ := invoke(lambda.InvokeInput{FunctionName: aws.String("restore"), Payload: []byte(`{"table":"orders","backup":"orders/20200101T000000.000Z-00000000.db.zst"}`)})
	var problem struct{ ErrorMessage, ErrorType string }
	if err := json.Unmarshal(failed.Payload, &problem); err != nil || aws.ToString(failed.FunctionError) != "Unhandled" || problem.ErrorMessage == "" || problem.ErrorType != "failed" {
		t.Errorf("function error: %+v %s, %v", failed, failed.Payload, err)
	}
	refusedBySDK(t, client)
	listed, err := client.ListFunctions(t.Context(), &lambda.ListFunctionsInput{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range listed.Functions {
		names = append(names, aws.ToString(f.FunctionName))
	}
	if !slices.IsSorted(names) || !slices.Contains(names, "backup") || !slices.Contains(names, "verify") {
		t.Errorf("functions: %q", names)
	}
	got, err := client.GetFunction(t.Context(), &lambda.GetFunctionInput{FunctionName: aws.String("sweep")})
	if err != nil || aws.ToInt32(got.Configuration.Timeout) != 300 || aws.ToInt32(got.Configuration.MemorySize) != 512 {
		t.Errorf("the template's figures of sweep: %+v, %v", got, err)
	}
}

func refusedBySDK(t *testing.T, client *lambda.Client) {
	var unknown *types.ResourceNotFoundException
	if _, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("bakup")}); !errors.As(err, &unknown) {
		t.Errorf("an unknown function: %v", err)
	}
	var wrong *types.InvalidRequestContentException
	misspelt := lambda.InvokeInput{FunctionName: aws.String("backup"), Payload: []byte(`{"tabels":[]}`)}
	// As on AWS: it is the function that does not like it.
	if out, err := client.Invoke(t.Context(), &misspelt); err != nil || aws.ToString(out.FunctionError) != "Unhandled" || !strings.Contains(string(out.Payload), "tabels") {
		t.Errorf("an unknown field: %+v, %v", out, err)
	}
	misspelt.InvocationType = types.InvocationTypeDryRun
	if _, err := client.Invoke(t.Context(), &misspelt); !errors.As(err, &wrong) {
		t.Errorf("an unknown field, dry run: %v", err)
	}
	var large *types.RequestTooLargeException
	big := []byte(`{"x":"` + strings.Repeat("x", 6<<20) + `"}`)
	if _, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("backup"), Payload: big}); !errors.As(err, &large) {
		t.Errorf("6 MB: %v", err)
	}
	// More than the admin API on the same listener would take.
	if _, err := client.Invoke(t.Context(), &lambda.InvokeInput{FunctionName: aws.String("backup"), Payload: big[:3<<20]}); !errors.As(err, &wrong) {
		t.Errorf("3 MB that are no JSON: %v", err)
	}
	if _, err := client.ListLayers(t.Context(), &lambda.ListLayersInput{}); err == nil || !strings.Contains(err.Error(), "UnknownOperationException") {
		t.Errorf("an unknown operation: %v", err)
	}
}

func invokeByCLI(t *testing.T, s served) {
	program := needtest.Program(t, "aws")
	dir := t.TempDir()
	aws := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), program, append([]string{"lambda", "--endpoint-url", s.address, "--output", "json"}, args...)...)
		cmd.Dir = dir
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(s.state, lambdaKeys),
			"AWS_REGION=us-east-1", "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER="}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := aws("invoke", "--function-name", "compact", "--log-type", "Tail", "--payload", `{"tables":["agent_mailbox"]}`, "out.json")
	if err != nil || !strings.Contains(out, `"StatusCode": 200`) || !strings.Contains(out, `"LogResult"`) {
		t.Fatalf("%s, %v", out, err)
	}
	report, err := os.ReadFile(filepath.Join(dir, "out.json"))
	if err != nil || !strings.Contains(string(report), `"agent_mailbox"`) || !strings.Contains(string(report), `"status":"skipped"`) {
		t.Errorf("%s, %v", report, err)
	}
	if out, err := aws("list-functions"); err != nil || !strings.Contains(out, `"FunctionName": "backup"`) {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := aws("invoke", "--function-name", "bakup", "out.json"); err == nil || !strings.Contains(out, "ResourceNotFoundException") {
		t.Errorf("%s, %v", out, err)
	}
	if out, err := aws("invoke", "--function-name", "sweep", "--invocation-type", "Event", "out.json"); err != nil || !strings.Contains(out, "202") {
		t.Errorf("%s, %v", out, err)
	}
}
