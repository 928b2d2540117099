//go:build !linux && !darwin

package functions

// freeSpace cannot be told here: a full disk is found when it is full.
func freeSpace(string) (free int64, known bool) { return 0, false }
