package table

import (
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
