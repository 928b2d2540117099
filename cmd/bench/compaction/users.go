package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// latency is one operation: when it began and how long it took.
type latency struct {
	at   time.Time
	took time.Duration
}

func durations(all []latency) []time.Duration {
	out := make([]time.Duration, len(all))
	for i, l := range all {
		out[i] = l.took
	}
	return out
}

func longest(all []latency) latency {
	if len(all) == 0 {
		return latency{}
	}
	return slices.MaxFunc(all, func(a, b latency) int { return int(a.took - b.took) })
}

// users are a writer and a reader at work.
type users struct {
	stop          context.CancelFunc
	wait          sync.WaitGroup
	writes, reads []latency
	err           [2]error
}

func begin(u user, rows int, offered time.Duration) *users {
	ctx, stop := context.WithCancel(context.Background())
	s := &users{stop: stop}
	s.wait.Go(func() { s.writes, s.err[0] = stream(ctx, rows, offered, u.write) })
	s.wait.Go(func() { s.reads, s.err[1] = stream(ctx, rows, offered, u.read) })
	return s
}

// stream calls f once every so often, unless the call before took longer, and measures how long each takes.
func stream(ctx context.Context, rows int, offered time.Duration, f func(int) error) (all []latency, err error) {
	for ctx.Err() == nil {
		due := time.Now()
		if err := f(1 + rand.IntN(rows)); err != nil {
			return all, err
		}
		all = append(all, latency{due, time.Since(due)})
		if rest := offered - time.Since(due); rest > 0 {
			time.Sleep(rest)
		}
	}
	return all, nil
}

func (s *users) end() (writes, reads []latency, err error) {
	s.stop()
	s.wait.Wait()
	return s.writes, s.reads, errors.Join(s.err[:]...)
}

// phases notes when a compaction came to which phase. It is called from one goroutine at a time.
type phases struct {
	mu   sync.Mutex
	all  []string
	from []time.Time
}

func (p *phases) tell(phase string, _, _ int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.all); n == 0 || p.all[n-1] != phase {
		p.all, p.from = append(p.all, phase), append(p.from, time.Now())
	}
}

// at is the phase in which an operation began; "" if that is not known.
func (p *phases) at(l latency) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.from) - 1; i >= 0; i-- {
		if !l.at.Before(p.from[i]) {
			return p.all[i]
		}
	}
	return ""
}
