//go:build race

package functionstest

// Race tells whether the race detector is on, under which SQLite is some 35 times slower.
const Race = true
