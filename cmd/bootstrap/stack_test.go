package main

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tablekeeper/infra/mototest"
	"tablekeeper/storage/needtest"
)

// stack deploys to moto with the AWS CLI.
type stack struct {
	t   *testing.T
	cli string
	at  string // endpoint: not every version of the CLI takes it from the environment for every service
	env []string
}

func (s *stack) aws(args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.cli, append([]string{"--endpoint-url", s.at}, args...)...)
	cmd.Env = s.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("aws %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func (s *stack) words(args ...string) []string {
	s.t.Helper()
	words := strings.Fields(s.aws(append(args, "--output", "text")...))
	slices.Sort(words)
	return words
}

// startMoto runs AWS's stand-in on a free port.
func startMoto(t *testing.T) *stack {
	t.Helper()
	s := &stack{t: t, cli: needtest.Program(t, "aws"), at: mototest.Start(t)}
	s.env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_DEFAULT_REGION=eu-central-1", "AWS_PAGER=")
	return s
}

// expand is the template as SAM hands it to CloudFormation.
func expand(t *testing.T) []byte {
	t.Helper()
	python := needtest.Program(t, "python3")
	if err := exec.CommandContext(t.Context(), python, "-c", "import samtranslator").Run(); err != nil {
		needtest.Missing(t, fmt.Errorf("aws-sam-translator, which cfn-lint brings: %w", err))
	}
	cmd := exec.CommandContext(t.Context(), python, "testdata/expand.py", "../../template.yaml", "s3://code/bootstrap.zip")
	cmd.Env = append(os.Environ(), "AWS_DEFAULT_REGION=eu-central-1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return out
}

// TestTheStackInMoto deploys the template without a parameter. moto makes functions, queues, mappings, topic and buckets; it passes
// over versioning, lifecycle rules, schedules and alarms, which template_test.go looks at.
func TestTheStackInMoto(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts a server")
	}
	template := expand(t)
	s := startMoto(t)
	dir := t.TempDir()
	file, code := filepath.Join(dir, "template.json"), filepath.Join(dir, "code.zip")
	var zipped bytes.Buffer
	w := zip.NewWriter(&zipped)
	if _, err := w.Create("bootstrap"); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{file: template, code: zipped.Bytes()} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.aws("s3", "mb", "s3://code")
	s.aws("s3", "cp", code, "s3://code/bootstrap.zip")
	s.aws("cloudformation", "create-stack", "--stack-name", "tablekeeper", "--template-body", "file://"+file, "--capabilities", "CAPABILITY_IAM")
	if status := s.aws("cloudformation", "describe-stacks", "--stack-name", "tablekeeper", "--query", "Stacks[0].StackStatus", "--output", "text"); status != "CREATE_COMPLETE" {
		t.Fatal(status)
	}
	got := s.words("lambda", "list-functions", "--query", "Functions[].Environment.Variables.TABLEKEEPER_FUNCTION")
	if d := cmp.Diff([]string{"backup", "compact", "recover", "restore", "sweep", "verify"}, got); d != "" {
		t.Errorf("functions: %s", d)
	}
	if topics := s.words("sns", "list-topics", "--query", "Topics[].TopicArn"); len(topics) != 1 {
		t.Errorf("topics: %q", topics)
	}
	if queues := s.words("sqs", "list-queues", "--query", "QueueUrls[]"); len(queues) != 6 {
		t.Errorf("queues: %q", queues)
	}
	if mappings := s.words("lambda", "list-event-source-mappings", "--query", "EventSourceMappings[].UUID"); len(mappings) != 4 {
		t.Errorf("mappings: %q", mappings)
	}
	s.environments()
	s.buckets()
}

// environments: every function has what the program needs to start.
func (s *stack) environments() {
	s.t.Helper()
	var all []map[string]any // moto leaves numbers numbers
	if err := json.Unmarshal([]byte(s.aws("lambda", "list-functions", "--query", "Functions[].Environment.Variables", "--output", "json")), &all); err != nil {
		s.t.Fatal(err)
	}
	for _, env := range all {
		set, err := readSettings(func(name string) string {
			if env[name] == nil {
				return ""
			}
			return fmt.Sprint(env[name])
		})
		if err != nil {
			s.t.Errorf("%v: %v", env, err)
		}
		if fans := slices.Contains([]string{"compact", "backup", "verify", "recover"}, set.Function); fans != (set.Queue != "") {
			s.t.Errorf("%s: queue %q", set.Function, set.Queue)
		}
		if !strings.HasPrefix(set.Tables, "aws://") || set.onEFS() {
			s.t.Errorf("%s: tables in %s", set.Function, set.Tables)
		}
	}
}

// buckets: both are there, under the names that the outputs tell.
func (s *stack) buckets() {
	s.t.Helper()
	for _, output := range []string{"BackupBucket", "TablesBucket"} {
		name := s.aws("cloudformation", "describe-stacks", "--stack-name", "tablekeeper", "--query", "Stacks[0].Outputs[?OutputKey=='"+output+"'].OutputValue", "--output", "text")
		s.aws("s3api", "head-bucket", "--bucket", name)
	}
}
