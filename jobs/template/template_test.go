package template

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const small = `
Parameters:
  Rate: {Type: String, Default: rate(6 hours)}
  Threshold: {Type: Number, Default: 0.10, MinValue: 0, MaxValue: 1}
  Pause: {Type: String, Default: 1s, AllowedPattern: "^[0-9]+m?s$"}
  State: {Type: String, Default: ENABLED, AllowedValues: [ENABLED, DISABLED]}
  NoDefault: {Type: String}
Conditions:
  Fast: !Equals [!Ref Pause, 1s]
  Slow: !Not [!Condition Fast]
  Here: !Equals [!Ref AWS::Region, eu-central-1]
  Either: !Or [!Condition Here, !Condition Fast]
Mappings:
  Sizes: {small: {memory: 256}}
Globals:
  Function:
    Timeout: 30
    Environment:
      Variables: {SHARED: yes, BUCKET: !Sub "s3://${Bucket}/x", OVER: global}
Resources:
  Bucket: {Type: AWS::S3::Bucket}
  CompactFunction:
    Type: AWS::Serverless::Function
    Properties:
      Timeout: !If [Fast, 900, 60]
      MemorySize: !FindInMap [Sizes, small, memory]
      Environment:
        Variables:
          THRESHOLD: !Ref Threshold
          TEXT: !Sub ["${A}-${Pause}-${!kept}", {A: !Join ["+", [x, !Ref State]]}]
          OVER: own
          GONE: !If [Slow, x, !Ref AWS::NoValue]
          PICK: !Select [1, !Split [",", "a,b,c"]]
      Events:
        CompactSchedule:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: {Ref: Rate}
            State: !Ref State
            Input: '{"tables":["*"]}'
            FlexibleTimeWindow: {Mode: FLEXIBLE, MaximumWindowInMinutes: 5}
        Api: {Type: HttpApi}
      EventInvokeConfig:
        MaximumRetryAttempts: 1
        MaximumEventAgeInSeconds: 3600
        DestinationConfig: {OnFailure: {Type: SNS, Destination: !GetAtt Bucket.Arn}}
  OtherFunction:
    Type: AWS::Serverless::Function
    Condition: Slow
  PlainFunction: {Type: AWS::Serverless::Function}
`

func mustRead(t *testing.T, text string, overrides map[string]string) *Template {
	t.Helper()
	tpl, err := Read("template.yaml", []byte(text), overrides)
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func TestReadResolvesWhatTheRunnerNeeds(t *testing.T) {
	tpl := mustRead(t, small, nil)
	if got := tpl.Names(); !cmp.Equal(got, []string{"compact", "plain"}) {
		t.Fatalf("functions %v", got)
	}
	f, ok := tpl.Function("CompactFunction")
	if !ok || f.Timeout != 900*time.Second || f.MemoryMB != 256 || f.MaxRetries != 1 || f.MaxEventAge != time.Hour || f.OnFailure != "Bucket.Arn" {
		t.Errorf("compact is %+v", f)
	}
	want := map[string]string{"SHARED": "yes", "THRESHOLD": "0.10", "TEXT": "x+ENABLED-1s-${kept}", "OVER": "own", "PICK": "b"}
	if d := cmp.Diff(want, f.Environment); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"BUCKET"}, f.Opaque); d != "" {
		t.Error(d)
	}
	s := f.Schedules[0]
	if s.ID != "CompactSchedule" || !s.Enabled || s.Expression.Every() != 6*time.Hour || string(s.Input) != `{"tables":["*"]}` {
		t.Errorf("schedule %+v", s)
	}
	if len(tpl.Notes) != 2 {
		t.Errorf("notes %q", tpl.Notes)
	}
	plain, _ := tpl.Function("plain")
	if plain.Timeout != 30*time.Second || plain.MaxRetries != DefaultMaxRetries || plain.Environment["OVER"] != "global" {
		t.Errorf("plain is %+v", plain)
	}
}

func TestOverrides(t *testing.T) {
	tpl := mustRead(t, small, map[string]string{"Rate": "cron(0 3 * * ? *)", "State": "DISABLED", "Pause": "20ms"})
	f, _ := tpl.Function("compact")
	if f.Timeout != time.Minute || f.Schedules[0].Enabled || f.Schedules[0].Expression.String() != "cron(0 3 * * ? *)" {
		t.Errorf("compact is %+v", f)
	}
	if _, ok := tpl.Function("other"); !ok {
		t.Error("a function under a condition that now holds is missing")
	}
	if d, err := tpl.Duration("Pause"); err != nil || d != 20*time.Millisecond {
		t.Errorf("pause %v, %v", d, err)
	}
	if n, err := tpl.Number("Threshold"); err != nil || n != 0.10 {
		t.Errorf("threshold %v, %v", n, err)
	}
	if _, err := tpl.Text("NoDefault"); err == nil {
		t.Error("a parameter without a value has one")
	}
}

func TestErrorsNameThePlaceAndTheWayOut(t *testing.T) {
	function := func(properties string) string {
		return "Resources:\n  AFunction:\n    Type: AWS::Serverless::Function\n    Properties:\n      " + properties + "\n"
	}
	for name, c := range map[string]struct {
		text      string
		overrides map[string]string
		problem   string
		line      int
		hint      string
	}{
		"unknown override":  {small, map[string]string{"Treshold": "1"}, `no parameter "Treshold"`, 0, "did you mean Threshold?"},
		"not allowed":       {small, map[string]string{"State": "ENABLE"}, "is not one of", 6, "did you mean ENABLED?"},
		"not a number":      {small, map[string]string{"Threshold": "much"}, "is not a number", 4, ""},
		"too high":          {small, map[string]string{"Threshold": "2"}, "is above 1", 4, ""},
		"pattern":           {small, map[string]string{"Pause": "1h"}, "does not match", 5, ""},
		"bad expression":    {small, map[string]string{"Rate": "rate(1 hours)"}, "number and unit do not agree", 38, "write rate(1 hour)"},
		"syntax":            {"Resources: [", nil, "", 1, ""},
		"empty":             {"", nil, "not one YAML document", 0, ""},
		"no resources":      {"a: b", nil, "no Resources", 0, ""},
		"no functions":      {"Resources: {A: {Type: AWS::S3::Bucket}}", nil, "declares no", 0, ""},
		"unknown tag":       {function("Timeout: !Reff X"), nil, "unknown tag !Reff", 5, "did you mean !Ref?"},
		"unknown ref":       {function("Timeout: !Ref AFunctoin"), nil, `named "AFunctoin"`, 5, "did you mean AFunction?"},
		"unknown getatt":    {function("Timeout: !GetAtt B.Arn"), nil, `named "B"`, 5, ""},
		"unknown condition": {function("Timeout: !If [X, 1, 2]"), nil, `no condition is named "X"`, 5, ""},
		"opaque number":     {function("Timeout: !Ref AWS::Region"), nil, "known to AWS alone", 5, "give it a value or a parameter with a default"},
		"timeout too long":  {function("Timeout: 901"), nil, "from 1 to 900", 5, ""},
		"fraction":          {function("Timeout: 1.5"), nil, "whole number", 5, ""},
		"retries":           {function("EventInvokeConfig: {MaximumRetryAttempts: 3}"), nil, "from 0 to 2", 5, ""},
		"input":             {function("Events: {S: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 day), Input: '[1]'}}}"), nil, "not a JSON object", 5, ""},
		"unclosed sub":      {function("Timeout: !Sub '${X'"), nil, "${ without }", 5, ""},
		"circle":            {"Conditions: {A: !Not [!Condition A]}\n" + function("Timeout: !If [A, 1, 2]"), nil, "depends on itself", 1, ""},
		"anchor":            {function("Timeout: &a 3"), nil, "anchors", 5, "write the value out"},
		"same short name":   {"Resources: {AFunction: {Type: AWS::Serverless::Function}, A: {Type: AWS::Serverless::Function}}", nil, "same short name", 1, ""},
		"duplicate key":     {"Resources:\n  A: {}\n  A: {}\n", nil, "", 3, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read("template.yaml", []byte(c.text), c.overrides)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error is %T %v", err, err)
			}
			if !strings.Contains(e.Error(), c.problem) || e.Line != c.line || c.hint != "" && e.Hint() != c.hint {
				t.Errorf("line %d, hint %q: %v", e.Line, e.Hint(), err)
			}
			if e.Line > 0 && !strings.Contains(e.Excerpt, "> ") {
				t.Errorf("excerpt %q", e.Excerpt)
			}
		})
	}
}

func TestRPOFollowsTheSchedule(t *testing.T) {
	const text = `
Parameters:
  BackupRPO: {Type: String, Default: ""}
Resources:
  BackupFunction:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        A: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(6 hours)}}
        B: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 hour), State: DISABLED}}
`
	if d, err := mustRead(t, text, nil).RPO(time.Now()); err != nil || d != 12*time.Hour {
		t.Errorf("derived RPO %v, %v", d, err)
	}
	if d, err := mustRead(t, text, map[string]string{"BackupRPO": "90m"}).RPO(time.Now()); err != nil || d != 90*time.Minute {
		t.Errorf("given RPO %v, %v", d, err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("Resources: {A: {Type: AWS::Serverless::Function, Properties: !Sub [x]}}"))
	f.Add([]byte("? !If\n: - *a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		tpl, err := Read("t", text, nil)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error is %T", err)
			}
			return
		}
		for _, fn := range tpl.Functions {
			if fn.Timeout <= 0 || fn.Timeout > MaxTimeout || fn.MaxRetries > MaxRetries {
				t.Fatalf("out of range: %+v", fn)
			}
		}
	})
}
