//go:build !race

package salvage

const raceEnabled = false
