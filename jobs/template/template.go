// Package template reads template.yaml, the AWS SAM template that declares every function, for the runner on this
// machine: parameters with defaults and overrides, and each function's timeout, schedules, retries and failure
// destination, with the intrinsic functions resolved as CloudFormation resolves them.
//
// What only AWS can know (an ARN, a region) stays opaque, and is an error only where the local runner needs it. That a
// template can be deployed is left to cfn-lint and sam; when a schedule fires, to jobs/schedule.
package template

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"tablekeeper/jobs/schedule"
)

// The limits and defaults of AWS Lambda that apply here too.
const (
	DefaultTimeout     = 3 * time.Second
	MaxTimeout         = 900 * time.Second
	DefaultMemoryMB    = 128
	DefaultMaxRetries  = 2
	MaxRetries         = 2
	DefaultMaxEventAge = 6 * time.Hour
)

// Template is what the local runner takes from a SAM template.
type Template struct {
	File       string
	Parameters []Parameter // in the order of the file
	Functions  []Function  // in the order of the file
	Notes      []string    // what the template asks for that has no meaning on one machine
}

// Function is one AWS::Serverless::Function.
type Function struct {
	LogicalID   string // CompactFunction
	Name        string // compact: the logical id without "Function", in lower case
	Description string
	Timeout     time.Duration // of one attempt at one table
	MemoryMB    int
	Schedules   []Schedule
	MaxRetries  int           // attempts after the first
	MaxEventAge time.Duration // no attempt begins later than this after the invocation
	OnFailure   string        // destination as the template names it; "" is none
	Environment map[string]string
	Opaque      []string // names of environment variables that only AWS can know
}

// Schedule is one ScheduleV2 event of a function.
type Schedule struct {
	ID         string // logical id of the event, CompactSchedule
	Expression schedule.Expression
	Enabled    bool
	Input      json.RawMessage // a JSON object; {} if the template has none
}

// Function finds a function by its short name or logical id.
func (t *Template) Function(name string) (Function, bool) {
	i := slices.IndexFunc(t.Functions, func(f Function) bool {
		return f.LogicalID == name || f.Name == strings.ToLower(name)
	})
	if i < 0 {
		return Function{}, false
	}
	return t.Functions[i], true
}

// Names are the short names of the functions.
func (t *Template) Names() []string {
	names := make([]string, len(t.Functions))
	for i, f := range t.Functions {
		names[i] = f.Name
	}
	return names
}

// Suggest is the candidate that name was most likely meant to be, or "".
func Suggest(name string, candidates []string) string {
	best, distance := "", len(name)/2+1
	for _, c := range candidates {
		if d := editDistance(strings.ToLower(name), strings.ToLower(c)); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
