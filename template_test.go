package tablekeeper_test

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"tablekeeper"
	"tablekeeper/jobs/template"
	"tablekeeper/storage/needtest"
)

// The template's invariants: what a deployment relies on, and what no later change may take away.

func read(t *testing.T, overrides map[string]string) *template.Template {
	t.Helper()
	tpl, err := template.Read("template.yaml", tablekeeper.Template, overrides)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func TestTheSixFunctions(t *testing.T) {
	type declared struct {
		Expression, Input string
		Timeout           time.Duration
		Retries           int
	}
	want := map[string]declared{
		"compact": {"rate(6 hours)", `{"tables":["*"]}`, 900 * time.Second, 1},
		"backup":  {"rate(6 hours)", `{"tables":["*"]}`, 900 * time.Second, 1},
		"verify":  {"rate(1 day)", `{"tables":["*"],"backup":"latest"}`, 900 * time.Second, 1},
		"restore": {"", "", 900 * time.Second, 0}, // by hand
		"recover": {"", "", 900 * time.Second, 1}, // when corruption is found
		"sweep":   {"rate(1 hour)", `{}`, 300 * time.Second, 1},
	}
	got := map[string]declared{}
	tpl := read(t, nil)
	for _, f := range tpl.Functions {
		d := declared{Timeout: f.Timeout, Retries: f.MaxRetries}
		for _, s := range f.Schedules {
			d.Expression, d.Input = s.Expression.String(), string(s.Input)
			if !s.Enabled || s.Expression.Location() != time.UTC {
				t.Errorf("%s: schedule %s is %+v", f.Name, s.ID, s)
			}
		}
		got[f.Name] = d
		if f.OnFailure != "BackupsTopic" || f.Environment["TABLEKEEPER_FUNCTION"] != f.Name || f.MaxEventAge != time.Hour {
			t.Errorf("%s: on failure %q, age %v, environment %v", f.Name, f.OnFailure, f.MaxEventAge, f.Environment)
		}
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(tpl.Notes) != 0 {
		t.Errorf("notes %q", tpl.Notes)
	}
}

func TestEveryParameterReachesWhoNeedsIt(t *testing.T) {
	tpl := read(t, map[string]string{"CompactSchedule": "rate(2 hours)", "BackupSchedule": "cron(0 3 * * ? *)", "VerifySchedule": "rate(2 days)",
		"SweepSchedule": "rate(3 hours)", "ScheduleTimezone": "Europe/Berlin", "ScheduleState": "DISABLED", "CompactThreshold": "0.25", "CompactMaxPause": "250ms",
		"BackupRPO": "36h", "RetentionDays": "7", "QuarantineDays": "3", "ScrubRate": "40"})
	for name, expression := range map[string]string{"compact": "rate(2 hours)", "backup": "cron(0 3 * * ? *)", "verify": "rate(2 days)", "sweep": "rate(3 hours)"} {
		f, _ := tpl.Function(name)
		s := f.Schedules[0]
		if s.Expression.String() != expression || s.Enabled || s.Expression.Location().String() != "Europe/Berlin" {
			t.Errorf("%s: %+v", name, s)
		}
	}
	compact, _ := tpl.Function("compact")
	sweep, _ := tpl.Function("sweep")
	for name, want := range map[string]string{"TABLEKEEPER_COMPACT_THRESHOLD": "0.25", "TABLEKEEPER_COMPACT_MAX_PAUSE": "250ms",
		"TABLEKEEPER_BACKUP_RPO": "36h", "TABLEKEEPER_RETENTION_DAYS": "7", "TABLEKEEPER_QUARANTINE_DAYS": "3", "TABLEKEEPER_BACKUP_SCHEDULE": "cron(0 3 * * ? *)"} {
		if got := compact.Environment[name] + sweep.Environment[name]; got != want {
			t.Errorf("%s is %q", name, got)
		}
	}
	verify, _ := tpl.Function("verify")
	if got := verify.Environment["TABLEKEEPER_SCRUB_RATE"]; got != "40" {
		t.Errorf("TABLEKEEPER_SCRUB_RATE is %q", got)
	}
	if rate, err := tpl.Rate("ScrubRate"); err != nil || rate != 40e6 {
		t.Errorf("ScrubRate is %d bytes a second, %v", rate, err)
	}
	if rpo, err := tpl.RPO(time.Now()); err != nil || rpo != 36*time.Hour {
		t.Errorf("RPO %v, %v", rpo, err)
	}
	if rpo, err := read(t, nil).RPO(time.Now()); err != nil || rpo != 12*time.Hour {
		t.Errorf("RPO by default %v, %v", rpo, err)
	}
	for _, p := range tpl.Parameters {
		if !p.HasDefault {
			t.Errorf("parameter %s has no default: a first deployment must need none", p.Name)
		}
		if !strings.Contains(string(tablekeeper.Template), "#") || !regexp.MustCompile(`(?m)^# .*\b`+p.Name+`\b`).Match(tablekeeper.Template) {
			t.Errorf("parameter %s is not explained in the comments", p.Name)
		}
	}
}

type resource struct {
	Type           string         `yaml:"Type"`
	Condition      string         `yaml:"Condition"`
	DeletionPolicy string         `yaml:"DeletionPolicy"`
	Properties     map[string]any `yaml:"Properties"`
}

// raw is the template as YAML, with tags read as the texts behind them.
func raw(t *testing.T) map[string]resource {
	t.Helper()
	resources, _ := rawAll(t)
	return resources
}

// rawParameters are the defaults of the parameters.
func rawParameters(t *testing.T) map[string]string {
	t.Helper()
	_, parameters := rawAll(t)
	return parameters
}

func rawAll(t *testing.T) (map[string]resource, map[string]string) {
	t.Helper()
	var doc struct {
		Resources  map[string]resource `yaml:"Resources"`
		Parameters map[string]struct {
			Default any `yaml:"Default"`
		} `yaml:"Parameters"`
	}
	text := regexp.MustCompile(`!(Ref|Sub|GetAtt|If|Not|Equals|Split) `).ReplaceAllString(string(tablekeeper.Template), "")
	text = regexp.MustCompile(`Sub "([^"]*)"`).ReplaceAllString(text, `"$1"`)
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	parameters := map[string]string{}
	for name, p := range doc.Parameters {
		parameters[name] = fmt.Sprint(p.Default)
	}
	return doc.Resources, parameters
}

// walk calls f for every map in v.
func walk(v any, f func(map[string]any)) {
	switch v := v.(type) {
	case map[string]any:
		f(v)
		for _, inner := range v {
			walk(inner, f)
		}
	case []any:
		for _, inner := range v {
			walk(inner, f)
		}
	}
}

func texts(v any) (all []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, inner := range v {
			all = append(all, texts(inner)...)
		}
	}
	return all
}

func TestNobodyMayDoMoreThanItNeeds(t *testing.T) {
	deleters := map[string][]string{}
	statements := 0
	for id, r := range raw(t) {
		walk(r.Properties, func(m map[string]any) {
			if m["Effect"] != "Allow" {
				return
			}
			statements++
			for _, action := range texts(m["Action"]) {
				if strings.Contains(action, "*") {
					t.Errorf("%s: action %s", id, action)
				}
				if strings.Contains(action, "Delete") && action != "sqs:DeleteMessage" {
					deleters[id] = append(deleters[id], m["Sid"].(string))
				}
			}
			if len(texts(m["Action"])) == 0 || len(texts(m["Resource"])) == 0 {
				t.Errorf("%s: statement %v has no action or resource", id, m["Sid"])
			}
			for _, where := range texts(m["Resource"]) {
				if where == "*" || strings.HasSuffix(where, ".Arn}/*") || strings.Contains(where, "arn:aws:") || strings.HasSuffix(where, ":*") {
					t.Errorf("%s: resource %s", id, where)
				}
			}
			if m["Sid"] == "DeleteSuperseded" && !strings.Contains(yamlText(t, m["Condition"]), "s3:ExistingObjectTag/tablekeeper: superseded") {
				t.Errorf("%s: backups that are not superseded may be deleted: %v", id, m["Condition"])
			}
		})
	}
	if d := cmp.Diff(map[string][]string{"SweepFunction": {"DeleteSuperseded"}}, deleters); d != "" {
		t.Errorf("who may delete: %s", d)
	}
	if strings.Contains(string(tablekeeper.Template), `StringLike: {"s3:prefix"`) {
		t.Error("a condition on s3:prefix that a request for one object cannot meet: S3 answers 403 for one that is missing, where the code waits for 404")
	}
	if statements < 30 {
		t.Errorf("only %d statements were looked at", statements)
	}
}

// TestWhoReadsTheIdentity: whoever can write backups cannot read them, and nobody's environment has a secret.
func TestWhoReadsTheIdentity(t *testing.T) {
	var readers []string
	for id, r := range raw(t) {
		walk(r.Properties, func(m map[string]any) {
			if slices.Contains(texts(m["Resource"]), "EncryptionIdentitySecret") {
				readers = append(readers, id)
				if d := cmp.Diff([]string{"secretsmanager:GetSecretValue"}, texts(m["Action"])); d != "" {
					t.Errorf("%s: %s", id, d)
				}
			}
		})
	}
	slices.Sort(readers)
	if d := cmp.Diff([]string{"RecoverFunction", "RestoreFunction", "VerifyFunction"}, readers); d != "" {
		t.Error(d)
	}
	if strings.Contains(string(tablekeeper.Template), "resolve:secretsmanager") {
		t.Error("a secret is written into a function's environment, where whoever may describe the function reads it")
	}
}

func yamlText(t *testing.T, v any) string {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestNothingIsLostWithTheStack(t *testing.T) {
	buckets := 0
	for id, r := range raw(t) {
		if r.Type != "AWS::S3::Bucket" {
			continue
		}
		buckets++
		text := yamlText(t, r.Properties)
		if r.DeletionPolicy != "Retain" {
			t.Errorf("%s: DeletionPolicy %q", id, r.DeletionPolicy)
		}
		for _, need := range []string{"Status: Enabled", "BlockPublicAcls: true", "BlockPublicPolicy: true", "IgnorePublicAcls: true", "RestrictPublicBuckets: true",
			"BucketOwnerEnforced", "SSEAlgorithm", "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"} {
			if !strings.Contains(text, need) {
				t.Errorf("%s has no %s", id, need)
			}
		}
		rules := r.Properties["LifecycleConfiguration"].(map[string]any)["Rules"].([]any)
		for _, rule := range rules {
			text := yamlText(t, rule)
			superseded := strings.Contains(text, "Key: tablekeeper") && strings.Contains(text, "Value: superseded")
			ours := id == "TablesBucket" && (strings.Contains(text, "Prefix: tablekeeper-quarantine/") || strings.Contains(text, "Prefix: tablekeeper-events/"))
			if strings.Contains(text, "ExpirationInDays") && !superseded && !ours {
				t.Errorf("%s: a rule expires tables or backups by age alone:\n%s", id, text)
			}
		}
	}
	if buckets != 2 {
		t.Errorf("%d buckets", buckets)
	}
}

func TestSilenceIsAnAlarm(t *testing.T) {
	var alarms []string
	all := raw(t)
	for id, r := range all {
		if r.Type != "AWS::CloudWatch::Alarm" {
			continue
		}
		alarms = append(alarms, id)
		if len(texts(r.Properties["AlarmActions"])) == 0 || len(texts(r.Properties["OKActions"])) == 0 {
			t.Errorf("%s tells nobody, or does not tell when it is over", id)
		}
		if (id == "BackupOverdue" || id == "ProofTooOld") && r.Properties["TreatMissingData"] != "breaching" {
			t.Errorf("missing data does not breach %s", id)
		}
	}
	slices.Sort(alarms)
	want := []string{"BackupOverdue", "Failed", "ProofTooOld", "Undelivered"}
	for id, r := range all {
		if r.Type != "AWS::Serverless::Function" {
			continue
		}
		name := strings.TrimSuffix(id, "Function")
		watched := map[string][2]string{name + "Errors": {"Errors", id}, name + "Throttles": {"Throttles", id}}
		if all[name+"Queue"].Type != "" {
			watched[name+"Waiting"] = [2]string{"ApproximateAgeOfOldestMessage", name + "Queue.QueueName"}
		}
		for alarm, what := range watched {
			want = append(want, alarm)
			if p := all[alarm].Properties; p["MetricName"] != what[0] || !strings.HasSuffix(yamlText(t, p["Dimensions"]), "Value: "+what[1]+"\n") {
				t.Errorf("%s watches %v of %v", alarm, p["MetricName"], p["Dimensions"])
			}
		}
	}
	slices.Sort(want)
	if d := cmp.Diff(want, alarms); d != "" {
		t.Error(d)
	}
}

// TestTheFanOut: each queue hands its messages to one function, one table at a time, and what fails is kept.
func TestTheFanOut(t *testing.T) {
	all := raw(t)
	for _, name := range []string{"Compact", "Backup", "Verify", "Recover"} {
		queue := all[name+"Queue"].Properties
		if queue["FifoQueue"] != true || queue["DeduplicationScope"] != "messageGroup" || queue["FifoThroughputLimit"] != "perMessageGroupId" {
			t.Errorf("%s: %v", name, queue)
		}
		redrive := yamlText(t, queue["RedrivePolicy"])
		if !strings.Contains(redrive, "FailedQueue.Arn") || !strings.Contains(redrive, "maxReceiveCount: 3\n") {
			t.Errorf("%s: %s", name, redrive)
		}
		// Lambda refuses a queue whose messages come back before the function's time is up.
		if timeout := all[name+"Function"].Properties["Timeout"].(uint64); queue["VisibilityTimeout"].(uint64) < timeout {
			t.Errorf("%s: %v < %d", name, queue["VisibilityTimeout"], timeout)
		}
		mapping := all[name+"Messages"].Properties
		if mapping["FunctionName"] != name+"Function" || mapping["EventSourceArn"] != name+"Queue.Arn" || texts(mapping["FunctionResponseTypes"])[0] != "ReportBatchItemFailures" {
			t.Errorf("%s: %v", name, mapping)
		}
		if n := mapping["BatchSize"].(uint64); n > 10 {
			t.Errorf("%s: batches of %d, and a FIFO queue has 10 at most", name, n)
		}
	}
	if all["FailedQueue"].Properties["FifoQueue"] != true {
		t.Error("the queue of failed messages of FIFO queues must be one")
	}
}

// TestTheCodeKnowsEveryVariable: a variable that no code reads is one that does nothing.
func TestTheCodeKnowsEveryVariable(t *testing.T) {
	text, err := os.ReadFile("cmd/bootstrap/settings.go")
	if err != nil {
		t.Fatal(err)
	}
	all := read(t, map[string]string{"AdminApi": "ON"}).Functions
	if len(all) != 7 {
		t.Errorf("%d functions", len(all))
	}
	for _, f := range all {
		var names []string
		for name := range f.Environment {
			names = append(names, name)
		}
		for _, name := range append(names, f.Opaque...) {
			short := strings.TrimPrefix(name, "TABLEKEEPER_")
			if short == name || !strings.Contains(string(text), `("`+short+`"`) {
				t.Errorf("%s: nobody reads %s", f.Name, name)
			}
		}
	}
}

func TestCfnLint(t *testing.T) {
	lint := needtest.Program(t, "cfn-lint") // pip install cfn-lint
	if out, err := exec.CommandContext(t.Context(), lint, "template.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
