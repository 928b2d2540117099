package main

import (
	"container/heap"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// model is what the simulation takes for granted. Each figure has its source in docs/aws.md, "What 10,000 tables take".
type model struct {
	tables     int
	changed    float64 // share of the tables that changed since their last backup
	median     float64 // size in bytes; sizes are log-normal
	spread     float64 // sigma of the logarithm
	largest    float64
	failing    float64 // share of attempts that fail and may succeed another time
	broken     int     // tables that fail every time
	workers    int     // MaxConcurrency
	first      int     // workers that Lambda starts with
	perMinute  float64 // by which it adds to them
	coldStart  time.Duration
	requests   int // to S3, for a table that has not changed
	latency    time.Duration
	download   float64 // bytes a second
	digest     float64 // check, compress and upload
	lanes      int     // tables at a time in one worker
	memory     float64 // GB of a worker
	tmp        float64 // GB beyond the free 512 MB
	gigaSecond float64 // USD, arm64
	tmpSecond  float64
	perInvoke  float64
	perSQS     float64
	perPut     float64
	perGet     float64
}

func usual() model {
	return model{
		tables: 10_000, changed: 0.1, median: 4e6, spread: 1.5, largest: 3e9, failing: 0.01, broken: 5, workers: 100,
		first: 5, perMinute: 300, coldStart: 500 * time.Millisecond, requests: 10, latency: 25 * time.Millisecond, download: 80e6, digest: 40e6, lanes: 2,
		memory: 2, tmp: 9.5, gigaSecond: 0.0000133334, tmpSecond: 0.0000000309, perInvoke: 0.20e-6, perSQS: 0.50e-6, perPut: 5e-6, perGet: 0.4e-6,
	}
}

// outcome is what came of a simulation.
type outcome struct {
	done, dead, retried, invocations int
	took                             time.Duration
	busy                             float64 // seconds of workers
	lambda, storage, calls           float64 // USD: of time, of requests to S3, of invocations and messages
}

func (o outcome) cost() float64 { return o.lambda + o.storage + o.calls }

// waiting is a message and when it can be received.
type waiting struct {
	visible  float64 // seconds
	table    int
	receives int
}

type byTime []waiting

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].visible < h[j].visible }
func (h byTime) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byTime) Push(x any)        { *h = append(*h, x.(waiting)) }
func (h *byTime) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// simulation is one under way. Time is in seconds since the schedule fired.
type simulation struct {
	model
	rand  *rand.Rand
	queue byTime
	free  byTime // workers: when they are free; receives 0 is one that has not started
	work  []float64
	sqs   int
	outcome
}

func simulate(m model) outcome {
	s := &simulation{model: m, rand: rand.New(rand.NewPCG(1, 2))}
	for i := range m.tables {
		s.work = append(s.work, s.seconds())
		// The dispatcher lists, then sends batches, several at a time.
		at := 1 + float64(i/batch)*m.latency.Seconds()/senders
		heap.Push(&s.queue, waiting{visible: at, table: i})
	}
	s.sqs = (m.tables + batch - 1) / batch
	for i := range m.workers {
		heap.Push(&s.free, waiting{visible: max(0, float64(i-m.first)/m.perMinute*60), table: i})
	}
	for len(s.queue) > 0 {
		s.step()
	}
	s.price()
	return s.outcome
}

// seconds is how long one table takes.
func (s *simulation) seconds() float64 {
	size := min(s.median*math.Exp(s.spread*s.rand.NormFloat64()), s.largest)
	t := float64(s.requests) * s.latency.Seconds()
	if s.rand.Float64() < s.changed { // else it is not fetched
		t += size/s.download + size/s.digest
	}
	return t
}

// step is one invocation: the worker that is free first takes what is visible then.
func (s *simulation) step() {
	worker := heap.Pop(&s.free).(waiting)
	start := max(worker.visible, s.queue[0].visible)
	if worker.receives == 0 {
		start += s.coldStart.Seconds()
	}
	lanes := make([]float64, s.lanes)
	for n := 0; n < batch && len(s.queue) > 0 && s.queue[0].visible <= start; n++ {
		m := heap.Pop(&s.queue).(waiting)
		m.receives++
		lane := 0
		for i := range lanes {
			if lanes[i] < lanes[lane] {
				lane = i
			}
		}
		lanes[lane] += s.work[m.table]
		s.settle(m, start+lanes[lane])
	}
	end := start
	for _, t := range lanes {
		end = max(end, start+t)
	}
	s.invocations++
	s.sqs += 2 // received and deleted, by the batch
	s.busy += end - start
	worker.visible, worker.receives = end, worker.receives+1
	heap.Push(&s.free, worker)
}

func (s *simulation) settle(m waiting, at float64) {
	s.took = max(s.took, time.Duration(at*float64(time.Second)))
	switch {
	case m.table >= s.broken && s.rand.Float64() >= s.failing:
		s.done++
	case m.receives == maxReceives:
		s.dead++
	default:
		s.retried++
		s.sqs++ // made visible again
		m.visible = at + float64(m.receives)*60
		heap.Push(&s.queue, m)
	}
}

func (s *simulation) price() {
	attempts := float64(s.tables + s.retried)
	s.lambda = s.busy * (s.memory*s.gigaSecond + s.tmp*s.tmpSecond)
	s.calls = float64(s.invocations)*s.perInvoke + float64(s.sqs)*s.perSQS
	const puts = 4 // two marks, a list, what is kept
	s.storage = attempts*(puts*s.perPut+float64(s.requests-puts)*s.perGet) + float64(s.tables)*s.changed*s.perPut
}

// line is a row of the table in docs/aws.md.
func (o outcome) line(name string) string {
	return fmt.Sprintf("| %s | %d s | %d | %d | %d | %d | %.2f USD |", name, int(o.took.Seconds()), o.done, o.retried, o.dead, o.invocations, o.cost())
}

// TestFanOutOf10000 runs one backup of the fleet against a model of Lambda's and SQS's limits. The figures in docs/aws.md are those of
// this test.
func TestFanOutOf10000(t *testing.T) {
	doc, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name   string
		change func(*model)
	}{
		{"10 workers (a new account)", func(m *model) { m.workers = 10 }},
		{"100 workers (the default)", func(*model) {}},
		{"1,000 workers", func(m *model) { m.workers = 1000 }},
		{"100 workers, nothing fails", func(m *model) { m.failing, m.broken = 0, 0 }},
		{"100 workers, every table changed", func(m *model) { m.changed = 1 }},
	}
	var all []outcome
	for _, c := range cases {
		m := usual()
		c.change(&m)
		o := simulate(m)
		all = append(all, o)
		line := o.line(c.name)
		t.Log(line)
		if !strings.Contains(string(doc), line) {
			t.Errorf("docs/aws.md does not have\n%s", line)
		}
		if o.done+o.dead != m.tables {
			t.Errorf("%s: %d done and %d dead of %d", c.name, o.done, o.dead, m.tables)
		}
		if o.dead < m.broken || o.dead > m.broken+5 {
			t.Errorf("%s: %d messages are dead, and %d tables are broken", c.name, o.dead, m.broken)
		}
	}
	if few, usual, many := all[0], all[1], all[2]; few.took*2 < usual.took*3 || many.took > usual.took {
		t.Errorf("more workers do not help: %v, %v, %v", few.took, usual.took, many.took)
	}
	if all[3].retried != 0 || all[3].dead != 0 {
		t.Errorf("%+v", all[3])
	}
}

// TestCostOfAMonth adds up the runs of the default schedules.
func TestCostOfAMonth(t *testing.T) {
	doc, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	const runs = 4*30 + 4*30 + 30 // compact, backup, verify
	const sweeps = 24 * 30
	for _, tables := range []int{100, 1000, 10_000} {
		m := usual()
		m.tables, m.broken = tables, 0
		o := simulate(m)
		// A sweep reads what is kept of each table, 32 at a time.
		reading := float64(tables) / readers * m.latency.Seconds()
		lambda := runs*o.lambda + sweeps*reading*(0.5*m.gigaSecond+m.tmp*m.tmpSecond)
		storage := runs*o.storage + sweeps*float64(tables)*(m.perGet*2+m.perPut/1000*2)
		calls := runs*o.calls + sweeps*m.perInvoke
		line := fmt.Sprintf("| %d | %.2f USD | %.2f USD | %.2f USD | %.2f USD |", tables, calls, lambda, storage, calls+lambda+storage)
		t.Log(line)
		if !strings.Contains(string(doc), line) {
			t.Errorf("docs/aws.md does not have\n%s", line)
		}
	}
}
