//go:build !race

package buckettest

// Race is whether the race detector is on: tests with much data are for the pass without it.
const Race = false
