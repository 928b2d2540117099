//go:build race

package main

// raceDetector says that SQLite is some 35 times slower than usual.
const raceDetector = true
