package table

import (
	"context"
	"runtime"
	"sync"
)

// procs guards the number of threads that run Go code at the same time. It belongs to the process, like the lock.
var procs sync.Mutex

// spareProcs is how many threads a compaction computes on at most.
const spareProcs = 2

// moreProcs lets writers run beside a compaction, until the returned function is called. SQLite's computing is one long
// call to Go's scheduler: with as many of them as processors, a writer that comes back from an fsync waits 10 ms to be let
// in again, at each of its system calls. The operating system's scheduler lets it in at once.
func moreProcs() (end func()) {
	change := func(by int) {
		procs.Lock()
		defer procs.Unlock()
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + by)
	}
	change(spareProcs)
	return func() { change(-spareProcs) }
}

// computing are the compactions that compute at the moment, over all tables of the process: on at most half of its processors, since more
// of them are done no sooner, and keep the writers from the processor.
var computing = make(chan struct{}, max(1, runtime.NumCPU()/2))

// takePlace waits for a place among those that compute.
func takePlace(ctx context.Context) (end func(), err error) {
	select {
	case computing <- struct{}{}:
		return func() { <-computing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
