//go:build !linux

package table

// inBackground has no priorities of single threads here.
func inBackground(f func() error) error { return f() }
