//go:build !linux

package main

// freeSpace is unknown: Lambda runs Linux.
func freeSpace(string) (int64, bool) { return 0, false }
