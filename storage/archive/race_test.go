//go:build race

package archive

// raceEnabled thins out the tests that only need volume.
const raceEnabled = true
